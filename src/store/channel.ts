/**
 * How another `flow` talks to the driver: a unix socket, one JSON message per line, each at most 64 KiB.
 *
 * Invariant: no peer can harm the driver. One that vanishes, sends rubbish, floods, or does not read is dropped; none of
 * this throws. Who may connect is decided by file permissions. What the messages mean is not known here.
 */
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { createConnection, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { removeQuietly } from './atomic-file.ts';
import { statePaths } from './state-folder.ts';

export interface Channel {
  /** False when the message cannot go out: the channel is closed, the message too large, or the peer does not read. */
  send(message: unknown): boolean;
  /** What the peer says, for one reader; ends when the channel closes. */
  readonly messages: AsyncIterable<unknown>;
  /** Resolves when the channel is closed, by whichever side. */
  readonly closed: Promise<void>;
  /** Closes after what was sent has gone out. */
  close(): void;
}

/** The longest line, and so the largest message, in bytes. */
export const MESSAGE_LIMIT_BYTES = 64 * 1024;
/** sockaddr_un holds 108 bytes on Linux, 104 on others. */
const PATH_LIMIT_BYTES = 100;
const QUEUE_LIMIT_MESSAGES = 100;
const UNREAD_LIMIT_BYTES = 4 * 1024 * 1024;
const CLOSING_LIMIT_MS = 1_000;

/**
 * Listens for other processes of the same user. The driver's lock must be held: the socket of a dead driver is removed.
 * `path` (told to others through `Lock.describe`) is in the state folder, or in a fresh private one where that path
 * would be too long for a socket. Rejects with the system's error when it cannot listen.
 */
export async function listen(
  dir: string,
  onConnection: (channel: Channel) => void,
): Promise<{ path: string; close(): Promise<void> }> {
  const near = statePaths(dir).socket;
  const fits = Buffer.byteLength(near) <= PATH_LIMIT_BYTES;
  const path = fits ? near : join(mkdtempSync(join(tmpdir(), 'flow-')), 'driver.sock');
  removeQuietly(path);
  const channels = new Set<Channel>();
  const server = createServer((socket) => {
    const channel = channelOver(socket);
    channels.add(channel);
    void channel.closed.then(() => channels.delete(channel));
    onConnection(channel);
  });
  const removeFolder = () => {
    if (!fits) rmSync(dirname(path), { recursive: true, force: true });
  };
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
    });
    chmodSync(path, 0o600);
  } catch (error) {
    server.close();
    removeFolder();
    throw error;
  }
  server.removeAllListeners('error');
  // A connection that could not be accepted (out of descriptors, say) is the peer's trouble.
  server.on('error', () => undefined);
  return {
    path,
    async close() {
      const stopped = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const channel of channels) channel.close();
      await stopped;
      removeFolder();
    },
  };
}

/** Connects to a driver. Rejects with the system's error: ENOENT or ECONNREFUSED when nobody listens there. */
export async function connect(path: string): Promise<Channel> {
  const socket = createConnection(path);
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('error', reject);
  });
  return channelOver(socket);
}

function channelOver(socket: Socket): Channel {
  const queue: unknown[] = [];
  let wake: (() => void) | undefined;
  let over = false;
  let partial: Buffer = Buffer.alloc(0);
  const wakeReader = () => {
    wake?.();
    wake = undefined;
  };

  // After an error comes 'close', which is all that matters here.
  socket.on('error', () => undefined);
  const closed = new Promise<void>((resolve) => {
    socket.once('close', () => {
      over = true;
      wakeReader();
      resolve();
    });
  });
  socket.on('data', (chunk: Buffer) => {
    const lines = splitLines(Buffer.concat([partial, chunk]));
    partial = lines.rest;
    for (const line of lines.whole) {
      const message = parseLine(line);
      if (message === undefined) return void socket.destroy();
      queue.push(message);
    }
    if (partial.length > MESSAGE_LIMIT_BYTES) return void socket.destroy();
    if (queue.length >= QUEUE_LIMIT_MESSAGES) socket.pause();
    wakeReader();
  });

  async function* read(): AsyncGenerator<unknown, void> {
    for (;;) {
      while (queue.length > 0) {
        const message = queue.shift();
        if (queue.length < QUEUE_LIMIT_MESSAGES) socket.resume();
        yield message;
      }
      if (over) return;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  }

  return {
    send(message) {
      const json = JSON.stringify(message) as string | undefined;
      if (json === undefined) return false;
      const line = Buffer.from(`${json}\n`);
      if (!socket.writable || line.length > MESSAGE_LIMIT_BYTES) return false;
      if (socket.writableLength > UNREAD_LIMIT_BYTES) {
        socket.destroy();
        return false;
      }
      socket.write(line);
      return true;
    },
    messages: read(),
    closed,
    close() {
      if (socket.destroyed) return;
      socket.end();
      // A peer that does not read would keep the rest, and with it this process, for ever.
      setTimeout(() => socket.destroy(), CLOSING_LIMIT_MS).unref();
      // Nothing is expected of the peer any more; unread bytes would hold back the end.
      socket.resume();
    },
  };
}

function splitLines(bytes: Buffer): { whole: Buffer[]; rest: Buffer } {
  const whole: Buffer[] = [];
  let from = 0;
  for (let at = bytes.indexOf(10); at !== -1; at = bytes.indexOf(10, from)) {
    whole.push(bytes.subarray(from, at));
    from = at + 1;
  }
  return { whole, rest: bytes.subarray(from) };
}

/** Undefined for what is no message. */
function parseLine(line: Buffer): unknown {
  if (line.length > MESSAGE_LIMIT_BYTES) return undefined;
  try {
    return JSON.parse(line.toString('utf8')) as unknown;
  } catch {
    return undefined;
  }
}
