/**
 * Who drives, as told by driver.json, for people and for other processes. Informative only: what decides is the kernel
 * lock (lock.ts). Node's own modules only, and no program is started: `flow status` starts here.
 */
import { readFileSync } from 'node:fs';
import { statePaths } from './state-folder.ts';

export interface Driver {
  /** Name of the person. */
  who: string;
  host: string;
  pid: number;
  /** Start time of that process as the kernel tells it, with the boot it belongs to; null where there is no /proc. */
  pidStart: string | null;
  /** ISO time when the lock was taken. */
  since: string;
  /** What it does, in words that follow "is". */
  doing: string;
  epoch: number;
  /** Path of the socket it listens on. */
  socket: string | null;
}

/** The driver that described itself last, dead or alive; null when there is none. */
export function readDriver(dir: string): Driver | null {
  try {
    const value: unknown = JSON.parse(readFileSync(statePaths(dir).driver, 'utf8'));
    return isDriver(value) ? value : null;
  } catch {
    return null;
  }
}

/** True when the process that described itself last still runs (not merely another one with its number). */
export function isDriverLive(dir: string): boolean {
  const driver = readDriver(dir);
  return driver !== null && isRunning(driver);
}

/** As `isDriverLive`, for a driver already read. */
export function isRunning({ pid, pidStart }: Pick<Driver, 'pid' | 'pidStart'>): boolean {
  if (pidStart !== null) return startOfProcess(pid) === pidStart;
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** What tells a process from a later one with the same number, also after a reboot; null when it does not run. */
export function startOfProcess(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The second field is the program's name in brackets and may hold anything; fields are counted after it.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // A zombie holds no lock any more.
    if (fields[0] === 'Z' || fields[0] === 'X') return null;
    return `${fields[19]}@${readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()}`;
  } catch {
    return null;
  }
}

function isDriver(value: unknown): value is Driver {
  if (typeof value !== 'object' || value === null) return false;
  const { who, host, pid, pidStart, since, doing, epoch, socket } = value as Record<string, unknown>;
  return (
    [who, host, since, doing].every((field) => typeof field === 'string') &&
    [pidStart, socket].every((field) => field === null || typeof field === 'string') &&
    [pid, epoch].every((field) => Number.isSafeInteger(field) && (field as number) > 0)
  );
}
