/** An Nginx that does not run, or is not the one that is meant; and ways back that are blocked until a person has mended that. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { afterEach, expect } from 'vitest';
import { createPrefix, type Prefix, start } from '../nginx/prefix.ts';
import { git, type Stage } from '../scenarios/stage.ts';
import { failures } from './failure.ts';
import { masterRows } from './nginx.rows.ts';
import {
  commitOn,
  dropCommit,
  expectFlow,
  inNginx,
  nginx,
  rollsBack,
  toTagged,
  unmoved,
  walkTo,
  workersOf,
} from './nginx.steps.ts';

const PID_FILE = 'logs/nginx.pid';

let innocent: ChildProcess | undefined;
let other: Prefix | undefined;
afterEach(async () => {
  innocent?.kill('SIGKILL');
  innocent = undefined;
  await other?.remove();
  other = undefined;
});

async function stopNginx(on: Stage): Promise<void> {
  nginx(on, '-s', 'stop');
  await expect.poll(() => on.sandbox.nginxPid(), { timeout: 10_000 }).toBeNull();
}

failures('Nginx, its master', masterRows, {
  notRunning: {
    async trouble(on) {
      await toTagged(on);
      await stopNginx(on);
      return await on.flow('send', 'NEXT', '--yes');
    },
    async mended(on) {
      await on.sandbox.startNginx();
      await expectFlow(on, 0, 'app1Drained', 'send', 'NEXT', '--yes');
    },
  },
  pidReused: {
    async trouble(on) {
      await toTagged(on);
      innocent = spawn('sleep', ['600'], { stdio: 'ignore' });
      await once(innocent, 'spawn');
      await writeFile(inNginx(on, PID_FILE), `${innocent.pid}\n`);
      return await on.flow('send', 'NEXT', '--yes');
    },
    async mended(on) {
      expect([innocent?.exitCode, innocent?.signalCode]).toEqual([null, null]);
      // The very words of the message, as they would be pasted.
      const { out } = await on.flow('why', 'NEXT');
      const [, number = '', file = ''] = /\(echo (\d+) > (\S+)\)/.exec(out.replaceAll(/\s+/g, ' ')) ?? [];
      expect(file).toBe(inNginx(on, PID_FILE));
      await writeFile(file, `${number}\n`);
      await expectFlow(on, 0, 'app1Drained', 'send', 'NEXT', '--yes');
    },
  },
  otherMaster: {
    async trouble(on) {
      await walkTo(on, 'app1Drained');
      other = await createPrefix();
      await start(other);
      const master = await other.masterPid();
      const [own, workers] = [await readFile(inNginx(on, PID_FILE), 'utf8'), workersOf(master)];
      await writeFile(inNginx(on, PID_FILE), `${master}\n`);
      const before = [git(on.sandbox.nginxDir, 'branch', '--show-current'), workersOf(Number(own))];
      const ended = await on.flow('send', 'ROLLBACK', '--yes');
      expect(workersOf(master)).toBe(workers);
      expect([git(on.sandbox.nginxDir, 'branch', '--show-current'), workersOf(Number(own))]).toEqual(before);
      expect(ended.err).toContain(`echo ${own.trim()} > `);
      await writeFile(inNginx(on, PID_FILE), own);
      return ended;
    },
    mended: rollsBack,
  },
  wayBackRed: {
    async trouble(on) {
      await walkTo(on, 'app1Live');
      await commitOn(on, ['yun-app2'], 'conf/nginx.conf', (text) => text.replace('listen', 'lisen'));
      return await unmoved(on, 'send', 'ROLLBACK', '--yes');
    },
    async mended(on) {
      // Trying it again before it is mended ends where it began.
      await expectFlow(on, 6, 'stuck', 'send', 'ROLLBACK', '--yes');
      dropCommit(on, 'yun-app2');
      await rollsBack(on);
    },
  },
  wayBackNotRunning: {
    async trouble(on) {
      await walkTo(on, 'app1Live');
      await stopNginx(on);
      return await on.flow('send', 'ROLLBACK', '--yes');
    },
    async mended(on) {
      await on.sandbox.startNginx();
      await rollsBack(on);
    },
  },
  wayBackReloaded: {
    async trouble(on) {
      await walkTo(on, 'app2Published');
      const before = workersOf(await on.sandbox.nginxPid());
      nginx(on, '-s', 'reload');
      await expect.poll(async () => workersOf(await on.sandbox.nginxPid())).not.toBe(before);
      const ended = await on.flow('send', 'ROLLBACK', '--yes');
      expect(await on.sandbox.publishCount('app2')).toBe(1);
      return ended;
    },
    mended: rollsBack,
  },
});
