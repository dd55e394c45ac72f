/**
 * A shell on another machine that carries out one call after the other: to start ssh for each would cost more than what is called.
 *
 * Invariants: what a call prints is told from what the next one prints by a mark that only this call knows, on both streams; a call
 * whose end was not seen has no result, and its channel is not used again; a channel without a call keeps no process alive.
 */
import type { ChildProcess } from 'node:child_process';
import type { Readable } from 'node:stream';

/** How a call ended. `broke`: the connection did, before the end of the call was seen; nobody can say whether it was carried out. */
export type CallEnd =
  | { end: 'status'; status: number; stdout: Buffer; stderr: Buffer }
  | { end: 'timedOut' | 'aborted' | 'tooMuch'; stdout: Buffer; stderr: Buffer }
  | { end: 'broke'; because: string };

export interface Call {
  /** What is run, as lines of a shell; ends with a line end. Its status is that of the last command. */
  text: string;
  /** Known to nobody else. */
  mark: string;
  timeoutMs: number;
  signal?: AbortSignal;
  /** More than this on one stream ends the call. */
  limitBytes: number;
}

export interface Channel {
  /** False once the connection has ended, or a call was given up. */
  readonly isUsable: boolean;
  /** One call at a time. */
  run(call: Call): Promise<CallEnd>;
  close(): void;
}

/** Collects one stream until the mark of a call has come. */
interface Collected {
  bytes: Buffer[];
  size: number;
  status: number | null;
}

/** Longer than any mark with its status. */
const TAIL_BYTES = 200;

/** Makes a shell out of a process that reads lines of sh on its standard input. */
export function channelOf(child: ChildProcess): Channel {
  const { stdin, stdout, stderr } = child;
  if (stdin === null || stdout === null || stderr === null) throw new TypeError('a channel needs the three streams');
  let usable = true;
  let because = '';
  let ended: (() => void) | null = null;
  const keep = (isNeeded: boolean): void => {
    for (const part of [child, stdin, stdout, stderr] as { ref?: () => void; unref?: () => void }[]) {
      if (isNeeded) part.ref?.();
      else part.unref?.();
    }
  };
  const over = (why: string): void => {
    usable = false;
    because ||= why;
    ended?.();
  };
  // Whoever reads there may be gone at any moment; the end of the process tells.
  stdin.on('error', () => undefined);
  child.on('error', (error) => {
    over(error.message);
  });
  child.on('close', () => {
    over('');
  });
  const close = (): void => {
    over('');
    child.kill('SIGTERM');
    for (const stream of [stdin, stdout, stderr]) stream.destroy();
  };
  keep(false);

  return {
    get isUsable() {
      return usable;
    },
    close,
    async run({ text, mark, timeoutMs, signal, limitBytes }) {
      keep(true);
      const streams: [Readable, Collected][] = [stdout, stderr].map((stream) => [
        stream,
        { bytes: [], size: 0, status: null },
      ]);
      const [[, out], [, err]] = streams as [[Readable, Collected], [Readable, Collected]];
      const textOf = ({ bytes }: Collected): Buffer => Buffer.concat(bytes);
      return await new Promise<CallEnd>((resolve) => {
        const finish = (end: CallEnd): void => {
          clearTimeout(timer);
          signal?.removeEventListener('abort', onAbort);
          for (const [index, [stream]] of streams.entries()) stream.off('data', handlers[index] ?? (() => undefined));
          ended = null;
          if (end.end !== 'status') close();
          else if (usable) keep(false);
          resolve(end);
        };
        const given = (end: 'timedOut' | 'aborted' | 'tooMuch'): void => {
          finish({ end, stdout: textOf(out), stderr: textOf(err) });
        };
        const onAbort = (): void => {
          given('aborted');
        };
        const timer = setTimeout(() => {
          given('timedOut');
        }, timeoutMs);
        const handlers = streams.map(([, collected]) => (chunk: Buffer): void => {
          collected.bytes.push(chunk);
          collected.size += chunk.length;
          if (collected.size > limitBytes) {
            given('tooMuch');
            return;
          }
          takeMark(collected, mark);
          if (out.status !== null && err.status !== null)
            finish({ end: 'status', status: out.status, stdout: textOf(out), stderr: textOf(err) });
        });
        for (const [index, [stream]] of streams.entries()) stream.on('data', handlers[index] ?? (() => undefined));
        ended = () => {
          finish({ end: 'broke', because: because || textOf(err).toString('utf8').trim() });
        };
        signal?.addEventListener('abort', onAbort, { once: true });
        if (!usable) ended();
        else if (signal?.aborted === true) onAbort();
        else stdin.write(`${text}flow_ended ${mark}\n`);
      });
    },
  };
}

/** What a channel's shell has to know before its first call: how the end of one is told, on both streams. */
export const CHANNEL_SCRIPT = `flow_ended() { flow_status=$?; printf '\\n%s:%d\\n' "$1" "$flow_status"; printf '\\n%s:%d\\n' "$1" "$flow_status" >&2; }
`;

/** Cuts the mark off, once it is there. */
function takeMark(collected: Collected, mark: string): void {
  if (collected.status !== null) return;
  const { bytes } = collected;
  let first = bytes.length;
  for (let size = 0; first > 0 && size < TAIL_BYTES; size += bytes[first]?.length ?? 0) first -= 1;
  const tail = Buffer.concat(bytes.slice(first)).subarray(-TAIL_BYTES).toString('latin1');
  const found = new RegExp(`\\n${mark}:(\\d+)\\n$`).exec(tail);
  if (found === null) return;
  collected.status = Number(found[1]);
  const whole = Buffer.concat(bytes);
  collected.bytes = [whole.subarray(0, whole.length - found[0].length)];
}
