/**
 * Rollback, computed from what each server runs and what is in rotation, never from the name of a state.
 * Traffic first: it goes at once to the servers that run the old version, where they are enough for the load. Where they are not,
 * drained servers are restored first, and then one wave after the other is drained for it while the rest carries the load. Then
 * the others are restored wave by wave, the last first, so that few routes are needed.
 * A server that ran no known version before cannot be restored: once overwritten it stays out of rotation, and where no server
 * can be brought back at all, traffic stays where it is. A server that was out of rotation before the release, and that the release
 * never came to, is left as it was; so is one that the operator left out.
 */
import type { ReleaseContext } from './contract.ts';
import { minimumOf, type Wave, wavesOf, without } from './topology.ts';

export type RollbackStep =
  | { do: 'move'; to: string[] }
  | { do: 'drain'; wave: number; servers: string[]; to: string[] }
  | { do: 'restore'; wave: number; servers: string[] }
  | { do: 'rejoin'; wave: number; servers: string[]; to: string[] }
  | { do: 'done' };

type Known = Pick<
  ReleaseContext,
  'topology' | 'runs' | 'ranBefore' | 'unhealthy' | 'routes' | 'drained' | 'before' | 'serving' | 'leftOut'
>;

/** Servers that may receive traffic: those of any route that may be live. */
export function mayServe(context: Pick<ReleaseContext, 'routes'>): string[] {
  return [...new Set(context.routes.flat())];
}

/** Servers that run the old version and were not found unhealthy. */
export function goodOldServers(context: Pick<ReleaseContext, 'topology' | 'runs' | 'unhealthy'>): string[] {
  return context.topology.servers.filter(
    (server) => context.runs[server] === 'old' && !context.unhealthy.includes(server),
  );
}

/** Out of rotation when the release started, and never published to: what it runs is nothing of this release's. */
const isUntouched = ({ serving, ranBefore }: Pick<Known, 'serving' | 'ranBefore'>, server: string): boolean =>
  !serving.includes(server) && ranBefore[server] === undefined;

/** Servers that have to be restored. */
function overwritten(context: Pick<Known, 'topology' | 'runs' | 'unhealthy' | 'serving' | 'ranBefore' | 'leftOut'>) {
  return without(context.topology, ...goodOldServers(context)).filter(
    (server) => !isUntouched(context, server) && !context.leftOut.includes(server),
  );
}

const isKnown = (context: Pick<ReleaseContext, 'before'>, server: string): boolean =>
  (context.before[server] ?? null) !== null;

/** Servers that have to be restored and cannot be: no version is known that ran there before. */
export function unrestorableServers(
  context: Pick<ReleaseContext, 'topology' | 'runs' | 'unhealthy' | 'before' | 'serving' | 'ranBefore' | 'leftOut'>,
): string[] {
  return overwritten(context).filter((server) => !isKnown(context, server));
}

/** The servers of a wave that are to be restored, by how far they are. */
function toRestore(context: Known, wave: Wave) {
  const restorable = overwritten(context).filter((server) => wave.servers.includes(server) && isKnown(context, server));
  const serving = mayServe(context);
  const out = restorable.filter((server) => !serving.includes(server));
  return {
    out,
    drained: out.filter((server) => context.drained.includes(server)),
    serving: restorable.filter((server) => serving.includes(server)),
  };
}

/**
 * The servers of a wave that are drained during a rollback: those that are out of rotation, where one of them lacks the proof (every
 * switch ends the proof of the others), else those that serve.
 */
export function toDrain(context: Known, wave: Wave): string[] {
  const { out, drained, serving } = toRestore(context, wave);
  return out.length > drained.length ? out : serving;
}

/** The servers of a wave that are drained and wait for the version before. */
export const toBeRestored = (context: Known, wave: Wave): string[] => toRestore(context, wave).drained;

/** The servers of a wave that run the old version again and are out of rotation. */
export function toRejoin(context: Known, wave: Wave): string[] {
  const [proven = []] = context.routes;
  return goodOldServers(context).filter((server) => wave.servers.includes(server) && !proven.includes(server));
}

/**
 * The route that carries the load while servers are drained: those that run the new version and serve, and every good one. Where
 * there is none of them, what serves now, be it ill; and where that is to be drained, any other of which is known what it runs.
 * Judged by the proven route alone: the route that is computed when the step is entered must be the one when it has ended.
 */
export function routeWhileDraining(context: Known, servers: readonly string[]): string[] {
  const good = goodOldServers(context);
  const [proven = [], ...tried] = context.routes;
  const carries = (server: string): boolean =>
    good.includes(server) || (context.runs[server] === 'new' && proven.includes(server));
  const staying = proven.filter((server) => !servers.includes(server));
  // Where nothing has to move, nothing does: the switch that took them out is only proven again.
  if (tried.length === 0 && staying.length === proven.length && proven.every(carries)) return proven;
  const able = context.topology.servers.filter((server) => carries(server) && !servers.includes(server));
  if (able.length > 0) return able;
  if (staying.length > 0) return staying;
  return context.topology.servers.filter(
    (server) => context.runs[server] !== 'unknown' && !servers.includes(server) && !context.leftOut.includes(server),
  );
}

/** Where traffic is moved to at once: the good servers, or where there is none, the route that was proven last. */
export function routeToMoveTo(context: Known): string[] {
  const good = goodOldServers(context);
  return good.length > 0 ? good : (context.routes[0] ?? []);
}

/** The next step of a rollback; `done` when nothing is left that it may do. */
export function nextRollbackStep(context: Known & Pick<ReleaseContext, 'rollback' | 'restore'>): RollbackStep {
  const known = steps.get(context) ?? computeNext(context);
  steps.set(context, known);
  return known;
}

/** The chart asks once for each step it could take. */
const steps = new WeakMap<object, RollbackStep>();

function computeNext(context: Known & Pick<ReleaseContext, 'rollback' | 'restore'>): RollbackStep {
  const good = goodOldServers(context);
  const [proven, ...tried] = context.routes;
  if (proven === undefined) throw new Error('a release always has a route');
  const lastFirst = wavesOf(context.topology).toReversed();

  if (good.length < minimumOf(context.topology)) {
    const gaining = stepThatGains(context, lastFirst);
    if (gaining !== null) return gaining;
    // With nothing to go back to traffic is left as it is, but never where nobody knows what is live.
    if (good.length === 0) return tried.length === 0 ? { do: 'done' } : { do: 'move', to: routeToMoveTo(context) };
  }

  const isProven = tried.length === 0;
  const onlyGood = proven.every((server) => good.includes(server));
  if (!isProven || !onlyGood || context.rollback?.moved !== true) return { do: 'move', to: good };
  if (context.restore === 'hold') return { do: 'done' };

  for (const wave of lastFirst) {
    const servers = toRejoin(context, wave);
    const to = context.topology.servers.filter((server) => servers.includes(server) || proven.includes(server));
    if (servers.length > 0) return { do: 'rejoin', wave: wave.index, servers, to };
  }
  return outOfRotationFirst(context, lastFirst) ?? { do: 'done' };
}

/** Restores what is out of rotation, and proves the drain before where there is no proof. */
function outOfRotationFirst(context: Known, waves: readonly Wave[]): RollbackStep | null {
  for (const wave of waves) {
    const { out, drained } = toRestore(context, wave);
    if (out.length > drained.length) {
      return { do: 'drain', wave: wave.index, servers: out, to: routeWhileDraining(context, out) };
    }
    if (drained.length > 0) return { do: 'restore', wave: wave.index, servers: drained };
  }
  return null;
}

/**
 * Where the servers with the old version are too few: the step that makes them more. Null where none does that leaves anybody to
 * carry the load, or where it would leave fewer than there are good ones already.
 */
function stepThatGains(context: Known, waves: readonly Wave[]): RollbackStep | null {
  const ready = outOfRotationFirst(context, waves);
  if (ready !== null && (ready.do !== 'drain' || carried(context, ready.to))) return ready;
  const drains = waves.flatMap((wave) => {
    const { serving: servers } = toRestore(context, wave);
    const to = routeWhileDraining(context, servers);
    return servers.length > 0 && carried(context, to) ? [{ do: 'drain' as const, wave: wave.index, servers, to }] : [];
  });
  const enough = drains.find(({ to }) => to.length >= minimumOf(context.topology));
  if (enough !== undefined || goodOldServers(context).length > 0) return enough ?? null;
  return drains.toSorted((a, b) => b.to.length - a.to.length)[0] ?? null;
}

/** Whether a route is worth going to: where servers are lost for good, only one on which the new version or a good old one serves. */
function carried(context: Known, to: readonly string[]): boolean {
  if (to.length === 0) return false;
  const good = goodOldServers(context);
  return (
    unrestorableServers(context).length === 0 ||
    to.some((server) => context.runs[server] === 'new' || good.includes(server))
  );
}
