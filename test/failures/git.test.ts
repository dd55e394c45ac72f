/** Trouble in the project's branches. What the messages say to do is done letter by letter. */
import { appendFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { OVER_SSH } from '../scenarios/stage.ts';
import { failures } from './failure.ts';
import { gitTreeRows } from './git.rows.ts';
import {
  project,
  next,
  types,
  conflicts,
  rest,
  expectNext,
  commit,
  onBranch,
  hookHere,
  notPushed,
  putBack,
  pushed,
  sectionOf,
} from './git.steps.ts';

failures('git', gitTreeRows, {
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
      await rest(on, 'tested');
      await expectNext(on, 'NEXT', 'tagged');
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
      for (const name of ['commit-msg', 'pre-push']) {
        const path = hookHere(on, name, 'echo "no ticket number" >&2', 'exit 1');
        const refused = await next(on);
        expect(refused.err).toContain('no ticket number');
        expect(on.document().snapshot.value).toBe('tested');
        putBack(on);
        rmSync(path);
      }
      // Elsewhere the publish command checks out by itself, in a clone that is not flow's.
      if (OVER_SSH) return;
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
});
