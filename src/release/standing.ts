/** How the servers stand after a commit, for the replay: only what is otherwise than before, so that long records stay short. Pure. */
import type { ReleaseContext } from '../../machines/contract.ts';
import type { Standing } from '../store/document.ts';

/** What the replay needs to know of the servers after a commit; nothing where all is as it was. */
export function stood(before: ReleaseContext | null, after: ReleaseContext): { stood?: Standing } {
  const differs = (field: 'routes' | 'drained' | 'drainWaived' | 'leftOut') =>
    JSON.stringify(before?.[field]) !== JSON.stringify(after[field]);
  const runs = Object.fromEntries(Object.entries(after.runs).filter(([server, runs]) => before?.runs[server] !== runs));
  const now: Standing = {
    ...(Object.keys(runs).length === 0 ? {} : { runs }),
    ...(differs('routes') ? { routes: after.routes } : {}),
    ...(differs('drained') ? { drained: after.drained } : {}),
    ...(differs('drainWaived') ? { drainWaived: after.drainWaived } : {}),
    ...(differs('leftOut') ? { leftOut: after.leftOut } : {}),
  };
  return Object.keys(now).length === 0 ? {} : { stood: now };
}
