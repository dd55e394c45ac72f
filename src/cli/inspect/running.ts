/** The inspector that runs, as another flow finds it: its address and token, in a file that only its user can read. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { replaceFile } from '../../store/atomic-file.ts';
import { isRunning, startOfProcess } from '../../store/driver.ts';

export interface Running {
  pid: number;
  pidStart: string | null;
  port: number;
  token: string;
  allowSend: boolean;
}

const runningFile = (stateDir: string): string => join(stateDir, 'inspector.json');

/** The inspector that described itself last, running or ended; null when there is none. */
export function readInspector(stateDir: string): (Running & { isLive: boolean }) | null {
  try {
    const value = JSON.parse(readFileSync(runningFile(stateDir), 'utf8')) as Partial<Running>;
    const { pid, pidStart = null, port, token, allowSend } = value;
    if (typeof pid !== 'number' || typeof port !== 'number' || typeof allowSend !== 'boolean') return null;
    if (typeof token !== 'string' || !/^[\w-]{43}$/.test(token)) return null;
    return { pid, pidStart, port, token, allowSend, isLive: isRunning({ pid, pidStart }) };
  } catch {
    return null;
  }
}

/** Leaves this process's own address for others. */
export function describeInspector(stateDir: string, about: Pick<Running, 'port' | 'token' | 'allowSend'>): void {
  const running: Running = { pid: process.pid, pidStart: startOfProcess(process.pid), ...about };
  replaceFile(runningFile(stateDir), Buffer.from(JSON.stringify(running)), { durable: false });
}

export const urlOf = ({ port, token }: Pick<Running, 'port' | 'token'>): string =>
  `http://127.0.0.1:${port}/#token=${token}`;
