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
import { publishingState, unknownNow } from './publishing.ts';
import { goodOldServers, mayServe, nextRollbackStep, type RollbackStep, unrestorableServers } from './rollback.ts';
import { proven, trying } from './traffic.ts';
import { sameServers, type Topology, type Wave, wavesOf, without } from './topology.ts';

/** Whether customers may have met the new version. */
const hasServed = (context: ReleaseContext): boolean =>
  context.served || mayServe(context).some((server) => context.runs[server] === 'new');

const begin = (context: ReleaseContext, why: string, unhealthy: string[]): Partial<ReleaseContext> => {
  // A second ROLLBACK, after it was stuck, goes on with the first: what it began with stays the reason.
  const because = context.rollback?.because ?? why;
  return {
    rollback: { because, moved: false },
    unhealthy,
    question: null,
    returnTo: null,
    jobMode: 'run',
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
  (wanted: RollbackStep['do'], server?: string) =>
  ({ context }: { context: ReleaseContext }): boolean => {
    const step = nextRollbackStep(context);
    return step.do === wanted && (server === undefined || ('server' in step && step.server === server));
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
  actions: change((_context, event: Failed) => ({ failure: failureOf(step, event), jobMode: 'run' as const })),
});

/** The route that drains a server during a rollback: where no server is good, all the others carry the load meanwhile. */
const routeWithout = (context: ReleaseContext, server: string): string[] =>
  goodOldServers(context).length === 0 ? without(context.topology, server) : (context.routes[0] ?? []);

/** The route on which a restored server joins those that serve. */
const routeWith = (context: ReleaseContext, server: string): string[] =>
  context.topology.servers.filter((name) => name === server || (context.routes[0] ?? []).includes(name));

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
      input: ({ context }) => ({ ...stepInput(step, context), to: to(context), from: provenRoute(context) }),
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

/** Draining, restoring and rejoining one server, with the states that ask. */
function serverStates(wave: Wave): States {
  const { server, upper } = wave;
  const draining = `drainingBack${upper}`;
  const askingDrain = `askingDrainBack${upper}`;
  const restoring = `restoring${upper}`;
  const askingRestore = `askingRestore${upper}`;
  const including = (servers: string[]): string[] => [...servers.filter((name) => name !== server), server];
  return {
    [draining]: {
      entry: returningStep(draining, (context) => ({ routes: trying(context, routeWithout(context, server)) })),
      invoke: {
        id: draining,
        src: 'drain',
        input: ({ context }) => {
          const to = routeWithout(context, server);
          const stands =
            context.routes.length === 1 && context.switched !== null && sameServers(context.switched.servers, to);
          return {
            ...stepInput(draining, context),
            servers: [server],
            to,
            from: provenRoute(context),
            switched: stands ? context.switched : null,
            canRevert: false,
          };
        },
        onDone: [
          {
            guard: ({ event }) => event.output.outcome === 'ask',
            target: askingDrain,
            actions: change((context, { output }: Done<'drain'>) =>
              output.outcome === 'ask'
                ? {
                    ...proven(context, routeWithout(context, server)),
                    switched: output.evidence.switched,
                    question: output.question,
                  }
                : {},
            ),
          },
          {
            target: 'rollingBack',
            actions: change((context, { output }: Done<'drain'>) => {
              const now = proven(context, routeWithout(context, server));
              return {
                ...now,
                drained: including(now.drained),
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
              drained: including(context.drained),
              drainWaived: including(context.drainWaived),
            })),
          ),
        ],
      },
    },
    [restoring]: publishingState({
      step: restoring,
      server,
      version: (context) => context.before[server] ?? '',
      becomes: 'old',
      entry: returningStep(restoring, (context) => unknownNow(context, server)),
      after: 'rollingBack',
      failed: 'stuck',
      asking: askingRestore,
    }),
    [askingRestore]: {
      on: {
        ANSWER: jobAnswers(askingRestore, restoring),
      },
    },
    [`rejoining${upper}`]: movingState(`rejoining${upper}`, (context) => routeWith(context, server), {}),
  };
}

/** The rollback states of a topology. */
export function returningStates(topology: Topology): States {
  const waves = wavesOf(topology);
  const perServer: States = Object.fromEntries(waves.flatMap((wave) => Object.entries(serverStates(wave))));
  return {
    rollingBack: {
      always: [
        { guard: isStep('move'), target: 'movingBack' },
        ...waves.flatMap(({ server, upper }) => [
          { guard: isStep('drain', server), target: `drainingBack${upper}` },
          { guard: isStep('restore', server), target: `restoring${upper}` },
          { guard: isStep('rejoin', server), target: `rejoining${upper}` },
        ]),
        {
          target: 'rolledBack',
          actions: change((context) => ({ followUps: [...context.followUps, ...leftUndone(context)] })),
        },
      ],
    },
    // Traffic first: as soon as this ends, customers are on the old version.
    movingBack: movingState('movingBack', goodOldServers, { rollback: { because: '', moved: true } }),
    ...perServer,
    rolledBack: { type: 'final' },
    // A switch back or a restore failed: a person has to look; ROLLBACK computes the rest anew.
    stuck: { on: { ROLLBACK: { target: 'rollingBack', actions: beginRollback } } },
  };
}
