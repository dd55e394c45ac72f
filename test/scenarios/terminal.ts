/** The real command line in real processes, as an operator's terminal would start it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';

/** `npm run failures` runs everything; `npm test` leaves out what is much like something that it runs. */
export const ALL = process.env.FAILURES === 'all';

/** The built program; `npm test` builds it first. */
export const FLOW = join(import.meta.dirname, '../../dist/flow.js');

export interface Ended {
  status: number | null;
  out: string;
  err: string;
}
export interface Running {
  child: ChildProcess;
  ended: Promise<Ended>;
  /** What it has said so far. */
  err(): string;
}

/** Starts `flow` in a folder, without a terminal. End the child when the test ends. */
export function begin(
  cwd: string,
  args: readonly string[],
  env: Record<string, string> = {},
  nodeOptions: readonly string[] = [],
): Running {
  const child = spawn(process.execPath, [...nodeOptions, FLOW, ...args], {
    cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, CI: '', ...env },
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    err += chunk.toString();
  });
  const ended = new Promise<Ended>((resolve) => {
    child.on('close', (status) => {
      resolve({ status, out, err });
    });
  });
  return { child, ended, err: () => err };
}
