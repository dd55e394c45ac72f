/**
 * Whatever is done to the lock, there is never a second writer: races, a killed holder, one that was paused and deposed, a clock
 * that jumps, a process number that was given to somebody else, and a state folder that is moved away and back. Each commit is
 * put on record by a program beside flow, and the record is held against the rule.
 */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import { Driver } from '../../src/release/drive.ts';
import { readLatest } from '../../src/release/read.ts';
import { readDriver } from '../../src/store/driver.ts';
import { depose } from '../../src/store/lock.ts';
import { statePaths } from '../../src/store/state-folder.ts';
import { until } from '../failures/person.steps.ts';
import { begin, type Ended, type Running } from '../scenarios/terminal.ts';
import { type Arena, arena } from './release.ts';
import { FULL, report, rounds } from './report.ts';
import { drawn } from './simulation/effects.ts';

const SEED = Number(process.env.TORTURE_SEED ?? 20_261_123);
const program = (name: string): string => join(import.meta.dirname, 'programs', name);
const HOUR_MS = 3_600_000;
/** From the kill to the lock, the start of a process taken off. */
const LOCK_WITHIN_MS = 500;
/** For so long a driver sleeps in its soak, as on a machine that is suspended. */
const SLEPT_MS = FULL ? 5_000 : 0;
/** What the soak may take for observed of that. */
const ONE_LOOK_MS = 1_000;

let on: Arena | undefined;
const children: Running[] = [];
afterEach(async () => {
  for (const { child } of children.splice(0)) child.kill('SIGKILL');
  await on?.close();
  on = undefined;
});

const middle = (numbers: readonly number[]): number =>
  Math.round(numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0);
const recordOf = ({ sandbox }: Arena): string => join(sandbox.root, 'writers');
const stateOf = ({ place }: Arena): string | undefined => readLatest(place.stateDir)?.snapshot.value;

/** Starts flow with its commits on record; with a clock that is wrong or jumps, where one is given. */
function start(at: Arena, args: readonly string[], clock?: number | 'jumping'): Running {
  const env = { FLOW_TEST_WRITERS: recordOf(at), ...(clock === undefined ? {} : { FLOW_TEST_CLOCK: String(clock) }) };
  const imports = ['record-writers.mjs', ...(clock === undefined ? [] : ['shift-clock.mjs'])];
  const options = imports.flatMap((name) => ['--import', program(name)]);
  const running = begin(at.sandbox.projectDir, args, env, options);
  children.push(running);
  return running;
}
const run = async (at: Arena, ...args: string[]): Promise<Ended> => await start(at, args).ended;

/** Each generation was committed once, by one after the other: who has been followed by another writes no more. Counts them. */
function expectOneWriter(at: Arena): number {
  const lines = readFileSync(recordOf(at), 'utf8').trim().split('\n');
  const last = new Map<string, number>();
  const gone = new Set<string>();
  let writer = '';
  for (const line of lines) {
    const [pid = '', release = '', generation = ''] = line.split(' ');
    const before = last.get(release);
    if (before !== undefined) expect(Number(generation), `${line}\n${lines.join('\n')}`).toBe(before + 1);
    last.set(release, Number(generation));
    if (pid !== writer) gone.add(writer);
    expect(gone.has(pid), `${pid} wrote again after another had\n${lines.join('\n')}`).toBe(false);
    writer = pid;
  }
  return lines.length;
}

/** Into the soak, with a driver that stays there. */
async function soaking(at: Arena, clock?: 'jumping'): Promise<Running> {
  const reached = await run(at, 'run', '--until', 'app1Live', '--yes');
  expect(reached.status, reached.err).toBe(0);
  const driver = start(at, ['send', 'NEXT', '--yes'], clock);
  await until('it soaks', () => stateOf(at) === 'verifying');
  return driver;
}

test.each(FULL ? [rounds(50)] : [])(
  'two operators send NEXT at once, %i times: one of them wins each',
  async (races) => {
    on = await arena();
    let raced = 0;
    let releases = 0;
    while (raced < races) {
      const version = await on.plan();
      releases += 1;
      for (let document = readLatest(on.place.stateDir); document?.endedAt === null; raced++) {
        const args = ['send', 'NEXT', '--yes', '--expect', String(document.rev)];
        const ends = await Promise.all([run(on, ...args), run(on, ...args)]);
        const told = ends.map(({ status, err }) => `${String(status)}: ${err}`).join('\n');
        expect(ends.map(({ status }) => status).sort(), told).toEqual([0, 4]);
        const after = readLatest(on.place.stateDir);
        const sent = after?.history.filter(({ rev, event }) => rev > (document?.rev ?? 0) && event === 'NEXT');
        expect(sent?.length).toBe(1);
        document = after;
      }
      await on.expectAllLive(version);
    }
    const commits = expectOneWriter(on);
    report(
      'writers',
      `${raced} races of two NEXT in ${releases} releases: one winner each, ${commits} commits, each job once`,
    );
  },
  3_600_000,
);

test.each(FULL ? [rounds(20)] : [])(
  'the lock of a killed driver is the next one’s at once, %i times',
  async (times) => {
    on = await arena({ verify: { soak: '10m', every: '100ms' } });
    await on.plan();
    let holder = await soaking(on);
    const tookMs: number[] = [];
    const startsMs: number[] = [];
    for (let round = 0; round < times; round++) {
      holder.child.kill('SIGKILL');
      const startedAt = performance.now();
      const next = start(on, ['resume', '--yes']);
      const { stateDir } = on.place;
      await until('the next drives', () => readDriver(stateDir)?.pid === next.child.pid);
      tookMs.push(Math.round(performance.now() - startedAt));
      await until('it soaks on', () => next.err().includes('record'));
      const beganAt = performance.now();
      await run(on, 'resume', '--help');
      startsMs.push(performance.now() - beganAt);
      holder = next;
    }
    // What a process takes to start is the machine's matter, which may be busy: it is measured beside, and taken off.
    const [took, starts] = [middle(tookMs), middle(startsMs)];
    expect(took - starts).toBeLessThan(LOCK_WITHIN_MS);
    expectOneWriter(on);
    report(
      'writers',
      `${tookMs.length} holders killed: the next, started at that moment, had the lock after ${took} ms (median; ` +
        `${Math.min(...tookMs)} to ${Math.max(...tookMs)}), of which ${starts} ms to start a process`,
    );
  },
  300_000,
);

const STEPS = ['drainingApp1', 'publishingApp1', 'goingLiveApp1', 'verifying', 'publishingApp2', 'goingAllLive'];
test.each(FULL ? STEPS : [])(
  'a driver that was paused in %s, and deposed meanwhile, stores nothing more',
  async (step) => {
    on = await arena();
    const { stateDir } = on.place;
    const version = await on.plan();
    const driver = start(on, ['run', '--yes']);
    await until(`it is at ${step}`, () => on !== undefined && stateOf(on) === step);
    driver.child.kill('SIGSTOP');
    const seen = readLatest(stateDir);
    const refused = await run(on, 'run', '--yes');
    expect([refused.status, refused.err]).toEqual([5, expect.stringContaining(String(driver.child.pid))]);
    depose(stateDir);
    await delay(FULL ? 5_000 : 500);
    driver.child.kill('SIGCONT');
    const ended = await driver.ended;
    expect([ended.status, ended.err]).toEqual([74, expect.stringContaining('another flow took over')]);
    expect(readLatest(stateDir)).toEqual(seen);
    await on.carry(() => undefined);
    await on.expectAllLive(version);
    expectOneWriter(on);
    report('writers', `paused in ${step}, deposed, woken: 74, nothing stored, resumed to allLive, each job once`);
  },
  120_000,
);

test('a clock that jumps an hour ahead and back, or a machine that slept, neither shortens a soak nor lets anybody in', async () => {
  const soakMs = FULL ? 8_000 : 2_000;
  on = await arena({ verify: { soak: `${soakMs}ms`, every: '100ms' } });
  const version = await on.plan();
  const driver = await soaking(on, 'jumping');
  const startedAt = performance.now();
  const rivals = await Promise.all(
    [HOUR_MS, -HOUR_MS].map(async (shiftMs) => await start(at(), ['run', '--yes'], shiftMs).ended),
  );
  for (const { status, err } of rivals)
    expect([status, err]).toEqual([5, expect.stringContaining('drives this release')]);
  driver.child.kill('SIGSTOP');
  await delay(SLEPT_MS);
  driver.child.kill('SIGCONT');
  expect((await driver.ended).status).toBe(0);
  const tookMs = performance.now() - startedAt;
  expect(tookMs).toBeGreaterThan(soakMs * 0.8 + Math.max(SLEPT_MS - ONE_LOOK_MS, 0));
  expect(tookMs).toBeLessThan(soakMs + SLEPT_MS + 10_000);
  const soak = readLatest(on.place.stateDir)?.snapshot.context.evidence.verifying;
  expect(soak).toMatchObject({ observedSeconds: expect.closeTo(soakMs / 1_000, 0) as number });
  if (FULL) {
    const rest = start(on, ['run', '--yes'], 'jumping');
    expect((await rest.ended).status, rest.err()).toBe(0);
    await on.expectAllLive(version);
  }
  expectOneWriter(on);
  report(
    'writers',
    `clock jumping by ±1 h all the while, ${SLEPT_MS / 1_000} s asleep, 2 rivals with clocks 1 h wrong refused: soak whole, allLive`,
  );

  function at(): Arena {
    if (on === undefined) throw new Error('there is no arena');
    return on;
  }
}, 60_000);

test('a process that has the number of a dead driver is no driver, and is left alone', async () => {
  on = await arena({ verify: { soak: '500ms', every: '100ms' } });
  const version = await on.plan();
  const { stateDir } = on.place;
  const driver = await soaking(on);
  const described = readDriver(stateDir);
  driver.child.kill('SIGKILL');
  await driver.ended;
  const stranger = spawn('sleep', ['300'], { stdio: 'ignore' });
  try {
    const reused = () => {
      writeFileSync(statePaths(stateDir).driver, JSON.stringify({ ...described, pid: stranger.pid, socket: null }));
    };
    reused();
    expect((await run(on, 'lock', 'show')).out).not.toContain(`process ${stranger.pid}`);
    expect((await run(on, 'lock', 'take-over', '--yes')).status).toBe(0);
    reused();
    const resumed = await run(on, 'resume', '--yes');
    expect([resumed.status, stateOf(on)], resumed.err).toEqual([0, 'verified']);
    expect([stranger.exitCode, stranger.signalCode]).toEqual([null, null]);
  } finally {
    stranger.kill('SIGKILL');
  }
  if (FULL) {
    await on.carry(() => undefined);
    await on.expectAllLive(version);
  }
  expectOneWriter(on);
  report('writers', 'a stranger with the number of a dead driver: not waited for, not ended, the release went on');
}, 60_000);

test('a driver whose state folder was moved away starts nothing and makes no folder in its place', async () => {
  on = await arena();
  await on.plan();
  const { place } = on;
  const document = readLatest(place.stateDir);
  if (document === null) throw new Error('there is no release');
  const driver = await Driver.open(place, document, { user: 'u', host: 'h', via: 'test' }, 'testing', () => undefined);
  renameSync(place.stateDir, `${place.stateDir}.away`);
  try {
    expect(() => {
      driver.world.checkpoint.write('tagging', { tag: 'v1' });
    }).toThrow(/the state folder was replaced/);
    await expect(driver.world.ownership.assert()).rejects.toMatchObject({ code: 'FENCED' });
    expect(existsSync(place.stateDir)).toBe(false);
  } finally {
    renameSync(`${place.stateDir}.away`, place.stateDir);
    await driver.close();
  }
});

/**
 * To the end of the release, through what is asked and has to be tried again. A publish that ended while its folder was away could
 * not leave its status: it is said to be lost, and never run again unasked. Returns how many were.
 */
async function goneOn(at: Arena): Promise<number> {
  let asked = 0;
  for (let lives = 1; readLatest(at.place.stateDir)?.endedAt === null; lives++) {
    const question = readLatest(at.place.stateDir)?.snapshot.context.question ?? null;
    if (question !== null) expect(question.kind).toBe('jobLost');
    if (question !== null) asked += 1;
    const ended =
      question === null
        ? await run(at, lives % 2 === 0 ? 'run' : 'resume', '--yes')
        : await run(at, 'send', 'ANSWER', 'worked', '--yes');
    expect(lives, ended.err).toBeLessThan(10);
  }
  return asked;
}

test('a state folder that is moved away and back has one writer, and each job runs once', async () => {
  const wanted = FULL ? rounds(20) : 1;
  const ends = new Map<string, number>();
  let asked = 0;
  on = await arena();
  const { stateDir } = on.place;
  const away = `${stateDir}.away`;
  for (let round = 0; round < wanted; round++) {
    const version = await on.plan();
    const driver = start(on, ['run', '--yes']);
    // From then on the proxy's host knows whose release it is.
    await until('it has begun', () => on !== undefined && stateOf(on) !== 'planned');
    await delay(drawn(SEED, round, 'when') * 2_500);
    renameSync(stateDir, away);
    // Meanwhile somebody else finds no release, and would plan one and drive it, in a folder of the same name.
    const rival = begin(on.sandbox.projectDir, [round % 2 === 0 ? 'run' : 'resume', '--yes']);
    children.push(rival);
    await delay(drawn(SEED, round, 'away') * 1_500);
    const { status, err } = await rival.ended;
    expect(status === 0, err).toBe(false);
    if (existsSync(stateDir)) rmSync(stateDir, { recursive: true });
    renameSync(away, stateDir);
    const ended = await driver.ended;
    // Done, stopped, or a step that failed and says so: git found its worktree gone.
    expect([0, 6, 74], ended.err).toContain(ended.status);
    const how = `${String(ended.status)}, rival ${String(status)}`;
    ends.set(how, (ends.get(how) ?? 0) + 1);
    asked += await goneOn(on);
    await on.expectAllLive(version);
    expectOneWriter(on);
  }
  const counted = [...ends].map(([how, count]) => `${count} × ${how}`).join('; ');
  report(
    'writers',
    `state folder moved away and back, ${wanted} rounds (exit status ${counted}; ${asked} lost publishes asked for): 0 with two writers, each job once`,
  );
}, 3_600_000);
