import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { StepError } from '../../src/errors.ts';
import { localHost } from '../../src/hosts/local.ts';
import {
  branchExists,
  otherDifferences,
  readTree,
  switchTree,
  treeEquals,
  upstreamServers,
} from '../../src/nginx/config-repository.ts';

const host = localHost();
let dir: string;

async function git(...args: string[]): Promise<string> {
  const result = await host.run(['git', ...args], { cwd: dir });
  if (result.status !== 0) throw new Error(`git ${args.join(' ')}: ${result.stderr}`);
  return result.stdout.trim();
}

async function commit(file: string, text: string | Buffer): Promise<void> {
  await mkdir(join(dir, file, '..'), { recursive: true });
  await writeFile(join(dir, file), text);
  await git('add', '--force', '--', file);
  await git('commit', '--quiet', '-m', `Change ${file}`);
}

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flow-config-'));
  await git('init', '--quiet', '--initial-branch=master');
  await git('config', 'user.name', 'Operator');
  await git('config', 'user.email', 'operator@example.com');
  await commit('conf/nginx.conf', 'http {\n  upstream q {\n    server a:1;\n    server b:1;\n  }\n}\n');
  await git('switch', '--quiet', '--create', 'yun-app1');
  await commit('conf/nginx.conf', 'http {\n  upstream q {\n    server a:1;\n  }\n}\n');
  await git('switch', '--quiet', 'master');
});
afterEach(() => rm(dir, { recursive: true, force: true }));

async function refusal(branch: string): Promise<StepError> {
  const before = await git('rev-parse', 'HEAD');
  const thrown: unknown = await switchTree(host, dir, branch).catch((error: unknown) => error);
  expect(thrown).toBeInstanceOf(StepError);
  expect(await git('rev-parse', 'HEAD')).toBe(before);
  return thrown as StepError;
}

describe('a tree', () => {
  it('is read with its branch, its commit, what is dirty and whether it is locked', async () => {
    const clean = await readTree(host, dir);
    expect(clean).toMatchObject({ branch: 'master', head: await git('rev-parse', 'HEAD'), dirty: [], locked: false });
    expect(await clean.matches('master')).toBe(true);
    await writeFile(join(dir, 'new.conf'), '');
    await writeFile(join(dir, '.git/index.lock'), '');
    expect(await readTree(host, dir)).toMatchObject({ dirty: ['?? new.conf'], locked: true });
    await rm(join(dir, '.git/index.lock'));
    await rm(join(dir, 'new.conf'));
    await git('switch', '--quiet', '--detach');
    expect((await readTree(host, dir)).branch).toBeNull();
  });

  it('equals a branch by its files, whatever HEAD is named', async () => {
    expect(await treeEquals(host, dir, 'master')).toBe(true);
    expect(await treeEquals(host, dir, 'yun-app1')).toBe(false);
    await git('branch', 'same', 'master');
    expect(await treeEquals(host, dir, 'same')).toBe(true);
    // A switch killed between the index and HEAD: the files are yun-app1's, HEAD still says master.
    await git('read-tree', '-u', '-m', 'HEAD', 'yun-app1');
    expect(await treeEquals(host, dir, 'master')).toBe(false);
    expect(await treeEquals(host, dir, 'yun-app1')).toBe(false);
  });

  it('is not equal when an edit is hidden from git status', async () => {
    await git('update-index', '--assume-unchanged', 'conf/nginx.conf');
    await writeFile(join(dir, 'conf/nginx.conf'), 'changed');
    expect(await git('status', '--porcelain')).toBe('');
    expect(await treeEquals(host, dir, 'master')).toBe(false);
    expect((await readTree(host, dir)).dirty).toHaveLength(1);
  });

  it('is read in the folder that was named, though the environment points elsewhere', async () => {
    const before = process.env.GIT_DIR;
    process.env.GIT_DIR = '/nonexistent';
    try {
      expect((await readTree(host, dir)).branch).toBe('master');
    } finally {
      if (before === undefined) delete process.env.GIT_DIR;
      else process.env.GIT_DIR = before;
    }
  });

  it('cannot be read where there is no folder or no repository, and each is called by its name', async () => {
    const refused = async (at: string) => readTree(host, at).catch((error: unknown) => error);
    expect(await refused(join(dir, '.git/nothing'))).toMatchObject({ code: 'CONFIG_DIR_MISSING', kind: 'unsafe' });
    const bare = await mkdtemp(join(tmpdir(), 'flow-bare-'));
    expect(await refused(bare)).toMatchObject({ code: 'CONFIG_NOT_A_REPOSITORY', kind: 'unsafe' });
    await expect(branchExists(host, bare, 'master')).rejects.toMatchObject({ code: 'CONFIG_NOT_A_REPOSITORY' });
    await rm(bare, { recursive: true });
  });
});

describe('switching the tree', () => {
  it('brings the files of the branch, twice without harm', async () => {
    await switchTree(host, dir, 'yun-app1');
    await switchTree(host, dir, 'yun-app1');
    expect(await readFile(join(dir, 'conf/nginx.conf'), 'utf8')).not.toContain('server b:1');
    expect(await readTree(host, dir)).toMatchObject({ branch: 'yun-app1', dirty: [] });
  });

  it('refuses a tree that is dirty, locked or detached', async () => {
    await writeFile(join(dir, 'conf/more.conf'), '');
    expect(await refusal('yun-app1')).toMatchObject({ code: 'CONFIG_TREE_DIRTY', kind: 'unsafe' });
    await rm(join(dir, 'conf/more.conf'));
    await writeFile(join(dir, '.git/index.lock'), '');
    expect(await refusal('yun-app1')).toMatchObject({ code: 'CONFIG_TREE_LOCKED', kind: 'unsafe' });
    expect(await readFile(join(dir, '.git/index.lock'), 'utf8')).toBe('');
    await rm(join(dir, '.git/index.lock'));
    await git('switch', '--quiet', '--detach');
    expect(await refusal('yun-app1')).toMatchObject({ code: 'CONFIG_TREE_DETACHED', kind: 'unsafe' });
  });

  it('refuses a name that is no branch, be it a file, an option, a tag or a commit', async () => {
    await git('tag', 'v1');
    await git('update-ref', 'refs/heads/-f', 'HEAD');
    const names = [
      'conf/nginx.conf',
      '-f',
      '--detach',
      'v1',
      'HEAD',
      '@{-1}',
      '-',
      '',
      'HEAD~0',
      'refs/heads/yun-app1',
    ];
    for (const name of names) {
      expect(await branchExists(host, dir, name)).toBe(false);
      expect(await refusal(name)).toMatchObject({ code: 'CONFIG_BRANCH_UNKNOWN', kind: 'unsafe' });
    }
  });

  it('takes a branch of that name before a tag of that name', async () => {
    await git('tag', 'yun-app1', 'master');
    await switchTree(host, dir, 'yun-app1');
    expect(await git('rev-parse', 'HEAD')).toBe(await git('rev-parse', 'refs/heads/yun-app1'));
  });

  it('does not overwrite an ignored file that the branch tracks', async () => {
    await git('switch', '--quiet', 'yun-app1');
    await commit('local.conf', 'theirs');
    await git('switch', '--quiet', 'master');
    await commit('.gitignore', 'local.conf\n');
    await writeFile(join(dir, 'local.conf'), 'mine');
    expect(await refusal('yun-app1')).toMatchObject({
      code: 'CONFIG_FILE_IN_THE_WAY',
      kind: 'unsafe',
      message: expect.stringContaining('local.conf') as string,
    });
    expect(await readFile(join(dir, 'local.conf'), 'utf8')).toBe('mine');
    expect(await treeEquals(host, dir, 'master')).toBe(true);
  });

  it('says that the outcome is unknown when the files are not the branch afterwards', async () => {
    await writeFile(join(dir, '.git/hooks/post-checkout'), '#!/bin/sh\necho x >> conf/nginx.conf\n', { mode: 0o755 });
    const thrown: unknown = await switchTree(host, dir, 'yun-app1').catch((error: unknown) => error);
    expect(thrown).toMatchObject({ code: 'CONFIG_TREE_NOT_THE_BRANCH', kind: 'unknownOutcome' });
  });

  it('sees an edit of the same size, made in the moment of the switch', async () => {
    await switchTree(host, dir, 'yun-app1');
    const file = join(dir, 'conf/nginx.conf');
    await writeFile(file, (await readFile(file, 'utf8')).replace('a:1', 'c:1'));
    expect(await treeEquals(host, dir, 'yun-app1')).toBe(false);
  });
});

describe('the routes of the branches', () => {
  it('are the servers each branch really names', async () => {
    await commit('conf/sites/other.conf', 'upstream other { server [::1]:8 ; }\n');
    await commit('notes.txt', 'upstream no { server no:1; }\n');
    expect(await upstreamServers(host, dir, 'master')).toEqual(['[::1]:8', 'a:1', 'b:1']);
    expect(await upstreamServers(host, dir, 'master', 'conf/nginx.conf')).toEqual(['a:1', 'b:1']);
    expect(await upstreamServers(host, dir, 'yun-app1')).toEqual(['a:1']);
    await expect(upstreamServers(host, dir, '--all')).rejects.toMatchObject({ code: 'CONFIG_BRANCH_UNKNOWN' });
  });

  it('may differ in server lines and comments, and in nothing else unnoticed', async () => {
    expect(await otherDifferences(host, dir, 'master', 'yun-app1')).toEqual([]);
    await git('switch', '--quiet', 'yun-app1');
    await commit('conf/nginx.conf', 'http {\n  # only app1\n  upstream q { server a:1; }\n}\n');
    expect(await otherDifferences(host, dir, 'master', 'yun-app1')).toEqual([
      'conf/nginx.conf: -upstream q {',
      'conf/nginx.conf: -}',
      'conf/nginx.conf: +upstream q { }',
    ]);
    await commit('conf/nginx.conf', 'http {\n  upstream q {\n    server a:1;\n  }\n  -- a/x;\n}\n');
    await commit('with space.txt', 'x\n');
    await commit('key.bin', Buffer.from([0, 1, 2]));
    expect(await otherDifferences(host, dir, 'master', 'yun-app1')).toEqual([
      'conf/nginx.conf: +-- a/x ;',
      'key.bin: Binary files /dev/null and b/key.bin differ',
      'with space.txt: +x',
    ]);
  });

  it('differ when a file became a link', async () => {
    await git('switch', '--quiet', 'yun-app1');
    await rm(join(dir, 'conf/nginx.conf'));
    await symlink('elsewhere', join(dir, 'conf/nginx.conf'));
    await git('commit', '--quiet', '--all', '-m', 'Link');
    expect((await otherDifferences(host, dir, 'master', 'yun-app1')).join('\n')).toContain('elsewhere');
  });
});
