/**
 * A walk over the whole reachable chart: every state, every event a person can send, every way an effect can end.
 * Fixture of the rule tests; the chart is the real one, only the outcomes are made up.
 */
import { initialTransition, transition } from 'xstate';
import type { EffectName, ReleaseContext, SwitchEvidence } from '../../machines/contract.ts';
import type { Facts, ReleaseEvent } from '../../machines/events.ts';
import { createReleaseMachine, type ReleaseMachine } from '../../machines/release.ts';
import { mayServe } from '../../machines/rollback.ts';

export const TOPOLOGY = { servers: ['app1', 'app2'], cutover: 'exclusive' as const };
type Snapshot = ReturnType<typeof initialTransition<ReleaseMachine>>[0];

interface Input {
  to?: string[];
  step: string;
  server?: string;
  version?: string;
}
interface Persisted {
  children: Record<string, { src: EffectName; snapshot: { input: Input } }>;
}

export interface Node {
  state: string;
  context: ReleaseContext;
  effects: EffectName[];
  /** The routes that a pending effect is about to bring about. */
  trying: string[][];
  /** How this node was reached, as events. */
  path: string[];
  /** As it is stored. */
  persisted: unknown;
}
export interface Edge {
  from: Node;
  to: Node;
  event: string;
  /** The event itself, facts included; or what the runtime sends when the effect has ended. */
  sent: unknown;
}

const switched = (servers: string[]): SwitchEvidence => ({
  servers,
  branch: '',
  commit: '',
  from: null,
  master: { pid: 1, startedAtTicks: 1 },
  workersBefore: [],
  workersAfter: [],
  liveAfterMs: 1,
  testedOutput: '',
  reloadStatus: 0,
  provenBy: '',
});
const rates = {};
const drainEvidence = (to: string[], drained: boolean) => ({
  switched: switched(to),
  drainedAfterSeconds: drained ? 1 : null,
  workersLeft: drained ? 0 : 1,
  ratesBefore: rates,
  ratesAfter: rates,
  judgedBy: '',
  checks: [],
});
const soak = {
  observedSeconds: 1,
  checksRun: 0,
  checksFailed: 0,
  errorsSeen: 0,
  rates,
  errorsPerSecond: 0,
  oldErrorsPerSecond: 0,
  samples: [],
  proxy: null,
  note: '',
};
const question = (step: string, kind: 'drainOverdue' | 'jobLost' | 'jobSilent', ...choices: string[]) => ({
  outcome: 'ask',
  question: { id: step, kind, text: '', choices: choices.map((choice) => ({ choice, does: '' })) },
});

/** Every good, bad and asking end of an effect. */
function outputs(src: EffectName, input: Input): unknown[] {
  const to = input.to ?? [];
  const done = (evidence: unknown) => ({ outcome: 'done', evidence });
  switch (src) {
    case 'runTests':
      return [
        done({ commit: 'abc', merged: true, version: 'v2', checks: [], interruptedSeconds: 0, publishSeconds: 0 }),
        question(input.step, 'jobLost', 'worked', 'again', 'stop'),
        question(input.step, 'jobSilent', 'wait', 'end'),
      ];
    case 'tag':
      return [done({ previousTag: 'v1', tag: 'v2', commit: 'abc', changes: 1, pushedTo: 'cil' })];
    case 'undoTagging':
      return [done({ undone: [], kept: [] })];
    case 'drain':
      return [
        done(drainEvidence(to, true)),
        { ...question(input.step, 'drainOverdue', 'wait', 'proceed', 'revert'), evidence: drainEvidence(to, false) },
      ];
    case 'publish':
      return [
        done({
          server: input.server,
          version: input.version,
          exitStatus: 0,
          seconds: 1,
          healthySeconds: 0,
          health: '',
          job: '',
          printed: '',
        }),
        question(input.step, 'jobLost', 'worked', 'again', 'rollback'),
        question(input.step, 'jobSilent', 'wait', 'end'),
      ];
    case 'goLive':
      return [done(drainEvidence(to, true)), done(drainEvidence(to, false))];
    case 'soak':
      return [
        { outcome: 'good', evidence: soak },
        { outcome: 'bad', evidence: soak, because: 'errors' },
        { outcome: 'ask', evidence: soak, because: '' },
      ];
    case 'moveTraffic':
      return [done({ switched: switched(to), secondsUntilMoved: 0 })];
    case 'mergeBack':
      return [done({ commit: 'abc', followUp: null })];
  }
}

/** Facts of a world that is as the release believes it to be. */
export function trueFacts(context: ReleaseContext, changes: Partial<Facts> = {}): Facts {
  const out = context.topology.servers.filter((server) => !mayServe(context).includes(server));
  return {
    proxy: { servers: context.routes[0] ?? [], live: true, because: 'as believed' },
    routes: { wrong: [], differ: [] },
    servers: Object.fromEntries(
      context.topology.servers.map((server) => [
        server,
        {
          version: context.runs[server] === 'new' ? context.version : (context.before[server] ?? null),
          healthy: true,
          because: '200',
        },
      ]),
    ),
    drained: Object.fromEntries(
      out.map((server) => [server, { ok: context.drained.includes(server), because: 'workers gone' }]),
    ),
    testing: { commit: 'abc', serverCommit: 'abc', because: 'abc' },
    tag: {
      commit:
        context.evidence.tagging !== undefined && 'tag' in context.evidence.tagging
          ? context.evidence.tagging.commit
          : null,
    },
    freeze: null,
    preflight: [],
    ...changes,
  };
}

function events(context: ReleaseContext): ReleaseEvent[] {
  const facts = trueFacts(context);
  const moved = trueFacts(context, { proxy: { servers: null, live: false, because: 'switched by hand' } });
  const ill = trueFacts(context, {
    servers: Object.fromEntries(
      context.topology.servers.map((s) => [s, { version: null, healthy: false, because: 'down' }]),
    ),
  });
  return [
    { type: 'NEXT', facts },
    // A world in which every drain is said to be proven, whatever the context believes.
    {
      type: 'NEXT',
      facts: trueFacts(context, {
        drained: Object.fromEntries(context.topology.servers.map((s) => [s, { ok: true, because: '' }])),
      }),
    },
    { type: 'NEXT', facts: moved },
    { type: 'NEXT', facts: trueFacts(context, { routes: { wrong: ['yun-app1 is gone'], differ: [] } }) },
    { type: 'ABORT', facts },
    { type: 'RETEST', facts },
    { type: 'ROLLBACK', facts },
    { type: 'ROLLBACK', facts: ill },
    { type: 'RECHECK', facts: moved },
    ...(context.question?.choices ?? []).map(({ choice }) => ({
      type: 'ANSWER' as const,
      question: context.question?.id ?? '',
      choice,
      facts,
    })),
  ];
}

/** What makes two moments the same for the walk: counters are left out, or the chart would be endless. */
const keyOf = (state: string, context: ReleaseContext): string =>
  JSON.stringify([
    state,
    context.runs,
    context.routes,
    context.drained,
    context.drainWaived,
    context.unhealthy,
    context.returnTo,
    context.jobMode,
    context.served,
    context.rollback?.moved,
    context.evidence.testing !== undefined,
    context.evidence.tagging !== undefined,
    context.question?.choices.length,
    context.switched?.servers,
    context.ranBefore,
  ]);

/** Walks the chart breadth first and returns every node and edge. */
export function walk(
  options: {
    restore?: 'auto' | 'hold';
    onBad?: 'rollback' | 'hold';
    kind?: 'release' | 'rollback';
    before?: Record<string, string | null>;
  } = {},
) {
  const machine = createReleaseMachine(TOPOLOGY);
  const [first] = initialTransition(machine, {
    id: 'r-0001',
    kind: options.kind ?? 'release',
    version: 'v2',
    topology: TOPOLOGY,
    before: options.before ?? { app1: 'v1', app2: 'v1' },
    restore: options.restore ?? 'auto',
    onBad: options.onBad ?? 'rollback',
  });
  const nodes = new Map<string, Node>();
  const edges: Edge[] = [];
  const visit = (snapshot: Snapshot, path: string[]): { node: Node; isNew: boolean } => {
    const state = snapshot.value as unknown as string;
    const key = keyOf(state, snapshot.context);
    if (nodes.size > 5_000) throw new Error(`the chart does not close: ${path.join(' · ')}`);
    const known = nodes.get(key);
    if (known !== undefined) return { node: known, isNew: false };
    const children = Object.values(snapshot.children).filter((child) => child?.getSnapshot().status === 'active');
    const node = {
      state,
      context: snapshot.context,
      path,
      persisted: machine.getPersistedSnapshot(snapshot),
      effects: children.map((child) => child?.src as unknown as EffectName),
      trying: children.flatMap((child) => {
        const { input } = child?.getPersistedSnapshot() as unknown as { input: Input };
        return input.to === undefined ? [] : [input.to];
      }),
    };
    nodes.set(key, node);
    return { node, isNew: true };
  };
  const start = visit(first, []);
  const queue: [Snapshot, Node][] = [[first, start.node]];
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    const [snapshot, from] = next;
    if (snapshot.status !== 'active') continue;
    const moves: [string, unknown][] = events(snapshot.context).map((event) => [
      `${event.type}${event.type === 'ANSWER' ? ` ${event.choice}` : ''}`,
      event,
    ]);
    const persisted = machine.getPersistedSnapshot(snapshot) as unknown as Persisted;
    for (const [id, { src, snapshot: child }] of Object.entries(persisted.children)) {
      for (const output of outputs(src, child.input)) {
        moves.push([
          `${src} ${(output as { outcome: string }).outcome}`,
          { type: `xstate.done.actor.${id}`, output, actorId: id },
        ]);
      }
      for (const kind of ['unsafe', 'rejected', 'timedOut', 'unknownOutcome'] as const) {
        moves.push([
          `${src} ${kind}`,
          { type: `xstate.error.actor.${id}`, error: { code: 'X', kind, message: kind, step: '' }, actorId: id },
        ]);
      }
    }
    for (const [event, sent] of moves) {
      const [after]: [Snapshot, unknown] = transition(machine, snapshot, sent as ReleaseEvent);
      if (after === snapshot || (after.value === snapshot.value && after.context === snapshot.context)) continue;
      const { node, isNew } = visit(after, [...from.path, event]);
      edges.push({ from, to: node, event, sent });
      if (isNew) queue.push([after, node]);
    }
  }
  return { machine, nodes: [...nodes.values()], edges, start: start.node };
}
