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
import { publishingState, publishingWaveStates, unknownNow } from './publishing.ts';
import { beginRollback, soakWentBad } from './returning.ts';
import { mayLeaveOut, repairs, routeOf } from './routes.ts';
import { proven, trying } from './traffic.ts';
import { atLeastHealthy, canaryAndRest, isDecidedByServer, sameServers, type Topology, type Wave } from './topology.ts';

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

/** The state that publishes one wave, and the one that asks about it. */
function publishStates(topology: Topology, wave: Wave, before: string): States {
  const step = `publishing${wave.upper}`;
  const asking = `askingPublish${wave.upper}`;
  const after = `${wave.lower}Published`;
  const [server = ''] = wave.servers;
  const states: States = isDecidedByServer(topology, wave)
    ? publishingWaveStates({
        step,
        asking,
        pending: ({ runs, leftOut }) => wave.servers.filter((name) => runs[name] !== 'new' && !leftOut.includes(name)),
        version: (context) => context.version,
        becomes: 'new',
        entering,
        after,
        failed: before,
        mayLeaveOut: (context, servers) => mayLeaveOut(context, wave, servers),
        orRollBack: [answered(asking, 'rollback', 'rollingBack', beginRollback)],
      })
    : {
        [step]: publishingState({
          step,
          server,
          version: (context) => context.version,
          becomes: 'new',
          entry: entering(step, (context) => unknownNow(context, wave.servers)),
          after,
          failed: before,
          asking,
        }),
        [asking]: {
          on: { ANSWER: [...jobAnswers(asking, step), answered(asking, 'rollback', 'rollingBack', beginRollback)] },
        },
      };
  for (const [name, state] of Object.entries(states))
    states[name] = { ...state, on: { ...state.on, ROLLBACK: rollback } };
  return states;
}

/** The way to the milestone in which a wave is out of rotation and drained, and the state that asks when that takes too long. */
function drainStates(topology: Topology, wave: Wave, before: string): States {
  const draining = `draining${wave.upper}`;
  const asking = `askingDrain${wave.upper}`;
  const after = `${wave.lower}Drained`;
  const to = (context: ReleaseContext): string[] => routeOf(context, after);
  const out = (servers: readonly string[]): string[] => [...new Set([...servers, ...wave.servers])];
  return {
    [draining]: {
      entry: entering(draining, (context) => ({ routes: trying(context, to(context)) })),
      invoke: {
        id: draining,
        src: 'drain',
        input: ({ context }) => ({
          ...stepInput(draining, context),
          servers: wave.servers,
          to: to(context),
          from: provenRoute(context),
          switched:
            context.switched !== null && sameServers(context.switched.servers, to(context)) ? context.switched : null,
          canRevert: true,
          atLeastHealthy: atLeastHealthy(topology, to(context)),
        }),
        onDone: [
          {
            guard: ({ event }) => event.output.outcome === 'ask',
            target: asking,
            actions: change((context, { output }: Done<'drain'>) =>
              output.outcome === 'ask'
                ? {
                    ...proven(context, to(context)),
                    switched: output.evidence.switched,
                    question: output.question,
                    evidence: keep(context, draining, output.evidence),
                  }
                : {},
            ),
          },
          {
            target: after,
            actions: change((context, { output }: Done<'drain'>) => {
              const now = proven(context, to(context));
              return {
                ...now,
                drained: out(now.drained),
                switched: output.evidence.switched,
                evidence: keep(context, draining, output.evidence),
              };
            }),
          },
        ],
        onError: failedSwitch(draining, before),
      },
      on: { ROLLBACK: rollback },
    },
    // The proxy has switched, but requests from before the switch have not ended in time.
    [asking]: {
      on: {
        ANSWER: [
          answered(asking, 'wait', draining),
          answered(
            asking,
            'proceed',
            after,
            change((context) => ({
              question: null,
              drained: out(context.drained),
              drainWaived: out(context.drainWaived),
            })),
          ),
          answered(
            asking,
            'revert',
            'revertingRoute',
            change(() => ({ question: null, returnTo: before })),
          ),
        ],
        ROLLBACK: rollback,
      },
    },
  };
}

/** The checks through the pre-release proxy (R4.4): nothing has moved, so a failure rests before them. */
function previewState(wave: Wave): StateConfig {
  const step = `previewing${wave.upper}`;
  return {
    entry: entering(step),
    invoke: {
      id: step,
      src: 'preview',
      input: ({ context }) => ({ ...stepInput(step, context), servers: newIn(context, wave) }),
      onDone: {
        target: `${wave.lower}Previewed`,
        actions: change((context, { output }: Done<'preview'>) => ({
          evidence: keep(context, step, output.evidence),
        })),
      },
      onError: {
        target: `${wave.lower}Published`,
        actions: change((_context, event: Failed) => ({ failure: failureOf(step, event) })),
      },
    },
    on: { ROLLBACK: rollback },
  };
}

const newIn = (context: ReleaseContext, wave: Wave): string[] =>
  wave.servers.filter((server) => context.runs[server] === 'new');

/** A step that brings servers into rotation and then reaches `after`; when it fails, traffic goes back to where `before` had it. */
function goingLive(
  topology: Topology,
  step: string,
  { milestone, before, after }: { milestone: string; before: string; after: string },
): StateConfig {
  const routeFor = (context: ReleaseContext) => {
    const to = routeOf(context, milestone);
    const from = provenRoute(context);
    return {
      to,
      gained: to.filter((server) => !from.includes(server)),
      lost: from.filter((server) => !to.includes(server)),
    };
  };
  return {
    entry: entering(step, (context) => ({ routes: trying(context, routeFor(context).to) })),
    invoke: {
      id: step,
      src: 'goLive',
      input: ({ context }) => ({
        ...stepInput(step, context),
        ...routeFor(context),
        from: provenRoute(context),
        atLeastHealthy: atLeastHealthy(topology, routeFor(context).to),
      }),
      onDone: {
        target: after,
        actions: change((context, { output }: Done<'goLive'>) => {
          const { to, lost } = routeFor(context);
          const now = proven(context, to);
          return {
            ...now,
            ...(lost.length > 0 ? { drained: output.evidence.drainedAfterSeconds === null ? [] : lost } : {}),
            switched: output.evidence.switched,
            evidence: keep(context, step, output.evidence),
            served: true,
          };
        }),
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
function soaking(
  step: string,
  asking: string,
  options: { watched: (context: ReleaseContext) => string[]; wave: number | null; after: string; failed: string },
): States {
  const ask = (context: ReleaseContext, because: string): Question => ({
    id: `soakInconclusive.${step}.${context.attempts[step] ?? 1}`,
    kind: 'soakInconclusive',
    text: `${because} Traffic stays on ${provenRoute(context).join(' and ')}.`,
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
        input: ({ context }) => ({
          ...stepInput(step, context),
          serving: provenRoute(context),
          watched: options.watched(context),
          wave: options.wave,
        }),
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
              const held = `${because} Nothing is rolled back by itself: traffic stays on ${provenRoute(context).join(' and ')}.`;
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
  const isRolling = topology.cutover === 'rolling';
  const last = rest.at(-1) ?? canary;

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

  const published = `${canary.lower}Published`;
  const previewed = topology.preview === true ? `${canary.lower}Previewed` : published;
  const live = `${canary.lower}Live`;
  const states: States = {
    ...drainStates(topology, canary, 'tagged'),
    ...rests(`${canary.lower}Drained`, `publishing${canary.upper}`),
    ...publishStates(topology, canary, `${canary.lower}Drained`),
    ...(previewed === published
      ? {}
      : {
          ...rests(published, `previewing${canary.upper}`),
          [`previewing${canary.upper}`]: previewState(canary),
        }),
    ...rests(previewed, `goingLive${canary.upper}`),
    [`goingLive${canary.upper}`]: goingLive(topology, `goingLive${canary.upper}`, {
      milestone: live,
      before: previewed,
      after: live,
    }),
    ...rests(live, 'verifying'),
    ...soaking('verifying', 'askingSoak', {
      watched: (context) => newIn(context, canary),
      wave: canary.index,
      after: 'verified',
      failed: live,
    }),
  };

  // Where a wave begins, and the milestone before it.
  let before = 'verified';
  for (const wave of rest) {
    const drained = `${wave.lower}Drained`;
    if (isRolling) {
      Object.assign(
        states,
        rests(before, `draining${wave.upper}`),
        drainStates(topology, wave, before),
        rests(drained, `publishing${wave.upper}`),
        publishStates(topology, wave, drained),
      );
    } else {
      // Drained by the switch that brought the canary into rotation.
      Object.assign(states, rests(before, `publishing${wave.upper}`), publishStates(topology, wave, before));
    }
    before = `${wave.lower}Published`;
    if (!isRolling || wave === last) continue;
    Object.assign(states, rests(before, `goingLive${wave.upper}`), laterWaveStates(topology, wave, before));
    before = `${wave.lower}Live`;
  }
  Object.assign(states, rests(before, 'goingAllLive'));

  return {
    first: `draining${canary.upper}`,
    states: {
      ...states,
      goingAllLive: goingLive(topology, 'goingAllLive', { milestone: 'allLive', before, after: 'watchingAll' }),
      // All servers serve the new version; the logs are watched for a while against surprises (R5.2).
      ...soaking('watchingAll', 'askingWatch', {
        watched: provenRoute,
        wave: null,
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
              followUps: [
                ...context.followUps,
                ...repairs(context),
                ...(output.evidence.followUp === null ? [] : [output.evidence.followUp]),
              ],
            })),
          },
          onError: {
            target: 'allLive',
            actions: change((context, event: Failed) => ({
              followUps: [...context.followUps, ...repairs(context), event.error.message],
            })),
          },
        },
        on: { ROLLBACK: rollback },
      },
      allLive: { type: 'final' },
      // A switch was not proven: traffic is put back to where the milestone before had it.
      revertingRoute: {
        entry: change((context) => ({
          attempts: { ...context.attempts, revertingRoute: (context.attempts.revertingRoute ?? 0) + 1 },
          routes: trying(context, routeOf(context, context.returnTo ?? 'tagged')),
        })),
        invoke: {
          id: 'revertingRoute',
          src: 'moveTraffic',
          input: ({ context }) => ({
            ...stepInput('revertingRoute', context),
            from: provenRoute(context),
            to: routeOf(context, context.returnTo ?? 'tagged'),
            atLeastHealthy: null,
          }),
          onDone: returning((milestone) =>
            change((context, { output }: Done<'moveTraffic'>) => ({
              ...proven(context, routeOf(context, milestone)),
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
            atLeastHealthy: null,
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

/** A later wave of a rolling release comes into rotation, and is watched for a while with customers on it. */
function laterWaveStates(topology: Topology, wave: Wave, before: string): States {
  const step = `goingLive${wave.upper}`;
  const soak = `soaking${wave.upper}`;
  const asking = `askingSoak${wave.upper}`;
  const live = `${wave.lower}Live`;
  return {
    [step]: goingLive(topology, step, { milestone: live, before, after: soak }),
    ...soaking(soak, asking, {
      watched: (context) => newIn(context, wave),
      wave: wave.index,
      after: live,
      failed: asking,
    }),
  };
}
