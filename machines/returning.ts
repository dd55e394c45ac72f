/**
 * The rollback states. What is done, and in which order, is computed by `nextRollbackStep` from what each server runs and what
 * is in rotation: `rollingBack` holds no state of its own, it only asks for the next step. Each step is a state, committed
 * before it is performed. A rollback that cannot go on is `stuck`, from where ROLLBACK tries again.
 */
import {
  answered,
  change,
  type Done,
  type Failed,
  failureOf,
  jobAnswers,
  keep,
  provenRoute,
  type StateConfig,
  type States,
  stepInput,
} from './chart.ts';
import type { ReleaseContext } from './contract.ts';
import type { ReleaseEvent } from './events.ts';
import { publishingState, publishingWaveStates, unknownNow } from './publishing.ts';
import {
  goodOldServers,
  mayServe,
  nextRollbackStep,
  type RollbackStep,
  routeToMoveTo,
  routeWhileDraining,
  toBeRestored,
  toDrain,
  toRejoin,
  unrestorableServers,
} from './rollback.ts';
import { repairs } from './routes.ts';
import { proven, trying } from './traffic.ts';
import { atLeastHealthy, sameServers, type Topology, type Wave, wavesOf } from './topology.ts';

/** Whether customers may have met the new version. */
const hasServed = (context: ReleaseContext): boolean =>
  context.served || mayServe(context).some((server) => context.runs[server] === 'new');

const begin = (context: ReleaseContext, why: string, unhealthy: string[]): Partial<ReleaseContext> => {
  // A second ROLLBACK, after it was stuck, goes on with the first: what it began with stays the reason.
  const because = context.rollback?.because ?? why;
  return {
    rollback: { because, moved: false },
    unhealthy,
    // What the new version could not be brought to may well take the old one.
    leftOut: context.rollback === null ? [] : context.leftOut,
    question: null,
    returnTo: null,
    jobMode: 'run',
    tryOnly: null,
    bad: hasServed(context) ? { version: context.version, because } : context.bad,
  };
};

/** Begins a rollback that a person asked for. Health comes with the event; a server that was not asked counts as healthy. */
export const beginRollback: never = change((context, event: ReleaseEvent) => {
  const ill = (server: string) => context.runs[server] === 'old' && event.facts?.servers[server]?.healthy === false;
  return begin(context, event.reason ?? 'the operator rolled back', context.topology.servers.filter(ill));
});

/** Begins the rollback that a bad soak asks for. */
export const soakWentBad = (step: string): never =>
  change((context, { output }: Done<'soak'>) => {
    const because = output.outcome === 'bad' ? output.because : 'the soak went bad';
    return {
      ...begin(context, because, []),
      evidence: keep(context, step, output.evidence),
      failure: { step, code: 'SOAK_BAD', kind: 'rejected' as const, message: because },
    };
  });

const isStep =
  (wanted: RollbackStep['do'], wave?: number) =>
  ({ context }: { context: ReleaseContext }): boolean => {
    const step = nextRollbackStep(context);
    return step.do === wanted && (wave === undefined || ('wave' in step && step.wave === wave));
  };

/** Counts the attempt, and keeps the failure that led here: it is what people want to read during a rollback. */
const returningStep = (step: string, more: (context: ReleaseContext) => Partial<ReleaseContext> = () => ({})): never =>
  change((context) => ({
    attempts: { ...context.attempts, [step]: (context.attempts[step] ?? 0) + 1 },
    question: null,
    ...more(context),
  }));

const stuckBecause = (step: string) => ({
  target: 'stuck',
  actions: change((_context, event: Failed) => ({
    failure: failureOf(step, event),
    jobMode: 'run' as const,
    tryOnly: null,
  })),
});

/** The route on which restored servers join those that serve. */
const routeWith = (context: ReleaseContext, servers: readonly string[]): string[] =>
  context.topology.servers.filter((name) => servers.includes(name) || (context.routes[0] ?? []).includes(name));

/** What a rollback had to leave undone because no version is known that ran there before. */
function leftUndone(context: ReleaseContext): string[] {
  const servers = unrestorableServers(context).join(' and ');
  if (servers === '') return [];
  return goodOldServers(context).length === 0
    ? [
        `No version is known that ran on ${servers} before, so there was nothing to go back to: traffic was left as it is. Mend it and release again: flow start`,
      ]
    : [
        `No version is known that ran on ${servers} before, so nothing was restored there: it stays out of rotation. Before the next release, publish a version to it that you trust, and take it into rotation`,
      ];
}

function movingState(
  step: string,
  to: (context: ReleaseContext) => string[],
  more: Partial<ReleaseContext>,
): StateConfig {
  return {
    entry: returningStep(step, (context) => ({ routes: trying(context, to(context)) })),
    invoke: {
      id: step,
      src: 'moveTraffic',
      input: ({ context }) => ({
        ...stepInput(step, context),
        to: to(context),
        from: provenRoute(context),
        atLeastHealthy: atLeastHealthy(context.topology, to(context)),
      }),
      onDone: {
        target: 'rollingBack',
        actions: change((context, { output }: Done<'moveTraffic'>) => ({
          ...proven(context, to(context)),
          switched: output.evidence.switched,
          evidence: keep(context, step, output.evidence),
          ...more,
          rollback: {
            because: context.rollback?.because ?? '',
            moved: more.rollback?.moved ?? context.rollback?.moved ?? false,
          },
        })),
      },
      onError: stuckBecause(step),
    },
  };
}

/** Draining, restoring and rejoining the servers of one wave, with the states that ask. */
function waveStates(topology: Topology, wave: Wave): States {
  const { upper } = wave;
  const draining = `drainingBack${upper}`;
  const askingDrain = `askingDrainBack${upper}`;
  const rejoining = `rejoining${upper}`;
  const to = (context: ReleaseContext): string[] => routeWhileDraining(context, toDrain(context, wave));
  const including = (servers: string[], more: readonly string[]): string[] => [...new Set([...servers, ...more])];
  return {
    [draining]: {
      entry: returningStep(draining, (context) => ({ routes: trying(context, to(context)) })),
      invoke: {
        id: draining,
        src: 'drain',
        input: ({ context }) => {
          const stands =
            context.routes.length === 1 &&
            context.switched !== null &&
            sameServers(context.switched.servers, to(context));
          return {
            ...stepInput(draining, context),
            servers: toDrain(context, wave),
            to: to(context),
            from: provenRoute(context),
            switched: stands ? context.switched : null,
            canRevert: false,
            atLeastHealthy: atLeastHealthy(topology, to(context)),
          };
        },
        onDone: [
          {
            guard: ({ event }) => event.output.outcome === 'ask',
            target: askingDrain,
            actions: change((context, { output }: Done<'drain'>) =>
              output.outcome === 'ask'
                ? {
                    ...proven(context, to(context)),
                    switched: output.evidence.switched,
                    question: output.question,
                  }
                : {},
            ),
          },
          {
            target: 'rollingBack',
            actions: change((context, { output }: Done<'drain'>) => {
              const now = proven(context, to(context));
              return {
                ...now,
                drained: including(now.drained, toDrain(context, wave)),
                switched: output.evidence.switched,
                evidence: keep(context, draining, output.evidence),
              };
            }),
          },
        ],
        onError: stuckBecause(draining),
      },
    },
    [askingDrain]: {
      on: {
        ANSWER: [
          answered(askingDrain, 'wait', draining),
          answered(
            askingDrain,
            'proceed',
            'rollingBack',
            change((context) => ({
              question: null,
              drained: including(context.drained, toDrain(context, wave)),
              drainWaived: including(context.drainWaived, toDrain(context, wave)),
            })),
          ),
        ],
      },
    },
    ...restoreStates(topology, wave),
    [rejoining]: movingState(rejoining, (context) => routeWith(context, toRejoin(context, wave)), {}),
  };
}

function restoreStates(topology: Topology, wave: Wave): States {
  const step = `restoring${wave.upper}`;
  const asking = `askingRestore${wave.upper}`;
  const [server = ''] = wave.servers;
  const version = (context: ReleaseContext, name: string): string => context.before[name] ?? '';
  if (wave.servers.length === 1 && topology.cutover === 'exclusive') {
    return {
      [step]: publishingState({
        step,
        server,
        version: (context) => version(context, server),
        becomes: 'old',
        entry: returningStep(step, (context) => unknownNow(context, wave.servers)),
        after: 'rollingBack',
        failed: 'stuck',
        asking,
      }),
      [asking]: { on: { ANSWER: jobAnswers(asking, step) } },
    };
  }
  return publishingWaveStates({
    step,
    asking,
    pending: (context) => toBeRestored(context, wave),
    version,
    becomes: 'old',
    entering: returningStep,
    after: 'rollingBack',
    failed: 'stuck',
    // Traffic goes where it goes now: what is given up is only that they come back.
    mayLeaveOut: () => true,
    orRollBack: [],
  });
}

/** The rollback states of a topology. */
export function returningStates(topology: Topology): States {
  const waves = wavesOf(topology);
  const perWave: States = Object.fromEntries(waves.flatMap((wave) => Object.entries(waveStates(topology, wave))));
  return {
    rollingBack: {
      always: [
        { guard: isStep('move'), target: 'movingBack' },
        ...waves.flatMap(({ index, upper }) => [
          { guard: isStep('drain', index), target: `drainingBack${upper}` },
          { guard: isStep('restore', index), target: `restoring${upper}` },
          { guard: isStep('rejoin', index), target: `rejoining${upper}` },
        ]),
        {
          target: 'rolledBack',
          actions: change((context) => ({
            followUps: [...context.followUps, ...leftUndone(context), ...repairs(context)],
          })),
        },
      ],
    },
    // Traffic first: as soon as this ends, customers are on the old version.
    movingBack: movingState('movingBack', routeToMoveTo, { rollback: { because: '', moved: true } }),
    ...perWave,
    rolledBack: { type: 'final' },
    // A switch back or a restore failed: a person has to look; ROLLBACK computes the rest anew.
    stuck: { on: { ROLLBACK: { target: 'rollingBack', actions: beginRollback } } },
  };
}
