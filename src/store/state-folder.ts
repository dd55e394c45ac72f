/**
 * Where things lie in the state folder, and the ids of releases. Node's own modules only: `flow status` starts here.
 *
 *   driver.json · driver.sock · epoch      who drives (lock.ts; the kernel lock is on the folder itself)
 *   releases/r-0001/state.json (.prev)     the release (release-file.ts)
 *   releases/r-0001/live.json, progress/   figures of the moment; checkpoints of a soak
 *   jobs/                                  commands that survive flow (hosts/jobs.ts)
 *   worktree/                              flow's own git worktree
 */
import { existsSync, mkdirSync, readdirSync, statfsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { codeOf, StateError } from '../errors.ts';
import { syncFolder } from './atomic-file.ts';
import { previousOf, stateFailure } from './envelope.ts';

export interface StatePaths {
  releases: string;
  jobs: string;
  driver: string;
  socket: string;
  epoch: string;
  worktree: string;
}

export interface ReleasePaths {
  folder: string;
  state: string;
  live: string;
  progress: string;
}

/** f_type of statfs(2): file systems whose locks or renames do not hold between machines or after a crash. */
const REFUSED_FILE_SYSTEMS: ReadonlyMap<number, string> = new Map([
  [0x6969, 'NFS'],
  [0x517b, 'SMB'],
  [0xff534d42, 'CIFS'],
  [0xfe534d42, 'SMB'],
  [0x65735546, 'FUSE'],
  [0x01021997, '9p'],
  [0x00c36400, 'Ceph'],
  [0x5346414f, 'AFS'],
]);

const RELEASE_ID = /^r-(\d{4,})$/;

/** The paths in a state folder. */
export function statePaths(dir: string): StatePaths {
  return {
    releases: join(dir, 'releases'),
    jobs: join(dir, 'jobs'),
    driver: join(dir, 'driver.json'),
    socket: join(dir, 'driver.sock'),
    epoch: join(dir, 'epoch'),
    worktree: join(dir, 'worktree'),
  };
}

/** The paths of one release. Throws StateError BAD_ID for what is not a release id. */
export function releasePaths(dir: string, id: string): ReleasePaths {
  if (!RELEASE_ID.test(id)) {
    throw new StateError('BAD_ID', `${JSON.stringify(id)} is not a release id such as r-0001; see: flow history`);
  }
  const folder = join(dir, 'releases', id);
  return {
    folder,
    state: join(folder, 'state.json'),
    live: join(folder, 'live.json'),
    progress: join(folder, 'progress'),
  };
}

/**
 * Ids of the releases that have a state, oldest first; none when there is no state folder.
 * A release whose current generation is gone is listed too, so that reading it fails aloud.
 */
export function listReleaseIds(dir: string): string[] {
  return idsIn(statePaths(dir).releases).filter((id) => {
    const { state } = releasePaths(dir, id);
    return existsSync(state) || existsSync(previousOf(state));
  });
}

/** The newest release, or null when there is none. */
export function latestReleaseId(dir: string): string | null {
  return listReleaseIds(dir).at(-1) ?? null;
}

/** An id never used before in this folder: neither by a release nor by the jobs of one whose state was removed. */
export function nextReleaseId(dir: string): string {
  const { releases, jobs } = statePaths(dir);
  const highest = Math.max(0, ...[...idsIn(releases), ...idsIn(jobs)].map(numberOf));
  return `r-${String(highest + 1).padStart(4, '0')}`;
}

/**
 * Makes sure the state folder exists (mode 0700) and can be relied on.
 * Throws StateError: NETWORK_FS where locks do not hold, UNSAFE_FOLDER when others may write into it, or the system's code.
 */
export function createStateFolder(dir: string): void {
  try {
    const created = mkdirSync(dir, { recursive: true, mode: 0o700 });
    if (created !== undefined) syncFolder(dirname(dir));
    refuseFileSystem(dir, statfsSync(dir).type);
    const { mode, uid } = statSync(dir);
    if ((mode & 0o022) !== 0 || uid !== process.getuid?.()) {
      throw new StateError(
        'UNSAFE_FOLDER',
        `${dir} belongs to, or can be written by, other users; nothing was stored. Make it yours alone: chmod 700 ${dir}`,
      );
    }
  } catch (error) {
    throw error instanceof StateError ? error : stateFailure(dir, 'could not be made ready', error);
  }
}

/** Throws StateError NETWORK_FS when `type` (of statfs) is a file system on which locks or renames are not dependable. */
export function refuseFileSystem(dir: string, type: number): void {
  const name = REFUSED_FILE_SYSTEMS.get(type >>> 0);
  if (name === undefined) return;
  throw new StateError(
    'NETWORK_FS',
    `${dir} is on ${name}, where locks and renames are not dependable; nothing was stored. ` +
      'Set `state:` in flow.yaml to a folder on a local disk',
  );
}

function idsIn(folder: string): string[] {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return [];
    throw stateFailure(folder, 'could not be read', error);
  }
  return names.filter((name) => RELEASE_ID.test(name)).sort((a, b) => numberOf(a) - numberOf(b));
}

function numberOf(id: string): number {
  return Number(RELEASE_ID.exec(id)?.[1]);
}
