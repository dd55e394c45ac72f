import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { treeEquals } from '../../src/nginx/config-repository.ts';
import { listAcceptingWorkers } from '../../src/nginx/processes.ts';
import { createProxy, type Proxy } from '../../src/nginx/proxy.ts';
import { freePorts } from '../../src/sandbox/ports.ts';
import { createPrefix, failure, host, type Prefix, start, until } from './prefix.ts';

let prefix: Prefix;
let proxy: Proxy;

beforeEach(async () => {
  prefix = await createPrefix();
  await start(prefix);
  proxy = createProxy(host, prefix.config, prefix.addresses);
});
afterEach(() => prefix.remove());

async function workerPids(): Promise<number[]> {
  const { master } = await proxy.observe();
  if (master === undefined) throw new Error('no master');
  return (await listAcceptingWorkers(host, master)).map(({ pid }) => pid);
}

describe('switching the traffic', () => {
  it('proves a good switch by new workers, and the drain by the old ones gone', async () => {
    const told: string[] = [];
    const evidence = await proxy.switchTo(['app2'], { onProgress: (text) => told.push(text) });

    expect(evidence).toMatchObject({ servers: ['app2'], branch: 'yun-app2', from: 'master', reloadStatus: 0 });
    expect(evidence.commit).toBe((await prefix.git('rev-parse', 'yun-app2')).trim());
    expect(evidence.master.pid).toBe(await prefix.masterPid());
    expect(evidence.workersBefore).toHaveLength(2);
    expect(evidence.workersAfter).toHaveLength(2);
    expect(evidence.testedOutput).toContain('test is successful');
    expect(JSON.parse(JSON.stringify(evidence))).toEqual(evidence);
    expect(told).toContain('git switch yun-app2');

    await until(async () => (await proxy.remaining(evidence)).length === 0);
    for (let request = 0; request < 10; request++) expect(await prefix.ask()).toBe('app2');
    expect(await proxy.reloadedByOthers(evidence)).toBeNull();
    expect(await proxy.observe()).toMatchObject({ servers: ['app2'], branch: 'yun-app2' });
  });

  it('reloads again on the branch it is on already, as the branch alone proves nothing', async () => {
    // The tree of a run that was killed between the switch and the reload: Nginx still serves both.
    await prefix.git('switch', '--quiet', 'yun-app1');
    const evidence = await proxy.switchTo(['app1']);
    expect(evidence).toMatchObject({ branch: 'yun-app1', from: 'yun-app1' });
    await until(async () => (await proxy.remaining(evidence)).length === 0);
    for (let request = 0; request < 10; request++) expect(await prefix.ask()).toBe('app1');
  });

  it('brings the tree back when Nginx refuses the configuration, and tells its words', async () => {
    await prefix.edit('yun-app2', (conf) => conf.replace('listen', 'lisen'));
    const before = await workerPids();
    const error = await failure(proxy.switchTo(['app2']));
    expect(error).toMatchObject({ code: 'NGINX_TEST_FAILED', kind: 'rejected' });
    expect(error.message).toContain('unknown directive "lisen"');
    expect(await treeEquals(host, prefix.dir, 'master')).toBe(true);
    expect((await proxy.observe()).branch).toBe('master');
    expect(await workerPids()).toEqual(before);
  });

  it('brings the tree back to the route that is believed, where a run that was killed left it on the refused one', async () => {
    await prefix.edit('yun-app2', (conf) => conf.replace('listen', 'lisen'));
    await prefix.git('switch', '--quiet', 'yun-app2');
    await failure(proxy.switchTo(['app2'], { from: ['app1', 'app2'] }));
    expect(await treeEquals(host, prefix.dir, 'master')).toBe(true);
  });

  it('does not believe exit status 0 of a reload whose port is taken, and brings the tree back', async () => {
    const [taken = 0] = await freePorts(1);
    const holder = createServer().listen(taken, '127.0.0.1');
    await once(holder, 'listening');
    await prefix.edit('yun-app2', (conf) =>
      conf.replace('  server {', `  server { listen 127.0.0.1:${taken}; }\n  server {`),
    );
    try {
      const before = await workerPids();
      const error = await failure(proxy.switchTo(['app2']));
      expect(error).toMatchObject({ code: 'RELOAD_NOT_LOADED', kind: 'rejected' });
      expect(error.message).toContain(`127.0.0.1:${taken} failed`);
      // Nginx has given up by now: a port that becomes free makes nothing live behind our back.
      holder.close();
      await sleep(700);
      expect(await workerPids()).toEqual(before);
      expect(await treeEquals(host, prefix.dir, 'master')).toBe(true);
    } finally {
      holder.close();
    }
  });

  it('is live after all when the port becomes free while Nginx still tries', async () => {
    const [taken = 0] = await freePorts(1);
    const holder = createServer().listen(taken, '127.0.0.1');
    await once(holder, 'listening');
    await prefix.edit('yun-app2', (conf) =>
      conf.replace('  server {', `  server { listen 127.0.0.1:${taken}; }\n  server {`),
    );
    const switching = proxy.switchTo(['app2']);
    const log = join(prefix.dir, 'logs/error.log');
    await until(async () => (await readFile(log, 'utf8')).includes(`127.0.0.1:${taken} failed`));
    holder.close();
    expect((await switching).provenBy).toContain(`127.0.0.1:${taken} failed`);
    expect(await treeEquals(host, prefix.dir, 'yun-app2')).toBe(true);
    await until(async () => (await prefix.ask()) === 'app2');
  });

  it('gives up when a reload that says nothing brings no new workers, and brings the tree back', async () => {
    const own = { ...prefix.config, reload: ['true'] as [string] };
    const silent = createProxy(host, own, prefix.addresses);
    const error = await failure(silent.switchTo(['app2'], { liveWithinMs: 300 }));
    expect(error).toMatchObject({ code: 'RELOAD_NOT_LIVE', kind: 'timedOut' });
    expect(await treeEquals(host, prefix.dir, 'master')).toBe(true);
  });

  it('brings the tree back when the reload command fails', async () => {
    const own = { ...prefix.config, reload: ['false'] as [string] };
    const error = await failure(createProxy(host, own, prefix.addresses).switchTo(['app2']));
    expect(error).toMatchObject({ code: 'RELOAD_FAILED', kind: 'rejected' });
    expect(await treeEquals(host, prefix.dir, 'master')).toBe(true);
  });

  it('brings the tree back when it is stopped before the reload', async () => {
    const stop = new AbortController();
    const before = await workerPids();
    const switching = proxy.switchTo(['app2'], { signal: stop.signal, onProgress: () => stop.abort() });
    expect(await failure(switching)).toMatchObject({ code: 'SWITCH_STOPPED', kind: 'rejected' });
    expect(await treeEquals(host, prefix.dir, 'master')).toBe(true);
    expect(await workerPids()).toEqual(before);
  });

  it('refuses a tree with an edit or an untracked file, and touches nothing', async () => {
    const file = join(prefix.dir, 'conf/nginx.conf');
    await appendFile(file, '# mine\n');
    expect(await failure(proxy.switchTo(['app2']))).toMatchObject({ code: 'CONFIG_TREE_DIRTY', kind: 'unsafe' });
    expect(await readFile(file, 'utf8')).toContain('# mine');
    expect(await proxy.observe()).toMatchObject({ servers: null, branch: 'master' });
    await prefix.git('restore', '.');
    await writeFile(join(prefix.dir, 'conf/extra.conf'), '');
    const error = await failure(proxy.switchTo(['app2']));
    expect(error).toMatchObject({ code: 'CONFIG_TREE_DIRTY', kind: 'unsafe' });
    expect(error.message).toContain('conf/extra.conf');
    expect((await prefix.git('symbolic-ref', '--short', 'HEAD')).trim()).toBe('master');
  });

  it('refuses a branch that sends traffic to other servers than it is named for, and touches nothing', async () => {
    await prefix.git('branch', '--force', 'yun-app1', 'yun-app2');
    const error = await failure(proxy.switchTo(['app1']));
    expect(error).toMatchObject({ code: 'CONFIG_ROUTE_WRONG', kind: 'unsafe' });
    expect(error.message).toContain(prefix.addresses.app2);
    expect(await prefix.git('branch', '--show-current')).toBe('master\n');
    expect((await proxy.routeProblems()).wrong).toHaveLength(1);
  });

  it('does not take a branch by its name for the servers it serves', async () => {
    await proxy.switchTo(['app2']);
    await prefix.git('branch', '--move', '--force', 'yun-app2', 'yun-app1');
    const seen = await proxy.observe();
    expect(seen).toMatchObject({ servers: null, branch: 'yun-app1' });
    expect(seen.treeProblem).toContain('its upstream servers are');
  });

  it('refuses a set of servers without a route', async () => {
    expect(await failure(proxy.switchTo([]))).toMatchObject({ code: 'ROUTE_UNKNOWN', kind: 'unsafe' });
    expect(await failure(proxy.switchTo(['app3']))).toMatchObject({ code: 'ROUTE_UNKNOWN', kind: 'unsafe' });
  });

  it('does not signal an innocent process that a stale pid file names', async () => {
    await prefix.run(join(prefix.dir, 'sbin/nginx'), '-s', 'stop');
    await until(async () => !(await proxy.observe()).master);
    const innocent = spawn('sleep', ['60'], { stdio: 'ignore' });
    await once(innocent, 'spawn');
    try {
      await writeFile(join(prefix.dir, 'logs/nginx.pid'), `${String(innocent.pid)}\n`);
      const error = await failure(proxy.switchTo(['app2']));
      expect(error).toMatchObject({ code: 'PID_IS_NOT_NGINX', kind: 'unsafe' });
      expect(error.message).toContain('sleep 60');
      await sleep(50);
      expect(innocent.exitCode).toBeNull();
      expect(innocent.signalCode).toBeNull();
      expect(await treeEquals(host, prefix.dir, 'master')).toBe(true);
    } finally {
      innocent.kill('SIGKILL');
      await once(innocent, 'exit');
      await rm(join(prefix.dir, 'logs/nginx.pid'));
    }
  });
});

describe('the proof of the drain', () => {
  it('names the old worker until the request in flight has ended', async () => {
    await proxy.switchTo(['app1']);
    const slow = prefix.ask('/?ms=2500');
    let ended = false;
    const answered = slow.then((text) => {
      ended = true;
      return text;
    });
    await sleep(100);
    const evidence = await proxy.switchTo(['app2']);
    await sleep(400);
    const left = await proxy.remaining(evidence);
    expect(left).toHaveLength(1);
    expect(left[0]).toMatchObject({ shuttingDown: true });
    expect(ended).toBe(false);
    expect(await answered).toBe('app1');
    await until(async () => (await proxy.remaining(evidence)).length === 0);
  });

  it('does not take another process with the id of a worker for the worker', async () => {
    const evidence = await proxy.switchTo(['app2']);
    const [worker] = evidence.workersAfter;
    if (worker === undefined) throw new Error('no worker');
    const reused = { ...worker, startedAtTicks: worker.startedAtTicks - 1 };
    expect(await proxy.remaining({ workersBefore: [reused] })).toEqual([]);
    expect(await proxy.remaining({ workersBefore: [worker] })).toEqual([worker]);
  });
});

describe('a reload by someone else', () => {
  it('is noticed by its workers', async () => {
    const evidence = await proxy.switchTo(['app2']);
    const before = await workerPids();
    await prefix.run(join(prefix.dir, 'sbin/nginx'), '-s', 'reload');
    await until(async () => (await workerPids()).every((pid) => !before.includes(pid)));
    expect(await proxy.reloadedByOthers(evidence)).toEqual({ pids: await workerPids(), how: 'reload' });
  });

  it('is told from a worker that crashed and was replaced', async () => {
    const evidence = await proxy.switchTo(['app2']);
    const [crashed = 0] = evidence.workersAfter.map(({ pid }) => pid);
    process.kill(crashed, 'SIGKILL');
    await until(async () => {
      const pids = await workerPids();
      return pids.length === 2 && !pids.includes(crashed);
    });
    const noticed = await proxy.reloadedByOthers(evidence);
    expect(noticed).toMatchObject({ how: 'workerReplaced' });
    expect(noticed?.pids).toHaveLength(1);
  });

  it('is told from a restart', async () => {
    const evidence = await proxy.switchTo(['app2']);
    await prefix.run(join(prefix.dir, 'sbin/nginx'), '-s', 'stop');
    await until(async () => !(await proxy.observe()).master);
    await start(prefix);
    expect(await proxy.reloadedByOthers(evidence)).toMatchObject({ how: 'restart' });
  });
});

describe('what a proxy says of itself', () => {
  it('has the runbook routes by default, for any order of names', () => {
    expect(proxy.byHand(['app2', 'app1'])).toMatch(/ switch master$/);
    expect(proxy.byHand(['app1'])).toMatch(/ switch yun-app1$/);
    expect(proxy.hasRoute(['app3'])).toBe(false);
    expect(createProxy(host, prefix.config, { only: 'a:1' }).byHand(['only'])).toMatch(/ switch master$/);
    const routes = [{ servers: ['a', 'b'], branch: 'two' }];
    expect(createProxy(host, { ...prefix.config, routes }, { a: 'a:1', b: 'b:1' }).hasRoute(['a'])).toBe(false);
  });

  it('knows the version and whether it can spare keep-alive clients', async () => {
    const { version, keepaliveMinTimeout } = await proxy.facts();
    expect(version).toMatch(/^\d+\.\d+\.\d+$/);
    const [major = 0, minor = 0, patch = 0] = (version ?? '').split('.').map(Number);
    expect(keepaliveMinTimeout).toBe(major * 1e6 + minor * 1e3 + patch >= 1_027_004);
  });
});
