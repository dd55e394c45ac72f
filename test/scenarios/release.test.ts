/** A whole release on the real thing: git, Nginx, servers, clients. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { milestonesOf } from '../../machines/topology.ts';
import { git, stage, type Stage } from './stage.ts';

let on: Stage | undefined;
afterEach(async () => {
  await on?.close();
  on = undefined;
});

test('carries v1.3.7 to v1.3.8 through every milestone, and no client sees an error', async () => {
  on = await stage();
  const { sandbox } = on;
  const before = git(sandbox.projectDir, 'rev-parse', 'HEAD');
  await on.load();
  const driver = await on.start();
  expect(driver.engine.context.before).toEqual({ app1: 'v1.3.7', app2: 'v1.3.7' });
  for (const milestone of milestonesOf(driver.engine.context.topology)) await on.walkTo(driver, milestone);
  const totals = await on.calm();

  expect(totals.failed, JSON.stringify(totals.failures)).toBe(0);
  expect(totals.requests).toBeGreaterThan(200);
  expect(driver.engine.context.followUps).toEqual([]);
  expect(await sandbox.runningVersion('app1')).toBe('v1.3.8');
  expect(await sandbox.runningVersion('app2')).toBe('v1.3.8');
  expect(execFileSync(join(sandbox.server('app1').dir, 'quickpay'), ['-version'], { encoding: 'utf8' })).toContain(
    'v1.3.8',
  );
  expect(await Promise.all(['test', 'app1', 'app2'].map((name) => sandbox.publishCount(name)))).toEqual([1, 1, 1]);
  expect(git(sandbox.projectDir, 'show', 'master:ChangeLog.md')).toMatch(/^(# .*\n\n)?## v1\.3\.8 /);
  expect(git(join(sandbox.root, 'cil.git'), 'tag', '--list').split('\n')).toContain('v1.3.8');
  expect(git(join(sandbox.root, 'cil.git'), 'rev-parse', 'v1.3.8')).toBe(
    git(sandbox.projectDir, 'rev-parse', 'master'),
  );
  expect(git(sandbox.projectDir, 'branch', '--show-current')).toBe('develop');
  expect(git(sandbox.projectDir, 'status', '--porcelain')).toBe('');
  expect(git(sandbox.projectDir, 'merge-base', '--is-ancestor', 'master', 'develop')).toBe('');
  expect(git(sandbox.projectDir, 'merge-base', '--is-ancestor', before, 'develop')).toBe('');
  expect(git(sandbox.nginxDir, 'status', '--porcelain')).toBe('');
  expect(git(sandbox.nginxDir, 'diff', 'master', '--stat')).toBe('');
  expect(readFileSync(join(sandbox.projectDir, 'flow.yaml'), 'utf8')).toContain('quickpay');
}, 60_000);
