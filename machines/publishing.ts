/**
 * The states in which servers are published to: forward with the release's version, or back with the one before. One server is
 * published by a state that reaches its end or fails; of several (`publishingWaveStates`) each is told apart, and a person decides
 * about those that failed.
 * From the commit that enters such a state nobody can say what the servers run, until their version is proven. A refusal before
 * anything was tried leaves a server what it was.
 */
import {
  answered,
  change,
  type Done,
  type Failed,
  failureOf,
  keep,
  type StateConfig,
  type States,
  stepInput,
} from './chart.ts';
import type { Choice, JobMode, Question, ReleaseContext, Runs, ServerResult } from './contract.ts';
import type { ReleaseEvent } from './events.ts';

export interface Publishing {
  step: string;
  server: string;
  version: (context: ReleaseContext) => string;
  /** What the server runs once its version is proven. */
  becomes: Exclude<Runs, 'unknown'>;
  /** Counts the attempt; given `unknownNow` to apply. */
  entry: never;
  after: string;
  failed: string;
  asking: string;
}

/** What entering a publish says of the servers: `unknown`, and what they were, to return to. */
export const unknownNow = (context: ReleaseContext, servers: readonly string[]): Partial<ReleaseContext> => ({
  ranBefore: {
    ...context.ranBefore,
    ...Object.fromEntries(servers.map((server) => [server, context.runs[server] ?? 'unknown'] as const)),
  },
  runs: { ...context.runs, ...Object.fromEntries(servers.map((server) => [server, 'unknown'] as const)) },
});

/** The commit that this release tagged, where the version to be published is its own. */
function taggedCommit(context: ReleaseContext, version: string): string | null {
  const { tagging } = context.evidence;
  return tagging !== undefined && 'tag' in tagging && tagging.tag === version ? tagging.commit : null;
}

export function publishingState({
  step,
  server,
  version,
  becomes,
  entry,
  after,
  failed,
  asking,
}: Publishing): StateConfig {
  return {
    entry,
    invoke: {
      id: step,
      src: 'publish',
      input: ({ context }) => ({
        ...stepInput(step, context),
        server,
        version: version(context),
        serving: context.routes[0] ?? [],
        switched: context.switched,
        drainWaived: context.drainWaived.includes(server),
        mode: context.jobMode,
        commit: taggedCommit(context, version(context)),
      }),
      onDone: [
        {
          guard: ({ event }) => event.output.outcome === 'ask',
          target: asking,
          actions: change((_context, { output }: Done<'publish'>) =>
            output.outcome === 'ask' ? { question: output.question, jobMode: 'run' as const } : {},
          ),
        },
        {
          target: after,
          actions: change((context, { output }: Done<'publish'>) =>
            output.outcome === 'done'
              ? {
                  runs: { ...context.runs, [server]: becomes },
                  unhealthy: context.unhealthy.filter((name) => name !== server),
                  evidence: keep(context, step, output.evidence),
                  jobMode: 'run' as const,
                }
              : {},
          ),
        },
      ],
      onError: {
        target: failed,
        actions: change((context, event: Failed) => {
          const failure = failureOf(step, event);
          const untouched = {
            runs: { ...context.runs, [server]: context.ranBefore[server] ?? ('unknown' as const) },
            // Refused: the drain it relied on may not stand any more. The way back proves it anew, or would be refused for ever.
            ...(becomes === 'old' ? { drained: context.drained.filter((name) => name !== server) } : {}),
          };
          return { failure, jobMode: 'run' as const, ...(failure.kind === 'unsafe' ? untouched : {}) };
        }),
      },
    },
  };
}

export interface WavePublishing {
  step: string;
  asking: string;
  /** The servers that are not done yet; those of the wave that were left out are done with. */
  pending: (context: ReleaseContext) => string[];
  version: (context: ReleaseContext, server: string) => string;
  becomes: Exclude<Runs, 'unknown'>;
  /** Counts the attempt, and then applies what is given. */
  entering: (step: string, more: (context: ReleaseContext) => Partial<ReleaseContext>) => never;
  after: string;
  failed: string;
  /** Whether the release can go on without these servers. */
  mayLeaveOut: (context: ReleaseContext, servers: string[]) => boolean;
  /** How a rollback is begun instead; none where one is under way. */
  orRollBack: ReturnType<typeof answered>[];
}

/** The state that publishes to several servers side by side, and the one that asks about those that failed. */
export function publishingWaveStates(of: WavePublishing): States {
  const { step, asking, pending, becomes, version } = of;
  const tried = (context: ReleaseContext): string[] =>
    pending(context).filter((server) => context.tryOnly?.includes(server) !== false);
  const settled = (context: ReleaseContext, { output }: Done<'publishWave'>): ReleaseContext => ({
    ...context,
    ...afterResults(context, output.evidence.results, becomes),
    evidence: keep(context, step, { results: resultsOf(context, step, output.evidence.results) }),
    jobMode: 'run',
    tryOnly: null,
  });
  const unfinished = (context: ReleaseContext): ServerResult[] => {
    const left = pending(context);
    return resultsOf(context, step, []).filter(({ server }) => left.includes(server));
  };
  /** Nothing more is tried on those that failed or were lost. */
  const givenUp = (context: ReleaseContext): string[] =>
    unfinished(context).flatMap(({ server, outcome }) => (outcome === 'held' ? [] : [server]));
  const leavingOut = change((context) => ({
    question: null,
    tryOnly: null,
    jobMode: 'run' as const,
    leftOut: [...context.leftOut, ...givenUp(context)],
  }));
  /** The same try once more, of the servers about which the question was. */
  const sameTry = (jobMode: JobMode, outcome: ServerResult['outcome']): never =>
    change((context) => ({
      jobMode,
      tryOnly: unfinished(context).flatMap((result) => (result.outcome === outcome ? [result.server] : [])),
      attempts: { ...context.attempts, [step]: (context.attempts[step] ?? 1) - 1 },
    }));
  const onLeaveOut = answered(asking, 'leaveOut', of.after, leavingOut);
  return {
    [step]: {
      entry: of.entering(step, (context) => unknownNow(context, tried(context))),
      invoke: {
        id: step,
        src: 'publishWave',
        input: ({ context }) => ({
          ...stepInput(step, context),
          servers: tried(context).map((server) => ({
            server,
            version: version(context, server),
            commit: taggedCommit(context, version(context, server)),
            drainWaived: context.drainWaived.includes(server),
          })),
          serving: context.routes[0] ?? [],
          switched: context.switched,
          mode: context.jobMode,
        }),
        onDone: [
          {
            guard: ({ context, event }) => pending(settled(context, event)).length === 0,
            target: of.after,
            actions: change(settled),
          },
          {
            target: asking,
            actions: change((context, event: Done<'publishWave'>) => {
              const now = settled(context, event);
              return { ...now, question: questionAbout(now, of, unfinished(now), givenUp(now)) };
            }),
          },
        ],
        onError: {
          target: of.failed,
          actions: change((context, event: Failed) => {
            const failure = failureOf(step, event);
            const servers = tried(context);
            return {
              failure,
              jobMode: 'run' as const,
              tryOnly: null,
              ...(failure.kind === 'unsafe' ? untouched(context, servers) : {}),
              // As with one server: the way back proves the drain anew, or would be refused for ever.
              ...(failure.kind === 'unsafe' && becomes === 'old'
                ? { drained: context.drained.filter((name) => !servers.includes(name)) }
                : {}),
            };
          }),
        },
      },
    },
    [asking]: {
      on: {
        ANSWER: [
          answered(asking, 'worked', step, sameTry('probe', 'lost')),
          answered(asking, 'wait', step, sameTry('run', 'silent')),
          answered(asking, 'end', step, sameTry('end', 'silent')),
          answered(
            asking,
            'retry',
            step,
            change(() => ({ tryOnly: null, jobMode: 'run' as const })),
          ),
          // Those that were held back because another failed are still to be published.
          {
            ...onLeaveOut,
            target: step,
            guard: (args: { context: ReleaseContext; event: ReleaseEvent }) =>
              onLeaveOut.guard(args) && givenUp(args.context).length < unfinished(args.context).length,
          },
          onLeaveOut,
          ...of.orRollBack,
        ],
      },
    },
  };
}

/** What the servers run by what became of them. */
function afterResults(
  context: ReleaseContext,
  results: readonly ServerResult[],
  becomes: Exclude<Runs, 'unknown'>,
): Partial<ReleaseContext> {
  const ending = (outcome: ServerResult['outcome']): string[] =>
    results.flatMap((result) => (result.outcome === outcome ? [result.server] : []));
  const done = ending('done');
  const { runs } = untouched(context, ending('held'));
  return {
    runs: { ...runs, ...Object.fromEntries(done.map((server) => [server, becomes] as const)) },
    unhealthy: context.unhealthy.filter((server) => !done.includes(server)),
  };
}

const untouched = (context: ReleaseContext, servers: readonly string[]): Pick<ReleaseContext, 'runs'> => ({
  runs: {
    ...context.runs,
    ...Object.fromEntries(servers.map((server) => [server, context.ranBefore[server] ?? 'unknown'] as const)),
  },
});

/** The newest result of each server, those of earlier tries included. */
function resultsOf(context: ReleaseContext, step: string, newest: readonly ServerResult[]): ServerResult[] {
  const kept = context.evidence[step];
  const earlier = kept !== undefined && 'results' in kept ? kept.results : [];
  return [...earlier.filter(({ server }) => !newest.some((result) => result.server === server)), ...newest];
}

function questionAbout(
  context: ReleaseContext,
  of: WavePublishing,
  unfinished: readonly ServerResult[],
  givenUp: string[],
): Question {
  const { step } = of;
  const named = (outcome: ServerResult['outcome']): string =>
    unfinished.flatMap((result) => (result.outcome === outcome ? [result.server] : [])).join(', ');
  const all = unfinished.map(({ server }) => server).join(', ');
  const choices: Choice[] = [];
  if (named('silent') !== '') {
    // Nothing else can be begun while a publish may still be at work.
    choices.push(
      { choice: 'wait', does: `go on waiting for ${named('silent')}` },
      { choice: 'end', does: `end the publish of ${named('silent')}, which may then be half published` },
    );
  } else {
    if (named('lost') !== '') {
      choices.push({ choice: 'worked', does: `prove what ${named('lost')} runs and that it is healthy` });
    }
    choices.push({ choice: 'retry', does: `publish to ${all} once more` });
    if (givenUp.length > 0 && of.mayLeaveOut(context, givenUp)) {
      const held = named('held');
      const others = held === '' ? 'go on with the others' : `publish to ${held}`;
      choices.push({
        choice: 'leaveOut',
        does: `leave ${givenUp.join(', ')} out of rotation until somebody repairs it, and ${others}`,
      });
    }
    if (of.orRollBack.length > 0) choices.push({ choice: 'rollback', does: 'roll the release back' });
  }
  const told = unfinished.map((result) => ('message' in result ? result.message : '')).filter((text) => text !== '');
  return {
    id: `waveHalfFailed.${step}.${context.attempts[step] ?? 1}`,
    kind: 'waveHalfFailed',
    text: told.join(' '),
    choices,
  };
}
