/**
 * The typed ground every state is built on: the effects by name, and the assignments that states share.
 * Effects are placeholders here; the runtime provides the real ones. There are no custom actions: what changes the world is
 * an invoked effect with a name, and nothing else, so that it can be put on disk before it starts.
 */
import { assign, fromPromise, setup } from 'xstate';
import type {
  EffectInput,
  EffectName,
  EffectOutput,
  Evidence,
  JobMode,
  ReleaseContext,
  ReleaseInput,
  StepFailure,
} from './contract.ts';
import type { ReleaseEvent } from './events.ts';
import { passes, verdictsOn } from './guards.ts';

const placeholder = <Name extends EffectName>() =>
  fromPromise<EffectOutput<Name>, EffectInput<Name>>(() =>
    Promise.reject(new Error('this effect is provided by the runtime')),
  );

/** The chart's foundation. `allowed` is the one guard: it asks the table of verdicts for the state named in its params. */
export const foundation = setup({
  types: {
    context: {} as ReleaseContext,
    events: {} as ReleaseEvent,
    input: {} as ReleaseInput,
  },
  actors: {
    runTests: placeholder<'runTests'>(),
    tag: placeholder<'tag'>(),
    undoTagging: placeholder<'undoTagging'>(),
    drain: placeholder<'drain'>(),
    publish: placeholder<'publish'>(),
    publishWave: placeholder<'publishWave'>(),
    preview: placeholder<'preview'>(),
    goLive: placeholder<'goLive'>(),
    soak: placeholder<'soak'>(),
    moveTraffic: placeholder<'moveTraffic'>(),
    mergeBack: placeholder<'mergeBack'>(),
  },
  guards: {
    allowed: ({ context, event }, { state }: { state: string }) =>
      passes(verdictsOn(state, context, event), event.force),
  },
});

type Config = Parameters<typeof foundation.createMachine>[0];
export type States = NonNullable<Config['states']>;
export type StateConfig = States[string];

type Change = (context: ReleaseContext, event: never) => Partial<ReleaseContext>;

/**
 * An assignment of several fields at once, computed from the context and the event that caused it. Its type is `never` so
 * that it fits every state: the event's type is declared where it is read, because states are generated, not written.
 */
export const change = (compute: Change): never =>
  assign(({ context, event }: { context: ReleaseContext; event: unknown }) =>
    compute(context, event as never),
  ) as never;

/** Entering a step: counts the attempt, and forgets the failure and the question that it answers. */
export const entering = (step: string, more: Change = () => ({})) =>
  change((context, event) => ({
    attempts: { ...context.attempts, [step]: (context.attempts[step] ?? 0) + 1 },
    failure: null,
    question: null,
    ...more(context, event),
  }));

/** What every effect is told. */
export const stepInput = (step: string, context: ReleaseContext) => ({
  step,
  attempt: context.attempts[step] ?? 1,
  release: { id: context.id, version: context.version, kind: context.kind },
});

/** The route that was proven last. A step that finds the tree elsewhere was cut in the middle of a switch. */
export const provenRoute = (context: ReleaseContext): string[] => context.routes[0] ?? [];

/** The event with which the runtime reports the end of an effect. */
export interface Done<Name extends EffectName> {
  output: EffectOutput<Name>;
}
export interface Failed {
  error: StepFailure;
}

/** Keeps what an effect saw under its step's name. */
export const keep = (context: ReleaseContext, step: string, evidence: Evidence) => ({
  ...context.evidence,
  [step]: evidence,
});

/** A failure the runtime reported, with anything that is not one made into one. */
export function failureOf(step: string, event: Failed): StepFailure {
  const { error } = event;
  return { step, code: error.code, kind: error.kind, message: error.message };
}

/** A transition for ANSWER with one of a question's choices. */
export function answered(
  state: string,
  choice: string,
  target: string,
  actions: never = change(() => ({ question: null })),
) {
  return {
    guard: ({ context, event }: { context: ReleaseContext; event: ReleaseEvent }) =>
      event.type === 'ANSWER' && event.choice === choice && passes(verdictsOn(state, context, event), event.force),
    target,
    actions,
  };
}

/** The job that was asked about keeps its number: the same attempt is probed, attached to, or ended. */
export const sameJob = (step: string, jobMode: JobMode): never =>
  change((context) => ({
    jobMode,
    attempts: { ...context.attempts, [step]: (context.attempts[step] ?? 1) - 1 },
  }));

/** The answers to a job that was lost or is silent. Where nothing can be rolled back, only these. */
export const jobAnswers = (asking: string, step: string) => [
  answered(asking, 'worked', step, sameJob(step, 'probe')),
  answered(asking, 'wait', step, sameJob(step, 'run')),
  answered(asking, 'end', step, sameJob(step, 'end')),
  answered(asking, 'again', step),
];
