/**
 * Every state of the chart in words: what it is, to which milestone it belongs, and what leaving it does.
 * State names are generated from the servers, so they are looked up in a table generated in the same way; nothing is
 * parsed out of a name. Imports no XState: `flow status` starts here.
 */
import type { ReleaseContext } from '../../machines/contract.ts';
import { eventsOf } from '../../machines/guards.ts';
import { routeOf } from '../../machines/routes.ts';
import {
  canaryAndRest,
  derived,
  FINAL_STATES,
  milestonesOf,
  type Topology,
  type Wave,
  wavesOf,
  without,
} from '../../machines/topology.ts';
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
  | 'previewing'
  | 'previewed'
  | 'goingLive'
  | 'live'
  | 'verifying'
  | 'askingSoak'
  | 'verified'
  | 'soaking'
  | 'askingWaveSoak'
  | 'waveLive'
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
  /** The servers it is about, those of one wave; none where it is about no wave. */
  servers: string[];
  /** Their wave, from 0; null where it is about none. */
  wave: number | null;
  /** The milestone it is, or works towards; null where it leads nowhere on the way forward. */
  milestone: string | null;
}

/** Every state of a topology by name. */
const statesOf = derived((topology): Record<string, KnownState> => {
  const { canary, rest } = canaryAndRest(topology);
  const isRolling = topology.cutover === 'rolling';
  const last = rest.at(-1);
  const states: Record<string, KnownState> = {};
  const add = (name: string, kind: StateKind, milestone: string | null, wave: Wave | null = null) => {
    states[name] = { kind, servers: wave?.servers ?? [], wave: wave?.index ?? null, milestone };
  };
  add('planned', 'planned', 'planned');
  for (const name of ['testing', 'askingTest', 'tested'] as const) add(name, name, 'tested');
  for (const name of ['tagging', 'tagged'] as const) add(name, name, 'tagged');
  for (const wave of [canary, ...rest]) {
    const { lower, upper } = wave;
    if (wave === canary || isRolling) {
      for (const kind of ['draining', 'askingDrain'] as const) add(kind + upper, kind, `${lower}Drained`, wave);
      add(`${lower}Drained`, 'drained', `${lower}Drained`, wave);
    }
    const milestone = `${lower}Published`;
    for (const kind of ['publishing', 'askingPublish'] as const) add(kind + upper, kind, milestone, wave);
    add(milestone, 'published', milestone, wave);
    if (wave !== canary && isRolling && wave !== last) {
      add(`goingLive${upper}`, 'goingLive', `${lower}Live`, wave);
      add(`soaking${upper}`, 'soaking', `${lower}Live`, wave);
      add(`askingSoak${upper}`, 'askingWaveSoak', `${lower}Live`, wave);
      add(`${lower}Live`, 'waveLive', `${lower}Live`, wave);
    }
  }
  if (topology.preview === true) {
    add(`previewing${canary.upper}`, 'previewing', `${canary.lower}Previewed`, canary);
    add(`${canary.lower}Previewed`, 'previewed', `${canary.lower}Previewed`, canary);
  }
  add(`goingLive${canary.upper}`, 'goingLive', `${canary.lower}Live`, canary);
  add(`${canary.lower}Live`, 'live', `${canary.lower}Live`, canary);
  for (const name of ['verifying', 'askingSoak', 'verified'] as const) add(name, name, 'verified', canary);
  for (const name of ['goingAllLive', 'watchingAll', 'askingWatch', 'mergingBack', 'allLive'] as const) {
    add(name, name, 'allLive');
  }
  for (const wave of wavesOf(topology)) {
    for (const kind of ['drainingBack', 'askingDrainBack', 'restoring', 'askingRestore', 'rejoining'] as const) {
      add(kind + wave.upper, kind, null, wave);
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
});

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
export function versionText(
  server: string,
  context: Pick<ReleaseContext, 'before' | 'version' | 'runs'> & Partial<Pick<ReleaseContext, 'serving' | 'ranBefore'>>,
): string {
  const before = context.before[server] ?? 'none';
  const { serving, ranBefore } = context;
  switch (context.runs[server]) {
    case 'new':
      return context.version;
    case 'old':
      return before;
    default:
      if (serving?.includes(server) === false && ranBefore !== undefined && ranBefore[server] === undefined)
        return 'unknown (it was out of rotation before)';
      return `unknown (${before} or ${context.version})`;
  }
}

/** What the state is, as a sentence without its name and without a full stop. */
export function stateSentence(state: string, context: ReleaseContext): string {
  const known = stateOf(state, context.topology);
  if (known === null) return 'a state that this flow does not know';
  const { version, topology, leftOut } = context;
  const { servers } = known;
  const isRolling = topology.cutover === 'rolling';
  const who = namesText(servers);
  const others = without(topology, ...servers, ...leftOut);
  const all = namesText(without(topology, ...leftOut));
  const serving = context.routes[0] ?? [];
  const receive = servers.length === 1 ? 'receives' : 'receive';
  const it = servers.length === 1 ? 'it' : 'they';
  const before = beforeText(servers, context);
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
    case 'draining': {
      const carrying = serving.filter((name) => !servers.includes(name));
      return `${who} ${are(servers)} taken out of rotation and ${servers.length === 1 ? 'finishes what it' : 'finish what they'} had; ${namesText(carrying)} ${serve(carrying)}`;
    }
    case 'askingDrain':
    case 'askingDrainBack':
      return `${who} ${are(servers)} out of rotation, but ${have(servers)} not finished what ${it} had in time`;
    case 'drained':
      return drainedSentence(servers, context);
    case 'publishing':
      return `${version} is published to ${who}, which ${receive} no traffic`;
    case 'askingPublish':
      return context.question?.kind === 'waveHalfFailed'
        ? `the publish to ${who} did not end well everywhere; ${it} ${receive} no traffic`
        : `nobody can say whether the publish to ${who} worked; ${it} ${receive} no traffic`;
    case 'published':
    case 'previewed': {
      const runs = servers.filter((name) => !leftOut.includes(name));
      const passed = known.kind === 'previewed' ? ', has passed the pre-release checks' : '';
      return `${namesText(runs)} ${runs.length === 1 ? 'runs' : 'run'} ${version}${passed} and ${serve(runs)} nobody yet; ${namesText(serving)} ${serve(serving)}`;
    }
    case 'previewing':
      return `${version} is looked at on ${who} before any customer reaches it`;
    case 'goingLive':
      return isRolling
        ? `${who} ${servers.length === 1 ? 'comes' : 'come'} into rotation beside ${namesText(serving)}`
        : `the traffic is switched from ${namesText(others)} to ${who}`;
    case 'live':
      return isRolling
        ? `${who} ${serve(servers)} with ${version}, beside the others with the version before; it is not verified yet`
        : `only ${who} ${serve(servers)}, with ${version}; it is not verified yet`;
    case 'verifying':
      return isRolling
        ? `${version} is observed on ${who}, which ${serve(servers)} beside the others`
        : `${version} is observed on ${who}, which alone ${serve(servers)}`;
    case 'soaking':
      return `${who} ${serve(servers)} ${version} and ${are(servers)} observed for a while`;
    case 'askingSoak':
    case 'askingWaveSoak':
      return `the observation of ${version} on ${who} could say neither good nor bad`;
    case 'verified':
      return verifiedSentence(servers, context);
    case 'waveLive': {
      const live = without(topology, ...leftOut).filter((name) => context.runs[name] === 'new');
      return `${who} ${serve(servers)} ${version}; so ${live.length === 1 ? 'does' : 'do'} ${live.length} of ${topology.servers.length} servers`;
    }
    case 'goingAllLive': {
      const joining = without(topology, ...leftOut).filter((name) => !serving.includes(name));
      if (joining.length === 0) return 'the route of all that serve is proven once more';
      return `${namesText(joining)} come into rotation`;
    }
    case 'watchingAll':
      return `${all} serve ${version} and are watched for a while`;
    case 'askingWatch':
      return `${all} serve ${version}, but the watch did not say that it is good`;
    case 'mergingBack':
      return `${all} serve ${version}; the development branch gets what was released`;
    case 'allLive':
      return `${all} serve ${version}${leftOut.length === 0 ? '' : `; ${namesText(leftOut)} ${are(leftOut)} left out of rotation`}`;
    case 'revertingRoute':
      return `a switch was not proven; the traffic is put back to where ${context.returnTo ?? 'the milestone before'} had it`;
    case 'askingWorldMoved':
      return 'the proxy does not serve what this release believes; traffic was not touched';
    case 'reestablishingRoute':
      return `the traffic is put back to ${namesText(serving)}`;
    case 'rollingBack':
      return 'it is rolled back';
    case 'movingBack':
      return 'the traffic goes back to the servers that run the version before';
    case 'drainingBack':
      return `${who} ${are(servers)} taken out of rotation, to get the version before`;
    case 'restoring':
      return `${before} is restored on ${who}, which ${receive} no traffic`;
    case 'askingRestore':
      return context.question?.kind === 'waveHalfFailed'
        ? `${before} could not be restored everywhere on ${who}, which ${receive} no traffic`
        : `nobody can say whether ${before} was restored on ${who}; ${it} ${receive} no traffic`;
    case 'rejoining':
      return `${who} ${servers.length === 1 ? 'comes' : 'come'} back into rotation with ${before}`;
    case 'rolledBack':
      return rolledBackSentence(context);
    case 'stuck':
      return 'a step back failed and a person has to look; ROLLBACK tries again from what is believed now';
  }
}

const serve = (servers: readonly string[]): string => (servers.length === 1 ? 'serves' : 'serve');
const are = (servers: readonly string[]): string => (servers.length === 1 ? 'is' : 'are');
const have = (servers: readonly string[]): string => (servers.length === 1 ? 'has' : 'have');

const MOST_NAMED = 8;

/** Servers by name for a sentence; of many, the first ones and how many there are. */
export function namesText(servers: readonly string[]): string {
  if (servers.length <= MOST_NAMED) return listText(servers);
  return `${servers.slice(0, MOST_NAMED - 2).join(', ')} and ${servers.length - MOST_NAMED + 2} more`;
}

/** What the servers ran before, as people call it. */
function beforeText(servers: readonly string[], { before }: ReleaseContext): string {
  return listText([...new Set(servers.map((name) => before[name] ?? 'the version before'))]);
}

function drainedSentence(servers: readonly string[], context: ReleaseContext): string {
  const it = servers.length === 1 ? 'it' : 'they';
  const isWaived = servers.some((name) => context.drainWaived.includes(name));
  const finished = isWaived
    ? `that ${it} ${have(servers)} finished what ${it} had was waived`
    : `${have(servers)} finished what ${it} had`;
  const unknown = servers.filter((name) => context.runs[name] === 'unknown');
  const runs =
    unknown.length === 0
      ? ''
      : servers.length === 1
        ? '; nobody can say what it runs'
        : `; nobody can say what ${namesText(unknown)} ${unknown.length === 1 ? 'runs' : 'run'}`;
  const receive = servers.length === 1 ? 'receives' : 'receive';
  return `${namesText(servers)} ${receive} no traffic${isWaived ? '; ' : ' and '}${finished}${runs}`;
}

function verifiedSentence(servers: readonly string[], context: ReleaseContext): string {
  const others = without(context.topology, ...servers);
  const where =
    context.topology.cutover === 'exclusive'
      ? `which alone ${serve(servers)}`
      : `which ${serve(servers)} beside the others`;
  const stood = `${context.version} stood the observation on ${namesText(servers)}, ${where}`;
  if (others.length > MOST_NAMED) return stood;
  const parts = others.map(
    (name) => `${name} ${context.runs[name] === 'old' ? 'still has' : 'has'} ${versionText(name, context)}`,
  );
  return `${stood}; ${listText(parts)}`;
}

function rolledBackSentence(context: ReleaseContext): string {
  const serving = context.routes[0] ?? [];
  const out = without(context.topology, ...serving);
  const rest = out.length === 0 ? '' : `; ${namesText(out)} ${out.length === 1 ? 'stays' : 'stay'} out of rotation`;
  if (serving.some((server) => context.runs[server] !== 'old' || context.unhealthy.includes(server)))
    return `there was nothing to go back to, so traffic was left as it is, on ${namesText(serving)}${rest}`;
  return `${namesText(serving)} ${serve(serving)} what ran before${rest}`;
}

/** What NEXT does at a milestone, in words that follow `flow send NEXT`; null where it means nothing. */
export function nextInWords(state: string, context: ReleaseContext): string | null {
  const known = stateOf(state, context.topology);
  const { topology, version } = context;
  const waves = wavesOf(topology);
  const isRolling = topology.cutover === 'rolling';
  const wave = known?.wave ?? null;
  const here = wave === null ? undefined : waves[wave];
  const following = wave === null ? undefined : waves[wave + 1];
  const others = without(topology, ...(here?.servers ?? []));
  const publish = (to: Wave | undefined) => {
    const servers = (to?.servers ?? []).filter((name) => context.runs[name] !== 'new');
    const isAgain = servers.some((name) => context.runs[name] === 'unknown' && context.serving.includes(name));
    return `publish ${version} to ${namesText(servers)}${isAgain ? ' once more' : ''}`;
  };
  const drain = (servers: readonly string[]) =>
    `take ${namesText(servers)} out of rotation and wait until ${servers.length === 1 ? 'it has finished what it' : 'they have finished what they'} had`;
  const allLive = (joining: readonly string[]) =>
    `take ${namesText(joining)} into rotation, watch all servers, and merge back`;
  switch (known?.kind) {
    case 'planned':
      return 'merge for the test environment, publish there and check';
    case 'tested':
      return `merge, write the change log, tag ${version} and push it`;
    case 'tagged':
      return drain(waves[0]?.servers ?? []);
    case 'drained':
      return publish(here);
    case 'live':
      return `observe ${version} on ${namesText(known.servers)}`;
    case 'verified':
    case 'waveLive':
      return isRolling ? drain(following?.servers ?? []) : publish(following);
    case 'published':
    case 'previewed': {
      if (wave === 0 && known.kind === 'published' && topology.preview === true)
        return `look at ${version} on ${namesText(known.servers)} before any customer reaches it`;
      const joining = known.servers.filter((name) => !context.leftOut.includes(name));
      if (wave === 0 && !isRolling)
        return `switch the traffic from ${namesText(others)} to ${namesText(known.servers)}`;
      if (isRolling && following !== undefined)
        return `take ${namesText(joining)} into rotation${wave === 0 ? '' : `, and observe ${version} there`}`;
      if (!isRolling && following !== undefined) return publish(following);
      return allLive(routeOf(context, 'allLive').filter((name) => !(context.routes[0] ?? []).includes(name)));
    }
    default:
      return null;
  }
}
