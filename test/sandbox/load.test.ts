import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { localHost } from '../../src/hosts/local.ts';
import { startLoad } from '../../src/sandbox/load.ts';
import { type LoadTotals, loadClientText } from '../../src/sandbox/load-client.ts';

// Real processes on a machine that may be busy.
vi.setConfig({ testTimeout: 20_000 });

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.close();
    server.closeAllConnections();
  }
});

async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const well = { 'x-server': 'app1', 'x-version': 'v1.0.0' };

function consistent(totals: LoadTotals): void {
  expect(totals.requests).toBe(totals.ok + totals.failed + totals.resets);
  expect(totals.failed).toBe(totals.status5xx + totals.otherErrors);
  expect(totals.inFlight).toBe(0);
}

describe('the load', () => {
  it('sends its share of POSTs at its rate, a connection for each request, and counts who answered', async () => {
    const seen: IncomingMessage[] = [];
    const ports = new Set<number | undefined>();
    const url = await serve((request, response) => {
      seen.push(request);
      ports.add(request.socket.remotePort);
      request.resume();
      response.writeHead(200, well).end('ok');
    });
    const load = await startLoad({ url, ratePerSecond: 100, keepAlive: false, postShare: 0.25 });
    const ticks: number[] = [];
    load.onTick((totals) => ticks.push(totals.requests));
    await sleep(1_000);
    const totals = await load.stop();
    consistent(totals);
    expect(totals.requests + totals.notSent).toBeGreaterThan(80);
    expect(totals.requests).toBeLessThanOrEqual(Math.ceil(totals.seconds * 100));
    expect(totals.ok).toBe(seen.length);
    expect(totals.byServer).toEqual({ app1: totals.ok });
    expect(totals.byVersion).toEqual({ 'v1.0.0': totals.ok });
    expect(ports.size).toBe(seen.length);
    expect(seen.every((request) => request.headers.connection === 'close')).toBe(true);
    const posts = seen.filter((request) => request.method === 'POST').length;
    expect(Math.abs(posts - seen.length / 4)).toBeLessThanOrEqual(1);
    expect(ticks.length).toBeGreaterThanOrEqual(3);
    expect(await load.stop()).toEqual(totals);
  });

  it('keeps connections and uses them again when told to', async () => {
    const ports = new Set<number | undefined>();
    const url = await serve((request, response) => {
      ports.add(request.socket.remotePort);
      request.resume();
      response.writeHead(200, well).end('ok');
    });
    const load = await startLoad({ url, ratePerSecond: 100, keepAlive: true });
    await sleep(600);
    const totals = await load.stop();
    expect(totals.ok).toBeGreaterThan(30);
    expect(ports.size).toBeLessThan(totals.ok / 2);
  });

  it('goes on sending at its rate when answers are slow', async () => {
    let open = 0;
    let most = 0;
    const url = await serve((request, response) => {
      request.resume();
      open += 1;
      most = Math.max(most, open);
      setTimeout(() => {
        open -= 1;
        response.writeHead(200, well).end();
      }, 400);
    });
    const load = await startLoad({ url, ratePerSecond: 50, keepAlive: true });
    await sleep(800);
    const totals = await load.stop();
    consistent(totals);
    expect(totals.failed).toBe(0);
    // A client that waits for its answers would have a handful open.
    expect(most).toBeGreaterThanOrEqual(12);
  });

  it('never sends a request twice, and counts a reset of a kept connection apart from failures', async () => {
    const paths: string[] = [];
    const perSocket = new WeakMap<object, number>();
    const url = await serve((request, response) => {
      paths.push(request.url ?? '');
      const count = (perSocket.get(request.socket) ?? 0) + 1;
      perSocket.set(request.socket, count);
      if (count === 3) {
        request.socket.resetAndDestroy();
        return;
      }
      request.resume();
      response.writeHead(200, well).end('ok');
    });
    const load = await startLoad({ url, ratePerSecond: 100, keepAlive: true });
    await sleep(600);
    const totals = await load.stop();
    consistent(totals);
    expect(new Set(paths).size).toBe(paths.length);
    expect(totals.resets).toBeGreaterThan(5);
    expect(totals.failed).toBe(0);
    expect(totals.failures[0]).toMatchObject({ kind: 'reset' });
  });

  it('counts 5xx, refused, cut and late answers as failed, with a sample of each', async () => {
    const url = await serve((request, response) => {
      request.resume();
      const kind = Number(/\d+$/.exec(request.url ?? '')?.[0]) % 4;
      if (kind === 0) response.writeHead(502).end();
      else if (kind === 1) response.writeHead(404).end();
      else if (kind === 2) {
        response.writeHead(200, { 'content-length': 100 }).write('half');
        setTimeout(() => request.socket.destroy(), 10);
      }
      // The fourth kind is never answered.
    });
    const load = await startLoad({ url, ratePerSecond: 40, keepAlive: false, requestTimeoutMs: 200 });
    await sleep(500);
    const totals = await load.stop();
    consistent(totals);
    expect(totals.ok).toBe(0);
    expect(totals.status5xx).toBeGreaterThan(0);
    expect(totals.otherErrors).toBeGreaterThan(totals.status5xx);
    const kinds = new Set(totals.failures.map(({ kind }) => kind));
    for (const kind of ['status 502', 'status 404', 'TIMEOUT']) expect(kinds).toContain(kind);
    expect([...kinds].some((kind) => ['CUT', 'ECONNRESET'].includes(kind))).toBe(true);

    const nobody = await startLoad({ url: 'http://127.0.0.1:1', ratePerSecond: 40, keepAlive: false });
    await sleep(200);
    const refused = await nobody.stop();
    consistent(refused);
    expect(refused.failures[0]?.kind).toBe('ECONNREFUSED');
    expect(refused.failures.length).toBeLessThanOrEqual(20);
  });

  it('waits for the answers still due when it is stopped', async () => {
    const url = await serve((request, response) => {
      request.resume();
      setTimeout(() => response.writeHead(200, well).end(), 300);
    });
    const load = await startLoad({ url, ratePerSecond: 50, keepAlive: false });
    await sleep(150);
    const totals = await load.stop();
    expect(totals.ok).toBeGreaterThan(0);
    expect(totals.requests).toBe(totals.ok);
  });

  it('stops by itself after its time, and when its driver is gone', async () => {
    const url = await serve((request, response) => {
      request.resume();
      response.writeHead(200, well).end();
    });
    const load = await startLoad({ url, ratePerSecond: 50, keepAlive: true, maxSeconds: 0.4 });
    await sleep(900);
    const before = load.totals();
    expect(before.seconds).toBeLessThan(0.8);
    expect(await load.stop()).toEqual(before);
    // A driver that dies leaves an ended standard input behind, as this empty one is.
    const options = { url, ratePerSecond: 50, keepAlive: false, postShare: 0, requestTimeoutMs: 1_000, maxSeconds: 60 };
    const orphan = await localHost().run([process.execPath, '-e', loadClientText(options)], { timeoutMs: 10_000 });
    expect(orphan).toMatchObject({ status: 0, timedOut: false });
  });
});
