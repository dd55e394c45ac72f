/** Trouble with the remote, the push and the tag. What the messages say to do is done letter by letter. */
import { renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { failures } from './failure.ts';
import { gitRemoteRows } from './git.rows.ts';
import {
  project,
  remote,
  onRemote,
  next,
  types,
  rest,
  expectNext,
  hook,
  hookHere,
  colleague,
  notPushed,
  putBack,
  pushed,
  sectionOf,
} from './git.steps.ts';

failures('the remote', gitRemoteRows, {
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
  remoteAway: {
    async trouble(on) {
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
  tagElsewhere: {
    async trouble(on) {
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
});
