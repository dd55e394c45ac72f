import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findMaster, listWorkers, type ProcessId, stillAlive } from '../../src/nginx/processes.ts';
import { createPrefix, host, type Prefix, start, until } from './prefix.ts';

let prefix: Prefix;
let other: Prefix;
let folder: string;

beforeAll(async () => {
  [prefix, other] = await Promise.all([createPrefix(), createPrefix()]);
  await Promise.all([start(prefix), start(other)]);
  folder = await mkdtemp(join(tmpdir(), 'flow-processes-'));
});
afterAll(async () => {
  await Promise.all([prefix.remove(), other.remove()]);
  await rm(folder, { recursive: true });
});

async function master(): Promise<ProcessId> {
  const found = await findMaster(host, prefix.config);
  if ('problem' in found) throw new Error(found.problem);
  return found;
}

describe('the master', () => {
  it('is found through its pid file, and through a link to its folder', async () => {
    expect((await master()).pid).toBe(await prefix.masterPid());
    const link = join(folder, 'link');
    await symlink(prefix.dir, link);
    expect(await findMaster(host, { ...prefix.config, dir: link })).toEqual(await master());
  });

  it('of another prefix is refused, though the pid file names it', async () => {
    const pidFile = join(folder, 'shared.pid');
    await writeFile(pidFile, String(await other.masterPid()));
    const found = await findMaster(host, { dir: prefix.dir, pidFile });
    expect(found).toMatchObject({ code: 'MASTER_OF_ANOTHER_TREE' });
    expect(JSON.stringify(found)).toContain(other.dir);
  });

  it('of a folder whose name only begins like this one is refused', async () => {
    const dir = prefix.dir.slice(0, -1);
    const found = await findMaster(host, { dir, pidFile: join(prefix.dir, 'logs/nginx.pid') });
    expect(found).toMatchObject({ code: 'MASTER_OF_ANOTHER_TREE' });
  });

  it('is not believed to run for a missing, an empty or a dead pid file', async () => {
    const pidFile = join(folder, 'some.pid');
    const code = async () => findMaster(host, { dir: prefix.dir, pidFile });
    expect(await code()).toMatchObject({ code: 'PID_FILE_MISSING' });
    for (const text of ['', 'abc', '0', '-1', '12 34']) {
      await writeFile(pidFile, text);
      expect(await code()).toMatchObject({ code: 'PID_FILE_INVALID' });
    }
    await writeFile(pidFile, '999999999');
    expect(await code()).toMatchObject({ code: 'MASTER_NOT_RUNNING' });
    await writeFile(pidFile, String(process.pid));
    expect(await code()).toMatchObject({ code: 'PID_IS_NOT_NGINX' });
  });

  it('is not one of its workers', async () => {
    const [worker] = await listWorkers(host, await master());
    const pidFile = join(folder, 'worker.pid');
    await writeFile(pidFile, String(worker?.pid));
    expect(await findMaster(host, { dir: prefix.dir, pidFile })).toMatchObject({ code: 'PID_IS_NOT_NGINX' });
  });

  it('is ambiguous while an upgrade of the program has two of them', async () => {
    const old = join(prefix.dir, 'logs/nginx.pid.oldbin');
    await writeFile(old, String(await other.masterPid()));
    try {
      expect(await findMaster(host, prefix.config)).toMatchObject({ code: 'BINARY_UPGRADE_RUNNING' });
    } finally {
      await rm(old);
    }
    expect(await master()).toBeDefined();
  });
});

describe('the workers', () => {
  it('are listed with their start, and are gone as zombies', async () => {
    const workers = await listWorkers(host, await master());
    expect(workers).toHaveLength(2);
    expect(await stillAlive(host, workers)).toEqual(workers);
    const [frozen] = workers;
    if (frozen === undefined) throw new Error('no worker');
    // While its parent is stopped, a process that ended stays a zombie: `kill -0` would still find it.
    const { pid } = await master();
    process.kill(pid, 'SIGSTOP');
    try {
      process.kill(frozen.pid, 'SIGKILL');
      await until(async () => {
        const stat = await host.readFile(`/proc/${frozen.pid}/stat`);
        return stat?.toString().includes(') Z ') === true;
      });
      expect(process.kill(frozen.pid, 0)).toBe(true);
      expect(await stillAlive(host, workers)).toEqual(workers.slice(1));
    } finally {
      process.kill(pid, 'SIGCONT');
    }
  });

  it('of a master that was started anew are refused', async () => {
    const now = await master();
    const before = { ...now, startedAtTicks: now.startedAtTicks - 1 };
    await expect(listWorkers(host, before)).rejects.toMatchObject({ code: 'PROXY_MASTER_ENDED' });
  });
});
