/**
 * Continuous load on a sandbox, from a process of its own (load-client.ts). The driver only reads what that process
 * counts. Invariant: the client ends when it is told to, when its driver dies, or after `maxSeconds`, whichever comes
 * first.
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { EXIT, FlowError } from '../errors.ts';
import { type LoadTotals, loadClientText } from './load-client.ts';

export type { LoadTotals } from './load-client.ts';

export interface LoadOptions {
  /** Where clients go, for instance `http://127.0.0.1:8080`. */
  url: string;
  /** Requests sent per second, whether answers come or not. Default 250. */
  ratePerSecond?: number;
  /** True: connections are kept and used again. False: each request has a connection of its own. */
  keepAlive: boolean;
  /** Share of POSTs, 0 to 1. Default 0.5. */
  postShare?: number;
  /** After so many milliseconds a request counts as failed. Default 10 000. */
  requestTimeoutMs?: number;
  /** Stops by itself after so long. Default 600. */
  maxSeconds?: number;
}

export interface Load {
  /** The counts as of the last report, at most 250 ms old while it runs. */
  totals(): LoadTotals;
  /** Called with every report; the answer ends that. */
  onTick(callback: (totals: LoadTotals) => void): () => void;
  /** Sends no more, waits for the answers still due, and gives the final counts. Safe to repeat. */
  stop(): Promise<LoadTotals>;
}

/**
 * Starts clients that send GETs and POSTs at a fixed rate and never repeat one. Resolves once they run.
 * Throws FlowError `LOAD_FAILED` when the process cannot be started; `stop` throws it when the process died.
 */
export async function startLoad(options: LoadOptions): Promise<Load> {
  const text = loadClientText({
    url: options.url,
    ratePerSecond: options.ratePerSecond ?? 250,
    keepAlive: options.keepAlive,
    postShare: options.postShare ?? 0.5,
    requestTimeoutMs: options.requestTimeoutMs ?? 10_000,
    maxSeconds: options.maxSeconds ?? 600,
  });
  const child = spawn(process.execPath, ['-e', text], { stdio: ['pipe', 'pipe', 'pipe'] });
  const listeners = new Set<(totals: LoadTotals) => void>();
  let last: LoadTotals | undefined;
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    complaint = (complaint + chunk).slice(-2_000);
  });
  // Already gone when it is told to stop: that is what was wanted.
  child.stdin.on('error', () => undefined);

  const lines = createInterface({ input: child.stdout });
  const ended = new Promise<number | null>((resolve) => {
    let status: number | null = null;
    let open = 2;
    const closed = () => {
      open -= 1;
      if (open === 0) resolve(status);
    };
    // Both, because the last report may still be on its way when the process has ended.
    child.once('exit', (code) => {
      status = code;
      closed();
    });
    lines.once('close', closed);
    child.once('error', (error) => {
      complaint = error.message;
      resolve(null);
    });
  });
  const running = new Promise<void>((resolve) => {
    lines.on('line', (line) => {
      const totals = JSON.parse(line) as LoadTotals;
      last = totals;
      resolve();
      for (const listener of listeners) listener(totals);
    });
  });
  const known = () => {
    if (last === undefined) throw loadFailed(complaint);
    return last;
  };

  await Promise.race([running, ended]);
  known();
  return {
    totals: known,
    onTick: (callback) => {
      listeners.add(callback);
      return () => listeners.delete(callback);
    },
    stop: async () => {
      child.stdin.end();
      const status = await ended;
      if (status !== 0) throw loadFailed(complaint || `it ended with ${status ?? 'a signal'}`);
      return known();
    },
  };
}

function loadFailed(why: string): FlowError {
  return new FlowError(
    'LOAD_FAILED',
    EXIT.problemFound,
    `The load client, a process of its own, does not run: ${why.trim() || 'it said nothing'}. ` +
      'Its counts are not complete. The servers are not affected; start the load again.',
  );
}
