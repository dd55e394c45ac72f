/**
 * Follows a server's log (R3.3): counts its lines, counts those that match an error pattern, and keeps a few samples.
 *
 * Invariants: no line is counted twice and none is lost over a rename rotation, a `copytruncate` or a crash of flow,
 * as far as the files still show it; memory is bounded whatever the log holds (binary data, a line of 100 MB); what
 * could not be read is said (`problem`, `gap`) and never looks like silence.
 *
 * What no reader can see: a log that was emptied and grew past the old length before the next poll.
 * Deliberately absent: waiting; the caller polls.
 */
import type { Host } from '../hosts/host.ts';
import { type RotatedFile, rotatedFiles } from './rotated-files.ts';

/**
 * Where a follower stands, as plain data. `end`: nothing was read yet, the first poll starts at the end of the file.
 * A null `id`: there was no file; when one appears, all of it is new.
 */
export type LogPosition =
  | 'end'
  | {
      /** Identity of the file (it changes when the file is replaced). */
      id: string | null;
      /** Bytes read so far. */
      offset: number;
      /** How many of these belong to a last line that is not complete yet. */
      partial: number;
      /** The file that was rotated away, which its writer may still use for a while. */
      previous?: { id: string; offset: number; partial: number };
    };

export interface LogReading {
  /** Lines that were completed since the last poll. */
  lines: number;
  /** How many of them match an error pattern. */
  errors: number;
  /** Some of the matching lines, at most 5 of at most 300 characters, safe to print. */
  samples: string[];
  /** Null when the log was read to its end. A problem makes the counts a lower bound: it is no silence. */
  problem: null | 'missing' | 'unreadable';
  /** The file was replaced since the last poll. */
  rotated: boolean;
  /** The file was emptied since the last poll. */
  truncated: boolean;
  /** The rest of a file that was rotated away or emptied could not be found: lines may be missing from the counts. */
  gap: boolean;
}

export interface LogFollower {
  /** Reads what is new. Never rejects; calls must not overlap. */
  poll(): Promise<LogReading>;
  /** Where to go on after a crash: give it as `from`. */
  position(): LogPosition;
}

export interface FollowOptions {
  /** A line that matches one of these is an error. */
  errors: readonly RegExp[];
  /** When given, a line that does not match is not counted at all. */
  only?: RegExp;
  /** Default `end`. */
  from?: LogPosition;
}

const CHUNK_BYTES = 1024 * 1024;
/** How much of a line is looked at; the rest of a longer one is counted as part of it and dropped. */
const LINE_LIMIT_BYTES = 16 * 1024;
const SAMPLES = 5;
const SAMPLE_CHARACTERS = 300;
/** How much of what was read last is remembered, to know a copy of the file again. */
const MARK_BYTES = 64;
const NEWLINE = 0x0a;

/** Follows the log at `path` on that host. Nothing is read before the first poll. */
export function createLogFollower(host: Host, path: string, options: FollowOptions): LogFollower {
  return new Follower(host, path, options);
}

/** One file being read: how far, and the beginning of its last, incomplete line. */
class Reader {
  readonly id: string;
  offset: number;
  /** Length of the incomplete line, of which `head` is the beginning. */
  partial: number;
  head: Buffer = Buffer.alloc(0);
  /** The last bytes that were read. */
  mark: Buffer = Buffer.alloc(0);
  /** Where it was found after it was rotated away. */
  path: string | null = null;

  constructor(id: string, offset: number) {
    this.id = id;
    this.offset = offset;
    this.partial = 0;
  }

  take(bytes: Buffer, onLine: (line: Buffer) => void): void {
    this.offset += bytes.length;
    this.mark = Buffer.from(Buffer.concat([this.mark, bytes.subarray(-MARK_BYTES)]).subarray(-MARK_BYTES));
    let start = 0;
    for (;;) {
      const end = bytes.indexOf(NEWLINE, start);
      const piece = bytes.subarray(start, end < 0 ? bytes.length : end);
      if (end < 0) {
        this.#keep(piece);
        return;
      }
      onLine(this.partial === 0 ? piece.subarray(0, LINE_LIMIT_BYTES) : this.#joined(piece));
      this.forgetPartial();
      start = end + 1;
    }
  }

  forgetPartial(): void {
    this.partial = 0;
    this.head = Buffer.alloc(0);
  }

  #keep(piece: Buffer): void {
    if (piece.length === 0) return;
    this.head = Buffer.from(this.#joined(piece));
    this.partial += piece.length;
  }

  #joined(piece: Buffer): Buffer {
    return Buffer.concat([this.head, piece.subarray(0, LINE_LIMIT_BYTES - this.head.length)]);
  }
}

class Follower implements LogFollower {
  readonly #host: Host;
  readonly #path: string;
  readonly #errors: readonly RegExp[];
  readonly #only: RegExp | null;
  /** Null while there is no file. */
  #current: Reader | null = null;
  #previous: Reader | null = null;
  #placed: boolean;

  constructor(host: Host, path: string, options: FollowOptions) {
    this.#host = host;
    this.#path = path;
    // A regular expression with g or y remembers where it stopped, and would miss every second line.
    this.#errors = options.errors.map((pattern) => new RegExp(pattern.source, pattern.flags.replaceAll(/[gy]/g, '')));
    this.#only = options.only ?? null;
    const from = options.from ?? 'end';
    this.#placed = from !== 'end';
    if (from === 'end') return;
    // The incomplete line is read again, so that its beginning need not be stored.
    const resume = (at: { id: string; offset: number; partial: number }) =>
      new Reader(at.id, Math.max(0, at.offset - at.partial));
    if (from.id !== null) this.#current = resume({ ...from, id: from.id });
    if (from.previous !== undefined) this.#previous = resume(from.previous);
  }

  position(): LogPosition {
    if (!this.#placed) return 'end';
    const at = (reader: Reader) => ({ offset: reader.offset, partial: Math.min(reader.partial, reader.offset) });
    return {
      ...(this.#current === null
        ? { id: null, offset: 0, partial: 0 }
        : { id: this.#current.id, ...at(this.#current) }),
      ...(this.#previous === null ? {} : { previous: { id: this.#previous.id, ...at(this.#previous) } }),
    };
  }

  async poll(): Promise<LogReading> {
    const reading: LogReading = {
      lines: 0,
      errors: 0,
      samples: [],
      problem: null,
      rotated: false,
      truncated: false,
      gap: false,
    };
    try {
      await this.#readOn(reading);
    } catch {
      reading.problem = 'unreadable';
    }
    return reading;
  }

  async #readOn(reading: LogReading): Promise<void> {
    const now = await this.#host.readSlice(this.#path, 0, 0);
    if (!this.#placed) {
      if (now !== null) this.#current = await this.#atEnd(now.id, now.size);
      else reading.problem = 'missing';
      this.#placed = true;
      return;
    }
    // The file before is read first: its lines are older, and its writer may not have let go of it yet.
    if (this.#previous !== null && !(await this.#readRotated(this.#previous, reading))) this.#previous = null;
    const current = this.#current;
    if (current !== null && now?.id !== current.id) {
      // Renamed; the new file may not be there yet.
      const found = await this.#readRotated(current, reading);
      if (now === null && !found) {
        reading.problem = 'missing';
        return;
      }
      reading.rotated = true;
      reading.gap = !found;
      this.#previous = found ? current : null;
      this.#current = null;
      if (found) await this.#readBetween(current, now?.id, reading);
    }
    if (now === null) {
      reading.problem = 'missing';
      return;
    }
    this.#current ??= new Reader(now.id, 0);
    await this.#readFile(this.#path, this.#current, now.size, reading);
  }

  /** Starts at the end; a line that is being written there is known from its beginning on. */
  async #atEnd(id: string, size: number): Promise<Reader> {
    const from = Math.max(0, size - LINE_LIMIT_BYTES);
    const slice = await this.#host.readSlice(this.#path, from, size - from);
    const reader = new Reader(id, size);
    if (slice?.id !== id) return reader;
    const start = slice.bytes.lastIndexOf(NEWLINE) + 1;
    // Without any newline in reach the line is longer than what is looked at of one: its end alone is counted.
    if (start === 0 && from > 0) return reader;
    reader.offset = from + start;
    reader.take(slice.bytes.subarray(start), () => {});
    reader.mark = Buffer.from(slice.bytes.subarray(-MARK_BYTES));
    return reader;
  }

  /** Reads the rest of a file under the name that rotation gave it; false when it can not be found. */
  async #readRotated(reader: Reader, reading: LogReading): Promise<boolean> {
    for (const path of await this.#placesOf(reader)) {
      const found = await this.#host.readSlice(path, 0, 0).catch(() => null);
      if (found?.id !== reader.id) continue;
      // Overwritten with something else, by a copy made in its place, say: what it was is gone.
      if (found.size !== reader.offset && !(await this.#isFurther(path, reader))) return false;
      reader.path = path;
      await this.#readFile(path, reader, found.size, reading);
      return true;
    }
    return false;
  }

  /** Where the file may lie: where it lay at the last look, or wherever a rotation has put it since. */
  async #placesOf({ id, path }: Reader): Promise<string[]> {
    const last = path === null ? null : await this.#host.readSlice(path, 0, 0).catch(() => null);
    if (path !== null && last?.id === id) return [path];
    return (await rotatedFiles(this.#host, this.#path)).filter((file) => file.id === id).map((file) => file.path);
  }

  /** Reads the files that came and went between two looks: those that were rotated away after the one that was read. */
  async #readBetween(before: Reader, now: string | undefined, reading: LogReading): Promise<void> {
    const newestFirst = await rotatedFiles(this.#host, this.#path);
    const place = newestFirst.findIndex(({ id }) => id === before.id);
    const unseen: RotatedFile[] = place < 0 ? [] : newestFirst.slice(0, place).filter(({ id }) => id !== now);
    for (const { id, path } of unseen.reverse()) {
      const slice = await this.#host.readSlice(path, 0, 0).catch(() => null);
      if (slice?.id !== id) continue;
      const reader = new Reader(id, 0);
      reader.path = path;
      await this.#readFile(path, reader, slice.size, reading);
      // Its writer may not have let go of it yet.
      this.#previous = reader;
    }
  }

  /** Whether the file at `path` goes on where the reader stands: it has the bytes that were read last, at their place. */
  async #isFurther(path: string, { mark, offset }: Reader): Promise<boolean> {
    const slice = await this.#host.readSlice(path, offset - mark.length, mark.length).catch(() => null);
    return slice?.bytes.equals(mark) === true;
  }

  /** Reads up to `size`, which was the end when the poll began: a busy writer must not keep a poll for ever. */
  async #readFile(path: string, reader: Reader, size: number, reading: LogReading): Promise<void> {
    if (size < reader.offset) {
      reading.truncated = true;
      reading.gap ||= !(await this.#readCopy(reader, reading));
      reader.offset = 0;
      reader.mark = Buffer.alloc(0);
      reader.forgetPartial();
    }
    while (reader.offset < size) {
      const slice = await this.#host.readSlice(path, reader.offset, Math.min(CHUNK_BYTES, size - reader.offset));
      // Replaced or emptied while it was read: the next poll sees that as a whole.
      if (slice?.id !== reader.id || slice.bytes.length === 0) return;
      reader.take(slice.bytes, (line) => this.#count(line, reading));
    }
  }

  /**
   * Reads what the file held beyond what was read of it, from the copy that `copytruncate` made before it emptied the file.
   * A copy is known by the bytes before that place; false when there is none.
   */
  async #readCopy(reader: Reader, reading: LogReading): Promise<boolean> {
    if (reader.mark.length === 0) return false;
    for (const { path } of await rotatedFiles(this.#host, this.#path)) {
      const copy = await this.#host.readSlice(path, 0, 0).catch(() => null);
      if (copy === null || copy.size < reader.offset || !(await this.#isFurther(path, reader))) continue;
      const rest = new Reader(copy.id, reader.offset);
      rest.partial = reader.partial;
      rest.head = reader.head;
      await this.#readFile(path, rest, copy.size, reading);
      return true;
    }
    return false;
  }

  #count(line: Buffer, reading: LogReading): void {
    const text = this.#only === null && this.#errors.length === 0 ? '' : line.toString('utf8');
    if (this.#only?.test(text) === false) return;
    reading.lines += 1;
    if (!this.#errors.some((pattern) => pattern.test(text))) return;
    reading.errors += 1;
    if (reading.samples.length < SAMPLES) reading.samples.push(sampleOf(text));
  }
}

/** A line that a terminal, a page and a table can show: no escape sequences, no controls, no reversed text. */
function sampleOf(line: string): string {
  const calm = line
    .trimEnd()
    // Whole escape sequences first, so that none leaves its letters behind.
    .replaceAll(/\u001b\[[0-?]*[ -/]*[@-~]|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|\u001b[ -~]?/g, '')
    .replaceAll(/\t/g, ' ')
    .replaceAll(/[\p{Cc}\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, '?');
  const characters = Array.from(calm.slice(0, SAMPLE_CHARACTERS * 2));
  return characters.length > SAMPLE_CHARACTERS ? `${characters.slice(0, SAMPLE_CHARACTERS - 1).join('')}…` : calm;
}
