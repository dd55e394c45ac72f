/**
 * The lines of a file as they come, for people who look on: the output of a job, a server's log. Follow.ts counts; this shows.
 * Invariant: bounded. At most a slice of each look is read and a number of lines returned; what was left out is counted.
 */
import type { Host } from '../hosts/host.ts';

export interface NewLines {
  lines: string[];
  /** So many lines, or more where bytes were skipped, were left out before them. */
  dropped: number;
}

export interface LineFollower {
  /** What has come since the last call. Never rejects: a file that cannot be read has no lines. Calls must not overlap. */
  poll(): Promise<NewLines>;
}

const SLICE_BYTES = 65_536;
const LINES_A_LOOK = 200;
const LINE_CHARACTERS = 2_000;

/** Follows a file from its beginning, or from its end as it is now. A file that is replaced or emptied is read from its beginning. */
export function followLines(host: Host, path: string, from: 'beginning' | 'end'): LineFollower {
  let at: { id: string; offset: number } | null = null;
  let partial = '';
  let isFirst = true;
  let decoder = new TextDecoder();
  const read = async (): Promise<NewLines> => {
    const wasFirst = isFirst;
    isFirst = false;
    const look = await host.readSlice(path, 0, 0);
    if (look === null) return { lines: [], dropped: 0 };
    if (at?.id !== look.id || look.size < at.offset) {
      at = { id: look.id, offset: wasFirst && from === 'end' ? look.size : 0 };
      partial = '';
      decoder = new TextDecoder();
    }
    const skipped = Math.max(0, look.size - at.offset - SLICE_BYTES);
    const start = at.offset + skipped;
    const slice = look.size > start ? await host.readSlice(path, start, SLICE_BYTES) : null;
    if (slice === null) return { lines: [], dropped: 0 };
    at = { id: look.id, offset: start + slice.bytes.length };
    const pieces = (skipped > 0 ? '' : partial).concat(decoder.decode(slice.bytes, { stream: true })).split('\n');
    partial = (pieces.pop() ?? '').slice(0, LINE_CHARACTERS);
    if (skipped > 0) pieces.shift();
    const lines = pieces.slice(-LINES_A_LOOK).map((line) => line.slice(0, LINE_CHARACTERS));
    return { lines, dropped: pieces.length - lines.length + (skipped > 0 ? 1 : 0) };
  };
  return {
    async poll() {
      try {
        return await read();
      } catch {
        return { lines: [], dropped: 0 };
      }
    },
  };
}
