/**
 * The state in which one server is published to: forward with the release's version, or back with the one before.
 * From the commit that enters it nobody can say what the server runs, until its version is proven. A refusal before anything was
 * tried (`unsafe`) leaves the server what it was.
 */
import { change, type Done, type Failed, failureOf, keep, type StateConfig, stepInput } from './chart.ts';
import type { ReleaseContext, Runs } from './contract.ts';

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

/** What entering a publish says of the server: `unknown`, and what it was, to return to. */
export const unknownNow = (context: ReleaseContext, server: string): Partial<ReleaseContext> => ({
  ranBefore: { ...context.ranBefore, [server]: context.runs[server] ?? 'unknown' },
  runs: { ...context.runs, [server]: 'unknown' },
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
