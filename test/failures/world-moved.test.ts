/** A world that is not as the record says: noticed before anything is done, named, and stopped until it is answered. */
import { execFileSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { git, type Stage } from '../scenarios/stage.ts';
import { answering, failures } from './failure.ts';
import { worldMovedRows } from './world-moved.rows.ts';

const nginx = (on: Stage, ...args: string[]) => execFileSync('sbin/nginx', args, { cwd: on.sandbox.nginxDir });

async function walkTo(on: Stage, milestone: string): Promise<void> {
  await on.walkTo(await on.start(), milestone);
  await on.leave();
}

/** Kills a driver in the middle of the soak, as a closed laptop would. */
async function killInSoak(on: Stage): Promise<void> {
  await walkTo(on, 'app1Live');
  const soaking = on.begin('send', 'NEXT', '--yes');
  await expect.poll(() => on.document().snapshot.value, { timeout: 10_000 }).toBe('verifying');
  soaking.child.kill('SIGKILL');
  await soaking.ended;
}

/** Publishes an older version by hand, as somebody who knows nothing of the release. */
async function publishByHand(on: Stage, version: string, server: string): Promise<void> {
  const tree = join(on.sandbox.root, 'by-hand');
  git(on.sandbox.projectDir, 'worktree', 'add', '--quiet', '--detach', tree, version);
  execFileSync('./publish.sh', [server], { cwd: tree, input: 'y\n' });
  expect(await on.sandbox.runningVersion(server)).toBe(version);
}

failures('a world that moved', worldMovedRows, {
  proxySwitched: {
    async trouble(on) {
      await walkTo(on, 'app1Drained');
      git(on.sandbox.nginxDir, 'switch', 'master');
      nginx(on, '-s', 'reload');
      return await on.flow('send', 'NEXT', '--yes');
    },
    async mended(on) {
      expect(await on.sandbox.publishCount('app1')).toBe(0);
      const asked = await on.flow('resume');
      expect([asked.status, asked.out]).toEqual([6, expect.stringContaining('flow send ANSWER putBack')]);
      expect((await on.flow('send', 'ANSWER', 'putBack', '--yes')).status).toBe(0);
      expect((await on.flow('send', 'NEXT', '--yes')).status).toBe(0);
    },
  },
  proxySwitchedInAStep: {
    stage: { soakMs: 60_000 },
    async trouble(on) {
      await killInSoak(on);
      git(on.sandbox.nginxDir, 'switch', 'yun-app2');
      nginx(on, '-s', 'reload');
      return await on.flow('resume', '--yes');
    },
    async mended(on) {
      expect((await on.flow('send', 'ROLLBACK', '--yes')).status).toBe(7);
    },
  },
  proxySwitchedInSoak: {
    stage: { soakMs: 60_000 },
    async trouble(on) {
      await walkTo(on, 'app1Live');
      const soaking = on.begin('send', 'NEXT', '--yes');
      await expect.poll(() => on.document().snapshot.value, { timeout: 10_000 }).toBe('verifying');
      git(on.sandbox.nginxDir, 'switch', 'yun-app2');
      nginx(on, '-s', 'reload');
      const ended = await soaking.ended;
      // A hand's reload returns before the old workers have closed their listeners.
      await expect.poll(() => answering(on.sandbox.url), { timeout: 10_000 }).toEqual(['app2']);
      return ended;
    },
    async mended(on) {
      expect((await on.flow('send', 'ROLLBACK', '--yes')).status).toBe(7);
    },
  },
  proxyRestarted: {
    async trouble(on) {
      await walkTo(on, 'app1Drained');
      nginx(on, '-s', 'quit');
      await expect.poll(() => on.sandbox.nginxPid(), { timeout: 10_000 }).toBeNull();
      await on.sandbox.startNginx();
      return await on.flow('send', 'NEXT', '--yes');
    },
    async mended(on) {
      await on.flow('resume');
      expect((await on.flow('send', 'ANSWER', 'putBack', '--yes')).status).toBe(0);
      expect((await on.flow('send', 'NEXT', '--yes')).status).toBe(0);
    },
  },
  leftOut: {
    async trouble(on) {
      git(on.sandbox.nginxDir, 'switch', 'yun-app2');
      nginx(on, '-s', 'reload');
      return await on.flow('start', '--yes');
    },
    async mended(on) {
      expect((await on.flow('run', '--until', 'app1Live', '--yes')).status).toBe(0);
      const { context } = on.document().snapshot;
      expect([context.serving, context.routes]).toEqual([['app2'], [['app1']]]);
    },
  },
  serverRestarted: {
    async trouble(on) {
      await walkTo(on, 'app1Drained');
      await publishByHand(on, 'v1.3.7', 'app1');
      return await on.flow('send', 'NEXT', '--yes');
    },
  },
  versionChanged: {
    async trouble(on) {
      await walkTo(on, 'app1Drained');
      await publishByHand(on, 'v1.3.6', 'app2');
      return await on.flow('send', 'NEXT', '--yes');
    },
    async mended(on) {
      expect(await on.sandbox.publishCount('app1')).toBe(0);
      const forced = await on.flow('send', 'NEXT', '--yes', '--force=versionsAsBelieved', '--reason', 'it is mine');
      expect(forced.status, forced.err).toBe(0);
      expect(on.document().history.some(({ reason }) => reason === 'it is mine')).toBe(true);
    },
  },
  versionChangedInAStep: {
    stage: { soakMs: 2_000 },
    async trouble(on) {
      await killInSoak(on);
      await publishByHand(on, 'v1.3.6', 'app1');
      return await on.flow('resume', '--yes');
    },
    async mended(on) {
      const forced = await on.flow('resume', '--force=worldAsRecorded', '--reason', 'it is mine');
      expect([forced.status, on.document().snapshot.value]).toEqual([0, 'verified']);
      const entry = on.document().history.find(({ event }) => event === 'RESUME');
      expect([entry?.reason, entry?.forced[0]?.because]).toEqual(['it is mine', expect.stringContaining('v1.3.6')]);
    },
  },
  tagMoved: {
    async trouble(on) {
      await walkTo(on, 'app1Drained');
      git(on.sandbox.projectDir, 'tag', '-f', 'v1.3.8', 'develop~2');
      return await on.flow('send', 'NEXT', '--yes');
    },
    async mended(on) {
      expect(await on.sandbox.publishCount('app1')).toBe(0);
      git(on.sandbox.projectDir, 'fetch', '--force', 'cil', 'tag', 'v1.3.8');
      expect((await on.flow('send', 'NEXT', '--yes')).status).toBe(0);
    },
  },
  tagDeleted: {
    async trouble(on) {
      await walkTo(on, 'app1Drained');
      git(on.sandbox.projectDir, 'tag', '-d', 'v1.3.8');
      return await on.flow('send', 'NEXT', '--yes');
    },
    async mended(on) {
      const { out } = await on.flow('why', 'NEXT');
      const [, name = '', commit = ''] = /git tag -f (\S+) ([0-9a-f]+)/.exec(out) ?? [];
      git(on.sandbox.projectDir, 'tag', '-f', name, commit);
      expect((await on.flow('send', 'NEXT', '--yes')).status).toBe(0);
    },
  },
  configEdited: {
    async trouble(on) {
      await killInSoak(on);
      const file = join(on.sandbox.projectDir, 'flow.yaml');
      await writeFile(file, (await readFile(file, 'utf8')).replace(/soak: 600ms/, 'soak: 1s'));
      return await on.flow('resume');
    },
    async mended(on) {
      expect((await on.flow('resume', '--yes')).status).toBe(0);
      expect(on.document().snapshot.value).toBe('verified');
    },
  },
});
