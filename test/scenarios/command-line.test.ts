/** The real command line in real processes: exit statuses, streams, a killed driver, a second terminal, Ctrl-C. */
import type { ChildProcess } from 'node:child_process';
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { createSandbox, type Sandbox } from '../../src/sandbox/world.ts';
import { ALL, begin as beginFlow, type Ended, type Running } from './terminal.ts';

let parent = '';
let sandbox: Sandbox | undefined;
const children: ChildProcess[] = [];
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  await sandbox?.stop();
  sandbox = undefined;
  if (parent !== '') await rm(parent, { recursive: true, force: true });
  parent = '';
});

async function world(options: { soakMs?: number } = {}): Promise<Sandbox> {
  parent = await mkdtemp(join(tmpdir(), 'flow-line-'));
  sandbox = await createSandbox({
    root: join(parent, 'world'),
    startMs: 100,
    soakMs: 600,
    watchMs: 300,
    ...options,
    config: { drain: { watch: '100ms' } },
  });
  return sandbox;
}

function begin(cwd: string, ...args: string[]): Running {
  const running = beginFlow(cwd, args);
  children.push(running.child);
  return running;
}
const flow = (cwd: string, ...args: string[]): Promise<Ended> => begin(cwd, ...args).ended;

async function stateOf(cwd: string): Promise<{ value: string }> {
  const { out } = await flow(cwd, 'status', '--json');
  const view = JSON.parse(out) as { release: { state: string } | null };
  return { value: view.release?.state ?? 'none' };
}
async function walk(cwd: string, ...milestones: string[]): Promise<void> {
  for (const milestone of milestones) {
    const { status, err } = await flow(cwd, 'send', 'NEXT', '--yes');
    expect(status, err).toBe(0);
    expect((await stateOf(cwd)).value).toBe(milestone);
  }
}

describe('without a release', () => {
  test('explains itself, and ends with the status that scripts can tell apart', async () => {
    const { projectDir } = await world();
    const status = await flow(projectDir, 'status');
    expect([status.status, status.out]).toEqual([0, expect.stringContaining('flow start')]);
    const rollback = await flow(projectDir, 'send', 'ROLLBACK', '--yes');
    expect([rollback.status, rollback.err]).toEqual([3, expect.stringContaining('flow start')]);
    const event = await flow(projectDir, 'send', 'ROLBACK');
    expect([event.status, event.err]).toEqual([2, expect.stringContaining('ROLLBACK')]);
    const command = await flow(projectDir, 'staus');
    expect([command.status, command.err]).toEqual([2, expect.stringContaining('status')]);
    const version = await flow(projectDir, '--version');
    expect([version.status, version.out]).toEqual([0, expect.stringMatching(/^flow \d+\.\d+/)]);
    const outside = await flow(parent, 'status');
    expect([outside.status, outside.err]).toEqual([2, expect.stringContaining('flow.yaml')]);
  });

  test('names file, line, column and what was expected in a broken flow.yaml', async () => {
    const { projectDir } = await world();
    const file = join(parent, 'flow.yaml');
    await copyFile(join(projectDir, 'flow.yaml'), file);
    const text = await readFile(file, 'utf8');
    const line = text.split('\n').findIndex((one) => one.startsWith('project:')) + 1;
    await writeFile(file, text.replace(/^project:.*$/m, 'projct: quickpay'));
    const checked = await flow(projectDir, 'config', 'check', '--config', file);
    expect(checked.status).toBe(2);
    expect(checked.err).toContain(`flow.yaml:${line}:1`);
    expect(checked.err).toContain('project');
    expect((await flow(projectDir, 'config', 'check')).status).toBe(0);
  });
});

describe('a release by hand', () => {
  test('needs a terminal or --yes, and changes nothing without', async () => {
    const { projectDir } = await world();
    const refused = await flow(projectDir, 'start');
    expect([refused.status, refused.err]).toEqual([2, expect.stringContaining('--yes')]);
    expect((await flow(projectDir, 'start', '--to', 'v1.3.8', '--yes')).status).toBe(0);
    const again = await flow(projectDir, 'start', '--yes');
    expect([again.status, again.err]).toEqual([4, expect.stringContaining('r-0001')]);
    const send = await flow(projectDir, 'send', 'NEXT');
    expect([send.status, send.err]).toEqual([2, expect.stringContaining('--yes')]);
    expect(send.err).toContain('git merge');
    expect((await stateOf(projectDir)).value).toBe('planned');
    const stale = await flow(projectDir, 'send', 'NEXT', '--yes', '--expect', '9');
    expect([stale.status, stale.err]).toEqual([4, expect.stringContaining('revision')]);
  });

  // As the rows of second terminals and of Ctrl-C.
  if (ALL) {
    test('takes ROLLBACK from a second terminal in the middle of a soak', async () => {
      const at = await world({ soakMs: 60_000 });
      const { projectDir } = at;
      await flow(projectDir, 'start', '--to', 'v1.3.8', '--yes');
      await walk(projectDir, 'tested', 'tagged', 'app1Drained', 'app1Published', 'app1Live');
      const soaking = begin(projectDir, 'send', 'NEXT', '--yes');
      await expect.poll(async () => (await stateOf(projectDir)).value, { timeout: 10_000 }).toBe('verifying');
      const refused = await flow(projectDir, 'send', 'NEXT', '--yes');
      expect([refused.status, refused.err]).toEqual([4, expect.stringContaining('at work')]);
      const second = await flow(projectDir, 'send', 'ROLLBACK', '--yes', '-m', 'customers call');
      expect(second.status, second.err).toBe(7);
      expect((await soaking.ended).status).toBe(7);
      expect([await at.runningVersion('app1'), await at.runningVersion('app2')]).toEqual(['v1.3.7', 'v1.3.7']);
      const history = await flow(projectDir, 'history');
      expect(history.out).toContain('customers call');
    }, 60_000);

    test('is parked by Ctrl-C in a soak, and resumed', async () => {
      const { projectDir } = await world({ soakMs: 3_000 });
      await flow(projectDir, 'start', '--to', 'v1.3.8', '--yes');
      await walk(projectDir, 'tested', 'tagged', 'app1Drained', 'app1Published', 'app1Live');
      const soaking = begin(projectDir, 'send', 'NEXT', '--yes');
      await expect.poll(async () => (await stateOf(projectDir)).value, { timeout: 10_000 }).toBe('verifying');
      soaking.child.kill('SIGINT');
      const parked = await soaking.ended;
      expect([parked.status, parked.err]).toEqual([130, expect.stringContaining('flow resume')]);
      expect((await stateOf(projectDir)).value).toBe('verifying');
      const resumed = await flow(projectDir, 'resume', '--yes');
      expect(resumed.status, resumed.err).toBe(0);
      expect((await stateOf(projectDir)).value).toBe('verified');
    }, 60_000);
  }
});
