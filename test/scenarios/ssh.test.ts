/** A release whose proxy, servers and publishing machine are all behind ssh, each with an sshd of its own. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { git, stage, type Stage } from './stage.ts';

let on: Stage | undefined;
afterEach(async () => {
  await on?.close();
  on = undefined;
});

test('goes all the way, and no client sees an error', async () => {
  on = await stage({ ssh: true });
  await on.load();
  const driver = await on.start();
  await on.walkTo(driver, 'allLive');
  const totals = await on.calm();
  expect(totals.failed, JSON.stringify(totals.failures)).toBe(0);
  expect(await on.sandbox.runningVersion('app1')).toBe('v1.3.8');
  expect(await on.sandbox.runningVersion('app2')).toBe('v1.3.8');
  expect(git(on.sandbox.nginxDir, 'branch', '--show-current')).toBe('master');
  // The jobs are where the command ran, and nothing of them is here.
  expect(existsSync(join(on.sandbox.root, 'build/.flow/jobs/r-0001/app1'))).toBe(true);
  expect(existsSync(join(on.place.stateDir, 'jobs/r-0001'))).toBe(false);
}, 120_000);
