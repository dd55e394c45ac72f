/**
 * The production states: drain, publish and go live for the first wave, the soak, then the remaining waves, all live, the final
 * watch and the merge back. In every state the context says which routes may be live (`routes`) and what each server runs.
 * A step that fails rests at the milestone before it; where traffic had moved, over `revertingRoute`; where that fails, `stuck`.
 */
import {
  answered,
  change,
  type Done,
  entering,
  type Failed,
  failureOf,
  jobAnswers,
  keep,
  provenRoute,
  type StateConfig,
  type States,
  stepInput,
} from './chart.ts';
import type { Question, ReleaseContext, StepFailure } from './contract.ts';
import type { ReleaseEvent } from './events.ts';
import { recheckStates } from './guards.ts';
import { publishingState, unknownNow } from './publishing.ts';
import { beginRollback, soakWentBad } from './returning.ts';
import { proven, trying } from './traffic.ts';
import { canaryAndRest, sameServers, type Topology, type Wave, without } from './topology.ts';

/** Nothing was tried, or it was tried and undone: the route is the one that was proven before. */
const nothingMoved = ({ kind }: StepFailure): boolean => kind === 'unsafe' || kind === 'rejected';

const rollback = { target: 'rollingBack', actions: beginRollback };

/** RECHECK at a milestone: the proxy is not as believed, and the operator is asked what to do. */
export function recheck(state: string, inProduction: boolean) {
  return {
    guard: { type: 'allowed' as const, params: { state } },
    target: 'askingWorldMoved',
    actions: change((context, event: ReleaseEvent) => {
      const count = (context.attempts.askingWorldMoved ?? 0) + 1;
      const question: Question = {
        id: `worldMoved.${count}`,
        kind: 'worldMoved',
        text: `The proxy should serve ${(context.routes[0] ?? []).join(' and ')}, but ${event.facts?.proxy?.because ?? 'it could not be looked at'}.`,
        choices: [
          { choice: 'putBack', does: 'switch the proxy to the route this release believes in, and prove it' },
          ...(inProduction ? [{ choice: 'rollback', does: 'roll the release back' }] : []),
          { choice: 'leave', does: 'change nothing; the release stays where it is, and NEXT stays refused' },
        ],
      };
      return { returnTo: state, question, attempts: { ...context.attempts, askingWorldMoved: count } };
    }),
  };
}

/** The route that a milestone stands on. */
function routeOf(topology: Topology, milestone: string): string[] {
  const { canary, rest } = canaryAndRest(topology);
  if (milestone === 'tagged') return topology.servers;
  if ([`${canary.lower}Drained`, `${canary.lower}Published`].includes(milestone))
    return without(topology, canary.server);
  const onCanary = [`${canary.lower}Live`, 'verified', ...rest.map((wave) => `${wave.lower}Published`)];
  if (onCanary.includes(milestone)) return [canary.server];
  throw new Error(`no route is known for ${milestone}`);
}

/** The state that publishes one wave, and the state that asks when the publish was lost. */
function publishStates(wave: Wave, before: string, after: string): States {
  const { server } = wave;
  const step = `publishing${wave.upper}`;
  const asking = `askingPublish${wave.upper}`;
  return {
    [step]: {
      ...publishingState({
        step,
        server,
        version: (context) => context.version,
        becomes: 'new',
        entry: entering(step, (context) => unknownNow(context, server)),
        after,
        failed: before,
        asking,
      }),
      on: { ROLLBACK: rollback },
    },
    [asking]: {
      on: {
        ANSWER: [...jobAnswers(asking, step), answered(asking, 'rollback', 'rollingBack', beginRollback)],
        ROLLBACK: rollback,
      },
    },
  };
}

/** A step that switches the route and then reaches `after`; when it fails, traffic goes back to where `before` had it. */
function switching(
  step: string,
  src: 'goLive',
  route: { to: string[]; gained: string[]; lost: string[] },
  before: string,
  after: string,
): StateConfig {
  return {
    entry: entering(step, (context) => ({ routes: trying(context, route.to) })),
    invoke: {
      id: step,
      src,
      input: ({ context }) => ({ ...stepInput(step, context), ...route, from: provenRoute(context) }),
      onDone: {
        target: after,
        actions: change((context, { output }: Done<'goLive'>) => ({
          ...proven(context, route.to),
          drained: output.evidence.drainedAfterSeconds === null ? [] : route.lost,
          switched: output.evidence.switched,
          evidence: keep(context, step, output.evidence),
          served: true,
        })),
      },
      onError: failedSwitch(step, before),
    },
    on: { ROLLBACK: rollback },
  };
}

const failedSwitch = (step: string, before: string): never =>
  [
    {
      guard: ({ context, event }: { context: ReleaseContext; event: Failed }) =>
        nothingMoved(event.error) && context.routes.length > 1,
      target: before,
      actions: change((context, event: Failed) => ({
        failure: failureOf(step, event),
        routes: context.routes.slice(0, 1),
      })),
    },
    {
      target: 'revertingRoute',
      actions: change((_context, event: Failed) => ({ failure: failureOf(step, event), returnTo: before })),
    },
  ] as never;

/** The soak of one state: good goes on; bad rolls back by itself or holds; neither asks. */
function soaking(step: string, asking: string, options: { serving: string[]; after: string; failed: string }): States {
  const serving = options.serving.join(' and ');
  const ask = (context: ReleaseContext, because: string): Question => ({
    id: `soakInconclusive.${step}.${context.attempts[step] ?? 1}`,
    kind: 'soakInconclusive',
    text: `${because} Traffic stays on ${serving}.`,
    choices: [
      { choice: 'again', does: 'observe once more, from the beginning' },
      { choice: 'accept', does: 'go on as if the observation had been good; recorded with your reason' },
      { choice: 'rollback', does: 'roll the release back' },
    ],
  });
  return {
    [step]: {
      entry: entering(step),
      invoke: {
        id: step,
        src: 'soak',
        input: ({ context }) => ({ ...stepInput(step, context), serving: options.serving }),
        onDone: [
          {
            guard: ({ event }) => event.output.outcome === 'good',
            target: options.after,
            actions: change((context, { output }: Done<'soak'>) => ({
              evidence: keep(context, step, output.evidence),
            })),
          },
          {
            guard: ({ event }) => event.output.outcome === 'ask',
            target: asking,
            actions: change((context, { output }: Done<'soak'>) =>
              output.outcome === 'ask'
                ? { question: ask(context, output.because), evidence: keep(context, step, output.evidence) }
                : {},
            ),
          },
          {
            guard: ({ context }) => context.onBad === 'rollback',
            target: 'rollingBack',
            actions: soakWentBad(step),
          },
          {
            target: options.failed,
            actions: change((context, { output }: Done<'soak'>) => {
              const because = output.outcome === 'bad' ? output.because : '';
              const held = `${because} Nothing is rolled back by itself: traffic stays on ${serving}.`;
              return {
                failure: { step, code: 'SOAK_BAD', kind: 'rejected' as const, message: held },
                evidence: keep(context, step, output.evidence),
                ...(options.failed === asking ? { question: ask(context, because) } : {}),
              };
            }),
          },
        ],
        onError: {
          target: options.failed,
          actions: change((context, event: Failed) => ({
            failure: failureOf(step, event),
            ...(options.failed === asking ? { question: ask(context, event.error.message) } : {}),
          })),
        },
      },
      on: { ROLLBACK: rollback },
    },
    [asking]: {
      on: {
        ANSWER: [
          answered(asking, 'again', step),
          answered(asking, 'accept', options.after),
          answered(asking, 'rollback', 'rollingBack', beginRollback),
        ],
        ROLLBACK: rollback,
      },
    },
  };
}

/** The production states, and the name of the first. */
export function rolloutStates(topology: Topology): { first: string; states: States } {
  const { canary, rest } = canaryAndRest(topology);
  const others = without(topology, canary.server);
  const draining = `draining${canary.upper}`;
  const askingDrain = `askingDrain${canary.upper}`;
  const drainedState = `${canary.lower}Drained`;
  const published = `${canary.lower}Published`;
  const live = `${canary.lower}Live`;
  const lastPublished = `${rest.at(-1)?.lower ?? canary.lower}Published`;

  const rests = (state: string, target: string): States => ({
    [state]: {
      on: {
        NEXT: { guard: { type: 'allowed', params: { state } }, target },
        RECHECK: recheck(state, true),
        ROLLBACK: rollback,
      },
    },
  });

  const milestonesToReturnTo = recheckStates({ topology });
  const returning = (actions: (milestone: string) => never) =>
    milestonesToReturnTo.map((milestone) => ({
      guard: ({ context }: { context: ReleaseContext }) => context.returnTo === milestone,
      target: milestone,
      actions: actions(milestone),
    }));

  const states: States = {
    [draining]: {
      entry: entering(draining, (context) => ({ routes: trying(context, others) })),
      invoke: {
        id: draining,
        src: 'drain',
        input: ({ context }) => ({
          ...stepInput(draining, context),
          servers: [canary.server],
          to: others,
          from: provenRoute(context),
          switched:
            context.switched !== null && sameServers(context.switched.servers, others) ? context.switched : null,
          canRevert: true,
        }),
        onDone: [
          {
            guard: ({ event }) => event.output.outcome === 'ask',
            target: askingDrain,
            actions: change((context, { output }: Done<'drain'>) =>
              output.outcome === 'ask'
                ? {
                    ...proven(context, others),
                    switched: output.evidence.switched,
                    question: output.question,
                    evidence: keep(context, draining, output.evidence),
                  }
                : {},
            ),
          },
          {
            target: drainedState,
            actions: change((context, { output }: Done<'drain'>) => ({
              ...proven(context, others),
              drained: [canary.server],
              switched: output.evidence.switched,
              evidence: keep(context, draining, output.evidence),
            })),
          },
        ],
        onError: failedSwitch(draining, 'tagged'),
      },
      on: { ROLLBACK: rollback },
    },
    // The proxy has switched, but requests from before the switch have not ended in time.
    [askingDrain]: {
      on: {
        ANSWER: [
          answered(askingDrain, 'wait', draining),
          answered(
            askingDrain,
            'proceed',
            drainedState,
            change(() => ({
              question: null,
              drained: [canary.server],
              drainWaived: [canary.server],
            })),
          ),
          answered(
            askingDrain,
            'revert',
            'revertingRoute',
            change(() => ({ question: null, returnTo: 'tagged' })),
          ),
        ],
        ROLLBACK: rollback,
      },
    },
    ...rests(drainedState, `publishing${canary.upper}`),
    ...publishStates(canary, drainedState, published),
    ...rests(published, `goingLive${canary.upper}`),
    [`goingLive${canary.upper}`]: switching(
      `goingLive${canary.upper}`,
      'goLive',
      { to: [canary.server], gained: [canary.server], lost: others },
      published,
      live,
    ),
    ...rests(live, 'verifying'),
    ...soaking('verifying', 'askingSoak', {
      serving: [canary.server],
      after: 'verified',
      failed: live,
    }),
    ...rests('verified', `publishing${rest[0]?.upper ?? ''}`),
  };

  for (const [index, wave] of rest.entries()) {
    const before = index === 0 ? 'verified' : `${rest[index - 1]?.lower ?? ''}Published`;
    const next = rest[index + 1];
    Object.assign(
      states,
      publishStates(wave, before, `${wave.lower}Published`),
      rests(`${wave.lower}Published`, next === undefined ? 'goingAllLive' : `publishing${next.upper}`),
    );
  }

  return {
    first: draining,
    states: {
      ...states,
      goingAllLive: switching(
        'goingAllLive',
        'goLive',
        { to: topology.servers, gained: others, lost: [] },
        lastPublished,
        'watchingAll',
      ),
      // All servers serve the new version; the logs are watched for a while against surprises (R5.2).
      ...soaking('watchingAll', 'askingWatch', {
        serving: topology.servers,
        after: 'mergingBack',
        failed: 'askingWatch',
      }),
      // The release is live: whatever happens here harms nobody, so it becomes a follow-up.
      mergingBack: {
        entry: entering('mergingBack'),
        invoke: {
          id: 'mergingBack',
          src: 'mergeBack',
          input: ({ context }) => stepInput('mergingBack', context),
          onDone: {
            target: 'allLive',
            actions: change((context, { output }: Done<'mergeBack'>) => ({
              evidence: keep(context, 'mergingBack', output.evidence),
              followUps:
                output.evidence.followUp === null
                  ? context.followUps
                  : [...context.followUps, output.evidence.followUp],
            })),
          },
          onError: {
            target: 'allLive',
            actions: change((context, event: Failed) => ({ followUps: [...context.followUps, event.error.message] })),
          },
        },
        on: { ROLLBACK: rollback },
      },
      allLive: { type: 'final' },
      // A switch was not proven: traffic is put back to where the milestone before had it.
      revertingRoute: {
        entry: change((context) => ({
          attempts: { ...context.attempts, revertingRoute: (context.attempts.revertingRoute ?? 0) + 1 },
          routes: trying(context, routeOf(topology, context.returnTo ?? 'tagged')),
        })),
        invoke: {
          id: 'revertingRoute',
          src: 'moveTraffic',
          input: ({ context }) => ({
            ...stepInput('revertingRoute', context),
            from: provenRoute(context),
            to: routeOf(topology, context.returnTo ?? 'tagged'),
          }),
          onDone: returning((milestone) =>
            change((context, { output }: Done<'moveTraffic'>) => ({
              ...proven(context, routeOf(topology, milestone)),
              switched: output.evidence.switched,
              returnTo: null,
            })),
          ),
          onError: {
            target: 'stuck',
            actions: change((context, event: Failed) => {
              const failure = failureOf('revertingRoute', event);
              const first = context.failure === null ? '' : ` (it began with: ${context.failure.message})`;
              return { failure: { ...failure, message: `${failure.message}${first}` }, returnTo: null };
            }),
          },
        },
        on: { ROLLBACK: rollback },
      },
      askingWorldMoved: {
        on: {
          ANSWER: [
            answered('askingWorldMoved', 'putBack', 'reestablishingRoute'),
            answered('askingWorldMoved', 'rollback', 'rollingBack', beginRollback),
            ...milestonesToReturnTo.map((milestone) => {
              const leave = answered(
                'askingWorldMoved',
                'leave',
                milestone,
                change(() => ({ question: null, returnTo: null })),
              );
              return {
                ...leave,
                guard: (args: { context: ReleaseContext; event: ReleaseEvent }) =>
                  args.context.returnTo === milestone && leave.guard(args),
              };
            }),
          ],
          ROLLBACK: {
            guard: ({ context }) => context.returnTo !== 'tagged',
            ...rollback,
          },
        },
      },
      // Somebody moved the traffic by hand, and the operator wants it where this release believes it to be.
      reestablishingRoute: {
        entry: entering('reestablishingRoute'),
        invoke: {
          id: 'reestablishingRoute',
          src: 'moveTraffic',
          input: ({ context }) => ({
            ...stepInput('reestablishingRoute', context),
            to: provenRoute(context),
            from: provenRoute(context),
          }),
          onDone: returning(() =>
            change((context, { output }: Done<'moveTraffic'>) => ({
              ...proven(context, context.routes[0] ?? []),
              switched: output.evidence.switched,
              returnTo: null,
            })),
          ),
          onError: returning(() =>
            change((_context, event: Failed) => ({ failure: failureOf('reestablishingRoute', event), returnTo: null })),
          ),
        },
        on: { ROLLBACK: { guard: ({ context }) => context.returnTo !== 'tagged', ...rollback } },
      },
    },
  };
}
