/**
 * The lowdb adapter of the release state: when `write` returns, the generation survives kill -9 and a power cut.
 *
 * Order of a commit: guard → own temporary file, all bytes, fsync → current kept as `.prev` → guard → rename → fsync of
 * the folder. At every moment the disk holds a whole current generation. After a failed commit the adapter is dead and
 * repeats its first error: nobody can say which generation a failed fsync left, so nothing may be built on it, and the
 * next process reads what is really there. Deliberately absent: retries, defaults for unreadable files, and using
 * `.prev` by itself (effects newer than it may have run; that is a person's decision).
 */
import { closeSync, fsyncSync, linkSync, openSync, readdirSync, realpathSync, renameSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { basename, dirname, join } from 'node:path';
import type { SyncAdapter } from 'lowdb';
import { codeOf, StateError } from '../errors.ts';
import { removeQuietly, syncFolder, writeAll } from './atomic-file.ts';
import { encode, peek, previousOf, type Stored, stateFailure, stateTrouble } from './envelope.ts';

export interface DurableJsonFileOptions {
  /** Epoch of the lock under which this process writes; a file written under a higher one is not ours to touch. */
  epoch: number;
  /** Called before each commit; throws when this process may not write any more. */
  guard?: () => void;
  /** Permissions of the file. Default 0600. */
  mode?: number;
}

export class DurableJsonFile<T> implements SyncAdapter<T> {
  readonly #file: string;
  readonly #dir: string;
  readonly #epoch: number;
  readonly #guard: () => void;
  readonly #mode: number;
  #generation = 0;
  #failure: StateError | undefined;

  /**
   * The folder must exist, and the driver's lock be held: temporary files of a dead writer are removed.
   * Throws what the guard throws, or StateError with the system's code.
   */
  constructor(file: string, { epoch, guard = () => undefined, mode = 0o600 }: DurableJsonFileOptions) {
    guard();
    try {
      this.#file = realFile(file);
      this.#dir = dirname(this.#file);
      for (const name of readdirSync(this.#dir)) {
        if (name.startsWith(`.${basename(this.#file)}.`) && name.endsWith('.tmp')) removeQuietly(join(this.#dir, name));
      }
    } catch (error) {
      throw stateFailure(file, 'could not be opened', error);
    }
    this.#epoch = epoch;
    this.#guard = guard;
    this.#mode = mode;
  }

  /** The same as `peek` of envelope.ts: reads without lock and epoch, for views. */
  static peek<T>(file: string): Stored<T> | null {
    return peek<T>(file);
  }

  /** Number of the generation last read or committed; 0 before the first. */
  get generation(): number {
    return this.#generation;
  }

  /** The current data, or null when nothing was ever written. Throws StateError as `peek` does, and FENCED for a newer epoch. */
  read(): T | null {
    const stored = peek<T>(this.#file);
    if (stored === null) return null;
    if (stored.epoch > this.#epoch) throw this.#fenced(`was written under epoch ${stored.epoch}`);
    this.#generation = stored.generation;
    return stored.data;
  }

  /** Commits `data` as the next generation. Throws StateError; from then on every write throws the same error. */
  write(data: T): void {
    if (this.#failure !== undefined) throw this.#failure;
    const temporary = join(this.#dir, `.${basename(this.#file)}.${process.pid}.${randomBytes(4).toString('hex')}.tmp`);
    const kept = temporary.replace(/tmp$/, 'prev.tmp');
    try {
      this.#guard();
      this.#expectOwnGeneration();
      const next = this.#generation + 1;
      this.#writeTemporary(temporary, encode(next, this.#epoch, data));
      this.#keepPrevious(kept);
      this.#guard();
      renameSync(temporary, this.#file);
      // When this fails, the old or the new generation is on disk; both are whole, and nothing was performed yet.
      syncFolder(this.#dir);
      this.#generation = next;
    } catch (error) {
      removeQuietly(temporary);
      removeQuietly(kept);
      this.#failure = error instanceof StateError ? error : stateFailure(this.#file, 'could not be written', error);
      throw this.#failure;
    }
  }

  #writeTemporary(temporary: string, bytes: Buffer): void {
    const fd = openSync(temporary, 'wx', this.#mode);
    try {
      writeAll(fd, bytes);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  }

  #keepPrevious(kept: string): void {
    if (this.#generation === 0) return;
    linkSync(this.#file, kept);
    renameSync(kept, previousOf(this.#file));
    // rename(2) between two links of one inode succeeds without doing anything, and after a crash between the two
    // renames the current file and `.prev` are just that: then the link is still here.
    removeQuietly(kept);
  }

  /** What is on disk must be what this process last read or wrote; else somebody else writes too, or the disk is failing. */
  #expectOwnGeneration(): void {
    const stored = peek(this.#file);
    if (stored === null && this.#generation > 0) throw stateTrouble('MISSING', this.#file, 'is gone');
    if (stored !== null && stored.generation !== this.#generation) {
      throw this.#fenced(`is at generation ${stored.generation}, and this process knows ${this.#generation}`);
    }
    if (stored !== null && stored.epoch > this.#epoch) throw this.#fenced(`was written under epoch ${stored.epoch}`);
  }

  #fenced(what: string): StateError {
    return new StateError(
      'FENCED',
      `${this.#file} ${what}: another flow took over (this one holds epoch ${this.#epoch}). Nothing further was ` +
        `started, and ${previousOf(this.#file)} was left alone. See who: flow status`,
    );
  }
}

/** The file behind symbolic links, so that a rename replaces the file and not the link to it. */
function realFile(file: string): string {
  try {
    return realpathSync(file);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
    return join(realpathSync(dirname(file)), basename(file));
  }
}
