/**
 * Hosts the chart: compute → commit → perform. The only place that runs a transition.
 *
 * Invariants: a state is on disk before its effect starts; an effect's outcome is on disk before anything follows from it; a
 * failed commit means that nothing was performed, and nothing further is; one effect at a time, and an aborted one has
 * settled before the next starts; an event is decided before a pending effect is performed.
 * XState keeps the semantics; the order is kept here, which is why no actor is ever started.
 */
import { createActor, initialTransition, transition } from 'xstate';
import type { EffectInput, EffectName, ReleaseContext, ReleaseInput, StepFailure } from '../../machines/contract.ts';
import type { ReleaseEvent } from '../../machines/events.ts';
import { eventsOf, isOverridden, type Verdict, verdictsOn } from '../../machines/guards.ts';
import { createReleaseMachine, machineId, type ReleaseMachine } from '../../machines/release.ts';
import { EXIT, FlowError, messageOf, StateError, StepError } from '../errors.ts';
import type { EffectTools, Effects, Progress } from '../effects/effect.ts';
import type { HistoryEntry, ReleaseDocument, Sender, StoredSnapshot } from '../store/document.ts';
import type { ReleaseFile } from '../store/release-file.ts';
import { noteOn } from '../views/note.ts';
import { whyImpossible } from '../views/verdicts.ts';
import type { Redact } from './secrets.ts';
import { stood } from './standing.ts';

type Snapshot = ReturnType<typeof initialTransition<ReleaseMachine>>[0];

/** What the record calls the end of an effect that did not simply end well. */
const ENDS: Readonly<Partial<Record<string, string>>> = { ask: 'asked', partial: 'asked', bad: 'failed' };

/** The chart is flat, so its value is the name of one state. */
const stateOf = ({ value }: { value: unknown }): string => (typeof value === 'string' ? value : JSON.stringify(value));

/** An effect by its name, with what it is given. */
export type PendingEffect = { [Name in EffectName]: { src: Name; input: EffectInput<Name> } }[EffectName];

/** The engine's view of time; injected so that tests own it. */
export interface Clock {
  now(): Date;
}

/** The answer to an event. */
export interface Decision {
  accepted: boolean;
  /** Every verdict on it, in the order in which they are shown. */
  verdicts: Verdict[];
  /** Why it was refused, where no verdict says so. */
  because: string | null;
  rev: number;
  state: string;
}

export interface EngineOptions {
  file: ReleaseFile<ReleaseDocument>;
  clock: Clock;
  onCommit?: (document: ReleaseDocument, entry: HistoryEntry) => void;
  onProgress?: (step: string, progress: Progress) => void;
  /** Takes secrets out of what an effect reports, sees or fails with; nothing when left out. */
  redact?: Redact;
}

/** The document of a release that has just been planned, to be committed as its first generation. */
export function firstDocument(
  input: ReleaseInput,
  about: Pick<ReleaseDocument, 'project' | 'by' | 'config'> & {
    overridden?: { verdicts: Verdict[]; reason: string | null };
  },
  clock: Clock,
): ReleaseDocument {
  const { overridden = { verdicts: [], reason: null }, ...of } = about;
  const machine = createReleaseMachine(input.topology);
  const [snapshot] = initialTransition(machine, input);
  const at = clock.now().toISOString();
  const to = stateOf(snapshot);
  return {
    format: 1,
    id: input.id,
    machine: machineId(input.topology),
    startedAt: at,
    ...of,
    rev: 1,
    snapshot: machine.getPersistedSnapshot(snapshot) as unknown as StoredSnapshot,
    history: [
      {
        rev: 1,
        at,
        event: 'started',
        from: null,
        to,
        by: of.by,
        reason: overridden.reason,
        forced: overridden.verdicts,
        note: null,
        seconds: null,
        ...stood(null, snapshot.context),
      },
    ],
    endedAt: null,
  };
}

/** One release, loaded and ready to be driven. Nothing is performed before `drive`. */
export class Engine {
  readonly #options: EngineOptions;
  readonly #machine: ReleaseMachine;
  #snapshot: Snapshot;
  #running: { ref: unknown; abort: AbortController } | null = null;
  #parked = false;
  #settled: () => void = () => undefined;

  /** Throws StateError CHART_DIFFERS when the snapshot belongs to another version of the chart. */
  constructor(options: EngineOptions) {
    this.#options = options;
    const { data } = options.file;
    const { topology } = data.snapshot.context;
    if (data.machine !== machineId(topology)) {
      throw new StateError(
        'CHART_DIFFERS',
        `Release ${data.id} was started with the chart ${data.machine}, and this flow knows ${machineId(topology)}. Nothing was started. ` +
          'Finish it with the flow that started it, or finish by hand and begin anew with: flow start',
      );
    }
    this.#machine = createReleaseMachine(topology);
    const restored = createActor(this.#machine, {
      snapshot: data.snapshot as never,
      input: data.snapshot.context,
    }).getSnapshot();
    if (restored.status === 'error' || this.#machine.states[stateOf(restored)] === undefined) {
      throw new StateError(
        'SNAPSHOT_BROKEN',
        `The snapshot of release ${data.id} cannot be restored. Nothing was started. See: flow history`,
      );
    }
    this.#snapshot = restored;
  }

  get document(): Readonly<ReleaseDocument> {
    return this.#options.file.data;
  }
  get state(): string {
    return stateOf(this.#snapshot);
  }
  get context(): ReleaseContext {
    return this.#snapshot.context;
  }
  /** Whether an effect is pending or running: the release does not rest. */
  get isWorking(): boolean {
    return this.#pending() !== null;
  }

  get isParked(): boolean {
    return this.#parked;
  }
  /** The effect that is performed, or will be by the next driver; null where none is. A job that it started goes on without flow. */
  get pending(): PendingEffect | null {
    return this.#pending() as PendingEffect | null;
  }

  /**
   * Stops performing: the running effect is told to end, and `drive` returns when it has. What it did by then is committed; what it
   * left is performed again by the next driver. Resolves when it is safe to leave.
   */
  park(): Promise<void> {
    this.#parked = true;
    const running = this.#running;
    if (running === null) return Promise.resolve();
    const settled = new Promise<void>((resolve) => {
      this.#settled = resolve;
    });
    running.abort.abort(new DOMException('the driver was parked', 'AbortError'));
    return settled;
  }

  /** What would be answered to an event, without sending it. */
  judge(event: ReleaseEvent): Decision {
    const { state, context } = this;
    const base = { rev: this.document.rev, state };
    const possible = eventsOf(state, context);
    const known = event.type === 'RECHECK' ? this.#snapshot.can(event) : possible.includes(event.type);
    const verdicts = known ? verdictsOn(state, context, event) : [];
    if (!known) {
      const because = whyImpossible(event.type, state, context);
      const step: Verdict[] = this.isWorking
        ? [
            {
              id: 'stepAtRest',
              ok: false,
              because: `${state} is at work`,
              unblock: 'wait until it rests: flow status --watch',
            },
          ]
        : [];
      return { ...base, accepted: false, verdicts: step, because };
    }
    const accepted = this.#snapshot.can(event);
    return { ...base, accepted, verdicts, because: null };
  }

  /**
   * Decides an event and commits what follows. An accepted event is durable when this returns; the effect of the step it left is
   * told to end. Throws StateError when the commit failed: nothing was performed.
   */
  send(event: ReleaseEvent, by: Sender): Decision {
    const decision = this.judge(event);
    if (!decision.accepted) return decision;
    const forced = decision.verdicts.filter((verdict) => isOverridden(verdict, event.force));
    this.#step(event, {
      event: event.type === 'ANSWER' ? `ANSWER ${event.choice}` : event.type,
      by,
      reason: event.reason ?? null,
      forced,
    });
    const running = this.#running;
    if (running !== null && this.#pending()?.ref !== running.ref)
      running.abort.abort(new DOMException('the release moved on', 'AbortError'));
    return { ...decision, rev: this.document.rev, state: this.state };
  }

  /** Puts something on record that moves nothing: an override, say. Throws StateError when the commit failed. */
  record(about: Pick<HistoryEntry, 'event' | 'by' | 'reason' | 'forced'>): void {
    const { file, clock } = this.#options;
    const rev = file.data.rev + 1;
    const entry: HistoryEntry = {
      rev,
      at: clock.now().toISOString(),
      from: this.state,
      to: this.state,
      ...about,
      note: null,
      seconds: null,
    };
    file.commit({ ...file.data, rev, history: [...file.data.history, entry] });
    this.#options.onCommit?.(file.data, entry);
  }

  /**
   * Performs pending effects, one after the other, until the release rests. Call it once at a time.
   * Throws StateError when a commit failed, and FlowError for a defect; an effect's own failure is a transition of the chart.
   */
  async drive(effects: Effects): Promise<void> {
    const { redact = asItIs } = this.#options;
    for (;;) {
      const pending = this.#pending();
      if (pending === null || this.#parked) return;
      const abort = new AbortController();
      const startedAt = performance.now();
      this.#running = { ref: pending.ref, abort };
      const tools: EffectTools = {
        signal: abort.signal,
        report: (progress) => {
          if (this.#running?.ref === pending.ref) this.#options.onProgress?.(pending.id, redact(progress));
        },
      };
      let ended: { event: string; sent: unknown };
      try {
        const effect = effects[pending.src] as (input: unknown, tools: EffectTools) => Promise<{ outcome: string }>;
        const output = redact(await effect(pending.input, tools));
        const event = ENDS[output.outcome] ?? 'done';
        ended = { event, sent: { type: `xstate.done.actor.${pending.id}`, output, actorId: pending.id } };
      } catch (error) {
        // The state on disk is no step's failure: nothing may follow from it.
        if (error instanceof StateError) throw error;
        if (this.isParked) {
          this.#settled();
          return;
        }
        const failure = redact(failureOf(pending.id, error));
        ended = {
          event: 'failed',
          sent: { type: `xstate.error.actor.${pending.id}`, error: failure, actorId: pending.id },
        };
      } finally {
        this.#running = null;
      }
      // An event moved the release on while the effect was ending: its result belongs to a step that is over.
      if (this.#pending()?.ref !== pending.ref) continue;
      const seconds = Math.round((performance.now() - startedAt) / 10) / 100;
      this.#step(ended.sent as ReleaseEvent, { event: ended.event, by: null, reason: null, forced: [], seconds });
      if (this.#pending()?.ref === pending.ref) {
        throw new FlowError(
          'DEFECT',
          EXIT.defect,
          `a defect in flow: the chart took no notice of the end of ${pending.id}`,
        );
      }
      this.#settled();
    }
  }

  #pending(): { id: string; src: EffectName; input: unknown; ref: unknown } | null {
    if (this.#snapshot.status !== 'active') return null;
    for (const [id, ref] of Object.entries(this.#snapshot.children)) {
      if (ref === undefined) continue;
      const { input } = ref.getPersistedSnapshot() as unknown as { input: unknown };
      return { id, src: ref.src as EffectName, input, ref };
    }
    return null;
  }

  #step(
    event: ReleaseEvent,
    about: Pick<HistoryEntry, 'event' | 'by' | 'reason' | 'forced'> & { seconds?: number },
  ): void {
    const from = this.state;
    const [next] = transition(this.#machine, this.#snapshot, event);
    if (next.status === 'error') {
      throw new FlowError(
        'DEFECT',
        EXIT.defect,
        `a defect in flow: the chart failed at ${from} on ${event.type}: ${messageOf(next.error)}`,
      );
    }
    const { file, clock } = this.#options;
    const at = clock.now().toISOString();
    const rev = file.data.rev + 1;
    const { seconds = null, ...rest } = about;
    const entry: HistoryEntry = {
      rev,
      at,
      from,
      to: stateOf(next),
      ...rest,
      note: noteOn(about.event, from, next.context),
      seconds,
      ...stood(this.context, next.context),
    };
    file.commit({
      ...file.data,
      rev,
      snapshot: this.#machine.getPersistedSnapshot(next) as unknown as StoredSnapshot,
      history: [...file.data.history, entry],
      endedAt: next.status === 'active' ? null : at,
    });
    this.#snapshot = next;
    this.#options.onCommit?.(file.data, entry);
  }
}

const asItIs: Redact = (value) => value;

/** What the chart and the record keep of an error. */
function failureOf(step: string, error: unknown): StepFailure {
  if (error instanceof StepError) return { step, code: error.code, kind: error.kind, message: error.message };
  if (error instanceof FlowError) return { step, code: error.code, kind: 'rejected', message: error.message };
  return { step, code: 'DEFECT', kind: 'defect', message: `a defect in flow: ${messageOf(error)}` };
}
