/**
 * The engine in a simulated world, cut at every moment, deterministic and in one process: where a release ends, and what it never
 * does. Quick form in `npm test`; `npm run torture` runs all of it.
 */
import { describe, expect, test } from 'vitest';
import { createActor, transition } from 'xstate';
import { StepError } from '../../src/errors.ts';
import type { Effects } from '../../src/effects/effect.ts';
import { Engine } from '../../src/release/engine.ts';
import type { ReleaseDocument } from '../../src/store/document.ts';
import { type Edge, TOPOLOGY, walk } from '../machines/walk.ts';
import { machineId } from '../../machines/release.ts';
import { live, type Options } from './simulation/life.ts';
import { drawn } from './simulation/effects.ts';
import { PowerCut } from './simulation/world.ts';
import { FULL, report } from './report.ts';

const SEED = 20_261_123;
const POLICIES = [
  { kind: 'release', restore: 'auto', onBad: 'rollback' },
  { kind: 'release', restore: 'hold', onBad: 'hold' },
  { kind: 'rollback', restore: 'auto', onBad: 'hold' },
] as const;

/** The runbook's two servers, and fleets in the ways they can be released. */
const FLEETS: Pick<Options, 'topology' | 'serving'>[] = [
  {},
  { topology: { servers: ['app1', 'app2', 'app3'], cutover: 'rolling', minimumHealthy: 2, preview: true } },
  {
    topology: {
      servers: ['a', 'b', 'c', 'd', 'e'],
      cutover: 'rolling',
      waves: [['a'], ['b', 'c'], ['d', 'e']],
      minimumHealthy: 3,
    },
  },
  { topology: { servers: ['a', 'b', 'c'], cutover: 'exclusive', waves: [['a'], ['b', 'c']] } },
  { topology: { servers: ['app1', 'app2'], cutover: 'exclusive' }, serving: ['app2'] },
  {
    topology: { servers: ['c', 'a', 'b'], cutover: 'rolling', waves: [['c'], ['a'], ['b']], minimumHealthy: 1 },
    serving: ['a', 'b'],
  },
];

test('a release that is cut once, at each of its moments, ends as the one that is not', async () => {
  let cuts = 0;
  const seeds = FULL ? 42 : 6;
  for (const policy of POLICIES) {
    for (let seed = 1; seed <= seeds; seed++) {
      const options = { ...policy, ...FLEETS[seed % FLEETS.length], seed, trouble: seed % 4 === 0 ? 0 : 0.3 };
      const whole = await live(options);
      expect(whole.world.broken).toEqual([]);
      for (let at = 1; at <= whole.moments; at++) {
        cuts += 1;
        const cut = await live({ ...options, cuts: (moment) => moment === at });
        expect(cut.world.broken, `seed ${seed}, cut at ${at}`).toEqual([]);
        // A cut after the last commit leaves nothing to do.
        expect(cut.lives).toBe(at === whole.moments ? 1 : 2);
        expect(cut.outcome, `seed ${seed}, cut at ${at}: ${cut.states.join(' ')}`).toEqual(whole.outcome);
      }
    }
  }
  report('simulation', `${seeds * POLICIES.length} releases cut at each of their moments: ${cuts} cuts, 0 wrong ends`);
}, 300_000);

test('random releases that are cut again and again break no rule, and end as those that are not', async () => {
  const walks = FULL ? 10_000 : 500;
  const ends = new Map<string, number>();
  let cuts = 0;
  const startedAt = performance.now();
  for (let seed = SEED; seed < SEED + walks; seed++) {
    const policy = POLICIES[seed % POLICIES.length] ?? POLICIES[0];
    const fleet = FLEETS[Math.floor(drawn(seed, 'fleet') * FLEETS.length)];
    const options = { ...policy, ...fleet, seed, trouble: drawn(seed, 'trouble') * 0.5 };
    const share = drawn(seed, 'cuts') * 0.3;
    const life = await live({ ...options, cuts: (moment) => drawn(seed, 'cut', moment) < share });
    expect(life.world.broken, `seed ${seed}`).toEqual([]);
    expect(
      [...life.world.runs.values()].every((runs) => runs === 1),
      `seed ${seed}: a job ran twice`,
    ).toBe(true);
    // Every tenth is carried out once more, whole.
    if (seed % 10 === 0) expect(life.outcome, `seed ${seed}`).toEqual((await live(options)).outcome);
    cuts += life.lives - 1;
    ends.set(life.end, (ends.get(life.end) ?? 0) + 1);
  }
  const seconds = (performance.now() - startedAt) / 1_000;
  expect([...ends.keys()].sort()).toEqual(['aborted', 'allLive', 'rolledBack']);
  const counted = [...ends].map(([end, count]) => `${count} ${end}`).join(', ');
  report(
    'simulation',
    `${walks} random walks from seed ${SEED}, ${cuts} cuts: ${counted}; 0 rules broken; ${seconds.toFixed(1)} s`,
  );
}, 300_000);

describe('every transition that can be reached', () => {
  const { edges, machine } = walk({ persist: true });
  const restore = (snapshot: unknown) =>
    createActor(machine, { snapshot: snapshot as never, input: {} as never }).getSnapshot();
  // The quick form takes one of each kind: from where, by what, to where.
  const kinds = new Map(edges.map((edge) => [`${edge.from.state} ${edge.event} ${edge.to.state}`, edge]));
  const chosen = FULL ? edges : [...kinds.values()];

  test('is there, or not at all, when the driver dies before or after its commit', async () => {
    for (const edge of chosen) {
      const from = documentAt(edge);
      const [after] = transition(machine, restore(edge.from.persisted), edge.sent as never);
      const expected = plain(machine.getPersistedSnapshot(after));
      for (const when of ['before', 'after'] as const) {
        const disk = { data: from };
        await expect(take(edge, disk, when)).rejects.toThrow(PowerCut);
        expect(disk.data.snapshot).toEqual(when === 'after' ? expected : from.snapshot);
        if (when === 'before') await take(edge, disk, null);
        expect(disk.data.snapshot).toEqual(expected);
        const next = new Engine({ file: fileOn(disk, null), clock });
        expect([next.state, next.isWorking]).toEqual([edge.to.state, edge.to.effects.length > 0]);
      }
    }
    report('simulation', `${chosen.length} transitions, cut before and after their commit: 0 wrong`);
  }, 300_000);
});

const BY = { user: 'u', host: 'h', via: 'test' };
const clock = { now: () => new Date('2026-01-01T00:00:00Z') };
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

function documentAt({ from }: Edge): ReleaseDocument {
  return {
    format: 1,
    id: 'r-0001',
    machine: machineId(TOPOLOGY),
    project: 'p',
    startedAt: '2026-01-01T00:00:00Z',
    by: BY,
    rev: 1,
    config: { file: 'f', hash: 'h', pinned: {} },
    snapshot: plain(from.persisted) as ReleaseDocument['snapshot'],
    history: [],
    endedAt: null,
  };
}

function fileOn(disk: { data: ReleaseDocument }, dies: 'before' | 'after' | null) {
  return {
    get data() {
      return disk.data;
    },
    generation: 1,
    commit(next: ReleaseDocument) {
      if (dies === 'before') throw new PowerCut();
      disk.data = plain(next) as ReleaseDocument;
      if (dies === 'after') throw new PowerCut();
    },
  };
}

/** Takes one transition of the walk with the real engine; an effect ends as it did in the walk. */
async function take(edge: Edge, disk: { data: ReleaseDocument }, dies: 'before' | 'after' | null): Promise<void> {
  const engine = new Engine({ file: fileOn(disk, dies), clock });
  const sent = edge.sent as {
    type: string;
    output?: unknown;
    error?: { code: string; kind: StepError['kind']; message: string };
  };
  if (!sent.type.startsWith('xstate.')) {
    expect(engine.send(sent as never, BY).accepted).toBe(true);
    return;
  }
  let performed = 0;
  const effect = async () => {
    await Promise.resolve();
    performed += 1;
    // The next effect is not this transition's.
    if (performed > 1) return await new Promise(() => undefined);
    if (sent.error !== undefined) throw new StepError(sent.error.code, sent.error.kind, sent.error.message);
    return sent.output;
  };
  const effects = new Proxy({}, { get: () => effect }) as Effects;
  await Promise.race([
    engine.drive(effects),
    new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve))),
  ]);
}
