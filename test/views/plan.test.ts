import { describe, expect, it } from 'vitest';
import type { EventName } from '../../machines/events.ts';
import { planOf, type PlanStep, planText } from '../../src/views/plan.ts';
import { plainPaint } from '../../src/views/text.ts';
import { asks, Play } from '../machines/documents.ts';

const lines = (plan: readonly PlanStep[]): string[] =>
  plan.map(({ where, command, changes }) => `${changes ? '!' : ' '} ${where}: ${command}`);
const planned = (play: Play, event: EventName = 'NEXT', choice?: string): string[] =>
  lines(planOf(play.document, event, choice));
const changing = (all: readonly string[]): string[] => all.filter((line) => line.startsWith('!'));
const until = (state: string): Play => new Play().until(state);

const health = (server: 1 | 2): string => `  app${server}: GET http://10.0.0.${server}:80/health (expects 200)`;
const watchLogs = '  logs: follow /opt/quickpay/logs/quickpay.log for 2 s';
const switchTo = (branch: string): string[] => [
  `! /opt/nginx: git switch ${branch}`,
  '  /opt/nginx: sbin/nginx -t',
  '! /opt/nginx: sbin/nginx -s reload',
];
const workers = '  /opt/nginx: wait until the old workers are gone, at most 5 min';
const publish = (server: 1 | 2, version: string, serving: 1 | 2): string[] => [
  `  /opt/nginx: look that app${serving} alone serves and no old worker is left`,
  `! flow's worktree at ${version}: ./publish.sh app${server} (stdin "y")`,
  `  app${server}: /opt/quickpay/quickpay -version`,
  health(server),
];

describe('the plan of NEXT', () => {
  it('at planned merges, publishes to the test server and looks', () => {
    expect(planned(until('planned'))).toEqual([
      '  the project: git fetch cil',
      "! flow's worktree at testing: git merge --no-ff develop",
      '! the project: git update-ref refs/heads/testing MERGE',
      `! flow's worktree at testing: ./publish.sh test (stdin "y")`,
      '  test: /opt/quickpay/quickpay -version',
      '  test: GET http://10.0.0.9:80/health (expects 200)',
    ]);
  });

  it('at tested ends with the atomic push of the one tag', () => {
    const plan = planned(until('tested'));
    expect(plan).toContain("! flow's worktree at master: git merge --no-ff abc1234567");
    expect(plan).toContain('! the project: git tag v1.3.8 COMMIT');
    expect(plan.at(-1)).toBe('! the project: git push --atomic cil master v1.3.8');
  });

  it('at tagged leaves app2 alone in rotation and waits for the old workers', () => {
    expect(planned(until('tagged'))).toEqual([health(2), watchLogs, ...switchTo('yun-app2'), workers, watchLogs]);
  });

  it('at app1Drained publishes to app1, at verified to app2', () => {
    expect(planned(until('app1Drained'))).toEqual(publish(1, 'v1.3.8', 2));
    expect(planned(until('verified'))).toEqual(publish(2, 'v1.3.8', 1));
  });

  it('at app1Published moves the traffic to app1, and waits until app2 is drained', () => {
    expect(planned(until('app1Published'))).toEqual([health(1), ...switchTo('yun-app1'), workers, watchLogs]);
  });

  it('at app1Live only looks', () => {
    const plan = planned(until('app1Live'));
    expect(plan).toEqual([
      health(1),
      '  app1: follow /opt/quickpay/logs/quickpay.log for 10 min',
      '  /opt/nginx: follow logs/access.log for 10 min',
    ]);
  });

  it('at app2Published goes on to the end', () => {
    const plan = planned(until('app2Published'));
    expect(plan.slice(0, 5)).toEqual([health(1), health(2), ...switchTo('master')]);
    expect(plan).not.toContain(workers);
    expect(plan.at(-1)).toBe('! the project: git merge master');
  });

  it('fills the commands of the config, argument by argument', () => {
    const play = new Play(
      {},
      'publish: { run: ["deploy", "{server} of {address}", "--commit={commit}"], answer: "" }',
      'drain: { watch: 0ms, checks: [{ run: "./queue-empty {server}", cwd: /srv }] }',
      'nginx: { dir: /srv/nginx, routes: [{ servers: [app2], branch: only-two }, { servers: [app1], branch: only-one }, { servers: [app1, app2], branch: main }] }',
    );
    const drain = planned(play.until('tagged'));
    expect(drain).toContain('! /srv/nginx: git switch only-two');
    expect(drain.at(-1)).toBe('  /srv: ./queue-empty app1');
    const publishing = planned(play.until('app1Drained'));
    expect(publishing).toContain("! flow's worktree at v1.3.8: deploy 'app1 of 10.0.0.1:80' --commit=def1234567890");
  });
});

describe('the plan of ROLLBACK', () => {
  it('moves the traffic first, where a server has the version before', () => {
    expect(planned(until('app1Live'), 'ROLLBACK')).toEqual([
      health(2),
      ...switchTo('yun-app2'),
      health(2),
      workers,
      watchLogs,
      ...publish(1, 'v1.3.7', 2),
      health(1),
      health(2),
      ...switchTo('master'),
    ]);
  });

  it('restores first, where none has', () => {
    expect(changing(planned(until('app2Published'), 'ROLLBACK'))).toEqual(
      changing([
        ...publish(2, 'v1.3.7', 1),
        ...switchTo('yun-app2'),
        ...publish(1, 'v1.3.7', 2),
        ...switchTo('master'),
      ]),
    );
  });

  it('runs the command for going back where there is one', () => {
    const play = new Play({}, 'rollback: { run: "./restore.sh {server} {version}" }').until('app1Live');
    expect(planned(play, 'ROLLBACK')).toContain(`! flow's worktree at v1.3.7: ./restore.sh app1 v1.3.7 (stdin "y")`);
  });

  it('is what the chart then does, switch by switch and publish by publish', () => {
    const play = until('app2Published');
    const plan = changing(planned(play, 'ROLLBACK')).filter((line) => /switch|publish/.test(line));
    play.send({ type: 'ROLLBACK' });
    const done: string[] = [];
    while (play.state !== 'rolledBack') {
      done.push(play.state);
      play.end();
    }
    expect(done).toEqual(['restoringApp2', 'movingBack', 'drainingBackApp1', 'restoringApp1', 'rejoiningApp1']);
    // Draining app1 needs no switch of its own: the traffic has just left it.
    expect(plan.map((line) => line.replace(/ \(.*/, '').replace(/^.*: /, ''))).toEqual([
      './publish.sh app2',
      'git switch yun-app2',
      './publish.sh app1',
      'git switch master',
    ]);
  });
});

describe('the plan of the other events', () => {
  const overdue = () => until('drainingApp1').end(asks('drainOverdue', '', 'wait', 'proceed', 'revert'));
  const lost = () => until('publishingApp1').end(asks('jobLost', '', 'worked', 'again', 'rollback'));

  it('of ANSWER is that of the choice', () => {
    expect(planned(overdue(), 'ANSWER', 'wait')).toEqual([workers, watchLogs]);
    expect(planned(overdue(), 'ANSWER', 'proceed')).toEqual([]);
    expect(planned(overdue(), 'ANSWER', 'revert')).toEqual(switchTo('master'));
    expect(planned(overdue(), 'ANSWER', 'hurry')).toEqual([]);
    expect(changing(planned(lost(), 'ANSWER', 'worked'))).toEqual([]);
    expect(planned(lost(), 'ANSWER', 'again')).toEqual(publish(1, 'v1.3.8', 2));
    expect(changing(planned(lost(), 'ANSWER', 'rollback'))).toEqual(
      changing([...switchTo('yun-app2'), ...publish(1, 'v1.3.7', 2), ...switchTo('master')]),
    );
  });

  it('of ANSWER to a silent publish ends it, or looks for what it brings', () => {
    const silent = () => until('publishingApp1').end(asks('jobSilent', '', 'wait', 'end'));
    expect(changing(planned(silent(), 'ANSWER', 'wait'))).toEqual([]);
    expect(changing(planned(silent(), 'ANSWER', 'end'))).toEqual([
      "! flow's worktree: end the publish that still runs",
    ]);
  });

  it('of ANSWER goes on with a rollback that asked', () => {
    const play = until('app2Published').send({ type: 'ROLLBACK' });
    play.end(asks('jobLost', '', 'worked', 'again'));
    expect(play.state).toBe('askingRestoreApp2');
    const worked = planned(play, 'ANSWER', 'worked');
    expect(worked.slice(0, 2)).toEqual(['  app2: /opt/quickpay/quickpay -version', health(2)]);
    expect(changing(worked)[0]).toBe('! /opt/nginx: git switch yun-app2');
    expect(changing(planned(play, 'ANSWER', 'again'))[0]).toBe(changing(publish(2, 'v1.3.7', 1))[0]);
  });

  it('of ABORT undoes only what was not pushed', () => {
    expect(planned(until('planned'), 'ABORT')).toEqual([]);
    expect(changing(planned(until('tagging').fail('rejected', 'no'), 'ABORT'))).toHaveLength(2);
    expect(changing(planned(until('tagged'), 'ABORT'))).toEqual([]);
  });

  it('of RETEST is that of the tests', () => {
    expect(planned(until('tested'), 'RETEST')).toEqual(planned(until('planned')));
  });

  it('is empty where the event means nothing', () => {
    expect(planned(until('verifying'))).toEqual([]);
    expect(planned(until('allLive'), 'ROLLBACK')).toEqual([]);
    expect(planned(until('app1Live'), 'ABORT')).toEqual([]);
  });
});

describe('the text of a plan', () => {
  it('numbers the commands and says of each whether it changes anything, and why it is run', () => {
    expect(planText(planOf(until('app1Drained').document, 'NEXT'), plainPaint)).toBe(
      [
        '1  looks    /opt/nginx: look that app2 alone serves and no old worker is left',
        '            app1 must receive nothing while it is published',
        `2  changes  flow's worktree at v1.3.8: ./publish.sh app1 (stdin "y")`,
        '            publish v1.3.8 to app1, once, as a job that goes on without flow',
        '3  looks    app1: /opt/quickpay/quickpay -version',
        '            app1 reports v1.3.8 within 30 s',
        '4  looks    app1: GET http://10.0.0.1:80/health (expects 200)',
        '            app1 is healthy within 30 s',
      ].join('\n'),
    );
    expect(planText([], plainPaint)).toBe('Nothing would be run.');
  });
});
