/**
 * Releases as they are stored, at any point of their way: the real chart driven by XState's pure functions, with made-up
 * outcomes, and the history written as the runtime writes it. Fixture of the tests of the views.
 */
import { initialTransition, transition } from 'xstate';
import type { DrainEvidence, EffectName, ReleaseInput, SoakEvidence, SwitchEvidence } from '../../machines/contract.ts';
import type { Facts, ReleaseEvent } from '../../machines/events.ts';
import { createReleaseMachine, machineId, type ReleaseMachine } from '../../machines/release.ts';
import type { Topology } from '../../machines/topology.ts';
import { parseConfig } from '../../src/config/load.ts';
import type { Config } from '../../src/config/schema.ts';
import { stood } from '../../src/release/standing.ts';
import type { HistoryEntry, ReleaseDocument, StoredSnapshot } from '../../src/store/document.ts';
import { noteOn } from '../../src/views/note.ts';
import { TOPOLOGY, trueFacts } from './walk.ts';

const LI = { user: 'li', host: 'bastion', via: 'command line' };
/** 14:00:00 on the clock of the machine that runs the test, so that texts are the same everywhere. */
const START = new Date(2026, 5, 1, 14, 0, 0).getTime();
const TICK_MS = 10_000;
const TESTED = 'abc1234567890';

/** The runbook's config, with more lines where a test needs them. */
function configOf({ servers, cutover, waves }: Topology, ...lines: string[]): Config {
  const way = [
    `cutover: ${cutover}`,
    'minimumHealthy: 1',
    ...(waves === undefined ? [] : [`waves: ${JSON.stringify(waves)}`]),
  ];
  const named = servers
    .map((name, index) => `${name}: { address: "10.0.${index < 8 ? 0 : 1}.${index + 1}:80" }`)
    .join(', ');
  const result = parseConfig(
    [
      'version: 1',
      'project: quickpay',
      `servers: { ${named} }`,
      'test: { address: "10.0.0.9:80" }',
      ...way,
      ...lines,
    ].join('\n'),
  );
  if ('issues' in result) throw new Error(JSON.stringify(result.issues));
  return result.config;
}

interface Pending {
  id: string;
  src: EffectName;
  input: {
    to?: string[];
    lost?: string[];
    server?: string;
    servers?: { server: string; version: string }[];
    version?: string;
  };
}

const switchedTo = (servers: string[]): SwitchEvidence => ({
  servers,
  branch: 'yun-app2',
  commit: '51c01aa0000000000000000000000000000000aa',
  from: 'master',
  master: { pid: 100, startedAtTicks: 1 },
  workersBefore: [{ pid: 101, startedAtTicks: 1, shuttingDown: false }],
  workersAfter: [{ pid: 102, startedAtTicks: 2, shuttingDown: false }],
  liveAfterMs: 40,
  testedOutput: '',
  reloadStatus: 0,
  provenBy: '1 new worker',
});
const drained = (to: string[], isDrained: boolean): DrainEvidence => ({
  switched: switchedTo(to),
  drainedAfterSeconds: isDrained ? 1.5 : null,
  workersLeft: isDrained ? 0 : 2,
  ratesBefore: { app1: 12, app2: 11 },
  ratesAfter: { app1: 0, app2: 23 },
  judgedBy: '',
  checks: [],
});
const observed: SoakEvidence = {
  observedSeconds: 600,
  checksRun: 120,
  checksFailed: 0,
  errorsSeen: 0,
  rates: { app1: 23 },
  errorsPerSecond: 0,
  oldErrorsPerSecond: 0,
  samples: [],
  proxy: null,
  note: '',
};

const published = (server: string | undefined, version: string | undefined) => ({
  server,
  version,
  exitStatus: 0,
  seconds: 8,
  healthySeconds: 1,
  health: '200',
  job: '',
  printed: '',
});

/** The good end of a step. */
function goodEnd({ src, input }: Pending): { outcome: string } & Record<string, unknown> {
  const to = input.to ?? [];
  switch (src) {
    case 'runTests':
      return end({
        commit: TESTED,
        merged: true,
        version: 'v1.3.8',
        checks: [],
        interruptedSeconds: 0,
        publishSeconds: 8,
      });
    case 'tag':
      return end({ previousTag: 'v1.3.7', tag: 'v1.3.8', commit: 'def1234567890', changes: 3, pushedTo: 'cil' });
    case 'undoTagging':
      return end({ undone: [], kept: [] });
    case 'drain':
    case 'goLive':
      return end(drained(to, true));
    case 'publish':
      return end(published(input.server, input.version));
    case 'publishWave':
      return end({
        results: (input.servers ?? []).map(({ server, version }) => ({
          server,
          outcome: 'done',
          evidence: published(server, version),
        })),
      });
    case 'preview':
      return end({ previewed: input.servers ?? [], through: null, checks: [] });
    case 'soak':
      return { outcome: 'good', evidence: observed };
    case 'moveTraffic':
      return end({ switched: switchedTo(to), secondsUntilMoved: 0.5 });
    case 'mergeBack':
      return end({ commit: 'fed1234567890', followUp: null });
  }
}
const end = (evidence: unknown) => ({ outcome: 'done', evidence });

/** The question of a step that can end in neither yes nor no, as an output of its effect. */
export function asks(kind: string, text: string, ...choices: string[]) {
  return {
    outcome: 'ask',
    question: { id: `${kind}.1`, kind, text, choices: choices.map((choice) => ({ choice, does: `does ${choice}` })) },
    evidence: kind === 'drainOverdue' ? drained(['app2'], false) : observed,
  };
}
export const soakBad = (because: string) => ({ outcome: 'bad', evidence: { ...observed, errorsSeen: 7 }, because });

/** A release on its way; each call is one commit, ten seconds after the one before. */
export class Play {
  readonly #machine: ReleaseMachine;
  #snapshot: ReturnType<typeof initialTransition<ReleaseMachine>>[0];
  #history: HistoryEntry[] = [];
  readonly #config: Config;

  constructor(input: Partial<ReleaseInput> = {}, ...configLines: string[]) {
    const topology = input.topology ?? TOPOLOGY;
    this.#config = configOf(topology, ...configLines);
    this.#machine = createReleaseMachine(topology);
    [this.#snapshot] = initialTransition(this.#machine, {
      id: 'r-0001',
      kind: 'release',
      version: 'v1.3.8',
      topology,
      before: Object.fromEntries(topology.servers.map((server) => [server, 'v1.3.7'])),
      restore: 'auto',
      onBad: 'rollback',
      ...input,
    });
    this.#record('started', null, { by: LI, ...stood(null, this.#snapshot.context) });
  }

  get state(): string {
    return this.document.snapshot.value;
  }

  /** What is seen of a world that is as the release believes. */
  get facts(): Facts {
    return trueFacts(this.#snapshot.context, { testing: { commit: TESTED, serverCommit: TESTED, because: '' } });
  }

  /** Ten seconds after the last commit. */
  get now(): Date {
    return new Date(START + this.#history.length * TICK_MS);
  }

  get document(): ReleaseDocument {
    const { context } = this.#snapshot;
    const at = (index: number) => this.#history.at(index)?.at ?? '';
    return {
      format: 1,
      id: context.id,
      machine: machineId(context.topology),
      project: 'quickpay',
      startedAt: at(0),
      by: LI,
      rev: this.#history.length,
      config: { file: 'flow.yaml', hash: '', pinned: this.#config },
      snapshot: this.#machine.getPersistedSnapshot(this.#snapshot) as unknown as StoredSnapshot,
      history: this.#history,
      endedAt: this.#snapshot.status === 'active' ? null : at(-1),
    };
  }

  /** Sends an event with facts of a world that is as believed. Throws when the chart refuses it. */
  send(event: ReleaseEvent): this {
    const facts = event.facts ?? this.facts;
    const name = event.type === 'ANSWER' ? `ANSWER ${event.choice}` : event.type;
    return this.#step({ ...event, facts }, name, { by: LI, reason: event.reason ?? null });
  }

  answer(choice: string): this {
    return this.send({ type: 'ANSWER', question: this.#snapshot.context.question?.id ?? '', choice });
  }

  /** Ends the step that is under way, well or with the given output. */
  end(output?: { outcome: string }): this {
    const pending = this.#pending();
    const event = output?.outcome === 'ask' || output?.outcome === 'partial' ? 'asked' : 'done';
    const sent = { type: `xstate.done.actor.${pending.id}`, output: output ?? goodEnd(pending), actorId: pending.id };
    return this.#step(sent, event, { seconds: 10 });
  }

  fail(kind: string, message: string): this {
    const { id } = this.#pending();
    const error = { code: 'MADE_UP', kind, message, step: id };
    return this.#step({ type: `xstate.error.actor.${id}`, error, actorId: id }, 'failed', { seconds: 10 });
  }

  /** Goes on with NEXT and good ends until this state. Throws when it is never met. */
  until(state: string, most = 60): this {
    for (let left = most; left > 0; left -= 1) {
      if (this.state === state) return this;
      if (this.#snapshot.status !== 'active') break;
      if (Object.keys(this.#snapshot.children).length > 0) this.end();
      else this.send({ type: 'NEXT' });
    }
    throw new Error(`the release never came to ${state}; it is at ${this.state}`);
  }

  #pending(): Pending {
    const [entry] = Object.entries(this.document.snapshot as unknown as object).flatMap(([key, value]) =>
      key === 'children'
        ? Object.entries(value as Record<string, { src: EffectName; snapshot: { input: Pending['input'] } }>)
        : [],
    );
    if (entry === undefined) throw new Error(`nothing is under way at ${this.state}`);
    const [id, { src, snapshot }] = entry;
    return { id, src, input: snapshot.input };
  }

  #step(event: unknown, name: string, about: Partial<HistoryEntry>): this {
    const from = this.state;
    const [next] = transition(this.#machine, this.#snapshot, event as ReleaseEvent);
    if (next === this.#snapshot) throw new Error(`${name} was refused at ${from}`);
    const before = this.#snapshot.context;
    this.#snapshot = next;
    this.#record(name, from, { ...about, ...stood(before, next.context) });
    return this;
  }

  #record(event: string, from: string | null, about: Partial<HistoryEntry>): void {
    const to = this.state;
    const note = from === null ? null : noteOn(event, from, this.#snapshot.context);
    const at = this.now.toISOString();
    const rest = { by: null, reason: null, forced: [], seconds: null };
    this.#history = [...this.#history, { rev: this.#history.length + 1, at, event, from, to, note, ...rest, ...about }];
  }
}
