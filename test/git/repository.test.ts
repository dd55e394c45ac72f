import { mkdir, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openRepository, type Repository } from '../../src/git/repository.ts';
import { createProject, type Project } from './project.ts';

const NAMES = { into: 'this', from: 'that' };
let project: Project;
let repository: Repository;

beforeEach(async () => {
  project = await createProject();
  repository = openRepository(project.dir);
});
afterEach(() => project.remove());

describe('reading a repository', () => {
  it('knows its common directory, branch and what is not clean, in a worktree too', async () => {
    expect(await repository.commonDir()).toBe(join(project.dir, '.git'));
    expect(await repository.currentBranch()).toBe('master');
    expect(await repository.status()).toEqual([]);
    await writeFile(join(project.dir, 'new file'), '');
    await writeFile(join(project.dir, 'a.txt'), 'changed');
    expect((await repository.status()).sort()).toEqual([' M a.txt', '?? new file']);
    const path = join(project.root, 'second');
    await project.git('worktree', 'add', '--quiet', '-b', 'develop', path);
    expect(await openRepository(path).commonDir()).toBe(join(project.dir, '.git'));
    expect(await repository.worktreesOn('develop')).toEqual([path]);
    expect(await repository.worktreesOn('master')).toEqual([project.dir]);
    await project.git('checkout', '--quiet', '--detach');
    expect(await repository.currentBranch()).toBeNull();
    expect(await repository.worktreesOn('master')).toEqual([]);
  });

  it('refuses a folder that is in no repository, or is none', async () => {
    const error = await openRepository(project.root)
      .commonDir()
      .catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'NOT_A_REPOSITORY', exitCode: 2 });
    const missing = openRepository(join(project.root, 'missing'));
    await expect(missing.status()).rejects.toMatchObject({ code: 'GIT_NOT_RUN', kind: 'unreachable' });
  });

  it('stays in the folder that was named, though the environment points elsewhere', async () => {
    process.env.GIT_DIR = '/nonexistent';
    try {
      expect(await repository.currentBranch()).toBe('master');
    } finally {
      delete process.env.GIT_DIR;
    }
  });

  it('resolves full names only, a branch before a tag of its name, and no name as an option', async () => {
    const first = await project.git('rev-parse', 'HEAD');
    const second = await project.commit('b.txt', 'b');
    await project.git('tag', 'master', first);
    expect(await repository.branchCommit('master')).toBe(second);
    expect(await repository.tagCommit('master')).toBe(first);
    expect(await repository.resolve(first)).toBe(first);
    expect(await repository.resolve('HEAD')).toBe(second);
    await project.git('update-ref', 'refs/heads/-X', first);
    expect(await repository.resolve('refs/heads/-X')).toBe(first);
    expect(await repository.resolve('refs/heads/none')).toBeNull();
    expect(await repository.resolve('0'.repeat(40))).toBeNull();
    for (const hostile of ['master', '--all', '-X', 'HEAD~1', 'refs/heads/a..b', 'refs/heads/x^{tree}', '']) {
      await expect(repository.resolve(hostile)).rejects.toThrow('full ref name');
    }
    expect(await repository.branchCommit('x:y')).toBeNull();
    expect(await repository.tagCommit('--delete')).toBeNull();
  });

  it('tells ancestors and the files that differ', async () => {
    const first = await project.git('rev-parse', 'HEAD');
    const second = await project.commit('dir/é "b".txt', 'b');
    expect(await repository.isAncestor(first, second)).toBe(true);
    expect(await repository.isAncestor(second, first)).toBe(false);
    expect(await repository.changedFiles(first, second)).toEqual(['dir/é "b".txt']);
    expect(await repository.changedFiles(first, first)).toEqual([]);
    await expect(repository.isAncestor('0'.repeat(40), first)).rejects.toMatchObject({ code: 'GIT_FAILED' });
  });
});

describe('the last release', () => {
  it('is the highest version that the commit contains', async () => {
    const first = await project.git('rev-parse', 'HEAD');
    expect(await repository.latestReleaseTag([first])).toBeNull();
    await project.git('tag', 'v1.3.9');
    await project.git('tag', 'not-a-version');
    await project.git('tag', 'v1.4.0-rc.1');
    const second = await project.commit('b.txt', 'b');
    await project.git('tag', '--annotate', '-m', 'x', 'v1.3.10');
    await project.git('switch', '--quiet', '--create', 'side', first);
    await project.commit('c.txt', 'c');
    await project.git('tag', 'v2.0.0');
    expect(await repository.latestReleaseTag(['refs/heads/master'])).toEqual({ name: 'v1.3.10', oid: second });
    expect(await repository.latestReleaseTag([first])).toEqual({ name: 'v1.3.9', oid: first });
  });

  it('is what the list of changes begins after, without merges and control characters', async () => {
    await project.git('tag', 'v1.0.0');
    await project.commit('b.txt', 'b', 'Add \u001b[31mred\u001b[0m \u202ethings');
    await project.git('switch', '--quiet', '--create', 'side', 'v1.0.0');
    await project.commit('c.txt', 'c', '--exec=evil');
    await project.git('switch', '--quiet', 'master');
    await project.git('merge', '--quiet', '--no-ff', '-m', 'Merge side', 'side');
    const subjects = await repository.subjects('v1.0.0', 'refs/heads/master');
    expect(subjects.sort()).toEqual(['--exec=evil', 'Add red things']);
    expect(await repository.subjects(null, 'HEAD')).toContain('First');
    await expect(repository.subjects('v1 --all', 'HEAD')).rejects.toThrow('full ref name');
  });

  it('gives each change one line of a bearable length, and none to a commit without words', async () => {
    await project.git('tag', 'v1.0.0');
    await project.commit('b.txt', 'b', `Long ${'wörd '.repeat(2_000)}`);
    await project.git('commit', '--quiet', '--allow-empty', '--allow-empty-message', '-m', '');
    await project.git(
      'commit',
      '--quiet',
      '--allow-empty',
      '-m',
      '\u200fright\u200e to\u061c left \u{1f469}\u200d\u{1f4bb}',
    );
    const [first, second, ...others] = await repository.subjects('v1.0.0', 'HEAD');
    expect(first).toBe('right to left \u{1f469}\u200d\u{1f4bb}');
    expect(second).toMatch(/^Long wörd .* …$/);
    expect(second?.length).toBeLessThan(310);
    expect(others).toEqual([]);
    expect(await repository.commitsBetween('refs/tags/v1.0.0', 'HEAD', ['b.txt'])).toEqual([
      expect.stringMatching(/^[0-9a-f]{7,} Long wörd/),
    ]);
  });

  it('is told missing where only the remote has a newer one', async () => {
    const first = await project.git('rev-parse', 'HEAD');
    await project.git('tag', 'v1.3.9');
    const tags = ['v1.3.8', 'v1.3.10', 'v1.4.0-rc.1', 'private'].map((name) => ({ name, oid: first }));
    expect(await repository.missingReleaseTags(tags, first)).toEqual(['v1.3.10']);
    await project.git('tag', 'v1.3.10');
    expect(await repository.missingReleaseTags(tags, first)).toEqual([]);
  });

  it('is not looked for in a history that is cut short without saying so', async () => {
    expect(await repository.isShallow()).toBe(false);
    await project.commit('b.txt', 'b');
    await project.git('push', '--quiet', 'cil', 'master');
    const shallow = join(project.root, 'shallow');
    await project.git('clone', '--quiet', '--depth', '1', `file://${project.remote}`, shallow);
    expect(await openRepository(shallow).isShallow()).toBe(true);
  });
});

describe('a remote', () => {
  it('is fetched without tags, and asked for what it has now', async () => {
    const first = await project.git('rev-parse', 'HEAD');
    const other = join(project.root, 'other');
    await project.git('clone', '--quiet', project.remote, other);
    const there = (...args: string[]) => project.git('-C', other, ...args);
    await there('-c', 'user.name=x', '-c', 'user.email=x', 'commit', '--quiet', '--allow-empty', '-m', 'Theirs');
    await there('tag', 'v9.0.0');
    await there('-c', 'user.name=x', '-c', 'user.email=x', 'tag', '--annotate', '-m', 'x', 'v9.0.1', first);
    await there('push', '--quiet', '--tags', 'origin', 'master', 'HEAD:refs/heads/x/refs/heads/master');
    const theirs = await there('rev-parse', 'HEAD');

    await repository.fetch('cil');
    expect(await repository.resolve('refs/remotes/cil/master')).toBe(theirs);
    expect(await repository.branchCommit('master')).toBe(first);
    expect(await repository.tagCommit('v9.0.0')).toBeNull();
    expect((await repository.remoteRefs('cil')).branches.get('master')).toBe(theirs);
    expect((await repository.remoteRefs('cil')).tags).toEqual([
      { name: 'v9.0.0', oid: theirs },
      { name: 'v9.0.1', oid: first },
    ]);
  });

  it('that is unknown is told from one that does not answer', async () => {
    for (const name of ['none', '--upload-pack=touch', '']) {
      await expect(repository.fetch(name)).rejects.toMatchObject({ code: 'REMOTE_UNKNOWN', kind: 'unsafe' });
    }
    await rm(project.remote, { recursive: true });
    const expected = { code: 'REMOTE_UNREACHABLE', kind: 'unreachable' };
    await expect(repository.fetch('cil')).rejects.toMatchObject(expected);
    await expect(repository.remoteRefs('cil')).rejects.toMatchObject(expected);
    await expect(repository.pushAtomic('cil', [])).rejects.toMatchObject(expected);
  });
});

describe('moving refs', () => {
  it('moves, makes and deletes them together, and twice without harm', async () => {
    const first = await project.git('rev-parse', 'HEAD');
    const second = await project.commit('b.txt', 'b');
    await project.git('branch', 'testing', first);
    await project.git('tag', 'old', first);
    const moves = [
      { ref: 'refs/heads/testing', from: first, to: second },
      { ref: 'refs/tags/v1.0.0', from: null, to: second },
      { ref: 'refs/tags/old', from: first, to: null },
      { ref: 'refs/heads/master', from: second, to: second },
    ];
    await repository.moveRefs(moves);
    await repository.moveRefs(moves);
    expect(await repository.branchCommit('testing')).toBe(second);
    expect(await repository.tagCommit('v1.0.0')).toBe(second);
    expect(await repository.tagCommit('old')).toBeNull();
    await repository.moveRefs(moves.map(({ ref, from, to }) => ({ ref, from: to, to: from })));
    expect(await repository.branchCommit('testing')).toBe(first);
    expect(await repository.tagCommit('v1.0.0')).toBeNull();
    expect(await repository.tagCommit('old')).toBe(first);
  });

  it('moves none when one is not where it was seen', async () => {
    const first = await project.git('rev-parse', 'HEAD');
    const second = await project.commit('b.txt', 'b');
    await project.git('branch', 'testing', first);
    const moving = { ref: 'refs/heads/testing', from: first, to: second };
    const strays = [
      { ref: 'refs/heads/master', from: first, to: second },
      { ref: 'refs/heads/master', from: null, to: first },
      { ref: 'refs/heads/master', from: first, to: null },
      { ref: 'refs/heads/master', from: first, to: first },
      { ref: 'refs/tags/none', from: first, to: second },
    ];
    for (const stray of strays.slice(1)) {
      const error = await repository.moveRefs([moving, stray]).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: 'REF_MOVED', kind: 'unsafe' });
      expect(String(error)).toContain(stray.ref);
      expect(await repository.branchCommit('testing')).toBe(first);
    }
    expect(await repository.branchCommit('master')).toBe(second);
  });
});

describe('pushing', () => {
  const onRemote = (ref: string) => project.git('ls-remote', 'cil', ref).then((text) => text.split('\t')[0]);

  it('brings the branch and the tag together, twice without harm, and no other tag', async () => {
    const oid = await project.commit('b.txt', 'b');
    await project.git('tag', 'private');
    const refs = [
      { ref: 'refs/heads/master', oid },
      { ref: 'refs/tags/v1.0.0', oid },
    ];
    await repository.pushAtomic('cil', refs);
    await repository.pushAtomic('cil', refs);
    expect(await onRemote('refs/heads/master')).toBe(oid);
    expect(await onRemote('refs/tags/v1.0.0')).toBe(oid);
    expect(await onRemote('refs/tags/private')).toBe('');
  });

  it('that is no fast-forward brings nothing at all', async () => {
    const first = await project.git('rev-parse', 'HEAD');
    const theirs = await project.commit('b.txt', 'b');
    await project.git('push', '--quiet', 'cil', 'master');
    await project.git('reset', '--quiet', '--hard', first);
    const oid = await project.commit('c.txt', 'c');
    const error = await repository
      .pushAtomic('cil', [
        { ref: 'refs/tags/v1.0.0', oid },
        { ref: 'refs/heads/master', oid },
      ])
      .catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'PUSH_REJECTED', kind: 'rejected' });
    expect(await onRemote('refs/heads/master')).toBe(theirs);
    expect(await onRemote('refs/tags/v1.0.0')).toBe('');
  });

  it('that a hook refuses, there or here, tells its words', async () => {
    const oid = await project.commit('b.txt', 'b');
    const refs = [{ ref: 'refs/heads/master', oid }];
    const hook = '#!/bin/sh\necho "frozen until Monday" >&2\nexit 1\n';
    for (const path of [join(project.remote, 'hooks/pre-receive'), join(project.dir, '.git/hooks/pre-push')]) {
      await mkdir(join(path, '..'), { recursive: true });
      await writeFile(path, hook, { mode: 0o755 });
      const error = await repository.pushAtomic('cil', refs).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: 'PUSH_REJECTED', kind: 'rejected' });
      expect(String(error)).toContain('frozen until Monday');
      await rm(path);
    }
    await repository.pushAtomic('cil', refs);
  });

  it('that broke off is judged by what the remote has', async () => {
    const oid = await project.commit('b.txt', 'b');
    const hook = join(project.remote, 'hooks/post-receive');
    await mkdir(join(hook, '..'), { recursive: true });
    // The refs have moved, and the remote dies before it can say so.
    await writeFile(hook, '#!/bin/sh\nkill -9 $PPID\n', { mode: 0o755 });
    await repository.pushAtomic('cil', [{ ref: 'refs/heads/master', oid }]);
    expect(await onRemote('refs/heads/master')).toBe(oid);
    // And one that can not be asked afterwards either.
    const next = await project.commit('c.txt', 'c');
    await writeFile(hook, `#!/bin/sh\nmv '${project.remote}' '${project.remote}.away'\nkill -9 $PPID\n`);
    const broken = await repository
      .pushAtomic('cil', [{ ref: 'refs/heads/master', oid: next }])
      .catch((thrown: unknown) => thrown);
    expect(broken).toMatchObject({ code: 'PUSH_OUTCOME_UNKNOWN', kind: 'unknownOutcome' });
  });

  it('whose git was ended is not taken for refused: what was sent may arrive yet', async () => {
    const oid = await project.commit('b.txt', 'b');
    const hook = join(project.dir, '.git/hooks/pre-push');
    await mkdir(join(hook, '..'), { recursive: true });
    await writeFile(hook, '#!/bin/sh\nkill -9 $PPID\n', { mode: 0o755 });
    await expect(repository.pushAtomic('cil', [{ ref: 'refs/heads/master', oid }])).rejects.toMatchObject({
      code: 'PUSH_OUTCOME_UNKNOWN',
      kind: 'unknownOutcome',
    });
  });
});

describe('merging into the operator tree', () => {
  it('goes forward where it can, and is content with what is contained', async () => {
    await project.git('switch', '--quiet', '--create', 'develop');
    await project.git('switch', '--quiet', 'master');
    const oid = await project.commit('b.txt', 'b');
    await project.git('switch', '--quiet', 'develop');
    await writeFile(join(project.dir, 'mine'), 'untracked');
    expect(await repository.mergeIntoCurrent({ from: oid, names: NAMES, message: 'x' })).toBe(oid);
    expect(await repository.mergeIntoCurrent({ from: oid, names: NAMES, message: 'x' })).toBe(oid);
    expect(await readFile(join(project.dir, 'b.txt'), 'utf8')).toBe('b');
    expect(await repository.currentBranch()).toBe('develop');
  });

  it('makes a merge where both went on, and undoes one with conflicts', async () => {
    await project.git('switch', '--quiet', '--create', 'develop');
    const mine = await project.commit('c.txt', 'c');
    await project.git('switch', '--quiet', 'master');
    const theirs = await project.commit('b.txt', 'b');
    const conflicting = await project.commit('c.txt', 'other');
    await project.git('switch', '--quiet', 'develop');
    const merged = await repository.mergeIntoCurrent({ from: theirs, names: NAMES, message: 'Bring back' });
    expect(await project.git('log', '-1', '--format=%P %s', merged)).toBe(`${mine} ${theirs} Bring back`);
    const error = await repository
      .mergeIntoCurrent({ from: conflicting, names: NAMES, message: 'x' })
      .catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'MERGE_CONFLICT', kind: 'rejected' });
    expect(String(error)).toContain('c.txt');
    expect(await repository.status()).toEqual([]);
    expect(await repository.resolve('HEAD')).toBe(merged);
  });

  it('refuses a tree with edits', async () => {
    const oid = await project.commit('b.txt', 'b');
    await project.git('reset', '--quiet', '--hard', 'HEAD~1');
    await writeFile(join(project.dir, 'a.txt'), 'edited');
    await expect(repository.mergeIntoCurrent({ from: oid, names: NAMES, message: 'x' })).rejects.toMatchObject({
      code: 'TREE_DIRTY',
      kind: 'unsafe',
    });
    expect(await readFile(join(project.dir, 'a.txt'), 'utf8')).toBe('edited');
    expect(await realpath(project.dir)).toBe(project.dir);
  });
});
