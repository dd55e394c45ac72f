/** An address asked from another host: a real sshd that forwards to a real server. */
import { createServer, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Host } from '../../src/hosts/host.ts';
import { getFrom } from '../../src/hosts/http.ts';
import { localHost } from '../../src/hosts/local.ts';
import { sshHost } from '../../src/hosts/ssh.ts';
import { freePorts } from '../../src/sandbox/ports.ts';
import { type SshHosts, sshHostsAt, writeSshHosts } from '../../src/sandbox/ssh-hosts.ts';
import { findSshd } from '../../src/sandbox/sshd-binary.ts';

let root: string;
let sshd: SshHosts;
let server: Server;
let url: string;
/** How often /slow was asked for. */
let slow = 0;
let hosts: Record<'here' | 'ssh', Host>;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'flow-http-'));
  const [port = 0] = await freePorts(1);
  const machines = { one: { port, hides: [] } };
  await writeSshHosts(root, machines);
  sshd = sshHostsAt(root, await findSshd(), machines);
  await sshd.start('one');
  hosts = { here: localHost(), ssh: sshHost('one', { configFile: sshd.configFile, connectTimeoutMs: 3_000 }) };
  server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://x');
    if (pathname === '/silent') return;
    // The first time it is never answered.
    if (pathname === '/slow' && (slow += 1) === 1) return;
    response.writeHead(pathname === '/ill' ? 503 : 200, { 'x-path': pathname });
    response.end(`${request.headers.host ?? ''} ${'é'.repeat(Number(searchParams.get('size') ?? 3))}`);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}, 120_000);
afterAll(async () => {
  server.closeAllConnections();
  server.close();
  await sshd.stop('one');
  await rm(root, { recursive: true, force: true });
});

/** For localhost and 127.0.0.1, signed by itself, and known to nobody. */
const KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgeLvw7iNQp4hs8O9v
89KjZ4bYBdooFTkQH3fp37qI7zuhRANCAAQsUljm6/x9jrDVnryndqKfxRDdwTmy
RfELdBKRhurWIkNdARUdl8Y1J7k4ApLk704X36gskm84xtph9kOUCxQ0
-----END PRIVATE KEY-----
`;
const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUWB0eeivjngEXNrXQ6BGAKCDDaO4wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMzIyNDUzM1oYDzIxMjYxMDMw
MjI0NTMzWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQsUljm6/x9jrDVnryndqKfxRDdwTmyRfELdBKRhurWIkNdARUdl8Y1
J7k4ApLk704X36gskm84xtph9kOUCxQ0o28wbTAdBgNVHQ4EFgQUP7xWpLvflgWI
aMGJWs7QSIFTs+IwHwYDVR0jBBgwFoAUP7xWpLvflgWIaMGJWs7QSIFTs+IwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIhAPPfXm6h/VWJxKqPEifgz493jL1862Eg7EwZOnBY+eDEAiAr
k3MuM1/5k2RuAwOf27QTsFmaezNZFRr7bRjz1wof7g==
-----END CERTIFICATE-----
`;

const LIMITS = { timeoutMs: 5_000, limitBytes: 65_536 };

describe.each(['here', 'ssh'] as const)('an address asked from a host (%s)', (kind) => {
  test('is answered with status and text, and is cut where it is too long', async () => {
    expect(await getFrom(hosts[kind], `${url}/health`, LIMITS)).toEqual({ status: 200, text: `${url.slice(7)} ééé` });
    expect((await getFrom(hosts[kind], `${url}/ill?a=1`, LIMITS)).status).toBe(503);
    const { text } = await getFrom(hosts[kind], `${url}/?size=1000000`, LIMITS);
    expect(text.length).toBeGreaterThan(65_536);
    expect(text.length).toBeLessThan(600_000);
  });

  test('where nobody listens is refused, at once and in so many words', async () => {
    const [port = 0] = await freePorts(1);
    const startedAt = performance.now();
    await expect(getFrom(hosts[kind], `http://127.0.0.1:${port}/`, LIMITS)).rejects.toThrow(/refused/i);
    expect(performance.now() - startedAt).toBeLessThan(3_000);
  });

  test('that shows a certificate nobody trusts is not believed, and that is what is said', async () => {
    const untrusted = createTlsServer({ key: KEY, cert: CERTIFICATE }, (_request, response) => response.end('yes'));
    await new Promise<void>((resolve) => untrusted.listen(0, '127.0.0.1', resolve));
    const { port } = untrusted.address() as AddressInfo;
    for (const name of ['127.0.0.1', 'localhost'])
      await expect(getFrom(hosts[kind], `https://${name}:${port}/`, LIMITS)).rejects.toThrow('self-signed certificate');
    untrusted.close();
  });

  test('that gives no answer is given up in time', async () => {
    const silent = getFrom(hosts[kind], `${url}/silent`, { ...LIMITS, timeoutMs: 400 });
    await expect(silent).rejects.toMatchObject({ name: 'TimeoutError' });
  });
});

test('asked from a host that cannot be reached says so; a way to it that breaks is made again', async () => {
  const nobody = sshHost('nowhere', { configFile: sshd.configFile, connectTimeoutMs: 1_000 });
  await expect(getFrom(nobody, `${url}/health`, LIMITS)).rejects.toMatchObject({ code: 'HOST_UNREACHABLE' });
  for (let round = 0; round < 4; round++) {
    await sshd.dropConnections('one');
    expect((await getFrom(hosts.ssh, `${url}/health`, LIMITS)).status).toBe(200);
  }
  // In the middle of an answer.
  const asked = getFrom(hosts.ssh, `${url}/slow`, { ...LIMITS, timeoutMs: 20_000 });
  await expect.poll(() => slow, { timeout: 10_000 }).toBe(1);
  await sshd.dropConnections('one');
  expect((await asked).status).toBe(200);
  expect(slow).toBe(2);
}, 60_000);
