/**
 * Which servers a release works on, in which waves, and the names this gives to states.
 * Everything here is derived from the topology; no state name is written down anywhere else.
 */

/** The servers of a release and the way they are released. JSON. */
export interface Topology {
  /** In the order of the config. */
  servers: string[];
  /**
   * `exclusive`: from the first wave's go-live until the end only that wave serves, so the same switch drains the rest.
   * `rolling`: each wave leaves the rotation, is published and joins the others again.
   */
  cutover: 'exclusive' | 'rolling';
  /** Servers that are published together, the canary first; every server is in exactly one. Left out: each is a wave of its own. */
  waves?: string[][];
  /** Whether the first wave is checked through a pre-release proxy before any customer reaches it. */
  preview?: boolean;
  /** How many servers the load needs at any time. Left out: one. */
  minimumHealthy?: number;
}

/** Servers that are published together. The first wave is the canary. */
export interface Wave {
  /** Its place among the waves, from 0. */
  index: number;
  servers: string[];
  /** Its name as it stands in a state's name: of one server that server's (`app1Drained`), else `wave2`. `upper`: `drainingApp1`. */
  lower: string;
  upper: string;
}

const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

/** `blue-east` becomes `blueEast`: state names are identifiers. */
const camel = (name: string): string =>
  name
    .split('-')
    .filter((part) => part !== '')
    .map((part, index) => (index === 0 ? part : capital(part)))
    .join('');

/** Remembers what was derived from a topology: it is asked for at every look at a state, and a fleet has many. */
export function derived<Value>(derive: (topology: Topology) => Value): (topology: Topology) => Value {
  const known = new WeakMap<Topology, Value>();
  return (topology) => {
    const found = known.get(topology) ?? derive(topology);
    known.set(topology, found);
    return found;
  };
}

/** The waves of a topology, first (canary) to last. */
export const wavesOf = derived((topology): Wave[] =>
  (topology.waves ?? topology.servers.map((server) => [server])).map((servers, index) => {
    const [only = ''] = servers;
    const lower = servers.length === 1 ? camel(only) : `wave${index + 1}`;
    return { index, servers, lower, upper: capital(lower) };
  }),
);

/** The first wave and the others. Throws when there is nothing to release one after the other. */
export function canaryAndRest(topology: Topology): { canary: Wave; rest: Wave[] } {
  const [canary, ...rest] = wavesOf(topology);
  if (canary === undefined || rest.length === 0) throw new Error('a release needs at least two waves of servers');
  return { canary, rest };
}

/** How many servers the load needs at any time. */
export const minimumOf = ({ minimumHealthy = 1 }: Topology): number => minimumHealthy;

/** How many servers of a route must be healthy before it is switched to; null for all: where few carry the load, each is needed. */
export const atLeastHealthy = (topology: Topology, to: readonly string[]): number | null =>
  topology.cutover === 'rolling' ? Math.min(minimumOf(topology), to.length) : null;

/**
 * Whether a failed publish of the wave is decided server by server. The runbook's own waves are not: with one server in them
 * there is nothing to leave out, and the release rests before the publish.
 */
export const isDecidedByServer = ({ cutover }: Topology, wave: Wave): boolean =>
  wave.servers.length > 1 || (cutover === 'rolling' && wave.index > 0);

/** Every server but the named ones, in the topology's order. */
export function without(topology: Topology, ...names: string[]): string[] {
  return topology.servers.filter((server) => !names.includes(server));
}

/** Whether two routes are the same set of servers. */
export function sameServers(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((server) => b.includes(server));
}

/** The resting states that an uninterrupted release passes, in order; the last one is final. */
export function milestonesOf(topology: Topology): string[] {
  const { canary, rest } = canaryAndRest(topology);
  const last = rest.at(-1);
  const later = rest.flatMap((wave) =>
    topology.cutover === 'exclusive'
      ? [`${wave.lower}Published`]
      : [`${wave.lower}Drained`, `${wave.lower}Published`, ...(wave === last ? [] : [`${wave.lower}Live`])],
  );
  return [
    'planned',
    'tested',
    'tagged',
    `${canary.lower}Drained`,
    `${canary.lower}Published`,
    ...(topology.preview === true ? [`${canary.lower}Previewed`] : []),
    `${canary.lower}Live`,
    'verified',
    ...later,
    'allLive',
  ];
}

/** The final states. */
export const FINAL_STATES = ['allLive', 'rolledBack', 'aborted'] as const;

/** States that are there whatever the servers are called. */
const FIXED_STATES = [
  'planned',
  'testing',
  'askingTest',
  'tested',
  'tagging',
  'tagged',
  'aborting',
  'aborted',
  'verifying',
  'askingSoak',
  'verified',
  'goingAllLive',
  'watchingAll',
  'askingWatch',
  'mergingBack',
  'allLive',
  'revertingRoute',
  'askingWorldMoved',
  'reestablishingRoute',
  'rollingBack',
  'movingBack',
  'rolledBack',
  'stuck',
];
const BEFORE_THE_NAME = [
  'draining',
  'askingDrain',
  'publishing',
  'askingPublish',
  'previewing',
  'goingLive',
  'soaking',
  'askingSoak',
  'drainingBack',
  'askingDrainBack',
  'restoring',
  'askingRestore',
  'rejoining',
];
const AFTER_THE_NAME = ['Drained', 'Published', 'Previewed', 'Live'];

/** Every name that a state of such a wave may have, whatever the cutover. */
const statesNamedFor = ({ lower, upper }: Pick<Wave, 'lower' | 'upper'>): string[] => [
  ...BEFORE_THE_NAME.map((before) => before + upper),
  ...AFTER_THE_NAME.map((after) => lower + after),
];

/**
 * A server whose states would be named as another's or as a state of the chart's own, and what it collides with; null when every
 * name is free. `back-end` and `end` collide: `drainingBackEnd` would be a state of both.
 */
export function stateCollision(servers: readonly string[]): { server: string; with: string; state: string } | null {
  const taken = new Map(FIXED_STATES.map((state) => [state, `the state ${state}`]));
  for (const server of servers) {
    const lower = camel(server);
    if (/^wave\d+$/i.test(lower)) return { server, with: 'the name of a wave', state: `${lower}Drained` };
    const states = statesNamedFor({ lower, upper: capital(lower) });
    for (const state of states) {
      const other = taken.get(state);
      if (other !== undefined) return { server, with: other, state };
    }
    for (const state of states) taken.set(state, server);
  }
  return null;
}
