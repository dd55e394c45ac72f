/** A switch that was cut in half, with real git: put back where it is provably flow's own, and refused where it is not. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { appendFile, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { localHost } from '../../src/hosts/local.ts';
import { readTree, switchTree } from '../../src/nginx/config-repository.ts';
import { mendCutSwitch } from '../../src/nginx/cut-switch.ts';
import { readNote } from '../../src/nginx/switch-note.ts';
import { holdSwitches, makeRepository } from './repository.ts';

const host = localHost();
let dir: string;
let lock: string;
let hold: Awaited<ReturnType<typeof holdSwitches>>;

const git = (...args: string[]): string => execFileSync('git', ['-C', dir, ...args], { encoding: 'utf8' }).trim();

beforeEach(async () => {
  dir = await makeRepository();
  lock = join(dir, '.git/index.lock');
  hold = await holdSwitches(dir);
});
afterEach(async () => {
  await hold.end();
  await rm(dir, { recursive: true, force: true });
});

/** Switches to yun-app1, and kills it with everything it started when it has written half of the files. */
async function cut(): Promise<void> {
  const switching = switchTree(host, dir, 'yun-app1').catch((error: unknown) => error);
  await hold.reached();
  const { group = 0 } = (await readNote(host, lock)) ?? {};
  process.kill(-group, 'SIGKILL');
  expect(await switching).toMatchObject({ code: 'CONFIG_TREE_NOT_THE_BRANCH', kind: 'unknownOutcome' });
  await hold.end();
}

describe('a switch of flow that was cut in half', () => {
  it('is put back to the branch it began from, twice without harm', async () => {
    await cut();
    expect(git('--no-optional-locks', 'status', '--porcelain')).not.toBe('');
    expect(await mendCutSwitch(host, dir)).toContain('from master to yun-app1, was cut in half');
    expect(await readTree(host, dir)).toMatchObject({ branch: 'master', dirty: [], locked: false });
    expect(git('diff', 'master')).toBe('');
    expect(existsSync(join(dir, 'conf/only-app1.conf'))).toBe(false);
    expect(await mendCutSwitch(host, dir)).toBeNull();
    await switchTree(host, dir, 'yun-app1');
  });

  it('is put back where a file was only begun', async () => {
    await cut();
    await writeFile(join(dir, 'conf/nginx.conf'), 'on');
    await writeFile(join(dir, 'conf/upstream.conf'), '');
    expect(await mendCutSwitch(host, dir)).toContain('cut in half');
    expect(git('diff', 'master')).toBe('');
  });

  it('is put back when it was cut between the files and the index, with HEAD on the other branch', async () => {
    await cut();
    const note = await readFile(lock);
    await rm(lock);
    await rm(join(dir, 'conf/only-app1.conf'));
    git('switch', '--quiet', '--discard-changes', 'yun-app1');
    await writeFile(lock, note);
    expect(await mendCutSwitch(host, dir)).toContain('cut in half');
    expect(await readTree(host, dir)).toMatchObject({ branch: 'master', dirty: [], locked: false });
  });

  it.each([
    ['a file that a person has changed since', 'conf/nginx.conf', 'conf/nginx.conf is of neither'],
    ['a file that no branch has', 'conf/mine.conf', 'conf/mine.conf, which differs between them in nothing'],
  ])('is left alone with %s', async (_what, path, because) => {
    await cut();
    await appendFile(join(dir, path), '# mine\n');
    await expect(mendCutSwitch(host, dir)).rejects.toMatchObject({
      code: 'CONFIG_SWITCH_CUT',
      kind: 'unsafe',
      message: expect.stringContaining(because) as string,
    });
    expect(await readFile(join(dir, path), 'utf8')).toContain('# mine');
    expect(existsSync(lock)).toBe(true);
  });

  it('is left alone when a branch has moved since', async () => {
    await cut();
    git('update-ref', 'refs/heads/yun-app1', 'master');
    await expect(mendCutSwitch(host, dir)).rejects.toMatchObject({ code: 'CONFIG_SWITCH_CUT', kind: 'unsafe' });
  });
});

it('a switch that still works is waited for, also when only its git is left', async () => {
  const switching = switchTree(host, dir, 'yun-app1').catch((error: unknown) => error);
  await hold.reached();
  expect(await mendCutSwitch(host, dir)).toBeNull();
  const { pid = 0 } = (await readNote(host, lock)) ?? {};
  process.kill(pid, 'SIGKILL');
  await sleep(50);
  expect(await mendCutSwitch(host, dir)).toBeNull();
  await hold.end();
  expect(await switching).toMatchObject({ kind: 'unknownOutcome' });
  expect(git('symbolic-ref', '--short', 'HEAD')).toBe('yun-app1');
  expect(await mendCutSwitch(host, dir)).toContain('cut in half');
  expect(await readTree(host, dir)).toMatchObject({ branch: 'master', dirty: [], locked: false });
});

it('a lock of anybody else is never touched', async () => {
  for (const text of ['', 'pid=1\n', 'a switch of flow\npid=1\n']) {
    await writeFile(lock, text);
    expect(await mendCutSwitch(host, dir)).toBeNull();
    await expect(switchTree(host, dir, 'yun-app1')).rejects.toMatchObject({ code: 'CONFIG_TREE_LOCKED' });
    expect(await readFile(lock, 'utf8')).toBe(text);
  }
});
