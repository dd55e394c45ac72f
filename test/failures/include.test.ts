/** Trouble with the one file that says who has the traffic: named, and the file, the commits and the traffic stay as they were. */
import { existsSync } from 'node:fs';
import { appendFile, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { judge } from '../../src/release/judge.ts';
import { planRelease } from '../../src/release/start.ts';
import { git, type Stage } from '../scenarios/stage.ts';
import type { Ended } from '../scenarios/terminal.ts';
import { failures, refusals } from './failure.ts';
import { beforeStart, beforeTheFirstSwitch, inMidRelease } from './include.rows.ts';

const FILE = 'conf/quickpay.servers';
const inNginx = (on: Stage, ...args: string[]): string => git(on.sandbox.nginxDir, ...args);
const path = (on: Stage, name: string): string => join(on.sandbox.nginxDir, name);

/** Runs a command that is refused, and holds the commits, the files and Nginx's workers to what they were before. */
async function unmoved(on: Stage, ...command: string[]): Promise<Ended> {
  const look = async () => [inNginx(on, 'for-each-ref'), inNginx(on, 'diff'), await on.sandbox.nginxPid()];
  const before = await look();
  const ended = await on.flow(...command);
  expect(await look()).toEqual(before);
  return ended;
}
const start = (on: Stage) => unmoved(on, 'start', '--yes');
const next = (on: Stage) => unmoved(on, 'send', 'NEXT', '--yes');

/** Commits a change of a file as a person would. */
async function commit(on: Stage, name: string, change: (text: string) => string): Promise<void> {
  await writeFile(path(on, name), change(await readFile(path(on, name), 'utf8')));
  inNginx(on, 'commit', '--quiet', '-a', '-m', 'By hand');
}
const undo = async (on: Stage) => {
  inNginx(on, 'reset', '--quiet', '--hard', 'HEAD^');
  expect((await planRelease(on.place, {})).input.version).toBe('v1.3.8');
};
async function expectNextPasses(on: Stage): Promise<void> {
  const [decision] = await judge(on.place, on.document(), [{ type: 'NEXT' }]);
  expect(decision?.accepted, JSON.stringify(decision)).toBe(true);
}

refusals(
  'the file of server lines, before a release',
  beforeStart,
  { stage: { include: true }, prepare: () => Promise.resolve() },
  {
    includeUnused: {
      async trouble(on) {
        await commit(on, 'conf/upstream.conf', (text) =>
          text.replace('include quickpay.servers;', 'server 10.0.0.9:1;'),
        );
        return await start(on);
      },
      mended: undo,
    },
    includeAndLines: {
      async trouble(on) {
        const line = `include quickpay.servers; server ${on.sandbox.server('app2').address};`;
        await commit(on, 'conf/upstream.conf', (text) => text.replace('include quickpay.servers;', line));
        return await start(on);
      },
      mended: undo,
    },
    includeMissing: {
      async trouble(on) {
        inNginx(on, 'rm', '--quiet', FILE);
        inNginx(on, 'commit', '--quiet', '-m', 'By hand');
        return await start(on);
      },
      mended: undo,
    },
    includeForeign: {
      async trouble(on) {
        await commit(on, FILE, (text) => `${text}server 10.0.0.9:8080;\n`);
        return await start(on);
      },
      mended: undo,
    },
    includeWrittenByHand: {
      async trouble(on) {
        await commit(on, FILE, (text) => text.replace('max_fails', 'weight=5 max_fails'));
        return await start(on);
      },
      async mended(on) {
        const forced = { force: ['routesDiffer'], reason: 'a test' };
        expect((await planRelease(on.place, forced)).input.version).toBe('v1.3.8');
        await undo(on);
      },
    },
  },
);

refusals(
  'the file of server lines, before the first switch',
  beforeTheFirstSwitch,
  {
    stage: { include: true },
    async prepare(on) {
      const driver = await on.start({ backTo: 'v1.3.6' });
      expect(driver.engine.state).toBe('tagged');
      await on.leave();
    },
  },
  {
    includeEdited: {
      async trouble(on) {
        await appendFile(path(on, FILE), '# looked at by night\n');
        return await next(on);
      },
      async mended(on) {
        inNginx(on, 'restore', FILE);
        await expectNextPasses(on);
      },
    },
    includeSwitchedByHand: {
      async trouble(on) {
        await commit(on, FILE, (text) => text.split('\n').slice(1).join('\n'));
        return await next(on);
      },
      async mended(on) {
        const resumed = await on.flow('resume', '--yes');
        expect([resumed.status, resumed.out]).toEqual([6, expect.stringContaining('flow send ANSWER putBack')]);
        const back = await on.flow('send', 'ANSWER', 'putBack', '--yes', '-m', 'it was a mistake');
        expect(back.status, back.err).toBe(0);
        expect(await readFile(path(on, FILE), 'utf8')).toContain(on.sandbox.server('app1').address);
        await expectNextPasses(on);
      },
    },
  },
);

failures('the file of server lines, in mid-release', inMidRelease, {
  includeRefused: {
    stage: { include: true },
    async trouble(on) {
      await on.start({ backTo: 'v1.3.6' });
      await on.leave();
      await commit(on, 'conf/nginx.conf', (text) => `${text}nonsense on;\n`);
      return await unmoved(on, 'send', 'NEXT', '--yes');
    },
    async mended(on) {
      inNginx(on, 'revert', '--no-edit', 'HEAD');
      expect((await on.flow('send', 'NEXT', '--yes')).status).toBe(0);
    },
  },
  includeKilled: {
    // While the marker lies there, the test of the configuration takes its time.
    stage: {
      include: true,
      config: { nginx: { test: ['sh', '-c', 'while [ -e temp/hold ]; do sleep 0.05; done; exec sbin/nginx -t'] } },
    },
    async trouble(on) {
      await on.start({ backTo: 'v1.3.6' });
      await on.leave();
      const commits = () => Number(inNginx(on, 'rev-list', '--count', 'HEAD'));
      const before = commits();
      await writeFile(path(on, 'temp/hold'), '');
      const running = on.begin('send', 'NEXT', '--yes');
      await expect.poll(commits, { timeout: 15_000, interval: 20 }).toBe(before + 1);
      running.child.kill('SIGKILL');
      await running.ended;
      await rm(path(on, 'temp/hold'));
      const resumed = await on.flow('resume', '--yes');
      expect(commits()).toBe(before + 1);
      expect(inNginx(on, 'status', '--porcelain')).toBe('');
      return resumed;
    },
    async mended(on) {
      expect((await on.flow('send', 'NEXT', '--yes')).status).toBe(0);
      expect(existsSync(path(on, '.git/index.lock'))).toBe(false);
    },
  },
});
