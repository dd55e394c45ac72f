/**
 * What the context says about routes while traffic is being moved. Between the moment a switch is begun and the moment it is
 * proven, more than one route may be live; every rule of safety is checked against all of them.
 */
import type { ReleaseContext } from './contract.ts';
import { sameServers } from './topology.ts';

/** Adds a route that is about to be tried: until it is proven, each of them may be live. */
export function trying(context: ReleaseContext, to: string[]): string[][] {
  const [proven = [], ...tried] = context.routes;
  const known = [proven, ...tried].some((route) => sameServers(route, to));
  return known ? context.routes : [...context.routes, to];
}

/**
 * A route was proven live: it is the only one. Every switch leaves workers behind that finish what they had, so that no drain is
 * proven any more, save one that the operator waived; who waits for them says so afterwards.
 */
export function proven(context: ReleaseContext, to: string[]) {
  const waived = context.drainWaived.filter((server) => !to.includes(server));
  return { routes: [to], drained: context.drained.filter((server) => waived.includes(server)), drainWaived: waived };
}
