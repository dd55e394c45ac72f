/**
 * One release in the simulated world, from its plan to its end, through as many lives as it takes: a driver that dies is followed
 * by one that loads what was committed. The operator's decisions are drawn from the seed and the revision, so that the same
 * release is carried on whatever cuts it.
 */
import type { ReleaseInput } from '../../../machines/contract.ts';
import type { ReleaseEvent } from '../../../machines/events.ts';
import { eventsOf } from '../../../machines/guards.ts';
import { minimumOf } from '../../../machines/topology.ts';
import { Engine, firstDocument } from '../../../src/release/engine.ts';
import type { ReleaseDocument } from '../../../src/store/document.ts';
import type { ReleaseFile } from '../../../src/store/release-file.ts';
import { TOPOLOGY } from '../../machines/walk.ts';
import { drawn, type Fate, simulatedEffects } from './effects.ts';
import { type Moments, PowerCut, SimulatedWorld } from './world.ts';

const BY = { user: 'operator', host: 'simulation', via: 'test' };
const MOST_EVENTS = 400;

export interface Life {
  world: SimulatedWorld;
  /** The states that were committed, in order. */
  states: string[];
  end: string;
  lives: number;
  /** How many moments there were at which it could have been cut. */
  moments: number;
  /** What became of each server, of the proxy and of the tags. */
  outcome: unknown;
}

export interface Options extends Fate {
  kind?: ReleaseInput['kind'];
  restore?: ReleaseInput['restore'];
  onBad?: ReleaseInput['onBad'];
  /** Default: the runbook's two servers. */
  topology?: ReleaseInput['topology'];
  /** The servers in rotation when it starts; the others run something that nobody trusts. Default: all. */
  serving?: string[];
  /** Whether the driver dies at the n-th moment, counted over all lives. */
  cuts?: (moment: number) => boolean;
}

/** Carries a release to its end. Throws when it does not end, or when the engine does what it must not. */
export async function live(options: Options): Promise<Life> {
  const { topology = TOPOLOGY } = options;
  const { serving = topology.servers } = options;
  const world = new SimulatedWorld(topology.servers, 'v1', serving);
  const { kind = 'release', restore = 'auto', onBad = 'rollback', cuts = () => false } = options;
  if (kind === 'rollback') {
    world.tags.add('v2');
    world.pushed.add('v2');
  }
  let moment = 0;
  const moments: Moments = {
    pass() {
      moment += 1;
      if (cuts(moment)) throw PowerCut.here;
    },
  };
  // Time is counted, not read.
  let ticks = 0;
  const clock = { now: () => new Date(Date.UTC(2026, 0, 1) + (ticks += 1_000)) };
  const input: ReleaseInput = {
    id: 'r-0001',
    kind,
    version: 'v2',
    topology,
    before: Object.fromEntries(topology.servers.map((server) => [server, 'v1'] as const)),
    restore,
    onBad,
    serving,
  };
  let disk = firstDocument(input, { project: 'p', by: BY, config: { file: 'f', hash: 'h', pinned: {} } }, clock);
  const states = [disk.snapshot.value];
  let bytes = '';
  const openFile = (): ReleaseFile<ReleaseDocument> => {
    // Read as from a disk: what was not committed, and what is not JSON, is gone.
    if (bytes === '') bytes = JSON.stringify(disk);
    let data = JSON.parse(bytes) as ReleaseDocument;
    return {
      get data() {
        return data;
      },
      get generation() {
        return data.rev;
      },
      commit(next) {
        moments.pass('before the commit');
        disk = next;
        bytes = '';
        states.push(disk.snapshot.value);
        const { rollback, leftOut } = next.snapshot.context;
        // What the operator gave up on the way back the load has to do without.
        world.minimum = rollback !== null && leftOut.length > 0 ? 1 : minimumOf(topology);
        moments.pass('after the commit');
        data = next;
      },
    };
  };

  let lives = 0;
  while (disk.endedAt === null) {
    lives += 1;
    if (lives > 5_000) throw new Error(`it never ends: ${states.slice(-20).join(' ')}`);
    try {
      await drive(openFile());
    } catch (error) {
      if (!(error instanceof PowerCut)) throw error;
    }
  }
  const { value: end, context } = disk.snapshot;
  return {
    world,
    states,
    end,
    lives,
    moments: moment,
    outcome: {
      end,
      servers: world.servers,
      serving: world.workers.route,
      tree: world.tree,
      runs: context.runs,
      routes: context.routes,
      pushed: [...world.pushed],
      tags: [...world.tags],
      jobs: Object.fromEntries(world.runs),
    },
  };

  async function drive(file: ReleaseFile<ReleaseDocument>): Promise<void> {
    const dying: { by: PowerCut | null } = { by: null };
    const engine = new Engine({
      file: {
        get data() {
          return file.data;
        },
        get generation() {
          return file.generation;
        },
        commit: (next) => {
          if (dying.by !== null) throw dying.by;
          file.commit(next);
        },
      },
      clock,
    });
    // The engine makes a failed step of whatever an effect throws; a power cut leaves nobody to do so.
    const mortal: Moments = {
      pass(name) {
        try {
          moments.pass(name);
          interrupt(engine, name);
        } catch (error) {
          if (error instanceof PowerCut) dying.by = error;
          throw error;
        }
      },
    };
    const effects = simulatedEffects(world, options, mortal);
    for (let sent = 0; ; sent++) {
      if (sent > MOST_EVENTS) throw new Error(`it never ends: ${states.slice(-20).join(' ')}`);
      await engine.drive(effects);
      if (engine.document.endedAt !== null) return;
      decide(engine);
    }
  }

  /** ROLLBACK from another terminal in the middle of a step, where the seed says so. */
  function interrupt(engine: Engine, name: string): void {
    if (drawn(options.seed, 'interrupt', name) >= options.trouble * 0.1) return;
    engine.send({ type: 'ROLLBACK', facts: world.facts() }, BY);
  }

  /** What the operator sends at rest. What is refused is a matter of time in this world: the last requests end. */
  function decide(engine: Engine): void {
    const { state, context } = engine;
    const { rev } = engine.document;
    const draw = drawn(options.seed, 'operator', rev);
    const possible = eventsOf(state, context);
    const send = (event: ReleaseEvent) => engine.send({ ...event, facts: world.facts() }, BY).accepted;
    if (possible.includes('ANSWER') && context.question !== null) {
      const { id, choices } = context.question;
      const { choice } = choices[Math.floor(draw * choices.length)] ?? { choice: '' };
      if (!send({ type: 'ANSWER', question: id, choice })) throw new Error(`${choice} is no answer at ${state}`);
      return;
    }
    const others = (['ROLLBACK', 'RETEST', 'ABORT'] as const).filter((event) => possible.includes(event));
    const other = others[Math.floor(drawn(options.seed, 'other', rev) * others.length)];
    if (other !== undefined && (!possible.includes('NEXT') || draw < options.trouble * 0.3)) {
      if (!send({ type: other })) throw new Error(`${other} was refused at ${state}`);
      return;
    }
    if (send({ type: 'NEXT' })) return;
    world.drained();
    if (send({ type: 'NEXT' }) || send({ type: 'RECHECK' })) return;
    if (!possible.includes('ROLLBACK') || !send({ type: 'ROLLBACK' }))
      throw new Error(
        `nothing can be sent at ${state} after ${states.slice(-8).join(' ')}: ${JSON.stringify(engine.judge({ type: 'NEXT', facts: world.facts() }).verdicts.filter(({ ok }) => !ok))}`,
      );
  }
}
