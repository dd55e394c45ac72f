/**
 * Which servers are in rotation at each milestone of a release, and whether a server can be left out of all that is still to come.
 * Invariant: on the way forward no route has fewer servers than the load needs; where one would, leaving out is not offered.
 */
import type { ReleaseContext } from './contract.ts';
import { canaryAndRest, derived, minimumOf, sameServers, type Topology, type Wave, wavesOf } from './topology.ts';

type Known = Pick<ReleaseContext, 'topology' | 'serving' | 'leftOut'>;

interface Place {
  /** The waves that were published and are in rotation by then. */
  joined: readonly Wave[];
  /** The wave that is out of rotation, to be published. */
  out: Wave | null;
  /** Whether only the joined waves serve. */
  alone: boolean;
}

/** What is in rotation at the milestones of a topology. */
const placesOf = derived((topology: Topology): Map<string, Place> => {
  const { canary, rest } = canaryAndRest(topology);
  const waves = [canary, ...rest];
  const places = new Map<string, Place>();
  const add = (milestone: string, place: Place) => places.set(milestone, place);
  add('tagged', { joined: [], out: null, alone: false });
  const isExclusive = topology.cutover === 'exclusive';
  for (const wave of isExclusive ? [canary] : waves) {
    const before = waves.slice(0, wave.index);
    const out = { joined: before, out: wave, alone: false };
    for (const milestone of ['Drained', 'Published', 'Previewed']) add(`${wave.lower}${milestone}`, out);
    const live = { joined: [...before, wave], out: null, alone: isExclusive };
    add(`${wave.lower}Live`, live);
    if (wave === canary) add('verified', live);
  }
  if (isExclusive) for (const wave of rest) add(`${wave.lower}Published`, { joined: [canary], out: null, alone: true });
  add('allLive', { joined: waves, out: null, alone: false });
  return places;
});

/**
 * The route that a milestone stands on: what was in rotation when the release started, with the waves that joined since, without
 * the one that is out and the servers that were left out. Throws for what is no milestone of production.
 */
export function routeOf({ topology, serving, leftOut }: Known, milestone: string): string[] {
  const place = placesOf(topology).get(milestone);
  if (place === undefined) throw new Error(`no route is known for ${milestone}`);
  const joined = place.joined.flatMap(({ servers }) => servers);
  return topology.servers.filter(
    (server) =>
      (joined.includes(server) || (!place.alone && serving.includes(server))) &&
      !leftOut.includes(server) &&
      place.out?.servers.includes(server) !== true,
  );
}

/** Every route that the release still needs from a milestone on, each once. */
export function routesFrom(context: Known, milestone: string): string[][] {
  const milestones = [...placesOf(context.topology).keys()];
  const routes: string[][] = [];
  for (const later of milestones.slice(milestones.indexOf(milestone))) {
    const route = routeOf(context, later);
    if (!routes.some((known) => sameServers(known, route))) routes.push(route);
  }
  return routes;
}

/**
 * The routes that a release can need, and its rollback where every server is healthy: forward as the milestones have them, and on
 * the way back the servers of the last waves, one wave more each time.
 */
export function routesNeeded(context: Known): string[][] {
  const { topology, serving } = context;
  const waves = wavesOf(topology);
  const back = waves.flatMap((_, index) => {
    const last = waves.slice(index).flatMap(({ servers }) => servers);
    return [
      topology.servers.filter((server) => last.includes(server) && serving.includes(server)),
      topology.servers.filter((server) => last.includes(server)),
    ];
  });
  const routes = routesFrom(context, 'tagged');
  for (const route of back) {
    // With fewer than the load needs, the way back restores others first, and needs no route of its own.
    const isNeeded = route.length >= Math.max(1, minimumOf(topology));
    if (isNeeded && !routes.some((known) => sameServers(known, route))) routes.push(route);
  }
  return routes;
}

/** Whether the proxy has a route for exactly these servers. */
export const canSwitchTo = ({ switchable }: Pick<ReleaseContext, 'switchable'>, servers: readonly string[]): boolean =>
  switchable === undefined || switchable.some((route) => sameServers(route, servers));

/**
 * Whether servers of a wave can be left out and the release go on: every route to come has as many servers as the load needs, the
 * proxy has a route for it, and somebody is left of the canary to be verified.
 */
export function mayLeaveOut(
  context: Known & Pick<ReleaseContext, 'switchable'>,
  wave: Wave,
  servers: readonly string[],
): boolean {
  if (wave.index === 0 && wave.servers.every((server) => servers.includes(server))) return false;
  const without = { ...context, leftOut: [...context.leftOut, ...servers] };
  return routesFrom(without, `${wave.lower}Published`).every(
    (route) => route.length >= Math.max(1, minimumOf(context.topology)) && canSwitchTo(context, route),
  );
}

/** What is left for a person to do about the servers that were left out; empty where none was. */
export function repairs({
  leftOut,
  rollback,
  version,
  before,
}: Pick<ReleaseContext, 'leftOut' | 'rollback' | 'version' | 'before'>): string[] {
  return leftOut.map((server) => {
    const failed =
      rollback === null
        ? `${version} could not be published there`
        : `${before[server] ?? 'the version before'} could not be restored there`;
    return `${server} was left out of rotation, because ${failed}. Repair it: the next release begins with it (flow start). Or publish to it by hand, and take it into rotation`;
  });
}
