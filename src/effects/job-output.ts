/**
 * What a job prints, on its way to the terminal: the end of it is kept for messages, and no more than a terminal can show is
 * passed on. Everything stays in the job's own file, whatever is left out here.
 */
import type { EffectTools } from './effect.ts';

const KEPT_CHARACTERS = 2_000;
const SHOWN_BYTES_PER_SECOND = 65_536;
const SILENCE_LOOK_MS = 100;

export interface JobOutput {
  take(chunk: Buffer): void;
  /** The end of what was printed. */
  printed(): string;
  /** The last lines that hold something, joined; for one sentence of a message. */
  lastWords(): string;
  /** Calls back once when nothing was printed for so long; the answer ends that. */
  onSilence(silenceMs: number, callback: () => void): () => void;
}

/** `file` is where all of the output can be read. */
export function jobOutput(tools: Pick<EffectTools, 'report'>, file: string): JobOutput {
  const decoder = new TextDecoder();
  let kept = '';
  let takenAt = performance.now();
  let second = 0;
  let shownBytes = 0;
  let leftOut = 0;
  return {
    take(chunk) {
      takenAt = performance.now();
      const now = Math.floor(takenAt / 1_000);
      const text = decoder.decode(chunk, { stream: true });
      kept = (kept + text).slice(-KEPT_CHARACTERS);
      if (now !== second) {
        if (leftOut > 0) tools.report({ kind: 'note', text: `${leftOut} bytes of output are not shown here: ${file}` });
        second = now;
        shownBytes = 0;
        leftOut = 0;
      }
      const room = Math.max(0, SHOWN_BYTES_PER_SECOND - shownBytes);
      shownBytes += Math.min(room, chunk.length);
      leftOut += Math.max(0, chunk.length - room);
      if (room > 0) tools.report({ kind: 'output', text: text.slice(0, room) });
    },
    printed: () => kept.trim(),
    lastWords: () =>
      kept
        .split('\n')
        .map((line) => line.trim())
        .filter((line) => line !== '')
        .slice(-3)
        .join(' | ')
        // The message goes on with a full stop of its own.
        .replace(/\.$/, '') || '(nothing)',
    onSilence(silenceMs, callback) {
      takenAt = performance.now();
      const timer = setInterval(() => {
        if (performance.now() - takenAt < silenceMs) return;
        clearInterval(timer);
        callback();
      }, SILENCE_LOOK_MS);
      return () => {
        clearInterval(timer);
      };
    },
  };
}
