/** A release of more than two servers on the real thing: in waves, looked at before customers reach it, and back from the second wave. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { milestonesOf } from '../../machines/topology.ts';
import { planRelease } from '../../src/release/start.ts';
import { freePorts } from '../../src/sandbox/ports.ts';
import { git, stage, type Stage } from './stage.ts';
import { ALL } from './terminal.ts';

let on: Stage | undefined;
afterEach(async () => {
  await on?.close();
  on = undefined;
});

const THREE = ['app1', 'app2', 'app3'];
/** The routes of four servers in these waves by default, and those without the one that is to be left out. */
const WITHOUT_APP3 = [
  { servers: ['app1', 'app2', 'app3', 'app4'], branch: 'master' },
  { servers: ['app2', 'app3', 'app4'], branch: 'without-app1' },
  { servers: ['app1', 'app2', 'app3'], branch: 'without-app4' },
  { servers: ['app1', 'app4'], branch: 'yun-app1-app4' },
  { servers: ['app4'], branch: 'yun-app4' },
  { servers: ['app1', 'app2', 'app4'], branch: 'without-app3' },
  { servers: ['app1', 'app2'], branch: 'without-app3-app4' },
];
const versions = async (at: Stage, servers: readonly string[]) =>
  await Promise.all(servers.map((name) => at.sandbox.runningVersion(name)));
const published = async (at: Stage, servers: readonly string[]) =>
  await Promise.all(servers.map((name) => at.sandbox.publishCount(name)));

// As the four servers below, all the way.
if (ALL) {
  test('carries three servers through their waves, one out of rotation at a time, and no client sees an error', async () => {
    on = await stage({ servers: THREE, config: { verify: { waveSoak: '300ms' } } });
    await on.load();
    const driver = await on.start();
    const { topology } = driver.engine.context;
    expect(topology).toEqual({ servers: THREE, cutover: 'rolling', minimumHealthy: 2 });
    for (const milestone of milestonesOf(topology)) {
      await on.walkTo(driver, milestone);
      expect(driver.engine.context.routes[0]?.length, milestone).toBeGreaterThanOrEqual(2);
      if (milestone === 'app1Live') expect(driver.engine.context.routes).toEqual([THREE]);
    }
    const totals = await on.calm();
    expect(totals.failed, JSON.stringify(totals.failures)).toBe(0);
    expect(totals.requests).toBeGreaterThan(200);
    expect(await versions(on, THREE)).toEqual(['v1.3.8', 'v1.3.8', 'v1.3.8']);
    expect(await published(on, THREE)).toEqual([1, 1, 1]);
    expect(git(on.sandbox.nginxDir, 'branch', '--show-current')).toBe('master');
  }, 60_000);
}

test('goes back from the second wave: the old version everywhere, and no client sees an error', async () => {
  on = await stage({
    include: true,
    servers: ['app1', 'app2', 'app3', 'app4'],
    config: {
      waves: [['app1'], ['app2', 'app3'], ['app4']],
      publish: { sideBySide: 2 },
      verify: { waveSoak: '300ms' },
    },
  });
  const servers = ['app1', 'app2', 'app3', 'app4'];
  await on.load();
  const driver = await on.start();
  await on.walkTo(driver, 'wave2Live');
  expect(await versions(on, servers)).toEqual(['v1.3.8', 'v1.3.8', 'v1.3.8', 'v1.3.7']);
  expect((await on.send(driver, { type: 'ROLLBACK', reason: 'a test' })).accepted).toBe(true);
  const totals = await on.calm();
  const { value, context } = on.document().snapshot;
  expect([value, context.failure, context.question]).toEqual(['rolledBack', null, null]);
  expect(totals.failed, JSON.stringify(totals.failures)).toBe(0);
  expect(context.routes).toEqual([servers]);
  expect(await versions(on, servers)).toEqual(['v1.3.7', 'v1.3.7', 'v1.3.7', 'v1.3.7']);
  expect(await published(on, servers)).toEqual([2, 2, 2, 0]);
  // One server with the old version can not carry what needs two: the last wave is restored before the traffic moves.
  const back = on
    .document()
    .history.filter(({ event }) => event === 'done')
    .map(({ from }) => from);
  expect(back.slice(back.indexOf('drainingBackWave2'))).toEqual([
    'drainingBackWave2',
    'restoringWave2',
    'movingBack',
    'drainingBackApp1',
    'restoringApp1',
    'rejoiningApp1',
  ]);
  // Every way that the traffic went is in the history of the proxy's files, under the release's name, and nothing else is.
  const log = git(on.sandbox.nginxDir, 'log', '--reverse', '--format=%s').split('\n').slice(1);
  expect(log[0]).toBe('v1.3.8 (r-0001, drainingApp1): traffic to app2 and app3 and app4');
  expect(log.map((line) => /, (\w+)\)/.exec(line)?.[1])).toEqual([
    'drainingApp1',
    'goingLiveApp1',
    'drainingWave2',
    'goingLiveWave2',
    'drainingBackWave2',
    'movingBack',
    'rejoiningApp1',
  ]);
}, 60_000);

test('asks about a wave that half failed; leaves the broken server out, and says so until the end', async () => {
  on = await stage({
    servers: ['app1', 'app2', 'app3', 'app4'],
    config: {
      waves: [['app1'], ['app2', 'app3'], ['app4']],
      publish: { sideBySide: 2 },
      minimumHealthy: 1,
      nginx: { routes: WITHOUT_APP3 },
      verify: { waveSoak: '300ms' },
    },
  });
  await makeBranch(on, 'without-app3', ['app1', 'app2', 'app4']);
  await makeBranch(on, 'without-app3-app4', ['app1', 'app2']);
  await on.load();
  const driver = await on.start();
  await on.walkTo(driver, 'wave2Drained');
  await on.sandbox.publishKnobs({ EXIT_WITH: 3 }, 'app3');
  await on.send(driver, { type: 'NEXT' });
  const { question, runs } = driver.engine.context;
  expect(driver.engine.state).toBe('askingPublishWave2');
  expect(runs).toEqual({ app1: 'new', app2: 'new', app3: 'unknown', app4: 'old' });
  expect(question?.kind).toBe('waveHalfFailed');
  expect(question?.text).toContain('The publish of v1.3.8 to app3 ended with exit status 3.');
  expect(question?.choices.map(({ choice }) => choice)).toEqual(['retry', 'leaveOut', 'rollback']);
  const shown = await statusOf(on);
  expect(shown).toContain('flow send ANSWER leaveOut -m WHY');

  await on.send(driver, {
    type: 'ANSWER',
    question: question?.id ?? '',
    choice: 'leaveOut',
    reason: 'its disk is broken',
  });
  expect(driver.engine.state).toBe('wave2Published');
  expect(await statusOf(on)).toContain('left out of rotation, to be repaired');
  await on.walkTo(driver, 'allLive');
  const totals = await on.calm();
  expect(totals.failed, JSON.stringify(totals.failures)).toBe(0);
  expect(driver.engine.context.routes).toEqual([['app1', 'app2', 'app4']]);
  expect(driver.engine.context.followUps.join()).toContain('app3 was left out of rotation');
  expect(await published(on, ['app2', 'app3', 'app4'])).toEqual([1, 1, 1]);

  // The next release begins with it.
  await on.sandbox.publishKnobs(null, 'app3');
  await on.sandbox.commitChange('Show the order number on the receipt');
  const next = await on.start();
  expect(next.engine.context.serving).toEqual(['app1', 'app2', 'app4']);
  expect(next.engine.context.topology.waves?.[0]).toEqual(['app2', 'app3']);
}, 90_000);

test('looks at the new version through the pre-release proxy before any customer reaches it', async () => {
  on = await stage();
  const { sandbox } = on;
  const marker = join(sandbox.root, 'seen-by-a-person');
  const [port = 0] = await freePorts(1);
  const preview = await secondNginx(on, port);
  const config = join(sandbox.projectDir, 'flow.yaml');
  const checks = [
    { name: 'the new version answers', http: `http://127.0.0.1:${port}/version`, contains: 'v1.3.8' },
    { name: 'a person has seen it', run: ['test', '-e', marker] },
  ];
  const text = stringify({
    ...(parse(readFileSync(config, 'utf8')) as object),
    preview: { nginx: { dir: preview }, checks },
  });
  await writeFile(config, text);
  git(sandbox.projectDir, 'commit', '--quiet', '-a', '-m', 'Look before customers do');
  await on.load();
  const driver = await on.start();
  await on.walkTo(driver, 'app1Published');
  const before = driver.engine.context.switched;

  await on.send(driver, { type: 'NEXT' });
  expect(driver.engine.state).toBe('app1Published');
  expect(driver.engine.context.failure).toMatchObject({
    step: 'previewingApp1',
    code: 'PREVIEW_FAILED',
    kind: 'rejected',
  });
  expect(driver.engine.context.failure?.message).toContain('a person has seen');
  expect(driver.engine.context.failure?.message).not.toContain('the new version answers');
  expect(git(preview, 'branch', '--show-current')).toBe('yun-app1');

  await writeFile(marker, '');
  await on.walkTo(driver, 'app1Previewed');
  // The customers' proxy was not touched.
  expect(driver.engine.context.switched).toEqual(before);
  expect(git(sandbox.nginxDir, 'branch', '--show-current')).toBe('yun-app2');
  expect(driver.engine.context.evidence.previewingApp1).toMatchObject({ previewed: ['app1'] });
  await on.walkTo(driver, 'app1Live');
  const totals = await on.calm();
  expect(totals.failed, JSON.stringify(totals.failures)).toBe(0);
}, 60_000);

/** What the config, the chart's walk and a row of test/failures show of it as well. */
const testThoroughly = ALL ? test : () => undefined;

testThoroughly(
  'begins with the server that a rollback left out, and brings a trusted version back to it',
  async () => {
    on = await stage({ config: { rollback: { restore: 'hold' } } });
    const { sandbox } = on;
    await on.load();
    const first = await on.start();
    await on.walkTo(first, 'app1Live');
    await on.send(first, { type: 'ROLLBACK', reason: 'it is bad' });
    expect(first.engine.state).toBe('rolledBack');
    expect(first.engine.context.routes).toEqual([['app2']]);
    expect(await versions(on, ['app1', 'app2'])).toEqual(['v1.3.8', 'v1.3.7']);

    await sandbox.commitChange('Mend it');
    const plan = await planRelease(on.place, { to: 'v1.3.9' });
    expect(plan.warnings.join()).toContain('The release begins with app1; a rollback restores v1.3.7 there');
    const second = await on.start({ to: 'v1.3.9' });
    expect(second.engine.context.before).toEqual({ app1: 'v1.3.7', app2: 'v1.3.7' });
    expect(second.engine.context.runs).toEqual({ app1: 'unknown', app2: 'old' });
    await on.walkTo(second, 'app1Published');
    expect(second.engine.context.routes).toEqual([['app2']]);
    await on.walkTo(second, 'allLive');
    const totals = await on.calm();
    expect(totals.failed, JSON.stringify(totals.failures)).toBe(0);
    expect(second.engine.context.routes).toEqual([['app1', 'app2']]);
    expect(await versions(on, ['app1', 'app2'])).toEqual(['v1.3.9', 'v1.3.9']);
  },
  60_000,
);

testThoroughly(
  'does not begin with a server out of rotation where those that serve run no one version',
  async () => {
    on = await stage({ servers: THREE });
    const { sandbox } = on;
    git(sandbox.projectDir, 'switch', '--quiet', '--detach', 'v1.3.6');
    execFileSync('./publish.sh', ['app2'], { cwd: sandbox.projectDir, input: 'y\n', stdio: 'pipe' });
    git(sandbox.projectDir, 'switch', '--quiet', 'develop');
    git(sandbox.nginxDir, 'switch', '--quiet', 'without-app1');
    await expect(planRelease(on.place, {})).rejects.toMatchObject({ code: 'FLEET_DEGRADED' });
    await expect(planRelease(on.place, {})).rejects.toThrow(/app2; app3|no one known version/);
  },
  60_000,
);

/** A second Nginx with the branches of the first, on a port of its own: no customer knows it. */
async function secondNginx({ sandbox }: Stage, port: number): Promise<string> {
  const dir = join(sandbox.root, 'preview');
  git(sandbox.root, 'clone', '--quiet', sandbox.nginxDir, dir);
  git(dir, 'config', 'user.name', 'Operator');
  git(dir, 'config', 'user.email', 'operator@example.com');
  const file = join(dir, 'conf/nginx.conf');
  for (const branch of ['yun-app1', 'yun-app2', 'master']) {
    git(dir, 'switch', '--quiet', branch);
    await writeFile(file, readFileSync(file, 'utf8').replace(/listen 127\.0\.0\.1:\d+/, `listen 127.0.0.1:${port}`));
    git(dir, 'commit', '--quiet', '-a', '-m', 'A port of its own');
  }
  for (const folder of ['logs', 'temp']) await mkdir(join(dir, folder), { recursive: true });
  execFileSync('sbin/nginx', [], { cwd: dir, stdio: 'ignore' });
  return dir;
}

async function makeBranch(at: Stage, branch: string, servers: readonly string[]): Promise<void> {
  const { nginxDir } = at.sandbox;
  git(nginxDir, 'switch', '--quiet', '-c', branch, 'master');
  const file = join(nginxDir, 'conf/upstream.conf');
  const all = readFileSync(file, 'utf8').split('\n');
  const kept = all.filter((line) => !line.includes('# app') || servers.some((name) => line.endsWith(`# ${name}`)));
  await writeFile(file, kept.join('\n'));
  git(nginxDir, 'commit', '--quiet', '-a', '-m', `Only ${servers.join(', ')}`);
  git(nginxDir, 'switch', '--quiet', 'master');
}

const statusOf = async (at: Stage): Promise<string> => (await at.flow('status')).out;
