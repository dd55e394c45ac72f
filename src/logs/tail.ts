/** How a log looked before now: its last lines, counted. */
import type { Host } from '../hosts/host.ts';

const TAIL_BYTES = 1_048_576;

export interface TailCount {
  lines: number;
  errors: number;
}

/**
 * Counts the last lines of a log (about 1 MB), and how many of them are errors. Of a log that was rotated not long ago, the end of
 * the file before is counted with it. A log that is missing has no lines. Rejects when it may not be read.
 */
export async function countTail(
  host: Host,
  path: string,
  { errors, only }: { errors: readonly RegExp[]; only?: RegExp },
): Promise<TailCount> {
  const count: TailCount = { lines: 0, errors: 0 };
  let left = TAIL_BYTES;
  for (const file of [path, `${path}.1`]) {
    const end = await host.readSlice(file, 0, 0);
    if (end === null) continue;
    const from = Math.max(0, end.size - left);
    const slice = await host.readSlice(file, from, left);
    const lines = (slice?.bytes.toString('utf8') ?? '').split('\n');
    // The last is not complete yet, and of a long file the first is not complete any more.
    for (const line of lines.slice(from > 0 ? 1 : 0, -1)) {
      if (only?.test(line) === false) continue;
      count.lines += 1;
      if (errors.some((pattern) => pattern.test(line))) count.errors += 1;
    }
    left -= end.size;
    if (left <= 0) break;
  }
  return count;
}
