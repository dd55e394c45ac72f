/**
 * One release on disk: its state (durable, through lowdb), checkpoints of long steps, and figures of the moment.
 *
 * Memory is never ahead of the disk: `data` changes only after the commit succeeded. Checkpoints and live figures are
 * kept beside the state because they change often and may be lost: a lost checkpoint means observing longer.
 */
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { LowSync } from 'lowdb';
import { StateError } from '../errors.ts';
import { replaceFile, syncFolder } from './atomic-file.ts';
import { DurableJsonFile } from './durable-file.ts';
import { decode, encode, peek, stateFailure } from './envelope.ts';
import type { Lock } from './lock.ts';
import { releasePaths, statePaths } from './state-folder.ts';

export interface ReleaseFile<T extends object> {
  /** The last committed data. Not to be changed in place: commit the next one. */
  readonly data: Readonly<T>;
  /** Counts the commits; the first is 1. */
  readonly generation: number;
  /** Durable when it returns. Throws StateError, also ever after a failed commit: then nothing may be performed. */
  commit(next: T): void;
}

const LIVE_LIMIT_BYTES = 64 * 1024;
const PROGRESS_NAME = /^[A-Za-z0-9._-]+$/;

/** Opens an existing release for the driver. Throws StateError (CORRUPT, FOREIGN, MISSING, FENCED, system codes). */
export function openReleaseFile<T extends object>(dir: string, id: string, lock: Lock): ReleaseFile<T> {
  const { state } = releasePaths(dir, id);
  // Asked before the adapter is made, which needs the folder.
  const exists = peek(state) !== null;
  const adapter = exists ? new DurableJsonFile<T>(state, lock) : null;
  const data = adapter?.read() ?? null;
  if (adapter === null || data === null) {
    throw new StateError('MISSING', `${state} does not exist; nothing was started. See: flow history`);
  }
  return release(adapter, data);
}

/** Stores a new release as generation 1. Throws StateError EXISTS when the id is taken, or as `openReleaseFile` does. */
export function createReleaseFile<T extends object>(dir: string, id: string, lock: Lock, first: T): ReleaseFile<T> {
  const { folder, state } = releasePaths(dir, id);
  lock.guard();
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    // The state file is no safer than the entries of the folders that lead to it.
    syncFolder(statePaths(dir).releases);
    syncFolder(dir);
  } catch (error) {
    throw stateFailure(folder, 'could not be made', error);
  }
  const adapter = new DurableJsonFile<T>(state, lock);
  if (adapter.read() !== null) throw new StateError('EXISTS', `${state} exists already; nothing was started`);
  adapter.write(first);
  return release(adapter, first);
}

function release<T extends object>(adapter: DurableJsonFile<T>, data: T): ReleaseFile<T> {
  // Handed the data that was read, because LowSync.read() would quietly keep a default where there is no file.
  const db = new LowSync<T>(adapter, data);
  return {
    get data() {
      return db.data;
    },
    get generation() {
      return adapter.generation;
    },
    commit(next) {
      const before = db.data;
      db.data = next;
      try {
        db.write();
      } catch (error) {
        db.data = before;
        throw error;
      }
    },
  };
}

/** Stores a checkpoint, replacing the one of that name. Throws StateError when it cannot be written. */
export function writeProgress(dir: string, id: string, name: string, value: unknown): void {
  const file = progressFile(dir, id, name);
  try {
    mkdirSync(releasePaths(dir, id).progress, { recursive: true, mode: 0o700 });
    replaceFile(file, encode(0, 0, value), { durable: true });
  } catch (error) {
    throw stateFailure(file, 'could not be written', error);
  }
}

/** The checkpoint of that name (JSON, its form to be checked by the reader), or null when there is none that can be trusted. */
export function readProgress(dir: string, id: string, name: string): unknown {
  const file = progressFile(dir, id, name);
  try {
    return decode(file, readFileSync(file)).data;
  } catch {
    return null;
  }
}

/** Publishes the figures of the moment for other processes. Best effort: false when they were too large or not written. */
export function writeLive(dir: string, id: string, value: unknown): boolean {
  const { live } = releasePaths(dir, id);
  try {
    const bytes = Buffer.from(JSON.stringify(value));
    if (bytes.length > LIVE_LIMIT_BYTES) return false;
    replaceFile(live, bytes, { durable: false });
    return true;
  } catch {
    return false;
  }
}

function progressFile(dir: string, id: string, name: string): string {
  if (!PROGRESS_NAME.test(name)) throw new TypeError(`not a name for a checkpoint: ${JSON.stringify(name)}`);
  return join(releasePaths(dir, id).progress, `${name}.json`);
}
