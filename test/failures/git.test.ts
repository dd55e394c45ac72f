/** Trouble in the project's repository and its remote. What the messages say to do is done letter by letter. */
import { execFileSync } from 'node:child_process';
import { appendFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect } from 'vitest';
import { git, type Stage } from '../scenarios/stage.ts';
import type { Ended } from '../scenarios/terminal.ts';
import { failures } from './failure.ts';
import { gitRows } from './git.rows.ts';

const project = (on: Stage, ...args: string[]): string => git(on.sandbox.projectDir, ...args);
const remote = (on: Stage): string => join(on.sandbox.root, 'cil.git');
const onRemote = (on: Stage, ref: string): string => git(remote(on), 'for-each-ref', '--format=%(objectname)', ref);
const next = (on: Stage): Promise<Ended> => on.flow('send', 'NEXT', '--yes');

/** What an operator types at a shell, in the project. */
const types = (on: Stage, line: string): string =>
  execFileSync('sh', ['-ec', line], { cwd: on.sandbox.projectDir, encoding: 'utf8', stdio: 'pipe' });

function conflicts(on: Stage, line: string, file: string): void {
  expect(() => types(on, line)).toThrow();
  expect(project(on, 'diff', '--name-only', '--diff-filter=U')).toBe(file);
}

async function rest(on: Stage, milestone: string): Promise<void> {
  await on.walkTo(await on.start(), milestone);
  await on.leave();
}

async function expectNext(on: Stage, event: 'NEXT' | 'RETEST', milestone: string): Promise<void> {
  const ended = await on.flow('send', event, '--yes');
  expect(ended.status, ended.err).toBe(0);
  expect(on.document().snapshot.value).toBe(milestone);
}

function commit(on: Stage, file: string, text: string, subject: string): void {
  appendFileSync(join(on.sandbox.projectDir, file), text);
  project(on, 'add', '--', file);
  project(on, 'commit', '--quiet', '-m', subject);
}

function onBranch(on: Stage, branch: string, work: () => void): void {
  project(on, 'switch', '--quiet', branch);
  work();
  project(on, 'switch', '--quiet', 'develop');
}

function hook(dir: string, name: string, ...lines: string[]): string {
  const path = join(dir, 'hooks', name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `#!/bin/sh\n${lines.join('\n')}\n`, { mode: 0o755 });
  return path;
}
const hookHere = (on: Stage, name: string, ...lines: string[]): string =>
  hook(join(on.sandbox.projectDir, '.git'), name, ...lines);

/** Somebody else's clone. */
function colleague(on: Stage, branch: string): (...args: string[]) => string {
  const dir = join(on.sandbox.root, 'colleague');
  git(on.sandbox.root, 'clone', '--quiet', '--branch', branch, 'cil.git', dir);
  git(dir, 'config', 'user.name', 'Colleague');
  git(dir, 'config', 'user.email', 'colleague@example.com');
  return (...args) => git(dir, ...args);
}

const notPushed = (on: Stage): void => {
  expect(onRemote(on, 'refs/tags/v1.3.8')).toBe('');
  expect(onRemote(on, 'refs/heads/master')).toBe(project(on, 'rev-parse', 'v1.3.7'));
};
/** As if tagging had never been tried. */
const putBack = (on: Stage): void => {
  notPushed(on);
  expect(project(on, 'tag', '--list', 'v1.3.8')).toBe('');
  expect(project(on, 'rev-parse', 'master')).toBe(project(on, 'rev-parse', 'v1.3.7'));
};
const pushed = (on: Stage): void => {
  const master = project(on, 'rev-parse', 'master');
  expect([onRemote(on, 'refs/tags/v1.3.8'), onRemote(on, 'refs/heads/master')]).toEqual([master, master]);
  expect(git(remote(on), 'log', '--format=%s', 'v1.3.7..v1.3.8').match(/ChangeLog for/g)).toHaveLength(1);
};
const sectionOf = (on: Stage, version: string): string =>
  project(on, 'show', 'master:ChangeLog.md')
    .split(/^## /m)
    .find((section) => section.startsWith(version)) ?? '';

/** Takes away what runs on a server, and every trace of it. */
async function emptyServer(on: Stage, name: string): Promise<void> {
  const pid = await on.sandbox.serverPid(name);
  if (pid !== null) process.kill(pid, 'SIGKILL');
  await expect.poll(() => on.sandbox.serverPid(name)).toBeNull();
  const { dir } = on.sandbox.server(name);
  rmSync(dir, { recursive: true });
  mkdirSync(dir);
}

failures('git', gitRows, {
  dirtyTree: {
    async trouble(on) {
      await rest(on, 'app2Published');
      appendFileSync(join(on.sandbox.projectDir, 'README.md'), 'half a thought\n');
      return await next(on);
    },
    async mended(on) {
      expect(project(on, 'status', '--porcelain')).toBe('M README.md');
      // Though R5.3 was not done, the next list of changes begins where it should.
      project(on, 'stash');
      await on.sandbox.commitChange('Show the receipt');
      await rest(on, 'tagged');
      expect(sectionOf(on, 'v1.3.9')).toMatch(/^v1\.3\.9 \(.*\)\n\n\* Show the receipt\n\n$/);
      types(on, 'git switch develop && git merge master');
      project(on, 'merge-base', '--is-ancestor', 'v1.3.9', 'develop');
    },
  },
  conflictBack: {
    async trouble(on) {
      await rest(on, 'app2Published');
      const file = join(on.sandbox.projectDir, 'ChangeLog.md');
      writeFileSync(file, readFileSync(file, 'utf8').replace('\n## ', '\n## unreleased\n\n## '));
      project(on, 'commit', '--quiet', '--all', '-m', 'Begin the next section');
      return await next(on);
    },
    mended(on) {
      expect(project(on, 'status', '--porcelain', '--branch')).toMatch(/^## develop\.\.\.\S+ \[ahead 1\]$/);
      expect(existsSync(join(on.sandbox.projectDir, '.git/MERGE_HEAD'))).toBe(false);
      conflicts(on, 'git switch develop && git merge master', 'ChangeLog.md');
      types(on, 'git checkout --theirs ChangeLog.md && git commit --quiet --all --no-edit');
      return Promise.resolve();
    },
  },
  conflictTesting: {
    async trouble(on) {
      onBranch(on, 'testing', () => {
        commit(on, 'features.md', '- made on testing\n', 'Work on testing');
      });
      await rest(on, 'planned');
      return await next(on);
    },
    async mended(on) {
      expect(await on.sandbox.publishCount('test')).toBe(0);
      conflicts(on, 'git switch testing && git merge develop', 'features.md');
      types(on, 'git checkout --theirs features.md && git commit --quiet --all --no-edit && git switch develop');
      await expectNext(on, 'NEXT', 'tested');
    },
  },
  conflictMaster: {
    async trouble(on) {
      onBranch(on, 'master', () => {
        commit(on, 'features.md', '- made on master\n', 'Work on master');
      });
      await rest(on, 'tested');
      return await next(on);
    },
    async mended(on) {
      notPushed(on);
      conflicts(on, 'git switch develop && git merge master', 'features.md');
      types(on, 'git checkout --ours features.md && git commit --quiet --all --no-edit');
      await expectNext(on, 'RETEST', 'tested');
      await expectNext(on, 'NEXT', 'tagged');
    },
  },
  hotfixOnMaster: {
    async trouble(on) {
      onBranch(on, 'master', () => {
        commit(on, 'hotfix.md', 'cents\n', 'Mend the rounding at once');
      });
      await rest(on, 'tested');
      return await next(on);
    },
    async mended(on) {
      notPushed(on);
      types(on, 'git switch develop && git merge master');
      await expectNext(on, 'RETEST', 'tested');
      await expectNext(on, 'NEXT', 'tagged');
      expect(sectionOf(on, 'v1.3.8')).toContain('* Mend the rounding at once');
      pushed(on);
    },
  },
  remoteAhead: {
    async trouble(on) {
      await rest(on, 'tested');
      const theirs = colleague(on, 'master');
      theirs('commit', '--quiet', '--allow-empty', '-m', 'Mend it in a hurry');
      theirs('push', '--quiet', 'origin', 'master');
      return await next(on);
    },
    async mended(on) {
      expect(project(on, 'tag', '--list', 'v1.3.8')).toBe('');
      expect(project(on, 'rev-parse', 'master')).toBe(project(on, 'rev-parse', 'v1.3.7'));
      types(on, 'git fetch cil master:master && git merge master');
      await expectNext(on, 'RETEST', 'tested');
      await expectNext(on, 'NEXT', 'tagged');
      pushed(on);
    },
  },
  remoteDevelopAhead: {
    async trouble(on) {
      const theirs = colleague(on, 'develop');
      theirs('commit', '--quiet', '--allow-empty', '-m', 'Work of somebody else');
      theirs('push', '--quiet', 'origin', 'develop');
      const planned = await on.flow('start', '--yes');
      expect(planned.err).toContain('cil/develop has commits that develop here lacks; they are not in this release.');
      const tested = await next(on);
      expect(tested.err).toContain('Work of somebody else');
      return tested;
    },
    async mended(on) {
      types(on, 'git fetch cil && git merge cil/develop');
      await expectNext(on, 'RETEST', 'tested');
      expect(project(on, 'log', '--format=%s', 'testing')).toContain('Work of somebody else');
    },
  },
  remoteAway: {
    async trouble(on) {
      renameSync(remote(on), `${remote(on)}.away`);
      const refused = await on.flow('start', '--yes');
      expect([refused.status, refused.err]).toEqual([
        4,
        expect.stringContaining('Nothing was changed. Then: flow start'),
      ]);
      renameSync(`${remote(on)}.away`, remote(on));
      await rest(on, 'planned');
      renameSync(remote(on), `${remote(on)}.away`);
      return await next(on);
    },
    async mended(on) {
      expect(await on.sandbox.publishCount('test')).toBe(0);
      renameSync(`${remote(on)}.away`, remote(on));
      await expectNext(on, 'NEXT', 'tested');
    },
  },
  pushRejected: {
    async trouble(on) {
      await rest(on, 'tested');
      project(on, 'remote', 'set-url', '--push', 'cil', join(on.sandbox.root, 'nowhere.git'));
      expect((await next(on)).err).toContain('Nothing was sent.');
      expect(on.document().snapshot.value).toBe('tested');
      putBack(on);
      project(on, 'config', '--unset', 'remote.cil.pushurl');
      hook(remote(on), 'pre-receive', 'echo "frozen until Monday" >&2', 'exit 1');
      const ended = await next(on);
      expect(ended.err).toContain('frozen until Monday');
      return ended;
    },
    async mended(on) {
      putBack(on);
      rmSync(join(remote(on), 'hooks/pre-receive'));
      await expectNext(on, 'NEXT', 'tagged');
      pushed(on);
    },
  },
  pushUnknown: {
    async trouble(on) {
      await rest(on, 'tested');
      hook(remote(on), 'post-receive', `mv '${remote(on)}' '${remote(on)}.away'`, 'kill -9 $PPID');
      return await next(on);
    },
    async mended(on) {
      renameSync(`${remote(on)}.away`, remote(on));
      rmSync(join(remote(on), 'hooks/post-receive'));
      await expectNext(on, 'NEXT', 'tagged');
      pushed(on);
    },
  },
  pushEnded: {
    async trouble(on) {
      await rest(on, 'tested');
      const killer = hookHere(on, 'pre-push', 'kill -9 $PPID');
      expect((await next(on)).err).toContain('cil has nothing of it yet, but may still be taking it');
      rmSync(killer);
      // Tested anew in between: the tag must not stay at what was tested first.
      const first = project(on, 'rev-parse', 'v1.3.8');
      await on.sandbox.commitChange('One more thing');
      await expectNext(on, 'RETEST', 'tested');
      hookHere(on, 'pre-push', 'kill -9 $PPID');
      expect((await next(on)).status).toBe(6);
      expect(project(on, 'rev-parse', 'v1.3.8')).not.toBe(first);
      expect(sectionOf(on, 'v1.3.8')).toContain('* One more thing');
      return await on.flow('send', 'ABORT', '--yes');
    },
    mended(on) {
      putBack(on);
      return Promise.resolve();
    },
  },
  killedBeforePush: {
    async trouble(on) {
      await rest(on, 'tested');
      // The hook's parent is git, and git's is flow.
      const killer = hookHere(on, 'pre-push', 'kill -9 "$(ps -o ppid= -p $PPID | tr -d " ")"', 'exit 1');
      expect((await next(on)).status).toBeNull();
      rmSync(killer);
      notPushed(on);
      expect(project(on, 'tag', '--list', 'v1.3.8')).toBe('v1.3.8');
      return await on.flow('resume', '--yes');
    },
    mended(on) {
      pushed(on);
      return Promise.resolve();
    },
  },
  abortTagged: {
    async trouble(on) {
      await rest(on, 'planned');
      expect((await on.flow('send', 'ABORT', '--yes')).out).toContain('kept: master and all tags');
      await rest(on, 'tested');
      expect((await on.flow('send', 'ABORT', '--yes')).out).toContain('and what the test server runs; kept: master');
      await rest(on, 'tagged');
      return await on.flow('send', 'ABORT', '--yes');
    },
    async mended(on) {
      pushed(on);
      expect((await on.flow('start', '--yes')).err).toContain('release v1.3.9 after v1.3.8');
    },
  },
  tagElsewhere: {
    async trouble(on) {
      const taken = await on.flow('start', '--to', 'v1.3.7', '--yes');
      expect([taken.status, taken.err]).toEqual([4, expect.stringContaining('The tag v1.3.7 exists here already')]);
      await rest(on, 'tested');
      project(on, 'tag', 'v1.3.8', 'develop');
      expect((await next(on)).err).toContain('The tag v1.3.8 exists here already, at');
      project(on, 'push', '--quiet', 'cil', 'v1.3.8');
      project(on, 'tag', '--delete', 'v1.3.8');
      return await next(on);
    },
    async mended(on) {
      expect(onRemote(on, 'refs/tags/v1.3.8')).toBe(project(on, 'rev-parse', 'develop'));
      expect((await on.flow('send', 'ABORT', '--yes')).status).toBe(0);
      expect((await on.flow('start', '--yes')).err).toContain('git fetch --tags cil');
      project(on, 'fetch', '--tags', 'cil');
      expect((await on.flow('start', '--to', 'v1.3.9', '--yes')).status).toBe(0);
    },
  },
  tagsMissing: {
    async trouble(on) {
      project(on, 'tag', '--delete', 'v1.3.7');
      return await on.flow('start', '--yes');
    },
    async mended(on) {
      types(on, 'git fetch --tags cil');
      expect((await on.flow('start', '--yes')).err).toContain('release v1.3.8 after v1.3.7');
    },
  },
  shallow: {
    async trouble(on) {
      const { projectDir, root } = on.sandbox;
      const config = readFileSync(join(projectDir, 'flow.yaml'));
      rmSync(projectDir, { recursive: true });
      const url = `file://${remote(on)}`;
      git(root, 'clone', '--quiet', '--depth', '1', '--no-single-branch', '--origin', 'cil', url, projectDir);
      for (const branch of ['develop', 'testing']) project(on, 'branch', branch, `cil/${branch}`);
      writeFileSync(join(projectDir, 'flow.yaml'), config);
      return await on.flow('start', '--yes');
    },
    async mended(on) {
      types(on, 'git fetch --unshallow --tags cil');
      expect((await on.flow('start', '--yes')).err).toContain('release v1.3.8 after v1.3.7');
    },
  },
  firstRelease: {
    async trouble(on) {
      const tags = project(on, 'tag', '--list').split('\n');
      project(on, 'push', '--quiet', '--delete', 'cil', ...tags);
      project(on, 'tag', '--delete', ...tags);
      return await on.flow('start', '--yes');
    },
    async mended(on) {
      appendFileSync(join(on.sandbox.projectDir, 'flow.yaml'), 'rollback: { restore: hold }\n');
      await rest(on, 'planned');
      expect(on.document().snapshot.context.version).toBe('v0.1.0');
      const tagged = await on.flow('run', '--until', 'tagged', '--yes');
      expect(tagged.status, tagged.err).toBe(0);
      // With no tag before it, everything there ever was is new.
      expect(project(on, 'show', 'v0.1.0:ChangeLog.md')).toContain('* Scan to pay');
    },
  },
  firstInstallation: {
    async trouble(on) {
      await Promise.all(['app1', 'app2'].map((name) => emptyServer(on, name)));
      const planned = await on.flow('start', '--yes');
      expect(planned.err).toContain('a rollback can not restore it, and would leave it out of rotation');
      return await on.flow('run', '--yes');
    },
  },
  newServer: {
    async trouble(on) {
      await emptyServer(on, 'app1');
      await rest(on, 'app1Live');
      return await on.flow('send', 'ROLLBACK', '--yes');
    },
  },
  nothingBefore: {
    async trouble(on) {
      await Promise.all(['app1', 'app2'].map((name) => emptyServer(on, name)));
      await rest(on, 'app1Drained');
      await on.sandbox.publishKnobs({ EXIT_WITH: 3 });
      expect((await next(on)).status).toBe(6);
      return await on.flow('send', 'ROLLBACK', '--yes');
    },
  },
  hookRefuses: {
    async trouble(on) {
      await rest(on, 'planned');
      hookHere(on, 'post-checkout', 'echo refs/heads/noise', 'echo "more noise" >&2');
      hookHere(on, 'pre-merge-commit', 'echo "no merges on a Monday" >&2', 'exit 1');
      return await next(on);
    },
    async mended(on) {
      rmSync(join(on.sandbox.projectDir, '.git/hooks/pre-merge-commit'));
      await expectNext(on, 'NEXT', 'tested');
      for (const name of ['pre-commit', 'commit-msg', 'pre-push']) {
        const path = hookHere(on, name, 'echo "no ticket number" >&2', 'exit 1');
        const refused = await next(on);
        expect(refused.err).toContain('no ticket number');
        expect(on.document().snapshot.value).toBe('tested');
        putBack(on);
        rmSync(path);
      }
      // A hook that refuses a checkout keeps a publish from being started, and the server is what it was.
      await expectNext(on, 'NEXT', 'tagged');
      await on.walkTo(await on.reopen(), 'app1Drained');
      await on.leave();
      hookHere(on, 'post-checkout', 'echo "a filter is missing" >&2', 'exit 1');
      const refused = await next(on);
      expect(refused.err).toContain('a filter is missing');
      expect(refused.err).toContain('Nothing was started on app1.');
      expect(on.document().snapshot.context.runs.app1).toBe('old');
      hookHere(on, 'post-checkout', 'exit 0');
      await expectNext(on, 'NEXT', 'app1Published');
    },
  },
  hostileSubjects: {
    async trouble(on) {
      project(on, 'config', 'user.name', 'Op\u001b[31merator\u202e');
      const subjects = [
        'Paint it \u001b[31mred\u001b[0m and \u001b]0;title\u0007ring \u0007\u009b2J',
        '\u202eright to left\u200f',
        '## v9.9.9',
        '- dashed',
        `Long ${'word '.repeat(2_000)}`,
      ];
      for (const subject of subjects)
        project(on, 'commit', '--quiet', '--allow-empty', '--cleanup=verbatim', '-m', subject);
      await rest(on, 'tested');
      return await next(on);
    },
    async mended(on) {
      const section = sectionOf(on, 'v1.3.8');
      const lines = section.split('\n').filter((line) => line !== '');
      expect(lines).toHaveLength(10);
      expect(lines.slice(1).every((line) => line.startsWith('* '))).toBe(true);
      expect(lines.slice(1, 6)).toEqual([
        expect.stringMatching(/^\* Long word .* …$/),
        '* \\- dashed',
        '* \\## v9.9.9',
        '* right to left',
        '* Paint it red and ring',
      ]);
      const shown = await Promise.all(['status', 'history', 'why'].map((command) => on.flow(command)));
      expect(`${section}${shown.map(({ out, err }) => out + err).join('')}`).not.toMatch(/(?!\n)[\p{Cc}\u200f\u202e]/u);
    },
  },
  hostileBranch: {
    async trouble(on) {
      project(on, 'update-ref', 'refs/heads/-f', 'develop');
      appendFileSync(join(on.sandbox.projectDir, 'flow.yaml'), 'git: { branches: { develop: "-f" } }\n');
      return await on.flow('start', '--yes');
    },
  },
});
