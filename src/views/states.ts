/**
 * Every state of the chart in words: what it is, to which milestone it belongs, and what leaving it does.
 * State names are generated from the servers, so they are looked up in a table generated in the same way; nothing is
 * parsed out of a name. Imports no XState: `flow status` starts here.
 */
import type { ReleaseContext } from '../../machines/contract.ts';
import { eventsOf } from '../../machines/guards.ts';
import { canaryAndRest, FINAL_STATES, milestonesOf, type Topology, wavesOf, without } from '../../machines/topology.ts';
import { listText } from './text.ts';

/** What a state is, whatever server it is about. */
export type StateKind =
  | 'planned'
  | 'testing'
  | 'askingTest'
  | 'tested'
  | 'tagging'
  | 'tagged'
  | 'aborting'
  | 'aborted'
  | 'draining'
  | 'askingDrain'
  | 'drained'
  | 'publishing'
  | 'askingPublish'
  | 'published'
  | 'goingLive'
  | 'live'
  | 'verifying'
  | 'askingSoak'
  | 'verified'
  | 'goingAllLive'
  | 'watchingAll'
  | 'askingWatch'
  | 'mergingBack'
  | 'allLive'
  | 'revertingRoute'
  | 'askingWorldMoved'
  | 'reestablishingRoute'
  | 'rollingBack'
  | 'movingBack'
  | 'drainingBack'
  | 'askingDrainBack'
  | 'restoring'
  | 'askingRestore'
  | 'rejoining'
  | 'rolledBack'
  | 'stuck';

export interface KnownState {
  kind: StateKind;
  /** The server it is about; the canary where it is about the whole first wave; '' where it is about none. */
  server: string;
  /** The milestone it is, or works towards; null where it leads nowhere on the way forward. */
  milestone: string | null;
}

/** Every state of a topology by name. */
function statesOf(topology: Topology): Record<string, KnownState> {
  const { canary, rest } = canaryAndRest(topology);
  const states: Record<string, KnownState> = {};
  const add = (name: string, kind: StateKind, milestone: string | null, server = '') => {
    states[name] = { kind, server, milestone };
  };
  add('planned', 'planned', 'planned');
  for (const name of ['testing', 'askingTest', 'tested'] as const) add(name, name, 'tested');
  for (const name of ['tagging', 'tagged'] as const) add(name, name, 'tagged');
  for (const kind of ['draining', 'askingDrain'] as const) {
    add(`${kind}${canary.upper}`, kind, `${canary.lower}Drained`, canary.server);
  }
  add(`${canary.lower}Drained`, 'drained', `${canary.lower}Drained`, canary.server);
  for (const wave of [canary, ...rest]) {
    const milestone = `${wave.lower}Published`;
    for (const kind of ['publishing', 'askingPublish'] as const) add(kind + wave.upper, kind, milestone, wave.server);
    add(milestone, 'published', milestone, wave.server);
  }
  add(`goingLive${canary.upper}`, 'goingLive', `${canary.lower}Live`, canary.server);
  add(`${canary.lower}Live`, 'live', `${canary.lower}Live`, canary.server);
  for (const name of ['verifying', 'askingSoak', 'verified'] as const) add(name, name, 'verified', canary.server);
  for (const name of ['goingAllLive', 'watchingAll', 'askingWatch', 'mergingBack', 'allLive'] as const) {
    add(name, name, 'allLive');
  }
  for (const { upper, server } of wavesOf(topology)) {
    for (const kind of ['drainingBack', 'askingDrainBack', 'restoring', 'askingRestore', 'rejoining'] as const) {
      add(kind + upper, kind, null, server);
    }
  }
  for (const name of [
    'aborting',
    'aborted',
    'revertingRoute',
    'askingWorldMoved',
    'reestablishingRoute',
    'rollingBack',
    'movingBack',
    'rolledBack',
    'stuck',
  ] as const) {
    add(name, name, null);
  }
  return states;
}

/** What a state of a topology is; null for a name that its chart does not have. */
export function stateOf(state: string, topology: Topology): KnownState | null {
  const states = statesOf(topology);
  return Object.hasOwn(states, state) ? (states[state] ?? null) : null;
}

/** What goes on with the release: it ended, asks, works, or rests until the next event. */
export type Phase = 'ended' | 'asking' | 'working' | 'resting';

export function phaseOf(state: string, context: ReleaseContext): Phase {
  if ((FINAL_STATES as readonly string[]).includes(state)) return 'ended';
  const events = eventsOf(state, context);
  if (events.includes('ANSWER')) return 'asking';
  return events.includes('NEXT') || state === 'stuck' ? 'resting' : 'working';
}

/** The milestone that is reached or being worked towards, as its place in `milestonesOf`; null on the way back. */
export function placeOf(state: string, context: ReleaseContext): number | null {
  const milestone = stateOf(state, context.topology)?.milestone ?? returnMilestone(state, context);
  const place = milestone === null ? -1 : milestonesOf(context.topology).indexOf(milestone);
  return place === -1 ? null : place;
}

const returnMilestone = (state: string, context: ReleaseContext): string | null =>
  ['revertingRoute', 'askingWorldMoved', 'reestablishingRoute'].includes(state) ? context.returnTo : null;

/** What a server runs, as people call it: a tag, or words where there is none. */
export function versionText(server: string, context: Pick<ReleaseContext, 'before' | 'version' | 'runs'>): string {
  const before = context.before[server] ?? 'none';
  switch (context.runs[server]) {
    case 'new':
      return context.version;
    case 'old':
      return before;
    default:
      return `unknown (${before} or ${context.version})`;
  }
}

/** What the state is, as a sentence without its name and without a full stop. */
export function stateSentence(state: string, context: ReleaseContext): string {
  const known = stateOf(state, context.topology);
  if (known === null) return 'a state that this flow does not know';
  const { version, topology } = context;
  const { server } = known;
  const others = without(topology, server);
  const all = listText(topology.servers);
  switch (known.kind) {
    case 'planned':
      return 'nothing was changed yet';
    case 'testing':
      return 'the development branch is merged for the test environment, published there and checked';
    case 'askingTest':
      return 'nobody can say whether the publish to the test server worked';
    case 'tested':
      return 'the test server runs what is to be released, and it is healthy';
    case 'tagging':
      return `${version} is merged, gets its change log and its tag, and is pushed`;
    case 'tagged':
      return context.kind === 'rollback'
        ? `the tag ${version} is there from before; production is untouched`
        : `${version} is tagged and pushed; production is untouched`;
    case 'aborting':
      return 'what was not pushed yet is undone';
    case 'aborted':
      return 'it was given up before production was touched';
    case 'draining':
      return `${server} is taken out of rotation and finishes what it had; ${listText(others)} ${serve(others)}`;
    case 'askingDrain':
    case 'askingDrainBack':
      return `${server} is out of rotation, but has not finished what it had in time`;
    case 'drained':
      return drainedSentence(server, context);
    case 'publishing':
      return `${version} is published to ${server}, which receives no traffic`;
    case 'askingPublish':
      return `nobody can say whether the publish to ${server} worked; it receives no traffic`;
    case 'published': {
      const serving = context.routes[0] ?? [];
      return `${server} runs ${version} and serves nobody yet; ${listText(serving)} ${serve(serving)}`;
    }
    case 'goingLive':
      return `the traffic is switched from ${listText(others)} to ${server}`;
    case 'live':
      return `only ${server} serves, with ${version}; it is not verified yet`;
    case 'verifying':
      return `${version} is observed on ${server}, which alone serves`;
    case 'askingSoak':
      return `the observation of ${version} on ${server} could say neither good nor bad`;
    case 'verified':
      return verifiedSentence(server, others, context);
    case 'goingAllLive':
      return `${listText(others.filter((name) => !(context.routes[0] ?? []).includes(name)))} come into rotation`;
    case 'watchingAll':
      return `${all} serve ${version} and are watched for a while`;
    case 'askingWatch':
      return `${all} serve ${version}, but the watch did not say that it is good`;
    case 'mergingBack':
      return `${all} serve ${version}; the development branch gets what was released`;
    case 'allLive':
      return `${all} serve ${version}`;
    case 'revertingRoute':
      return `a switch was not proven; the traffic is put back to where ${context.returnTo ?? 'the milestone before'} had it`;
    case 'askingWorldMoved':
      return 'the proxy does not serve what this release believes; traffic was not touched';
    case 'reestablishingRoute':
      return `the traffic is put back to ${listText(context.routes[0] ?? [])}`;
    case 'rollingBack':
      return 'it is rolled back';
    case 'movingBack':
      return 'the traffic goes back to the servers that run the version before';
    case 'drainingBack':
      return `${server} is taken out of rotation, to get the version before`;
    case 'restoring':
      return `${context.before[server] ?? 'the version before'} is restored on ${server}, which receives no traffic`;
    case 'askingRestore':
      return `nobody can say whether ${context.before[server] ?? 'the version before'} was restored on ${server}; it receives no traffic`;
    case 'rejoining':
      return `${server} comes back into rotation with ${context.before[server] ?? 'the version before'}`;
    case 'rolledBack':
      return rolledBackSentence(context);
    case 'stuck':
      return 'a step back failed and a person has to look; ROLLBACK tries again from what is believed now';
  }
}

const serve = (servers: readonly string[]): string => (servers.length === 1 ? 'serves' : 'serve');

function drainedSentence(server: string, context: ReleaseContext): string {
  const finished = context.drainWaived.includes(server)
    ? 'that it has finished what it had was waived'
    : 'has finished what it had';
  const joined = context.drainWaived.includes(server) ? '; ' : ' and ';
  const runs = context.runs[server] === 'unknown' ? '; nobody can say what it runs' : '';
  return `${server} receives no traffic${joined}${finished}${runs}`;
}

function verifiedSentence(server: string, others: readonly string[], context: ReleaseContext): string {
  const parts = others.map(
    (name) => `${name} ${context.runs[name] === 'old' ? 'still has' : 'has'} ${versionText(name, context)}`,
  );
  return `${context.version} stood the observation on ${server}, which alone serves; ${listText(parts)}`;
}

function rolledBackSentence(context: ReleaseContext): string {
  const serving = context.routes[0] ?? [];
  const out = without(context.topology, ...serving);
  const rest = out.length === 0 ? '' : `; ${listText(out)} ${out.length === 1 ? 'stays' : 'stay'} out of rotation`;
  if (serving.some((server) => context.runs[server] !== 'old' || context.unhealthy.includes(server)))
    return `there was nothing to go back to, so traffic was left as it is, on ${listText(serving)}${rest}`;
  return `${listText(serving)} ${serve(serving)} what ran before${rest}`;
}

/** What NEXT does at a milestone, in words that follow `flow send NEXT`; null where it means nothing. */
export function nextInWords(state: string, context: ReleaseContext): string | null {
  const known = stateOf(state, context.topology);
  const { canary, rest } = canaryAndRest(context.topology);
  const { version } = context;
  const others = without(context.topology, canary.server);
  const publish = (server: string) =>
    `publish ${version} to ${server}${context.runs[server] === 'unknown' ? ' once more' : ''}`;
  switch (known?.kind) {
    case 'planned':
      return 'merge for the test environment, publish there and check';
    case 'tested':
      return `merge, write the change log, tag ${version} and push it`;
    case 'tagged':
      return `take ${canary.server} out of rotation and wait until it has finished what it had`;
    case 'drained':
      return publish(canary.server);
    case 'live':
      return `observe ${version} on ${canary.server}`;
    case 'verified':
      return publish(rest[0]?.server ?? '');
    case 'published': {
      if (known.server === canary.server) return `switch the traffic from ${listText(others)} to ${canary.server}`;
      const following = rest[rest.findIndex((wave) => wave.server === known.server) + 1];
      return following === undefined
        ? `take ${listText(others)} into rotation, watch all servers, and merge back`
        : publish(following.server);
    }
    default:
      return null;
  }
}
