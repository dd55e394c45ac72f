import { mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openRepository, type Repository } from '../../src/git/repository.ts';
import { createProject, type Project } from './project.ts';

const NAMES = { into: 'this', from: 'that' };
let project: Project;
let repository: Repository;
let path: string;
let first: string;
let second: string;

beforeEach(async () => {
  project = await createProject();
  repository = openRepository(project.dir);
  // Where flow keeps it: inside the common git directory, where a lost `.git` file would lead git to the project.
  path = join(project.dir, '.git/flow/worktree');
  await project.commit('.gitignore', 'build/\n');
  first = await project.git('rev-parse', 'HEAD');
  second = await project.commit('b.txt', 'b');
});
afterEach(() => project.remove());

const here = (...args: string[]) => project.git('-C', path, ...args);

async function expectAt(oid: string): Promise<void> {
  expect(await here('rev-parse', '--show-toplevel')).toBe(path);
  expect(await here('rev-parse', 'HEAD')).toBe(oid);
  expect(await here('status', '--porcelain')).toBe('');
  expect(await openRepository(path).currentBranch()).toBeNull();
  expect(await project.git('status', '--porcelain')).toBe('');
  expect(await repository.branchCommit('master')).toBe(second);
}

describe('a worktree of its own', () => {
  it('is made, and brought to another commit without what lies in it, but with what is ignored', async () => {
    await repository.prepareWorktree(path, first);
    await expectAt(first);
    await writeFile(join(path, 'a.txt'), 'edited');
    await writeFile(join(path, 'new'), 'untracked');
    await mkdir(join(path, 'build'));
    await writeFile(join(path, 'build/cache'), 'kept');
    await repository.prepareWorktree(path, second);
    await expectAt(second);
    expect(await readFile(join(path, 'build/cache'), 'utf8')).toBe('kept');
  });

  it('moves no branch that someone checked out in it', async () => {
    await repository.prepareWorktree(path, first);
    await here('switch', '--quiet', '--create', 'theirs');
    await repository.prepareWorktree(path, second);
    await expectAt(second);
    expect(await repository.branchCommit('theirs')).toBe(first);
  });

  it('is repaired in the middle of a merge, with a lock left behind, and with a damaged index', async () => {
    await repository.prepareWorktree(path, first);
    await writeFile(join(path, 'b.txt'), 'mine');
    await here('add', '--', 'b.txt');
    await here('commit', '--quiet', '-m', 'Mine');
    await here('merge', second).catch(() => {});
    expect(await here('status', '--porcelain')).toContain('AA b.txt');
    await repository.prepareWorktree(path, second);
    await expectAt(second);
    await here('rev-parse', '--verify', 'MERGE_HEAD').then(
      () => expect.unreachable(),
      () => {},
    );
    const gitDir = await here('rev-parse', '--absolute-git-dir');
    await writeFile(join(gitDir, 'index.lock'), '');
    await repository.prepareWorktree(path, first);
    await expectAt(first);
    await writeFile(join(gitDir, 'index'), 'damaged');
    await repository.prepareWorktree(path, second);
    await expectAt(second);
  });

  it('is made anew when its folder, its registration or half of it is gone', async () => {
    await repository.prepareWorktree(path, first);
    await rm(path, { recursive: true });
    await repository.prepareWorktree(path, first);
    await expectAt(first);
    await rm(join(project.dir, '.git/worktrees'), { recursive: true });
    await repository.prepareWorktree(path, second);
    await expectAt(second);
    // As a git that was killed while it made it: registered and locked, the files not written yet.
    const gitDir = await here('rev-parse', '--absolute-git-dir');
    await writeFile(join(gitDir, 'locked'), 'initializing');
    await rm(join(gitDir, 'HEAD'));
    await rm(join(path, 'a.txt'));
    await repository.prepareWorktree(path, first);
    await expectAt(first);
  });

  it('is not made of a folder that holds something else', async () => {
    await mkdir(path, { recursive: true });
    await repository.prepareWorktree(path, first);
    await expectAt(first);
    for (const other of [join(project.root, 'work'), project.dir]) {
      await mkdir(other, { recursive: true });
      await writeFile(join(other, 'precious'), 'x');
      const refused = { code: 'WORKTREE_PATH_TAKEN', kind: 'unsafe' };
      await expect(repository.prepareWorktree(other, first)).rejects.toMatchObject(refused);
      expect(await readFile(join(other, 'precious'), 'utf8')).toBe('x');
    }
  });

  it('whose link to the repository is lost does not lead to the operator tree', async () => {
    await repository.prepareWorktree(path, first);
    await rm(join(path, '.git'));
    await writeFile(join(project.dir, 'a.txt'), 'work in progress');
    await expect(repository.prepareWorktree(path, first)).rejects.toMatchObject({ code: 'WORKTREE_PATH_TAKEN' });
    await expect(repository.commitFile(path, 'a.txt', 'x', 'x')).rejects.toMatchObject({ code: 'GIT_FAILED' });
    expect(await readFile(join(project.dir, 'a.txt'), 'utf8')).toBe('work in progress');
    expect(await repository.branchCommit('master')).toBe(second);
  });
});

describe('merging in it', () => {
  it('makes a merge commit even where a fast-forward would do, and moves no ref', async () => {
    const oid = await repository.mergeInWorktree(path, {
      into: first,
      from: second,
      names: NAMES,
      message: '# Merge develop',
    });
    expect(await project.git('log', '-1', '--format=%P %s', oid)).toBe(`${first} ${second} # Merge develop`);
    await expectAt(oid);
  });

  it('answers the commit itself where the other is contained', async () => {
    expect(await repository.mergeInWorktree(path, { into: second, from: first, names: NAMES, message: 'x' })).toBe(
      second,
    );
  });

  it('is undone on a conflict, and names the files', async () => {
    await project.git('switch', '--quiet', '--create', 'side', first);
    const side = await project.commit('b.txt', 'different');
    await project.git('switch', '--quiet', 'master');
    const error = await repository
      .mergeInWorktree(path, { into: second, from: side, names: NAMES, message: 'x' })
      .catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'MERGE_CONFLICT', kind: 'rejected' });
    expect(String(error)).toContain('b.txt');
    await expectAt(second);
  });

  it('says which commands to run when git does not know who commits', async () => {
    await project.git('config', '--unset', 'user.name');
    await project.git('config', '--unset', 'user.email');
    await project.git('config', 'user.useConfigOnly', 'true');
    const before = { ...process.env };
    Object.assign(process.env, { GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_SYSTEM: '/dev/null' });
    try {
      const merging = repository.mergeInWorktree(path, { into: first, from: second, names: NAMES, message: 'x' });
      const error = await merging.catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: 'GIT_IDENTITY_MISSING', kind: 'unsafe' });
      expect(String(error)).toContain('git config --global user.email');
    } finally {
      process.env = before;
    }
  });
});

describe('committing a file in it', () => {
  it('commits that file alone, and nothing when it has that content already', async () => {
    await repository.prepareWorktree(path, second);
    await writeFile(join(path, 'a.txt'), 'not this one');
    const oid = await repository.commitFile(path, 'ChangeLog.md', '# 1.0.0\n', 'Release v1.0.0');
    expect(await repository.changedFiles(second, oid)).toEqual(['ChangeLog.md']);
    expect(await project.git('log', '-1', '--format=%P %s', oid)).toBe(`${second} Release v1.0.0`);
    expect(await repository.commitFile(path, 'ChangeLog.md', '# 1.0.0\n', 'Release v1.0.0')).toBe(oid);
    expect(await repository.branchCommit('master')).toBe(second);
  });

  it('does not follow a link out of the worktree', async () => {
    await repository.prepareWorktree(path, second);
    const outside = join(project.root, 'outside');
    await mkdir(outside);
    await writeFile(join(outside, 'file'), 'theirs');
    await symlink(join(outside, 'file'), join(path, 'ChangeLog.md'));
    await symlink(outside, join(path, 'docs'));
    for (const file of ['ChangeLog.md', 'docs/file', '../up.md', 'none/here.md']) {
      const refused = { code: 'FILE_OUTSIDE_WORKTREE', kind: 'unsafe' };
      await expect(repository.commitFile(path, file, 'x', 'x')).rejects.toMatchObject(refused);
    }
    expect(await readFile(join(outside, 'file'), 'utf8')).toBe('theirs');
  });

  it('tells what a hook says that refuses it', async () => {
    await repository.prepareWorktree(path, second);
    await mkdir(join(project.dir, '.git/hooks'), { recursive: true });
    const hook = join(project.dir, '.git/hooks/commit-msg');
    await writeFile(hook, '#!/bin/sh\necho "no ticket number" >&2\nexit 1\n', { mode: 0o755 });
    const error = await repository.commitFile(path, 'ChangeLog.md', 'x', 'x').catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'COMMIT_FAILED', kind: 'rejected' });
    expect(String(error)).toContain('no ticket number');
  });
});
