/**
 * Rollback, computed from what each server runs and what is in rotation, never from the name of a state.
 * Traffic first: it goes at once to the servers that run the old version. Where there are none, a drained server is restored
 * first, and where none is drained, the last one is drained for it. Then the others are restored one by one.
 * A server that ran no known version before cannot be restored: once overwritten it stays out of rotation, and where no server
 * can be brought back at all, traffic stays where it is.
 */
import type { ReleaseContext } from './contract.ts';
import { without } from './topology.ts';

export type RollbackStep =
  | { do: 'move'; to: string[] }
  | { do: 'drain'; server: string; to: string[] }
  | { do: 'restore'; server: string }
  | { do: 'rejoin'; server: string; to: string[] }
  | { do: 'done' };

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

const isKnown = (context: Pick<ReleaseContext, 'before'>, server: string): boolean =>
  (context.before[server] ?? null) !== null;

/** Servers that have to be restored and cannot be: no version is known that ran there before. */
export function unrestorableServers(
  context: Pick<ReleaseContext, 'topology' | 'runs' | 'unhealthy' | 'before'>,
): string[] {
  return without(context.topology, ...goodOldServers(context)).filter((server) => !isKnown(context, server));
}

/** The next step of a rollback; `done` when nothing is left that it may do. */
export function nextRollbackStep(
  context: Pick<
    ReleaseContext,
    'topology' | 'runs' | 'unhealthy' | 'routes' | 'drained' | 'rollback' | 'restore' | 'before'
  >,
): RollbackStep {
  const { topology } = context;
  const good = goodOldServers(context);
  const [proven, ...tried] = context.routes;
  if (proven === undefined) throw new Error('a release always has a route');

  if (good.length === 0) {
    const serving = mayServe(context);
    const restorable = topology.servers.filter((server) => isKnown(context, server));
    // Restoring needs the proof of a drain; a server that is out of rotation without one is drained (proven) first.
    const server = restorable.findLast((name) => !serving.includes(name)) ?? restorable.at(-1);
    if (server === undefined) return { do: 'done' };
    if (!serving.includes(server) && context.drained.includes(server)) return { do: 'restore', server };
    // The others carry the load meanwhile; where there is nothing on them to carry it, traffic stays where it is.
    const to = without(topology, server);
    if (unrestorableServers(context).length > 0 && !to.some((name) => context.runs[name] === 'new')) {
      return { do: 'done' };
    }
    return { do: 'drain', server, to };
  }

  const isProven = tried.length === 0;
  const onlyGood = proven.every((server) => good.includes(server));
  if (!isProven || !onlyGood || context.rollback?.moved !== true) return { do: 'move', to: good };
  if (context.restore === 'hold') return { do: 'done' };

  const waiting = good.find((server) => !proven.includes(server));
  if (waiting !== undefined) {
    return { do: 'rejoin', server: waiting, to: topology.servers.filter((s) => s === waiting || proven.includes(s)) };
  }
  const overwritten = without(topology, ...good).find((server) => isKnown(context, server));
  if (overwritten === undefined) return { do: 'done' };
  if (!context.drained.includes(overwritten)) return { do: 'drain', server: overwritten, to: proven };
  return { do: 'restore', server: overwritten };
}
