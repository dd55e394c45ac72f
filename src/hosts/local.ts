/**
 * This machine as a host. The only place where flow starts programs on it (jobs go through jobs.ts, which uses this).
 */
import { constants } from 'node:fs';
import { open, readFile, stat } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { execa } from 'execa';
import { codeOf } from '../errors.ts';
import type { Argv, Connection, FileSlice, Host, RunOptions, RunResult } from './host.ts';

const OUTPUT_LIMIT_BYTES = 10_000_000;
const FILE_LIMIT_BYTES = 16_000_000;
const DEFAULT_TIMEOUT_MS = 30_000;

/** This machine. `name` is how messages call it. */
export function localHost(name = 'this machine'): Host {
  return { name, run, readFile: readWhole, readSlice, connect: connectHere };
}

async function run(argv: Argv, options: RunOptions = {}): Promise<RunResult> {
  const [file, ...args] = argv;
  const result = await execa(file, args, {
    reject: false,
    stripFinalNewline: false,
    maxBuffer: OUTPUT_LIMIT_BYTES,
    timeout: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
    forceKillAfterDelay: 2_000,
    input: options.input ?? '',
    // A session of its own: Ctrl-C at the terminal is a signal to the foreground group, and must not reach it.
    detached: options.changesWorld ?? false,
    cleanup: !(options.changesWorld ?? false),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.env === undefined ? {} : { env: options.env }),
    ...(options.signal === undefined ? {} : { cancelSignal: options.signal }),
  });
  const base = { stdout: result.stdout, stderr: result.stderr, timedOut: result.timedOut };
  if (result.exitCode !== undefined) return { status: result.exitCode, ...base };
  if (result.signal === undefined && !result.timedOut && !result.isCanceled) {
    const why = result.code ?? 'unknown';
    return { status: null, ...base, notStarted: `${file}: ${why}` };
  }
  return { status: null, ...base };
}

function connectHere(host: string, port: number, signal: AbortSignal): Promise<Connection> {
  const stream = createConnection({ host, port, signal });
  let because = 'it was closed';
  stream.on('error', (error) => {
    because = error.message;
  });
  return Promise.resolve({
    stream,
    ended: () => Promise.resolve({ because, isOfHost: false }),
    close: () => {
      stream.destroy();
    },
  });
}

async function readWhole(path: string): Promise<Buffer | null> {
  // /proc files report size 0, so the size is no guide: only a real size can be refused beforehand.
  try {
    const { size } = await stat(path);
    if (size > FILE_LIMIT_BYTES) throw new Error(`${path} is larger than ${FILE_LIMIT_BYTES} bytes`);
    return await readFile(path);
  } catch (error) {
    // ESRCH: a /proc entry whose process ended between the look and the read.
    if (['ENOENT', 'ESRCH', 'ENOTDIR'].includes(codeOf(error) ?? '')) return null;
    throw error;
  }
}

async function readSlice(path: string, offset: number, maxBytes: number): Promise<FileSlice | null> {
  let handle;
  try {
    // A pipe without a writer must not hold the reader.
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return null;
    throw error;
  }
  try {
    const stats = await handle.stat();
    // A folder opens as a file does, and only its reading fails: it would look like a file that replaced the one before.
    if (!stats.isFile()) throw new Error(`${path} is not a file`);
    const { dev, ino, size } = stats;
    const bytes = Buffer.alloc(Math.max(0, Math.min(maxBytes, size - offset)));
    const { bytesRead } = bytes.length > 0 ? await handle.read(bytes, 0, bytes.length, offset) : { bytesRead: 0 };
    return { id: `${dev}:${ino}`, size, bytes: bytes.subarray(0, bytesRead) };
  } finally {
    await handle.close();
  }
}
