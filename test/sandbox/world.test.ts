import { access, mkdtemp, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { parse } from 'yaml';
import { configSchema } from '../../src/config/schema.ts';
import type { RunResult } from '../../src/hosts/host.ts';
import { localHost } from '../../src/hosts/local.ts';
import { startLoad } from '../../src/sandbox/load.ts';
import { sandboxProcesses } from '../../src/sandbox/processes.ts';
import { createSandbox, openSandbox, type Sandbox } from '../../src/sandbox/world.ts';

// Real processes on a machine that may be busy.
vi.setConfig({ testTimeout: 30_000, hookTimeout: 60_000 });

const host = localHost();
let base: string;
let sandbox: Sandbox;

beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), 'flow-world-'));
  sandbox = await createSandbox({ root: join(base, 'main'), startMs: 100 });
});
afterAll(async () => {
  await sandbox.destroy();
  await rm(base, { recursive: true, force: true });
});

async function ok(cwd: string, ...argv: [string, ...string[]]): Promise<string> {
  const result = await host.run(argv, { cwd, changesWorld: true });
  expect(result.stderr + result.stdout, argv.join(' ')).toSatisfy(() => result.status === 0);
  return result.stdout;
}

function publish(server: string, input = 'y\n'): Promise<RunResult> {
  return host.run(['./publish.sh', server], { cwd: sandbox.projectDir, input, changesWorld: true });
}

async function workers(): Promise<string[]> {
  const master = await sandbox.nginxPid();
  const text = await readFile(`/proc/${master}/task/${master}/children`, 'utf8');
  return text.trim().split(/\s+/);
}

/** Switches the route as the runbook has it, and waits until every worker of before is gone. */
async function switchTo(branch: string): Promise<void> {
  const before = await workers();
  await ok(sandbox.nginxDir, 'git', 'switch', '--quiet', branch);
  await ok(sandbox.nginxDir, 'sbin/nginx', '-t');
  await ok(sandbox.nginxDir, 'sbin/nginx', '-s', 'reload');
  for (;;) {
    const now = await workers();
    if (!before.some((pid) => now.includes(pid))) return;
    await sleep(20);
  }
}

async function serversReached(requests = 8): Promise<Set<string>> {
  const seen = new Set<string>();
  for (let n = 0; n < requests; n++) {
    const answer = await fetch(`${sandbox.url}/who`, { headers: { connection: 'close' } });
    seen.add(answer.headers.get('x-server') ?? 'none');
  }
  return seen;
}

describe('a new sandbox', () => {
  it('runs v1.3.7 on every server, and counts no publish yet', async () => {
    for (const name of ['test', 'app1', 'app2']) {
      expect(await sandbox.runningVersion(name)).toBe('v1.3.7');
      expect(await sandbox.publishCount(name)).toBe(0);
      const printed = await ok(base, join(sandbox.server(name).dir, 'quickpay'), '-version');
      const told = await (await fetch(`http://${sandbox.server(name).address}/version`)).text();
      expect(printed).toMatch(/^quickpay v1\.3\.7 \(build [0-9a-f]{7}\)\n$/);
      expect(told).toBe(printed);
    }
  });

  it('has the project on a clean develop that is ahead of the last release, everything known to the remote', async () => {
    const { projectDir } = sandbox;
    expect(await ok(projectDir, 'git', 'status', '--porcelain')).toBe('');
    expect((await ok(projectDir, 'git', 'rev-parse', '--abbrev-ref', 'HEAD')).trim()).toBe('develop');
    expect((await ok(projectDir, 'git', 'tag')).trim().split('\n')).toEqual(['v1.3.5', 'v1.3.6', 'v1.3.7']);
    expect((await ok(projectDir, 'git', 'rev-list', 'v1.3.7..develop')).trim().split('\n')).toHaveLength(4);
    expect((await ok(projectDir, 'git', 'describe', '--tags', '--exact-match', 'master')).trim()).toBe('v1.3.7');
    expect((await ok(projectDir, 'git', 'diff', '--name-only', 'testing', 'master')).trim()).toBe('ChangeLog.md');
    for (const branch of ['develop', 'testing', 'master']) {
      expect(await ok(projectDir, 'git', 'rev-parse', branch)).toBe(
        await ok(projectDir, 'git', 'rev-parse', `cil/${branch}`),
      );
    }
  });

  it('carries a flow.yaml that fits the schema and names its servers', async () => {
    const text = await readFile(join(sandbox.projectDir, 'flow.yaml'), 'utf8');
    const config = configSchema.parse(parse(text));
    expect(Object.keys(config.servers)).toEqual(['app1', 'app2']);
    expect(config.servers.app2?.address).toBe(sandbox.server('app2').address);
    expect(config.test.name).toBe('test');
    expect(config.nginx.dir).toBe(sandbox.nginxDir);
    expect(config.verify.soak).toBe(6_000);
    expect(config.watch.soak).toBe(3_000);
    expect(config.drain.deadline).toBe(30_000);
  });

  it('has route branches that differ in the upstream servers only', async () => {
    for (const [branch, only, not] of [
      ['yun-app1', 'app1', 'app2'],
      ['yun-app2', 'app2', 'app1'],
    ] as const) {
      const changed = await ok(sandbox.nginxDir, 'git', 'diff', '--name-only', 'master', branch);
      expect(changed.trim()).toBe('conf/upstream.conf');
      const upstream = await ok(sandbox.nginxDir, 'git', 'show', `${branch}:conf/upstream.conf`);
      expect(upstream).toContain(sandbox.server(only).address);
      expect(upstream).not.toContain(sandbox.server(not).address);
    }
    expect(await ok(sandbox.nginxDir, 'git', 'status', '--porcelain')).toBe('');
  });

  it('sends traffic to both application servers and to no other', async () => {
    expect(await serversReached()).toEqual(new Set(['app1', 'app2']));
  });

  it('is not made in a folder that has something in it', async () => {
    const root = await mkdtemp(join(base, 'full-'));
    await writeFile(join(root, 'mine'), 'mine');
    await expect(createSandbox({ root })).rejects.toMatchObject({ code: 'SANDBOX_EXISTS' });
    expect(await readdir(root)).toEqual(['mine']);
  });
});

describe('releasing by hand in a sandbox', () => {
  it('loses no request of either kind of client when every step waits for the proof of the last', async () => {
    const { projectDir } = sandbox;
    await ok(projectDir, 'git', 'tag', 'v1.3.8');
    const [closing, keeping] = await Promise.all([
      startLoad({ url: sandbox.url, ratePerSecond: 60, keepAlive: false }),
      startLoad({ url: sandbox.url, ratePerSecond: 60, keepAlive: true }),
    ]);
    await switchTo('yun-app2');
    expect(await serversReached(4)).toEqual(new Set(['app2']));
    expect((await publish('app1')).status).toBe(0);
    expect(await sandbox.runningVersion('app1')).toBe('v1.3.8');
    expect(await sandbox.runningVersion('app2')).toBe('v1.3.7');
    await switchTo('yun-app1');
    expect((await publish('app2')).status).toBe(0);
    await switchTo('master');
    await sleep(300);
    const [one, two] = await Promise.all([closing.stop(), keeping.stop()]);
    for (const totals of [one, two]) {
      expect(totals).toMatchObject({ failed: 0, status5xx: 0, otherErrors: 0 });
      expect(Object.keys(totals.byVersion).sort()).toEqual(['v1.3.7', 'v1.3.8']);
      expect(totals.byServer.app1).toBeGreaterThan(0);
      expect(totals.byServer.app2).toBeGreaterThan(0);
    }
    // Nginx before 1.27.4 may reset about one idle kept connection per switch; a connection of one's own never.
    expect(one.resets).toBe(0);
    expect(two.resets).toBeLessThanOrEqual(12);
    expect([await sandbox.publishCount('app1'), await sandbox.publishCount('app2')]).toEqual([1, 1]);
  });

  it('loses requests when a server is published in rotation, so that the load does see harm', async () => {
    await switchTo('yun-app1');
    const load = await startLoad({ url: sandbox.url, ratePerSecond: 60, keepAlive: false });
    expect((await publish('app1')).status).toBe(0);
    const totals = await load.stop();
    await switchTo('master');
    expect(totals.status5xx).toBeGreaterThan(0);
    expect(totals.failures[0]?.kind).toBe('status 502');
  });
});

describe('publish.sh', () => {
  it('publishes nothing without a yes', async () => {
    const before = [await sandbox.serverPid('test'), await sandbox.publishCount('test')];
    for (const input of ['', 'n\n', '\n']) {
      const result = await publish('test', input);
      expect(result.status).toBe(1);
      expect(result.stdout).toMatch(/^Publish v\S+ \(build [0-9a-f]{7}\) to test\? \[y\/N\] $/m);
    }
    expect([await sandbox.serverPid('test'), await sandbox.publishCount('test')]).toEqual(before);
  });

  it('refuses a server it does not know', async () => {
    expect((await publish('app9')).status).toBe(2);
  });

  it('starts the server in a session of its own, with none of the descriptors it inherited', async () => {
    const lock = join(base, 'lock');
    const line = 'exec 3>"$1" 9>"$1"; printf "y\\n" | ./publish.sh test';
    await ok(sandbox.projectDir, 'sh', '-c', line, 'sh', lock);
    const pid = await sandbox.serverPid('test');
    const open = await readdir(`/proc/${pid}/fd`);
    const targets = await Promise.all(open.map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')));
    expect(targets.length).toBeGreaterThan(3);
    expect(targets).not.toContain(lock);
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    const session = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[3]);
    expect(session).toBe(pid);
  });

  it('misbehaves as its knobs say, and only while they say it', async () => {
    const before = await sandbox.serverPid('test');
    await sandbox.publishKnobs({ EXIT_WITH: 3 });
    expect((await publish('test')).status).toBe(3);
    await sandbox.publishKnobs({ ASK_AGAIN: 1, PRINT_MB: 2 });
    const unanswered = await publish('test');
    expect(unanswered.status).toBe(1);
    expect(await sandbox.serverPid('test')).toBe(before);
    await sandbox.publishKnobs(null);
    await sandbox.publishKnobs({ PRINT_MB: 2, EXIT_AFTER: 4 }, 'test');
    const wordy = await publish('test');
    expect(wordy.status).toBe(4);
    expect(wordy.stdout.length).toBeGreaterThan(2_000_000);
    expect(await sandbox.serverPid('test')).not.toBe(before);
    await sandbox.publishKnobs(null, 'test');
    expect((await publish('test')).status).toBe(0);
  });
});

describe('trouble that travels with a version', () => {
  it('keeps a version that crashes or never answers from being published, and leaves the other servers well', async () => {
    await sandbox.misbehaveNext({ crashOnStart: true });
    const crashed = await publish('test');
    expect(crashed.status).toBe(1);
    expect(crashed.stderr).toContain('panic: cannot read the configuration');
    expect(await sandbox.runningVersion('test')).toBeNull();

    await sandbox.misbehaveNext({ neverStarts: true });
    await sandbox.publishKnobs({ PATIENCE_MS: 400 });
    const silent = await publish('test');
    expect(silent.status).toBe(1);
    expect(silent.stderr).toContain('does not answer');
    expect(await sandbox.serverPid('test')).not.toBeNull();
    expect(await sandbox.runningVersion('app1')).toBe('v1.3.8');

    await sandbox.misbehaveNext({ wrongVersion: true, unhealthy: true });
    await sandbox.publishKnobs(null);
    expect((await publish('test')).status).toBe(0);
    expect(await sandbox.runningVersion('test')).toBe('v0.0.0');
    expect((await fetch(`http://${sandbox.server('test').address}/health`)).status).toBe(503);

    await sandbox.misbehaveNext(null);
    expect((await publish('test')).status).toBe(0);
    expect(await sandbox.runningVersion('test')).toMatch(/^v1\.3\.8-4-g/);
    expect(await ok(sandbox.projectDir, 'git', 'status', '--porcelain')).toBe('');
    await expect(access(join(sandbox.server('test').dir, 'release-misbehave.json'))).rejects.toThrow();
  });
});

describe('trouble told to a running server', () => {
  const statuses = async (path: string, count: number) => {
    const seen: number[] = [];
    for (let n = 0; n < count; n++) {
      seen.push((await fetch(`http://${sandbox.server('test').address}${path}`)).status);
    }
    return seen;
  };

  it('is there at once, is what it says, and ends at once', async () => {
    await sandbox.misbehaveServer('test', { unhealthy: true });
    expect(await statuses('/health', 2)).toEqual([503, 503]);
    await sandbox.misbehaveServer('test', { healthFailEvery: 2 });
    expect((await statuses('/health', 4)).filter((status) => status === 503)).toHaveLength(2);
    await sandbox.misbehaveServer('test', { status5xxEvery: 3 });
    expect((await statuses('/pay', 6)).filter((status) => status === 500)).toHaveLength(2);
    await sandbox.misbehaveServer('test', { wrongVersion: true });
    expect(await sandbox.runningVersion('test')).toBe('v0.0.0');
    await sandbox.misbehaveServer('test', { slowMs: 200 });
    const startedAt = performance.now();
    expect(await statuses('/pay', 1)).toEqual([200]);
    expect(performance.now() - startedAt).toBeGreaterThanOrEqual(195);
    await sandbox.misbehaveServer('test', null);
    expect(await statuses('/health', 2)).toEqual([200, 200]);
    expect(await sandbox.runningVersion('test')).toMatch(/^v1\.3\.8/);
  });

  it('writes error lines at the rate asked for, one line per request within 50 ms', async () => {
    const { log } = sandbox.server('test');
    // The lines of the requests before.
    await sleep(50);
    const size = (await readFile(log)).length;
    await sandbox.misbehaveServer('test', { errorEvery: 5 });
    await statuses('/pay', 10);
    await sleep(50);
    const lines = (await readFile(log)).subarray(size).toString().trim().split('\n');
    expect(lines.filter((line) => line.includes(' ERROR '))).toHaveLength(2);
    expect(lines.filter((line) => line.includes(' INFO GET /pay 200 '))).toHaveLength(10);
    await sandbox.misbehaveServer('test', null);
  });

  it('ends the process when told to die', async () => {
    const pid = await sandbox.serverPid('test');
    expect(pid).not.toBeNull();
    await sandbox.misbehaveServer('test', { dieAfterMs: 50 });
    while ((await sandbox.serverPid('test')) !== null) await sleep(20);
    expect(await readFile(sandbox.server('test').log, 'utf8')).toContain('panic: runtime error');
    await sandbox.misbehaveServer('test', null);
    expect((await publish('test')).status).toBe(0);
  });
});

describe('a server of the sandbox', () => {
  it('finishes the request in flight before it obeys SIGTERM, and takes no new one', async () => {
    const { address } = sandbox.server('test');
    const pid = await sandbox.serverPid('test');
    const long = fetch(`http://${address}/pay?ms=400`, { method: 'POST', body: 'x'.repeat(10_000) });
    await sleep(100);
    process.kill(pid ?? 0, 'SIGTERM');
    await sleep(50);
    expect(await sandbox.runningVersion('test')).toBeNull();
    expect((await long).status).toBe(200);
    while ((await sandbox.serverPid('test')) !== null) await sleep(20);
    expect((await publish('test')).status).toBe(0);
  });
});

describe('stopping a sandbox', () => {
  it('ends every process by nothing but its folder: a hanging publish and workers that lost their master, too', async () => {
    const root = join(base, 'second');
    const second = await createSandbox({ root, startMs: 50, servers: ['app1', 'app2', 'app3'] });
    const branches = await ok(second.nginxDir, 'git', 'branch', '--format=%(refname:short)');
    expect(branches.trim().split('\n')).toContain('without-app3');
    await second.publishKnobs({ HANG: 1 });
    const hanging = host.run(['./publish.sh', 'app3'], { cwd: second.projectDir, input: 'y\n', changesWorld: true });
    while ((await second.publishCount('app3')) === 0) await sleep(20);
    // Four servers, a master, two workers, a publish.sh and its sleep.
    expect((await sandboxProcesses(root)).length).toBeGreaterThanOrEqual(8);
    process.kill((await second.nginxPid()) ?? 0, 'SIGKILL');
    while ((await second.nginxPid()) !== null) await sleep(20);
    expect((await sandboxProcesses(root)).filter(({ argv }) => argv[0]?.startsWith('nginx: worker'))).toHaveLength(2);

    const reopened = await openSandbox(root);
    expect(reopened.servers).toEqual(second.servers);
    await reopened.stop();
    expect((await hanging).status).not.toBe(0);
    expect(await sandboxProcesses(root)).toEqual([]);
    expect(await second.nginxPid()).toBeNull();
    // The neighbour is left alone.
    expect(await sandbox.runningVersion('app1')).toBe('v1.3.8');
    await reopened.stop();
    await second.destroy();
    await expect(access(root)).rejects.toThrow();
    await expect(openSandbox(root)).rejects.toMatchObject({ code: 'NO_SANDBOX' });
  });
});
