/** What people see of a release of many servers: waves that are done and to come are folded, the one in hand is not. */
import { describe, expect, it } from 'vitest';
import type { ReleaseContext } from '../../machines/contract.ts';
import type { Topology } from '../../machines/topology.ts';
import { evidenceLine } from '../../src/views/note.ts';
import { planOf, planText } from '../../src/views/plan.ts';
import { nextInWords, stateOf, stateSentence } from '../../src/views/states.ts';
import { rollbackSteps, statusText, statusView } from '../../src/views/status.ts';
import { plainPaint } from '../../src/views/text.ts';
import { createReleaseMachine } from '../../machines/release.ts';
import { Play } from '../machines/documents.ts';

const named = (from: number, to: number): string[] =>
  Array.from({ length: to - from + 1 }, (_, index) => `app${from + index}`);

/** A canary and 19 waves of two. */
const TWENTY: Topology = {
  servers: named(1, 39),
  cutover: 'rolling',
  waves: [['app1'], ...Array.from({ length: 19 }, (_, index) => named(2 + 2 * index, 3 + 2 * index))],
  minimumHealthy: 30,
};
const FIVE: Topology = {
  servers: named(1, 5),
  cutover: 'rolling',
  waves: [['app1'], ['app2', 'app3'], ['app4', 'app5']],
  minimumHealthy: 3,
};

const textOf = (play: Play): string =>
  statusText(statusView({ document: play.document, driver: null, live: null, now: play.now }), plainPaint);
const contextOf = (play: Play): ReleaseContext => play.document.snapshot.context;
const at = (state: string, topology = FIVE) => new Play({ topology }).until(state, 400);

describe('the status of twenty waves', () => {
  const text = textOf(at('wave7Published', TWENTY));

  it('folds the waves that are done and those to come into a few words each', () => {
    expect(text).toContain('✔ planned  ✔ tested  ✔ tagged  ✔ waves 1 to 6  ✔ wave7Drained');
    expect(text).toMatch(/Here +▸ wave7Published/);
    expect(text).toMatch(/To come +○ wave7Live {2}○ waves 8 to 20 {2}○ allLive/);
  });

  it('has a line for servers that are alike, and fits on a screen', () => {
    expect(text).toContain('11: app1, app2, app3, app4, app5, app6 and 5 more');
    expect(text).toMatch(/2: app12 and app13 +○ drained +v1\.3\.8 new/);
    expect(text).toMatch(/26: app14, .* and 20 more +● in rotation +v1\.3\.7 before/);
    expect(text.split('\n').length).toBeLessThan(25);
  });

  it('says what a rollback would do without naming every wave', () => {
    const steps = rollbackSteps(contextOf(at('wave7Live', TWENTY)));
    expect(steps.join(', ')).toContain('the same for 5 more waves');
    expect(steps.length).toBeLessThan(12);
  });
});

describe('a plan', () => {
  it('of a wave shows the commands of one server, and that the others are alike', () => {
    const text = planText(planOf(at('wave2Drained').document, 'NEXT'), plainPaint);
    expect(text).toContain('./publish.sh app2');
    expect(text).not.toContain('./publish.sh app3');
    expect(text).toContain('the same for app3');
    expect(text).toContain('when one fails, no other is begun');
  });

  it('of the way into rotation shows the route, and then the watch of that wave', () => {
    const steps = planOf(at('wave2Published').document, 'NEXT');
    expect(steps.some(({ command }) => command === 'git switch master')).toBe(true);
    expect(steps.some(({ where, command }) => where === 'app3' && command.startsWith('follow'))).toBe(true);
  });

  it('of a rollback from the twentieth wave stays readable', () => {
    const steps = planOf(at('wave19Live', TWENTY).document, 'ROLLBACK');
    expect(steps.length).toBeLessThan(120);
    expect(steps.filter(({ command }) => command.startsWith('the same: out of rotation')).length).toBeGreaterThan(10);
  });
});

describe('every state of a fleet', () => {
  const topologies: Topology[] = [FIVE, { ...FIVE, preview: true }, { ...FIVE, cutover: 'exclusive' }, TWENTY];

  it.each(topologies)('has its words: %j', (topology) => {
    const { context } = new Play({ topology: FIVE }).document.snapshot;
    for (const state of Object.keys(createReleaseMachine(topology).states)) {
      expect(stateOf(state, topology), state).not.toBeNull();
      expect(stateSentence(state, { ...context, topology }), state).not.toMatch(/undefined|no server|^$/);
    }
  });
});

describe('a wave', () => {
  it('is told by what becomes of its servers', () => {
    const context = contextOf(at('wave2Published'));
    expect(stateSentence('wave2Published', context)).toBe(
      'app2 and app3 run v1.3.8 and serve nobody yet; app1, app4 and app5 serve',
    );
    expect(nextInWords('wave2Published', context)).toBe('take app2 and app3 into rotation, and observe v1.3.8 there');
    expect(nextInWords('wave2Live', contextOf(at('wave2Live')))).toBe(
      'take app4 and app5 out of rotation and wait until they have finished what they had',
    );
    expect(nextInWords('wave3Published', contextOf(at('wave3Published')))).toBe(
      'take app4 and app5 into rotation, watch all servers, and merge back',
    );
  });

  it('that half failed shows who did, and what can be answered', () => {
    const results = [
      { server: 'app2', outcome: 'done', evidence: { server: 'app2', version: 'v1.3.8', seconds: 8 } },
      { server: 'app3', outcome: 'failed', message: 'The publish of v1.3.8 to app3 ended with exit status 3.' },
    ];
    const play = at('publishingWave2', { ...FIVE, minimumHealthy: 2 }).end({
      outcome: 'partial',
      ...{ evidence: { results } },
    });
    const text = textOf(play);
    expect(text).toContain('askingPublishWave2: the publish to app2 and app3 did not end well everywhere');
    expect(text).toContain('The publish of v1.3.8 to app3 ended with exit status 3.');
    expect(text).toMatch(/flow send ANSWER leaveOut -m WHY +leave app3 out of rotation until somebody repairs it/);
    const out = play.answer('leaveOut');
    expect(out.state).toBe('wave2Published');
    expect(textOf(out)).toMatch(/app3 +○ left out of rotation, to be repaired/);
    expect(textOf(out)).toMatch(/Left +app3 was left out of rotation, because v1\.3\.8 could not be published there/);
    const end = out.until('allLive', 400);
    expect(contextOf(end).routes).toEqual([['app1', 'app2', 'app4', 'app5']]);
  });

  it('is not left out where too few would carry the load later, or where there is no route for those that stay', () => {
    const choices = (topology: Topology, switchable?: string[][]) => {
      const play = new Play({ topology, ...(switchable === undefined ? {} : { switchable }) }).until('publishingWave2');
      const failed = topology.waves?.[1]?.map((server) => ({ server, outcome: 'failed', message: 'no' }));
      play.end({ outcome: 'partial', ...{ evidence: { results: failed } } });
      return contextOf(play).question?.choices.map(({ choice }) => choice);
    };
    // Both of wave 2 out, and wave 3 still to be drained: one would be left of three that are needed.
    expect(choices(FIVE)).toEqual(['retry', 'rollback']);
    expect(choices({ ...FIVE, minimumHealthy: 1 })).toEqual(['retry', 'leaveOut', 'rollback']);
    expect(choices({ ...FIVE, minimumHealthy: 1 }, [named(1, 5), ['app1', 'app4', 'app5']])).toEqual([
      'retry',
      'rollback',
    ]);
  });

  it('has a line of evidence', () => {
    const done = (server: string) => ({
      server,
      outcome: 'done' as const,
      evidence: {
        server,
        version: 'v2',
        exitStatus: 0,
        seconds: server === 'app3' ? 12 : 8,
        healthySeconds: 1,
        health: '200',
        job: '',
        printed: '',
      },
    });
    expect(
      evidenceLine({ results: [done('app2'), done('app3'), { server: 'app4', outcome: 'held', message: '' }] }),
    ).toBe('app2, app3 report v2, healthy; the longest publish took 12 s; not begun: app4');
  });
});
