import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, realpathSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { LockHeldError, StateError } from '../../src/errors.ts';
import { isDriverLive, readDriver } from '../../src/store/driver.ts';
import { acquireLock, type Lock } from '../../src/store/lock.ts';
import { createStateFolder } from '../../src/store/state-folder.ts';
import { bundleProgram } from './programs/bundle.ts';

let program: string;
let base: string;
let dir: string;
const children: ChildProcess[] = [];
const locks: Lock[] = [];

beforeAll(async () => {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'flow-lock-program-')));
  program = await bundleProgram('hold-lock.ts', folder);
  return () => {
    rmSync(folder, { recursive: true });
  };
});

beforeEach(() => {
  base = realpathSync(mkdtempSync(join(tmpdir(), 'flow-lock-')));
  dir = join(base, 'flow');
  createStateFolder(dir);
});

afterEach(async () => {
  for (const lock of locks.splice(0)) lock.release();
  await Promise.all(children.splice(0).map(end));
  rmSync(base, { recursive: true, force: true });
});

interface Said {
  won: boolean;
  epoch?: number;
  code?: string;
  message?: string;
}

/** Another process that tries to become the driver. */
async function rival(who = 'alice'): Promise<Said & { child: ChildProcess }> {
  const child = spawn('node', [program, dir, who], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  let text = '';
  for await (const chunk of child.stdout) {
    text += String(chunk);
    if (text.includes('\n')) break;
  }
  return { ...(JSON.parse(text) as Said), child };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
}

function acquire(doing = 'testing', minEpoch = 0): Lock {
  const lock = acquireLock(dir, { who: 'bob', doing, minEpoch });
  locks.push(lock);
  return lock;
}

function thrownBy(act: () => unknown): unknown {
  try {
    act();
  } catch (error) {
    return error;
  }
  return undefined;
}

describe('the lock', () => {
  test('has one winner among four processes that race for it, whom each of the others names', async () => {
    const all = await Promise.all(['ann', 'ben', 'cat', 'dan'].map((who) => rival(who)));
    const winners = all.filter(({ won }) => won);
    expect(winners).toHaveLength(1);
    const driver = readDriver(dir);
    expect(driver?.pid).toBe(winners[0]?.child.pid);
    for (const { won, code, message } of all) {
      if (won) continue;
      expect(code).toBe('LOCK_HELD');
      expect(message).toContain(
        `${driver?.who} drives this release on ${hostname()} (process ${driver?.pid}, since 20`,
      );
      expect(message).toContain('is publishing app1');
    }
  });

  test('is free at once when its holder was killed, and the epoch goes up', async () => {
    const { child, epoch } = await rival();
    expect(isDriverLive(dir)).toBe(true);
    const refused = thrownBy(() => acquire());
    expect(refused).toBeInstanceOf(LockHeldError);
    expect(refused).toMatchObject({ exitCode: 5, message: expect.stringContaining('alice') as string });
    await end(child);
    expect(isDriverLive(dir)).toBe(false);
    expect(readDriver(dir)?.who).toBe('alice');
    const lock = acquire();
    expect(lock.epoch).toBe((epoch ?? 0) + 1);
    expect(readDriver(dir)?.who).toBe('bob');
    lock.guard();
  });

  test('is not held by a child that outlives its holder', () => {
    const script = `
      const { spawn } = require('node:child_process');
      import(${JSON.stringify(program)});
      const child = spawn('sleep', ['60'], { detached: true, stdio: 'ignore' });
      setTimeout(() => { console.error(child.pid); process.kill(process.pid, 'SIGKILL'); }, 300);`;
    const { stderr } = spawnSync('node', ['-e', script, 'unused', dir], { encoding: 'utf8' });
    const orphan = Number(/\d+/.exec(stderr)?.[0]);
    try {
      process.kill(orphan, 0);
      acquire().guard();
    } finally {
      process.kill(orphan, 'SIGKILL');
    }
  });

  test('is not taken from a holder that was stopped for a while', async () => {
    const { child } = await rival();
    child.kill('SIGSTOP');
    expect(thrownBy(() => acquire())).toBeInstanceOf(LockHeldError);
    child.kill('SIGCONT');
  });

  test('takes an epoch above the one it is told of and above all before', () => {
    const first = acquire('testing', 41);
    expect(first.epoch).toBe(42);
    first.release();
    expect(acquire().epoch).toBe(43);
  });

  test('is let go by release, as often as that is called, and nobody is described then', () => {
    const first = acquire();
    first.release();
    first.release();
    expect(readDriver(dir)).toBeNull();
    expect(
      thrownBy(() => {
        first.guard();
      }),
    ).toMatchObject({ code: 'FENCED' });
    acquire().guard();
  });

  test('works through perl where there is no flock', () => {
    const path = process.env.PATH;
    const bin = realpathSync(mkdtempSync(join(base, 'bin-')));
    const perl = spawnSync('sh', ['-c', 'command -v perl'], { encoding: 'utf8' }).stdout.trim();
    if (perl !== '') spawnSync('ln', ['-s', perl, join(bin, 'perl')]);
    process.env.PATH = bin;
    try {
      if (perl === '') {
        expect(thrownBy(() => acquire())).toMatchObject({ code: 'NO_FLOCK' });
        return;
      }
      acquire().guard();
      expect(thrownBy(() => acquire())).toBeInstanceOf(LockHeldError);
      rmSync(join(bin, 'perl'));
      expect(thrownBy(() => acquire())).toMatchObject({ code: 'NO_FLOCK' });
    } finally {
      process.env.PATH = path;
    }
    // The same lock, whichever program took it.
    expect(thrownBy(() => acquire())).toBeInstanceOf(LockHeldError);
  });

  test('refuses a damaged epoch file instead of beginning at 1 again', () => {
    acquire().release();
    writeFileSync(join(dir, 'epoch'), '');
    expect(thrownBy(() => acquire())).toMatchObject({ code: 'CORRUPT' });
    rmSync(join(dir, 'epoch'));
    acquire().guard();
  });

  test('reports a folder that is not there', () => {
    rmSync(dir, { recursive: true });
    const refused = thrownBy(() => acquire());
    expect(refused).toBeInstanceOf(StateError);
    expect(refused).toMatchObject({ code: 'ENOENT' });
  });
});

describe('a deposed driver', () => {
  test('is fenced when the epoch was raised', () => {
    const lock = acquire();
    lock.guard();
    writeFileSync(join(dir, 'epoch'), `${lock.epoch + 1}\n`);
    expect(
      thrownBy(() => {
        lock.guard();
      }),
    ).toMatchObject({ code: 'FENCED', exitCode: 74 });
  });

  test('is fenced when the folder was replaced, and does not describe itself in the new one', () => {
    const lock = acquire();
    renameSync(dir, `${dir}.old`);
    createStateFolder(dir);
    expect(
      thrownBy(() => {
        lock.guard();
      }),
    ).toMatchObject({ code: 'FENCED' });
    const successor = acquire('tagging', 10);
    lock.describe({ doing: 'publishing' });
    expect(readDriver(dir)?.doing).toBe('tagging');
    lock.release();
    expect(readDriver(dir)?.epoch).toBe(successor.epoch);
    successor.guard();
  });
});

describe('the description of the driver', () => {
  test('tells what it does now and where it listens', () => {
    const lock = acquire('draining app1');
    expect(readDriver(dir)).toMatchObject({
      who: 'bob',
      host: hostname(),
      pid: process.pid,
      doing: 'draining app1',
      epoch: lock.epoch,
      socket: null,
    });
    lock.describe({ socket: '/run/x.sock' });
    lock.describe({ doing: 'publishing app1' });
    expect(readDriver(dir)).toMatchObject({ doing: 'publishing app1', socket: '/run/x.sock' });
    expect(isDriverLive(dir)).toBe(true);
  });

  test('does not take another process with the same number, nor one before a reboot, for the driver', () => {
    acquire();
    const described = JSON.parse(readFileSync(join(dir, 'driver.json'), 'utf8')) as { pidStart: string };
    expect(described.pidStart).toMatch(/^\d+@[0-9a-f-]{36}$/);
    for (const pidStart of ['1@x', described.pidStart.replace(/@.*/, '@another-boot')]) {
      writeFileSync(join(dir, 'driver.json'), JSON.stringify({ ...described, pidStart }));
      expect(isDriverLive(dir)).toBe(false);
    }
  });

  test.each(['', 'null', '{}', '{"who":1}', '[]'])('is none when the file holds %j', (text) => {
    writeFileSync(join(dir, 'driver.json'), text);
    expect(readDriver(dir)).toBeNull();
    expect(isDriverLive(dir)).toBe(false);
    acquire().guard();
  });
});
