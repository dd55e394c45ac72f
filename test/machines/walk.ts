/**
 * A walk over the whole reachable chart: every state, every event a person can send, every way an effect can end.
 * Fixture of the rule tests; the chart is the real one, only the outcomes are made up.
 */
import { initialTransition, transition } from 'xstate';
import type { EffectName, ReleaseContext, ServerResult, SwitchEvidence } from '../../machines/contract.ts';
import type { Facts, ReleaseEvent } from '../../machines/events.ts';
import { createReleaseMachine, type ReleaseMachine } from '../../machines/release.ts';
import { mayServe } from '../../machines/rollback.ts';
import { minimumOf, type Topology } from '../../machines/topology.ts';

export const TOPOLOGY: Topology = { servers: ['app1', 'app2'], cutover: 'exclusive' };
type Snapshot = ReturnType<typeof initialTransition<ReleaseMachine>>[0];

interface Input {
  to?: string[];
  step: string;
  server?: string;
  servers?: (string | { server: string; version: string })[];
  version?: string;
}
interface Persisted {
  children: Record<string, { src: EffectName; snapshot: { input: Input } }>;
}

export interface Node {
  state: string;
  context: ReleaseContext;
  effects: EffectName[];
  /** The servers that a pending effect publishes to. */
  publishes: string[];
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

const published = (server: string, version: string) => ({
  server,
  version,
  exitStatus: 0,
  seconds: 1,
  healthySeconds: 0,
  health: '',
  job: '',
  printed: '',
});

/** Ends of a wave: all done, the first one in trouble and the others done or held back, and none of them done. */
function waveOutputs(servers: NonNullable<Input['servers']>): unknown[] {
  const named = servers.map((one) => (typeof one === 'string' ? { server: one, version: '' } : one));
  const [first, ...others] = named;
  const done = ({ server, version }: { server: string; version: string }): ServerResult => ({
    server,
    outcome: 'done',
    evidence: published(server, version),
  });
  const not = (outcome: 'failed' | 'held' | 'lost' | 'silent', { server }: { server: string }): ServerResult => ({
    server,
    outcome,
    message: outcome,
  });
  const partial = (...results: ServerResult[]) => ({ outcome: 'partial', evidence: { results } });
  if (first === undefined) return [{ outcome: 'done', evidence: { results: [] } }];
  return [
    { outcome: 'done', evidence: { results: named.map(done) } },
    ...(['failed', 'lost', 'silent'] as const).map((outcome) => partial(not(outcome, first), ...others.map(done))),
    ...(others.length === 0
      ? []
      : [
          partial(not('failed', first), ...others.map((one) => not('held', one))),
          partial(...named.map((one) => not('failed', one))),
        ]),
  ];
}

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
        done(published(input.server ?? '', input.version ?? '')),
        question(input.step, 'jobLost', 'worked', 'again', 'rollback'),
        question(input.step, 'jobSilent', 'wait', 'end'),
      ];
    case 'publishWave':
      return waveOutputs(input.servers ?? []);
    case 'preview':
      return [done({ previewed: [], through: null, checks: [] })];
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
  const { servers } = context.topology;
  const facts = trueFacts(context);
  const moved = trueFacts(context, { proxy: { servers: null, live: false, because: 'switched by hand' } });
  const ill = (...names: string[]) =>
    trueFacts(context, {
      servers: {
        ...facts.servers,
        ...Object.fromEntries(names.map((s) => [s, { version: null, healthy: false, because: 'down' }])),
      },
    });
  return [
    { type: 'NEXT', facts },
    // A world in which every drain is said to be proven, whatever the context believes.
    {
      type: 'NEXT',
      facts: trueFacts(context, {
        drained: Object.fromEntries(servers.map((s) => [s, { ok: true, because: '' }])),
      }),
    },
    { type: 'NEXT', facts: moved },
    { type: 'NEXT', facts: trueFacts(context, { routes: { wrong: ['yun-app1 is gone'], differ: [] } }) },
    // All that the load needs are ill but one, and the override of the guard that can be overridden.
    { type: 'NEXT', facts: ill(...servers.slice(minimumOf(context.topology) - 1)), force: ['othersHealthy'] },
    { type: 'ABORT', facts },
    { type: 'RETEST', facts },
    { type: 'ROLLBACK', facts },
    { type: 'ROLLBACK', facts: ill(...servers) },
    ...(servers.length > 2 ? [{ type: 'ROLLBACK' as const, facts: ill(...servers.slice(-1)) }] : []),
    { type: 'RECHECK', facts: moved },
    ...(context.question?.choices ?? []).map(({ choice }) => ({
      type: 'ANSWER' as const,
      question: context.question?.id ?? '',
      choice,
      facts,
    })),
  ];
}

/**
 * What makes two moments the same for the walk: all that any decision of the chart is made of. Counters are left out, or the chart
 * would be endless; so is what is only told (what was served, the proof of a switch), and of `ranBefore` what nothing returns to.
 */
const keyOf = (state: string, context: ReleaseContext): string =>
  JSON.stringify([
    state,
    context.runs,
    context.routes[0],
    context.routes
      .slice(1)
      .map((route) => route.join())
      .toSorted(),
    context.drained.toSorted(),
    context.drainWaived.toSorted(),
    context.unhealthy,
    context.returnTo,
    context.jobMode,
    context.tryOnly,
    context.leftOut.toSorted(),
    context.rollback?.moved,
    context.evidence.testing !== undefined,
    context.evidence.tagging !== undefined,
    context.question?.choices.length,
    context.topology.servers.map((server) =>
      context.runs[server] === 'unknown'
        ? context.ranBefore[server]
        : !context.serving.includes(server) && context.ranBefore[server] === undefined,
    ),
  ]);

export interface WalkOptions {
  topology?: Topology;
  restore?: 'auto' | 'hold';
  onBad?: 'rollback' | 'hold';
  kind?: 'release' | 'rollback';
  before?: Record<string, string | null>;
  serving?: string[];
  /**
   * How many times on the way anything may go otherwise than well: a step fails or asks, a person sends something else than NEXT or an
   * answer. Left out: any number of times.
   */
  troubles?: number;
  /** Whether each node holds its snapshot as it is stored. */
  persist?: boolean;
  /** More nodes than this are taken for a chart that does not close. */
  most?: number;
}

/** Walks the chart breadth first and returns every node and edge. */
export function walk(options: WalkOptions = {}) {
  const { topology = TOPOLOGY, troubles = Number.POSITIVE_INFINITY, persist = false, most = 5_000 } = options;
  const machine = createReleaseMachine(topology);
  const [first] = initialTransition(machine, {
    id: 'r-0001',
    kind: options.kind ?? 'release',
    version: 'v2',
    topology,
    before: options.before ?? Object.fromEntries(topology.servers.map((server) => [server, 'v1'])),
    restore: options.restore ?? 'auto',
    onBad: options.onBad ?? 'rollback',
    ...(options.serving === undefined ? {} : { serving: options.serving }),
  });
  const nodes = new Map<string, Node>();
  const edges: Edge[] = [];
  const visit = (snapshot: Snapshot, path: string[]): Node => {
    const state = snapshot.value as unknown as string;
    const key = keyOf(state, snapshot.context);
    if (nodes.size > most) throw new Error(`the chart does not close: ${path.join(' · ')}`);
    const known = nodes.get(key);
    if (known !== undefined) return known;
    const children = Object.values(snapshot.children).filter((child) => child?.getSnapshot().status === 'active');
    const node = {
      state,
      context: snapshot.context,
      path,
      persisted: persist ? machine.getPersistedSnapshot(snapshot) : null,
      publishes: children.flatMap((child) => {
        const { input } = child?.getPersistedSnapshot() as unknown as { input: Input };
        if ((child?.src as unknown as EffectName) === 'publish')
          return input.server === undefined ? [] : [input.server];
        if ((child?.src as unknown as EffectName) !== 'publishWave') return [];
        return (input.servers ?? []).map((one) => (typeof one === 'string' ? one : one.server));
      }),
      effects: children.map((child) => child?.src as unknown as EffectName),
      trying: children.flatMap((child) => {
        const { input } = child?.getPersistedSnapshot() as unknown as { input: Input };
        return input.to === undefined ? [] : [input.to];
      }),
    };
    nodes.set(key, node);
    return node;
  };
  const start = visit(first, []);
  // In the order of their troubles, so that each is gone on from with as few as it can be reached with.
  let level = [[first, start] as const];
  const gone = new Set<Node>();
  for (let had = 0; level.length > 0; had += 1) {
    const next: typeof level = [];
    // It grows while it is gone through.
    for (const [snapshot, from] of level) {
      if (gone.has(from) || snapshot.status !== 'active') continue;
      gone.add(from);
      for (const { event, sent, isTrouble } of movesFrom(machine, snapshot)) {
        if (isTrouble && had >= troubles) continue;
        const [after]: [Snapshot, unknown] = transition(machine, snapshot, sent as ReleaseEvent);
        if (after === snapshot || (after.value === snapshot.value && after.context === snapshot.context)) continue;
        const node = visit(after, [...from.path, event]);
        edges.push({ from, to: node, event, sent });
        if (!gone.has(node)) (isTrouble ? next : level).push([after, node]);
      }
    }
    level = next;
  }
  return { machine, nodes: [...nodes.values()], edges, start: start };
}

interface Move {
  event: string;
  sent: unknown;
  isTrouble: boolean;
}

/** All that can come next: what a person can send, and how the pending effect can end. */
function movesFrom(machine: ReleaseMachine, snapshot: Snapshot): Move[] {
  const sendable = events(snapshot.context).map((sent) => ({
    event: `${sent.type}${sent.type === 'ANSWER' ? ` ${sent.choice}` : ''}`,
    sent,
    // Out of `stuck` there is no other way than ROLLBACK.
    isTrouble: !['NEXT', 'ANSWER'].includes(sent.type) && (snapshot.value as unknown as string) !== 'stuck',
  }));
  const { children } = machine.getPersistedSnapshot(snapshot) as unknown as Persisted;
  const endings = Object.entries(children).flatMap(([id, { src, snapshot: child }]): Move[] => [
    ...outputs(src, child.input).map((output, index) => ({
      event: `${src} ${(output as { outcome: string }).outcome}`,
      sent: { type: `xstate.done.actor.${id}`, output, actorId: id },
      isTrouble: index > 0,
    })),
    ...(['unsafe', 'rejected', 'timedOut', 'unknownOutcome'] as const).map((kind) => ({
      event: `${src} ${kind}`,
      sent: { type: `xstate.error.actor.${id}`, error: { code: 'X', kind, message: kind, step: '' }, actorId: id },
      isTrouble: true,
    })),
  ]);
  return [...sendable, ...endings];
}
