/** A small config repository with real git, and a way to stop a switch when half of the files are written. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { appendFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';

/** Two branches: `master` has both servers, `yun-app1` one, and a file more. The tree is on `master`. */
export async function makeRepository(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'flow-config-'));
  const git = (...args: string[]) => execFileSync('git', ['-C', dir, ...args], { stdio: 'pipe' });
  const commit = async (files: Record<string, string>, message: string) => {
    for (const [path, text] of Object.entries(files)) await writeFile(join(dir, path), text);
    git('add', '--all');
    git('commit', '--quiet', '-m', message);
  };
  await mkdir(join(dir, 'conf'));
  git('init', '--quiet', '--initial-branch=master');
  git('config', 'user.name', 'Operator');
  git('config', 'user.email', 'operator@example.com');
  await commit({ 'conf/nginx.conf': 'both\n', 'conf/upstream.conf': 'a b\n', 'conf/zone.conf': 'same\n' }, 'Both');
  git('switch', '--quiet', '--create', 'yun-app1');
  await commit({ 'conf/nginx.conf': 'one\n', 'conf/only-app1.conf': 'x\n', 'conf/upstream.conf': 'a\n' }, 'One');
  git('switch', '--quiet', 'master');
  return dir;
}

/**
 * Makes git stop in the middle of a switch, before it writes one file and after it took the old one away: by a
 * filter, as git-crypt or LFS are ones. `end` lets it go on, and later switches are not stopped.
 */
export async function holdSwitches(
  dir: string,
  path = 'conf/upstream.conf',
): Promise<{ reached(): Promise<void>; end(): Promise<void> }> {
  const [held, reached] = [join(dir, '.git/hold'), join(dir, '.git/held')];
  await writeFile(held, '');
  await mkdir(join(dir, '.git/info'), { recursive: true });
  await appendFile(join(dir, '.git/info/attributes'), `${path} filter=hold\n`);
  const smudge = `if [ -e '${held}' ]; then : > '${reached}'; while [ -e '${held}' ]; do sleep 0.02; done; fi; cat`;
  for (const [name, value] of [
    ['smudge', smudge],
    ['clean', 'cat'],
  ] as const) {
    execFileSync('git', ['-C', dir, 'config', `filter.hold.${name}`, value]);
  }
  return {
    reached: async () => {
      await expect.poll(() => existsSync(reached), { timeout: 20_000, interval: 20 }).toBe(true);
    },
    end: () => rm(held, { force: true }),
  };
}
