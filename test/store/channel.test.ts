import { existsSync, mkdirSync, mkdtempSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Channel, connect, listen, MESSAGE_LIMIT_BYTES } from '../../src/store/channel.ts';

let dir: string;
let listening: { path: string; close(): Promise<void> } | undefined;
let sockets: Socket[] = [];

beforeEach(() => {
  dir = realpathSync(mkdtempSync(join(tmpdir(), 'flow-channel-')));
});

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  sockets = [];
  await listening?.close();
  listening = undefined;
  rmSync(dir, { recursive: true, force: true });
});

/** A driver that answers each message with `{echo: message}` and reports what it heard and whom it lost. */
async function echoDriver(folder = dir): Promise<{ path: string; heard: unknown[]; channels: Channel[] }> {
  const heard: unknown[] = [];
  const channels: Channel[] = [];
  listening = await listen(folder, (channel) => {
    channels.push(channel);
    void (async () => {
      for await (const message of channel.messages) {
        heard.push(message);
        channel.send({ echo: message });
      }
    })();
  });
  return { path: listening.path, heard, channels };
}

async function first(channel: Channel): Promise<unknown> {
  for await (const message of channel.messages) return message;
  return 'closed';
}

/** A peer that does not keep to the rules. */
async function rawPeer(path: string): Promise<Socket> {
  const socket = createConnection(path);
  sockets.push(socket);
  socket.on('error', () => undefined);
  await new Promise((resolve) => socket.once('connect', resolve));
  return socket;
}

function closing(socket: Socket): Promise<unknown> {
  socket.resume();
  return new Promise((resolve) => socket.once('close', resolve));
}

describe('a channel', () => {
  test('carries messages both ways, in order, of any JSON and up to the limit', async () => {
    const { path } = await echoDriver();
    const channel = await connect(path);
    const large = 'é'.repeat(MESSAGE_LIMIT_BYTES / 2 - 20);
    const sent = [{ event: 'NEXT' }, null, 0, 'a\nb', ['😀'], large];
    for (const message of sent) expect(channel.send(message)).toBe(true);
    const got: unknown[] = [];
    for await (const message of channel.messages) {
      got.push(message);
      if (got.length === sent.length) break;
    }
    expect(got).toEqual(sent.map((echo) => ({ echo })));
    channel.close();
    await channel.closed;
    expect(channel.send('late')).toBe(false);
  });

  test('does not send what is too large or no JSON, and stays open', async () => {
    const { path } = await echoDriver();
    const channel = await connect(path);
    expect(channel.send('x'.repeat(MESSAGE_LIMIT_BYTES))).toBe(false);
    expect(channel.send(undefined)).toBe(false);
    channel.send('small');
    expect(await first(channel)).toEqual({ echo: 'small' });
    channel.close();
  });

  test('delivers what was sent before it was closed', async () => {
    listening = await listen(dir, (channel) => {
      for (let n = 0; n < 500; n++) channel.send(n);
      channel.close();
    });
    const channel = await connect(listening.path);
    const got: unknown[] = [];
    for await (const message of channel.messages) got.push(message);
    expect(got).toEqual(Array.from({ length: 500 }, (_, n) => n));
    await channel.closed;
  });

  test('ends for its reader when the driver stops listening', async () => {
    const { path } = await echoDriver();
    const channel = await connect(path);
    channel.send('x');
    const reading = first(channel);
    await reading;
    await listening?.close();
    await channel.closed;
    expect(existsSync(path)).toBe(false);
    await expect(connect(path)).rejects.toMatchObject({ code: 'ENOENT' });
  });
});

describe('the socket', () => {
  test('lies in the state folder and belongs to its owner alone', async () => {
    const { path } = await echoDriver();
    expect(path).toBe(join(dir, 'driver.sock'));
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test('lies in a private folder of its own where the path would be too long, which goes with it', async () => {
    const deep = join(dir, 'x'.repeat(100));
    mkdirSync(deep);
    const { path } = await echoDriver(deep);
    expect(Buffer.byteLength(path)).toBeLessThan(100);
    expect(statSync(dirname(path)).mode & 0o777).toBe(0o700);
    const channel = await connect(path);
    channel.send(1);
    expect(await first(channel)).toEqual({ echo: 1 });
    channel.close();
    await listening?.close();
    expect(existsSync(dirname(path))).toBe(false);
  });

  test('of a dead driver is replaced', async () => {
    writeFileSync(join(dir, 'driver.sock'), '');
    const { path } = await echoDriver();
    const channel = await connect(path);
    channel.send(1);
    expect(await first(channel)).toEqual({ echo: 1 });
    channel.close();
  });
});

describe('a peer', () => {
  test.each([
    ['that is no JSON', 'GET / HTTP/1.1\r\n\r\n'],
    ['longer than the limit', `"${'x'.repeat(MESSAGE_LIMIT_BYTES)}"\n`],
    ['without an end', 'x'.repeat(MESSAGE_LIMIT_BYTES + 1)],
    ['of zeros', '\0\0\n'],
  ])('is dropped for a line %s, and the driver serves the others', async (_what, bytes) => {
    const { path, heard } = await echoDriver();
    const bad = await rawPeer(path);
    const dropped = closing(bad);
    bad.write(bytes);
    await dropped;
    const channel = await connect(path);
    channel.send('good');
    expect(await first(channel)).toEqual({ echo: 'good' });
    expect(heard).toEqual(['good']);
    channel.close();
  });

  test('that vanishes in the middle of a line is noticed, and nothing of it is heard', async () => {
    const { path, heard, channels } = await echoDriver();
    const bad = await rawPeer(path);
    bad.write('{"event":"NE');
    const good = await connect(path);
    good.send('x');
    await first(good);
    bad.destroy();
    await channels[0]?.closed;
    expect(heard).toEqual(['x']);
    expect(channels[0]?.send('answer')).toBe(false);
    good.close();
  });

  test('that does not read is dropped before it costs much memory', async () => {
    const { path, channels } = await echoDriver();
    const deaf = await rawPeer(path);
    deaf.pause();
    const good = await connect(path);
    good.send('x');
    await first(good);
    let accepted = 0;
    while (accepted < 1_000 && channels[0]?.send('x'.repeat(60_000)) === true) accepted += 1;
    expect(accepted).toBeLessThan(100);
    await channels[0]?.closed;
    good.close();
  });

  test('that floods is held back until the driver has read', async () => {
    const channels: Channel[] = [];
    listening = await listen(dir, (channel) => void channels.push(channel));
    const flood = await rawPeer(listening.path);
    let sent = 0;
    let flushed = 0;
    while (sent < 2_000) {
      sent += 1;
      flood.write(`"${sent}${'x'.repeat(10_000)}"\n`, () => (flushed += 1));
    }
    await new Promise((resolve) => setTimeout(resolve, 150));
    // 20 MB were sent; the driver took some 100 messages and the kernel a few more.
    expect(flushed).toBeLessThan(1_000);
    let heard = 0;
    const [channel] = channels;
    if (channel === undefined) throw new Error('no connection');
    for await (const message of channel.messages) {
      heard += 1;
      if (!String(message).startsWith(String(heard))) throw new Error(`message ${heard} is out of order`);
      if (heard === sent) break;
    }
    expect(heard).toBe(sent);
  });
});
