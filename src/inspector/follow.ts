/**
 * Follows the store from outside: what is stored is looked at a dozen times a second and told when it has changed.
 * Looking is a few system calls, so that it needs no notice from whoever drives: it works before, during and after a release, and
 * whoever is killed takes nothing with it. Invariant: it writes nothing and holds no lock.
 */
import { statSync } from 'node:fs';
import type { ReleaseDocument } from '../store/document.ts';
import { isRunning, readDriver } from '../store/driver.ts';
import { readLiveFigures } from '../store/live.ts';
import { peek } from '../store/envelope.ts';
import { latestReleaseId, releasePaths, statePaths } from '../store/state-folder.ts';
import { statusView, type StatusView } from '../views/status.ts';

/** What was seen. */
export interface Seen {
  document: ReleaseDocument | null;
  status: StatusView;
}

export interface Follower {
  /** As it is stored now. Throws StateError when what is stored is damaged. */
  look(): Seen;
  /** Whether anything was stored since the last `look`, as far as the files' times tell. */
  hasChanged(): boolean;
}

/** Follows the newest release of a state folder, which need not exist yet. `now` tells the time of day. */
export function followStore(stateDir: string, now: () => Date): Follower {
  let known: { mark: string; document: ReleaseDocument } | null = null;
  let marks = '';
  const markOf = (path: string): string => {
    const stat = statSync(path, { throwIfNoEntry: false, bigint: true });
    return stat === undefined ? '' : `${stat.ino}.${stat.mtimeNs}.${stat.size}`;
  };
  const marksNow = (): string => {
    const id = latestReleaseId(stateDir);
    const driver = readDriver(stateDir);
    const live = driver !== null && isRunning(driver) ? 'live' : '';
    return `${id} ${id === null ? '' : markOf(releasePaths(stateDir, id).state)} ${markOf(statePaths(stateDir).driver)} ${live}`;
  };
  const documentNow = (): ReleaseDocument | null => {
    const id = latestReleaseId(stateDir);
    if (id === null) return null;
    const { state } = releasePaths(stateDir, id);
    const mark = markOf(state);
    if (known?.mark === mark && known.document.id === id) return known.document;
    const document = peek<ReleaseDocument>(state)?.data ?? null;
    known = document === null ? null : { mark, document };
    return document;
  };
  return {
    look() {
      marks = marksNow();
      const document = documentNow();
      const driver = readDriver(stateDir);
      return {
        document,
        status: statusView({
          document,
          driver: driver !== null && isRunning(driver) ? driver : null,
          live: document === null ? null : readLiveFigures(stateDir, document.id),
          now: now(),
        }),
      };
    },
    hasChanged: () => marksNow() !== marks,
  };
}
