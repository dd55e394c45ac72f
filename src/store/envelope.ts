/**
 * The form of a state file on disk, and reading it: `{flow:1, gen, epoch, sha256, data}` in one line.
 *
 * Invariant: what `load` returns is exactly what was once committed; anything else is an error, never a default.
 * Reading takes no lock, because a commit replaces the file as a whole. Kept free of lowdb and other packages, so that
 * `flow status` starts fast. Writing is in durable-file.ts.
 */
import { isUtf8 } from 'node:buffer';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { codeOf, messageOf, StateError } from '../errors.ts';

/** A state file as read: its data, its generation (1 for the first commit) and the epoch of the driver that wrote it. */
export interface Stored<T> {
  data: T;
  generation: number;
  epoch: number;
}

/** Where the generation before the current one is kept. */
export function previousOf(file: string): string {
  return `${file}.prev`;
}

/** The bytes of a state file. Throws a TypeError for data that JSON cannot carry. */
export function encode(generation: number, epoch: number, data: unknown): Buffer {
  const json = JSON.stringify(data) as string | undefined;
  if (json === undefined || json === 'null') throw new TypeError('state must be JSON data other than null');
  const sha256 = checksum(generation, epoch, json);
  return Buffer.from(`{"flow":1,"gen":${generation},"epoch":${epoch},"sha256":"${sha256}","data":${json}}\n`);
}

/**
 * Reads and checks bytes made by `encode`; `file` is for the messages only.
 * Throws StateError CORRUPT (damaged) or FOREIGN (whole, but of another program or a newer flow).
 * The data is not checked against a schema: that is the caller's.
 */
export function decode<T>(file: string, bytes: Buffer): Stored<T> {
  const parsed = parse(bytes);
  if (parsed === undefined) throw stateTrouble('CORRUPT', file, `is not readable as JSON (${bytes.length} bytes)`);
  const { flow, gen, epoch, sha256, data } = parsed;
  if (flow !== 1) throw stateTrouble('FOREIGN', file, 'is not a state file of this version of flow');
  if (!isCount(gen) || !isCount(epoch) || data === undefined || data === null) {
    throw stateTrouble('CORRUPT', file, 'has no generation, epoch or data');
  }
  if (checksum(gen, epoch, JSON.stringify(data)) !== sha256) {
    throw stateTrouble('CORRUPT', file, `does not match its checksum (generation ${gen})`);
  }
  return { data: data as T, generation: gen, epoch };
}

/**
 * The current generation, or null when there has never been one.
 * Throws StateError: CORRUPT or FOREIGN (see `decode`), MISSING when the file is gone but its previous generation is
 * there, or the system's code (EACCES, EIO …) when it cannot be read.
 */
export function peek<T>(file: string): Stored<T> | null {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw stateFailure(file, 'could not be read', error);
    if (existsSync(previousOf(file))) throw stateTrouble('MISSING', file, 'is gone');
    return null;
  }
  return decode<T>(file, bytes);
}

/** A StateError about `file` that says how the world stands and what to do. `what` continues a sentence whose subject is the file. */
export function stateTrouble(code: string, file: string, what: string, options?: ErrorOptions): StateError {
  const previous = previousOf(file);
  const advice = existsSync(previous)
    ? `The generation before it is ${previous}; work may have been done since it was written. To go on from there: ` +
      `cp -p ${previous} ${file} and then flow resume, which compares it with the world`
    : `There is no previous generation (${previous})`;
  return new StateError(code, `${file} ${what}. Nothing further was started. ${advice}.`, options);
}

/** A StateError for a failed system call: FULL when the disk or quota is exhausted, else the system's own code. */
export function stateFailure(file: string, what: string, cause: unknown): StateError {
  const code = codeOf(cause) ?? 'EIO';
  const full = code === 'ENOSPC' || code === 'EDQUOT';
  const advice = full ? 'Free some space on that disk, then flow resume.' : 'Mend the cause, then flow resume.';
  return new StateError(
    full ? 'FULL' : code,
    `${file} ${what}: ${messageOf(cause)}. Nothing further was started; what was stored before is unharmed ` +
      `(the generation before it: ${previousOf(file)}). ${advice}`,
    { cause },
  );
}

function checksum(generation: number, epoch: number, json: string): string {
  return createHash('sha256').update(`[${generation},${epoch},${json}]`).digest('hex');
}

function parse(bytes: Buffer): Record<string, unknown> | undefined {
  // Broken UTF-8 would be read as replacement characters, and two different files as the same text.
  if (!isUtf8(bytes)) return undefined;
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'));
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}
