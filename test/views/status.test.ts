import { describe, expect, it } from 'vitest';
import { eventsOf } from '../../machines/guards.ts';
import { createReleaseMachine } from '../../machines/release.ts';
import { nextInWords, phaseOf, stateOf, stateSentence } from '../../src/views/states.ts';
import {
  rollbackLeaves,
  rollbackSteps,
  type StatusDriver,
  type StatusView,
  statusText,
  statusView,
} from '../../src/views/status.ts';
import { asciiPaint, plainPaint } from '../../src/views/text.ts';
import { asks, Play, soakBad } from '../machines/documents.ts';
import { walk } from '../machines/walk.ts';

const THREE = { servers: ['app1', 'blue-east', 'app3'], cutover: 'exclusive' as const };

const driverOf = (play: Play): StatusDriver => ({
  who: 'li@bastion',
  host: 'bastion',
  pid: 4211,
  since: play.now.toISOString(),
  doing: `at ${play.state}`,
});

function viewOf(play: Play, driver: StatusDriver | null = null, live: unknown = null): StatusView {
  return statusView({ document: play.document, driver, live, now: play.now });
}

const textOf = (...args: Parameters<typeof viewOf>): string => statusText(viewOf(...args), plainPaint);
const contextOf = (play: Play) => play.document.snapshot.context;
const until = (state: string): Play => new Play().until(state);

describe('the status', () => {
  it('explains itself when there is no release', () => {
    const view = statusView({ document: null, driver: null, live: null, now: new Date(0) });
    expect(view).toEqual({ schemaVersion: 1, at: '1970-01-01T00:00:00.000Z', driver: null, release: null });
    expect(statusText(view, plainPaint)).toBe(
      [
        'No release is running.',
        '',
        'Do       flow start         plan a release; --to VERSION or --bump minor choose its version',
        '         flow send NEXT     plan the next patch version',
        '         flow config check  check flow.yaml before',
      ].join('\n'),
    );
  });

  it('shows a release at rest', () => {
    const play = until('app1Drained');
    expect(textOf(play)).toBe(
      [
        'quickpay  v1.3.7 → v1.3.8   release r-0001   rev 7',
        '',
        'State    app1Drained: app1 receives no traffic and has finished what it had',
        'Done     ✔ planned  ✔ tested  ✔ tagged',
        'Here     ▸ app1Drained',
        'To come  ○ app1Published  ○ app1Live  ○ verified  ○ app2Published  ○ allLive',
        '',
        'SERVER  TRAFFIC        VERSION',
        'app1    ○ drained      v1.3.7 before',
        'app2    ● in rotation  v1.3.7 before',
        '',
        'Driver   nobody drives it',
        'Last     14:01:00 done → app1Drained',
        `         ${play.document.history.at(-1)?.note ?? 'no note'}`,
        'Do       flow send NEXT      publish v1.3.8 to app1',
        '         flow send ROLLBACK  traffic to app1 and app2 at once',
      ].join('\n'),
    );
  });

  it('shows a step under way, who drives it and its figures', () => {
    const play = until('drainingApp1');
    const at = new Date(play.now.getTime() - 3_000).toISOString();
    const text = textOf(play, driverOf(play), { step: 'drainingApp1', text: 'draining app1: 2 old workers left', at });
    expect(text).toContain('Towards  ▸ app1Drained\n');
    expect(text).toContain('app1    ◐ may be in rotation while switching  v1.3.7 before\n');
    expect(text).toContain('app2    ● in rotation                         v1.3.7 before\n');
    expect(text).toContain('Driver   li@bastion, pid 4211, since 14:01:00, is at drainingApp1\n');
    expect(text).toContain('Now      draining app1: 2 old workers left (3 s ago)\n');
    expect(text).toContain('         flow send ROLLBACK   traffic to app1 and app2 at once');
    expect(text).toContain('Do       flow status --watch  follow it\n');
  });

  it.each([
    ['of another step', { step: 'verifying', text: 'old', at: '2026-06-01T00:00:00Z' }],
    ['of another form', 'old'],
    ['without their time', { step: 'drainingApp1', text: 'old' }],
  ])('leaves out figures %s', (_what, live) => {
    const play = until('drainingApp1');
    expect(viewOf(play, driverOf(play), live).release?.live).toBeNull();
  });

  it('cries when a step waits and nobody drives it', () => {
    const text = textOf(until('verifying'));
    expect(text).toContain('Driver   UNWATCHED: the step verifying waits for: flow resume\n');
    expect(text).toContain('Do       flow resume         go on with verifying\n');
    expect(textOf(until('verified'))).toContain('Driver   nobody drives it\n');
  });

  it('shows a question with the command of every choice', () => {
    const question = 'app1 is out of rotation, but not proven drained: 2 old workers.';
    const play = until('drainingApp1').end(asks('drainOverdue', question, 'wait', 'proceed', 'revert'));
    expect(textOf(play)).toBe(
      [
        'quickpay  v1.3.7 → v1.3.8   release r-0001   rev 7',
        '',
        'State    askingDrainApp1: app1 is out of rotation, but has not finished what it had in time',
        'Done     ✔ planned  ✔ tested  ✔ tagged',
        'Towards  ▸ app1Drained',
        'To come  ○ app1Published  ○ app1Live  ○ verified  ○ app2Published  ○ allLive',
        '',
        'SERVER  TRAFFIC                                VERSION',
        'app1    ○ out of rotation, not proven drained  v1.3.7 before',
        'app2    ● in rotation                          v1.3.7 before',
        '',
        'Driver   nobody drives it',
        `Question ${question}`,
        '         flow send ANSWER wait            does wait',
        '         flow send ANSWER proceed -m WHY  does proceed',
        '         flow send ANSWER revert          does revert',
        '         (drainOverdue.1)',
        'Last     14:01:00 asked → askingDrainApp1',
        'Do       flow send ROLLBACK  traffic to app1 and app2 at once',
      ].join('\n'),
    );
    expect(viewOf(play.answer('proceed')).release?.servers[0]).toMatchObject({
      traffic: 'outOfRotation',
      drainWaived: true,
    });
    expect(textOf(play)).toContain(
      'app1Drained: app1 receives no traffic; that it has finished what it had was waived\n',
    );
    expect(textOf(play)).toContain('app1    ○ out of rotation, its drain waived  v1.3.7 before\n');
  });

  it('tells a milestone after a failure from the same milestone before it', () => {
    const text = textOf(until('publishingApp1').fail('rejected', 'the publish ended with 3'));
    expect(text).toContain(
      'app1Drained: app1 receives no traffic and has finished what it had; nobody can say what it runs\n',
    );
    expect(text).toContain('app1    ○ drained      unknown (v1.3.7 or v1.3.8)\n');
    expect(text).toContain('Failed   ✖ publishingApp1: the publish ended with 3\n');
    expect(text).toContain('flow send NEXT      publish v1.3.8 to app1 once more\n');
    expect(text).toContain(
      'flow send ROLLBACK  traffic to app2 (where it is, proven again), then restore v1.3.7 on app1, then traffic to both',
    );
  });

  it('shows a rollback on its way: why, whether customers are safe, what is left of it', () => {
    const play = until('verifying').end(soakBad('7 errors in 100 lines'));
    expect(play.state).toBe('movingBack');
    const before = textOf(play, driverOf(play));
    expect(before).toContain('Done     ✔ planned  ✔ tested  ✔ tagged  ✔ app1Drained  ✔ app1Published  ✔ app1Live\n');
    expect(before).toContain('Left out – verified  – app2Published  – allLive\n');
    expect(before).toContain('Rollback because: 7 errors in 100 lines\n         the traffic has not moved back yet\n');
    expect(before).toContain('Bad      v1.3.8 served and failed: 7 errors in 100 lines\n');
    expect(before).not.toContain('flow send');
    play.end();
    const after = textOf(play, driverOf(play));
    expect(after).toContain('the traffic has moved back\n');
    expect(after).toContain(
      'still to do: wait until app1 has finished what it had, then restore v1.3.7 on app1, then traffic to both\n',
    );
  });

  it('says how it ended, and when', () => {
    expect(textOf(until('allLive'))).toBe(
      [
        'quickpay  v1.3.7 → v1.3.8   release r-0001   rev 19',
        '',
        'State    allLive: app1 and app2 serve v1.3.8',
        '         ended 14:03:00, 3 min after it was planned',
        'Done     ✔ planned  ✔ tested  ✔ tagged  ✔ app1Drained  ✔ app1Published  ✔ app1Live  ✔ verified  ✔ app2Published  ✔ allLive',
        '',
        'SERVER  TRAFFIC        VERSION',
        'app1    ● in rotation  v1.3.8 new',
        'app2    ● in rotation  v1.3.8 new',
        '',
        'Last     14:03:00 done → allLive',
        '         develop contains master (fed1234567)',
        'Do       flow start    plan the next release',
        '         flow history  read what happened',
      ].join('\n'),
    );
    expect(textOf(until('tested').send({ type: 'ABORT' }).end())).toContain(
      'aborted: it was given up before production',
    );
  });

  it('says which servers a rollback that holds has left out', () => {
    const play = new Play({ restore: 'hold' }).until('verifying').end(soakBad('errors')).end();
    expect(textOf(play)).toContain('rolledBack: app2 serves what ran before; app1 stays out of rotation\n');
  });

  it('shows what is left to do by hand', () => {
    const play = until('mergingBack').fail('rejected', 'develop does not contain master yet');
    expect(textOf(play)).toContain('Left     develop does not contain master yet\n');
  });

  it('leaves out the tests of a release that goes back to a tag', () => {
    const play = new Play({ kind: 'rollback', version: 'v1.3.6' });
    expect(viewOf(play).release?.milestones.slice(0, 3)).toEqual([
      { name: 'planned', wave: null, mark: 'skipped' },
      { name: 'tested', wave: null, mark: 'skipped' },
      { name: 'tagged', wave: null, mark: 'active' },
    ]);
    expect(textOf(play)).toContain('tagged: the tag v1.3.6 is there from before; production is untouched\n');
  });

  it('names several versions before, and none', () => {
    expect(textOf(new Play({ before: { app1: 'v1.3.7', app2: 'v1.3.6' } }))).toContain('v1.3.7/v1.3.6 → v1.3.8');
    expect(textOf(new Play({ before: { app1: null, app2: null } }))).toContain('quickpay  none → v1.3.8');
  });

  it('offers no rollback where the route is mended before production', () => {
    const moved = { proxy: { servers: null, live: false, because: 'switched by hand' } };
    const play = until('tagged');
    play.send({ type: 'RECHECK', facts: { ...play.facts, ...moved } });
    expect(play.state).toBe('askingWorldMoved');
    expect(viewOf(play).release?.commands).toEqual([]);
    expect(() => play.send({ type: 'ROLLBACK' })).toThrow('refused');
  });

  it('shows text from outside as text', () => {
    const play = until('publishingApp1').fail('rejected', 'ended\u001b[2J\nwith \u0007 3');
    const text = textOf(play.send({ type: 'ROLLBACK', reason: '\u001b]0;x\u0007why' }));
    expect(text).toContain('because: why\n');
    expect(text).toContain('Failed   ✖ publishingApp1: ended | with \\x07 3\n');
    expect(text.replaceAll('\n', '')).not.toMatch(/\p{Cc}/u);
  });

  it('is ASCII where only that is shown', () => {
    for (const state of ['planned', 'drainingApp1', 'app1Live', 'allLive']) {
      expect(statusText(viewOf(until(state)), asciiPaint)).toMatch(/^[\n\x20-\x7e]*$/);
    }
  });

  it('is the same value after it went through JSON', () => {
    const view = viewOf(until('drainingApp1').end(asks('drainOverdue', 'overdue', 'wait')));
    expect(JSON.parse(JSON.stringify(view))).toEqual(view);
  });
});

describe('every state of the chart', () => {
  const nodes = walk().nodes;

  it.each([{ topology: THREE }, { topology: { ...THREE, servers: ['app1', 'app2'] } }])(
    'is known, for $topology.servers',
    ({ topology }) => {
      const states = Object.keys(createReleaseMachine(topology).states);
      expect(states.filter((state) => stateOf(state, topology) === null)).toEqual([]);
      expect(stateOf('constructor', topology)).toBeNull();
    },
  );

  it('has a sentence without holes wherever it can be reached', () => {
    const odd = nodes.filter(({ state, context }) =>
      /undefined|null|no server|\s{2}|^$/.test(stateSentence(state, context)),
    );
    expect(odd.map(({ state, context }) => `${state}: ${stateSentence(state, context)}`)).toEqual([]);
  });

  it('works, asks, rests or has ended as the chart does', () => {
    const odd = nodes.filter(
      ({ state, context, effects }) =>
        (phaseOf(state, context) === 'working') !== effects.length > 0 ||
        (nextInWords(state, context) !== null) !== eventsOf(state, context).includes('NEXT'),
    );
    expect(odd.map(({ state }) => state)).toEqual([]);
  });
});

describe('the steps of a rollback', () => {
  it.each([
    ['drainingApp1', ['traffic to app1 and app2 at once']],
    ['app1Published', ['traffic to app2 (where it is, proven again)', 'restore v1.3.7 on app1', 'traffic to both']],
    [
      'verified',
      [
        'traffic to app2 at once',
        'wait until app1 has finished what it had',
        'restore v1.3.7 on app1',
        'traffic to both',
      ],
    ],
    [
      'app2Published',
      [
        'restore v1.3.7 on app2',
        'traffic to app2 at once',
        'wait until app1 has finished what it had',
        'restore v1.3.7 on app1',
        'traffic to both',
      ],
    ],
  ])('at %s are those that bring the version before back', (state, expected) => {
    expect(rollbackSteps(contextOf(until(state)))).toEqual(expected);
  });

  it('stop after the traffic has moved where nothing is to be restored', () => {
    expect(rollbackSteps(contextOf(new Play({ restore: 'hold' }).until('app1Live')))).toEqual([
      'traffic to app2 at once',
      'leave app1 out of rotation (rollback.restore: hold)',
    ]);
  });

  it('leave a server out where no version is known to restore, and traffic where it is where there is none at all', () => {
    const one = new Play({ before: { app1: null, app2: 'v1.3.7' } }).until('app1Live');
    expect(rollbackSteps(contextOf(one))).toEqual([
      'traffic to app2 at once',
      'leave app1 out, as no version is known that ran there before',
    ]);
    const none = new Play({ before: { app1: null, app2: null } }).until('app2Published');
    expect(rollbackSteps(contextOf(none))).toEqual([
      'leave traffic as it is, as no version is known that ran there before',
    ]);
  });

  it('name every server of a larger fleet, and end', () => {
    const steps = rollbackSteps(contextOf(new Play({ topology: THREE }).until('blueEastPublished')));
    // The last wave first, so that the routes that are needed are those of the way forward.
    expect(steps).toEqual([
      'traffic to app3 at once',
      'restore v1.3.7 on blue-east',
      'blue-east into rotation',
      'wait until app1 has finished what it had',
      'restore v1.3.7 on app1',
      'traffic to all',
    ]);
    expect(steps.at(-1)).toBe('traffic to all');
  });

  it('end with the whole fleet in rotation, from every state that can be rolled back', () => {
    const rollable = walk().nodes.filter(({ state, context }) => eventsOf(state, context).includes('ROLLBACK'));
    expect(rollable.length).toBeGreaterThan(50);
    const last = rollable.map(({ context }) => rollbackSteps(context, { anew: true }).at(-1) ?? '');
    expect(last.filter((words) => !/^traffic to (both|app1 and app2 )/.test(words))).toEqual([]);
  });

  it('leave the tag and the merge, and mark what has served', () => {
    expect(rollbackLeaves(contextOf(until('app1Drained')))).toEqual([
      'the tag v1.3.8 and the merge into the release branch stay, as they are pushed',
    ]);
    expect(rollbackLeaves(contextOf(until('app1Live')))[1]).toMatch(/^v1\.3\.8 is marked bad/);
  });
});
