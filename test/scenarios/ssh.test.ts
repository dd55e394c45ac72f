/** A release whose proxy, servers and publishing machine are all behind ssh, each with an sshd of its own. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import { git, stage, type Stage } from './stage.ts';
import { ALL } from './terminal.ts';

let on: Stage | undefined;
afterEach(async () => {
  await on?.close();
  on = undefined;
});

const MACHINES = ['proxy', 'build', 'test', 'app1', 'app2'];
const hosts = ({ sandbox }: Stage) => {
  if (sandbox.ssh === null) throw new Error('the sandbox has no machines');
  return sandbox.ssh;
};
/** No client saw an error, and both servers run the version, each published once. */
async function expectAllLive(at: Stage): Promise<void> {
  const totals = await at.calm();
  expect(totals.failed, JSON.stringify(totals.failures)).toBe(0);
  expect(at.document().snapshot.value).toBe('allLive');
  for (const name of ['app1', 'app2']) {
    expect(await at.sandbox.runningVersion(name)).toBe('v1.3.8');
    expect(await at.sandbox.publishCount(name)).toBe(1);
  }
  expect(git(at.sandbox.nginxDir, 'branch', '--show-current')).toBe('master');
}
const job = ({ sandbox }: Stage, server: string) => join(sandbox.root, 'build/.flow/jobs/r-0001', server);

test('publishes once while every connection is cut each second, and shows all that was printed', async () => {
  // Health and versions are asked over ssh as well.
  on = await stage({ ssh: true, config: { probes: { from: 'host' } } });
  await on.load();
  const driver = await on.start();
  await on.walkTo(driver, 'app1Drained');
  await on.sandbox.publishKnobs({ TICK: 4 }, 'app1');
  const machines = hosts(on);
  const cutting = setInterval(() => {
    for (const name of MACHINES) void machines.dropConnections(name);
  }, 1_000);
  try {
    await on.walkTo(driver, 'app1Published');
  } finally {
    clearInterval(cutting);
  }
  const printed = on.told
    .flatMap((told) => (told.kind === 'progress' && told.progress.kind === 'output' ? [told.progress.text] : []))
    .join('');
  expect(printed).toContain(`Published v1.3.8`);
  expect(await on.sandbox.publishCount('app1')).toBe(1);
  await on.walkTo(driver, 'allLive');
  await expectAllLive(on);
  // The jobs are where the command ran.
  expect(existsSync(job(on, 'app1'))).toBe(true);
  expect(existsSync(join(on.place.stateDir, 'jobs/r-0001'))).toBe(false);
}, 120_000);

// As the hosts that go away in the middle of a step, before one begins.
if (ALL) {
  test('names a host that cannot be reached before a step, and goes on when it can', async () => {
    on = await stage({ ssh: true });
    await on.load();
    const driver = await on.start();
    await on.walkTo(driver, 'tagged');
    const machines = hosts(on);
    await machines.stop('proxy');
    const refused = await on.send(driver, { type: 'NEXT' });
    expect(refused.accepted).toBe(false);
    expect(JSON.stringify(refused)).toMatch(/proxy cannot be reached .*refused/);
    expect(JSON.stringify(refused)).toContain('ssh proxy true');
    await machines.start('proxy');
    await on.walkTo(driver, 'app1Drained');
    await machines.stop('build');
    await on.send(driver, { type: 'NEXT' });
    const { failure, runs } = driver.engine.context;
    // Whether an earlier try had begun is known only when the host can be asked again.
    expect([driver.engine.state, failure?.kind, runs.app1]).toEqual(['app1Drained', 'unreachable', 'unknown']);
    await machines.start('build');
    await on.walkTo(driver, 'allLive');
    await expectAllLive(on);
  }, 120_000);
}

test('waits for a host that goes away in the middle of a drain, a publish and a soak', async () => {
  on = await stage({ ssh: true, soakMs: 3_000 });
  await on.load();
  const machines = hosts(on);
  const away = async (name: string, state: string) => {
    await expect.poll(() => on?.document().snapshot.value, { timeout: 20_000 }).toBe(state);
    await machines.stop(name);
    await delay(1_500);
    await machines.start(name);
  };
  const driver = await on.start();
  await on.walkTo(driver, 'tagged');
  await Promise.all([on.walkTo(driver, 'app1Drained'), away('app1', 'drainingApp1')]);
  await on.sandbox.publishKnobs({ SLEEP_BEFORE: 2 }, 'app1');
  await Promise.all([on.walkTo(driver, 'app1Published'), away('build', 'publishingApp1')]);
  await on.sandbox.publishKnobs(null, 'app1');
  await on.walkTo(driver, 'app1Live');
  await Promise.all([on.walkTo(driver, 'verified'), away('proxy', 'verifying')]);
  await on.walkTo(driver, 'allLive');
  await expectAllLive(on);
}, 120_000);

test('asks about a publish whose host was rebooted in the middle of it, and does not run it again', async () => {
  on = await stage({ ssh: true });
  await on.load();
  await on.walkTo(await on.start(), 'app1Drained');
  await on.leave();
  await on.sandbox.publishKnobs({ SLEEP_BEFORE: 60 }, 'app1');
  const running = on.begin('send', 'NEXT', '--yes');
  await expect.poll(() => on?.sandbox.publishCount('app1'), { timeout: 20_000 }).toBe(1);
  running.child.kill('SIGKILL');
  await running.ended;
  // What a reboot leaves: no process, no status, and a record of another boot.
  const folder = join(job(on, 'app1'), 'publishingApp1.1');
  const pids = execFileSync('pgrep', ['-f', 'deploy.sh|publish.sh app1'], { encoding: 'utf8' });
  for (const pid of pids.trim().split('\n')) {
    const cwd = execFileSync('readlink', [`/proc/${pid}/cwd`], { encoding: 'utf8' }).trim();
    if (cwd.startsWith(on.sandbox.root))
      execFileSync('pkill', [
        '-KILL',
        '-s',
        execFileSync('ps', ['-o', 'sid=', '-p', pid], { encoding: 'utf8' }).trim(),
      ]);
  }
  writeFileSync(join(folder, 'boot'), `another-${readFileSync(join(folder, 'boot'), 'utf8')}`);
  await on.sandbox.publishKnobs(null, 'app1');
  const resumed = await on.flow('resume', '--yes');
  expect([resumed.status, on.document().snapshot.value]).toEqual([6, 'askingPublishApp1']);
  expect(resumed.err + resumed.out).toContain('was interrupted and left no exit status');
  expect(await on.sandbox.publishCount('app1')).toBe(1);
  const again = await on.flow('send', 'ANSWER', 'again', '--yes', '-m', 'the machine is back');
  expect(again.status, again.err).toBe(0);
  expect(on.document().snapshot.value).toBe('app1Published');
  expect(await on.sandbox.publishCount('app1')).toBe(2);
  expect((await on.calm()).failed).toBe(0);
}, 120_000);

// Root alone can make a disk that is full; a job whose host cannot start it is tried on this machine as well.
if (ALL && process.getuid?.() === 0) {
  test('starts no publish where the disk of its host is full, and goes on when there is room', async () => {
    on = await stage({ ssh: true });
    await on.load();
    const driver = await on.start();
    await on.walkTo(driver, 'app1Drained');
    const machines = hosts(on);
    const folder = join(on.sandbox.root, 'build/.flow');
    const remount = async (...argv: [string, ...string[]]) => {
      const [program, ...args] = argv;
      execFileSync(program, args);
      // A new namespace sees what is mounted by now.
      await machines.stop('build');
      await machines.start('build');
    };
    await mkdir(folder, { recursive: true });
    await remount('mount', '-t', 'tmpfs', '-o', 'size=4k', 'none', folder);
    try {
      await on.send(driver, { type: 'NEXT' });
      const { failure } = driver.engine.context;
      expect(failure).toMatchObject({ step: 'publishingApp1', code: 'JOB_HOST', kind: 'rejected' });
      expect(failure?.message).toContain('build: the job');
      expect(await on.sandbox.publishCount('app1')).toBe(0);
    } finally {
      await remount('umount', folder);
    }
    await on.walkTo(driver, 'allLive');
    await expectAllLive(on);
  }, 120_000);
}

// As the release above, with the way back.
if (ALL) {
  test('brings the old version back from the soak', async () => {
    on = await stage({ ssh: true });
    await on.load();
    const driver = await on.start();
    await on.walkTo(driver, 'verified');
    await on.send(driver, { type: 'ROLLBACK', reason: 'a test' });
    expect(driver.engine.state).toBe('rolledBack');
    for (const name of ['app1', 'app2']) expect(await on.sandbox.runningVersion(name)).toBe('v1.3.7');
    expect((await on.calm()).failed).toBe(0);
  }, 120_000);
}
