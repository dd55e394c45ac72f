/**
 * Which servers a release works on, in which waves, and the names this gives to states.
 * Everything here is derived from the list of servers; no state name is written down anywhere else.
 */

/** The servers of a release, in the order in which they are released. JSON. */
export interface Topology {
  servers: string[];
  /** `exclusive`: from the first wave's go-live until the end only that wave serves, so the same switch drains the rest. */
  cutover: 'exclusive';
}

/** Servers that are published together. With two servers every wave is one server, and the first is the canary. */
export interface Wave {
  server: string;
  /** The server's name as it stands inside a state's name: `app1` in `app1Drained`, `App1` in `drainingApp1`. */
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

/** The waves of a topology, first (canary) to last. */
export function wavesOf(topology: Topology): Wave[] {
  return topology.servers.map((server) => ({ server, lower: camel(server), upper: capital(camel(server)) }));
}

/** The first wave and the others. Throws when there is nothing to release one after the other. */
export function canaryAndRest(topology: Topology): { canary: Wave; rest: Wave[] } {
  const [canary, ...rest] = wavesOf(topology);
  if (canary === undefined || rest.length === 0) throw new Error('a release needs at least two servers');
  return { canary, rest };
}

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
  return [
    'planned',
    'tested',
    'tagged',
    `${canary.lower}Drained`,
    `${canary.lower}Published`,
    `${canary.lower}Live`,
    'verified',
    ...rest.map((wave) => `${wave.lower}Published`),
    'allLive',
  ];
}

/** The final states. */
export const FINAL_STATES = ['allLive', 'rolledBack', 'aborted'] as const;
