/** Lines per second over the last seconds. Pure but for the clock it is given. */

export interface RateMeter {
  /** Says that so many lines came since the last call. The first call begins the count, and its lines belong to no time. */
  add(lines: number): void;
  /** Lines per second over the window, or over what was observed when that is shorter; null before any time passed. */
  perSecond(): number | null;
}

/**
 * A meter over a sliding window. A count belongs to the time since the call before; one that began before the window
 * counts with the share of it that lies within. `now` answers milliseconds that never go back.
 */
export function createRateMeter(options: { windowMs: number; now?: () => number }): RateMeter {
  const now = options.now ?? (() => performance.now());
  let spans: { from: number; to: number; lines: number }[] = [];
  let last: number | null = null;
  return {
    add(lines) {
      const at = now();
      if (last !== null) {
        // A span without length has no share of any time: its lines belong to the span before.
        const before = spans.at(-1);
        if (at <= last && before !== undefined) before.lines += lines;
        else spans.push({ from: last, to: Math.max(at, last), lines });
      }
      last = Math.max(at, last ?? at);
      spans = spans.filter((span) => span.to > at - options.windowMs);
    },
    perSecond() {
      const first = spans[0];
      if (first === undefined) return null;
      const at = now();
      const start = Math.max(first.from, at - options.windowMs);
      const observedMs = at - start;
      if (observedMs <= 0) return null;
      let lines = 0;
      for (const span of spans) {
        const within = span.to - Math.max(span.from, start);
        if (within > 0) lines += (span.lines * within) / (span.to - span.from);
      }
      return (lines * 1_000) / observedMs;
    },
  };
}
