/**
 * Leaving in every step of a release and of its way back: Ctrl-C once and twice, SIGTERM, a terminal that hangs up, and a pager that
 * is quit. Once parks and says how to go on, twice leaves at once, and what was left is gone on with: each job once.
 * Runs in `npm run torture` only: its quick form is what test/failures/person.interrupted and person.terminals show.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import { readLatest, readLiveDriver } from '../../src/release/read.ts';
import { until } from '../failures/person.steps.ts';
import type { Running } from '../scenarios/terminal.ts';
import { type Arena, arena } from './release.ts';
import { report } from './report.ts';

const FORWARD = [
  'testing',
  'tagging',
  'drainingApp1',
  'publishingApp1',
  'goingLiveApp1',
  'verifying',
  'publishingApp2',
  'goingAllLive',
  'watchingAll',
  'mergingBack',
];
const BACK = ['movingBack', 'restoringApp1', 'rejoiningApp1'];
/** What leaving at once may take, on a machine that is busy. */
const AT_ONCE_MS = 2_000;

let on: Arena | undefined;
afterEach(async () => {
  await on?.close();
  on = undefined;
});

const WAYS: Record<string, (running: Running) => Promise<void> | void> = {
  'Ctrl-C': ({ child }) => {
    child.kill('SIGINT');
  },
  SIGTERM: ({ child }) => {
    child.kill('SIGTERM');
  },
  'a terminal that hangs up': ({ child }) => {
    child.kill('SIGHUP');
    child.kill('SIGHUP');
  },
  'a pager that is quit': ({ child }) => {
    child.stderr?.destroy();
  },
  'Ctrl-C twice': async (running) => {
    running.child.kill('SIGINT');
    await until('it parks', () => running.err().includes('Park') || running.child.exitCode !== null);
    running.child.kill('SIGINT');
    const at = performance.now();
    await running.ended;
    expect(performance.now() - at).toBeLessThan(AT_ONCE_MS);
  },
};

/** Drives with `command`, and leaves as soon as one of the steps begins that were not left yet. Returns the step; null at the end. */
async function leaveIn(at: Arena, steps: Set<string>, command: readonly string[], way: string): Promise<string | null> {
  const { stateDir } = at.place;
  const running = at.begin(command);
  const step = () => {
    const driver = readLiveDriver(stateDir);
    const state = readLatest(stateDir)?.snapshot.value ?? '';
    return driver?.pid === running.child.pid && running.err() !== '' && steps.has(state) ? state : null;
  };
  const seen = { step: null as string | null };
  await until('a step begins', () => {
    seen.step = running.child.exitCode === null ? step() : null;
    return seen.step !== null || running.child.exitCode !== null;
  });
  const left = seen.step;
  if (left === null) return null;
  steps.delete(left);
  // Into its middle, differently each time.
  await delay((steps.size * 37) % 120);
  await WAYS[way]?.(running);
  const { status, err } = await running.ended;
  const document = readLatest(stateDir);
  if (document?.endedAt !== null) return left;
  // A pager that is quit is noticed at the next line, which may be after the last one of a command that rests.
  if (way !== 'a pager that is quit') {
    // Once it has parked, and is ending, the second Ctrl-C may find no one who hears it: the signal ends it, which a shell calls 130.
    const ends = err.includes('Parked') && running.child.signalCode === 'SIGINT' ? 130 : status;
    expect(ends, `${way} in ${left}: ${err}`).toBe(130);
    expect(err).toMatch(/Nothing is lost\. (Go on with: flow resume|What can be done now: flow status)/);
  } else expect([130, 0], `${way} in ${left}`).toContain(status);
  return left;
}

test.each(Object.keys(WAYS))(
  '%s in every step of a release, and of its way back, is safe',
  async (way) => {
    on = await arena({
      drain: { watch: '300ms', deadline: '20s' },
      verify: { soak: '1s', every: '100ms' },
      watch: { soak: '600ms' },
    });
    await on.sandbox.publishKnobs({ SLEEP_BEFORE: 0.6 });
    const version = await on.plan();
    const left: string[] = [];
    const steps = new Set(FORWARD);
    for (let lives = 0; readLatest(on.place.stateDir)?.endedAt === null; lives++) {
      expect(lives).toBeLessThan(40);
      const step = await leaveIn(on, steps, [lives % 2 === 0 ? 'run' : 'resume', '--yes'], way);
      if (step !== null) left.push(step);
    }
    await on.expectAllLive(version);
    expect(left.length, left.join(' ')).toBeGreaterThan(FORWARD.length - 2);

    const next = await on.plan();
    const live = await on.begin(['run', '--until', 'app1Live', '--yes']).ended;
    expect(live.status, live.err).toBe(0);
    const returning = new Set(BACK);
    let command = ['send', 'ROLLBACK', '--yes'];
    for (let lives = 0; readLatest(on.place.stateDir)?.endedAt === null; lives++) {
      expect(lives).toBeLessThan(20);
      const step = await leaveIn(on, returning, command, way);
      if (step !== null) left.push(step);
      command = ['resume', '--yes'];
    }
    const document = readLatest(on.place.stateDir);
    expect([document?.snapshot.value, document?.snapshot.context.runs]).toEqual([
      'rolledBack',
      { app1: 'old', app2: 'old' },
    ]);
    const { sandbox } = on;
    const runs = await Promise.all(['app1', 'app2'].map((name) => sandbox.runningVersion(name)));
    expect(runs).toEqual([version, version]);
    // Published once and restored once; the other was not touched.
    const jobs = Object.entries(document?.snapshot.context.attempts ?? {});
    expect(jobs.filter(([step]) => step.startsWith('restoring')).map(([, times]) => times)).toEqual([1]);
    expect(next).not.toBe(version);
    expect(on.load.totals().failed).toBe(0);
    report('leaving', `${way} in ${left.length} steps (${left.join(' ')}): gone on with each time, each job once`);
  },
  300_000,
);
