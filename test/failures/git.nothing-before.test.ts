/** The first release ever, and servers that ran nothing before: what there is to release to, and to go back to. */
import { execFileSync } from 'node:child_process';
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { git } from '../scenarios/stage.ts';
import { failures } from './failure.ts';
import { nothingBeforeRows } from './git.rows.ts';
import { next, project, rest, emptyServer } from './git.steps.ts';

failures('nothing before', nothingBeforeRows, {
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
    async mended(on) {
      project(on, 'worktree', 'add', '--quiet', '--detach', join(on.sandbox.root, 'by-hand'), 'v1.3.7');
      execFileSync('./publish.sh', ['app1'], { cwd: join(on.sandbox.root, 'by-hand'), input: 'y\n' });
      git(on.sandbox.nginxDir, 'switch', '--quiet', 'master');
      execFileSync('sbin/nginx', ['-s', 'reload'], { cwd: on.sandbox.nginxDir });
      await rest(on, 'app1Drained');
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
});
