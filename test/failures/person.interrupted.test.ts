/** Leaving in the middle of a step: Ctrl-C once and twice in every step, forward and back. */
import { execFileSync } from 'node:child_process';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { Stage } from '../scenarios/stage.ts';
import type { Ended } from '../scenarios/terminal.ts';
import { failures } from './failure.ts';
import { interruptedRows } from './person.rows.ts';
import { isDriven, published, resumed, stateOn, until } from './person.steps.ts';

/** What leaving at once may take. */
const AT_ONCE_MS = 1_000;

/** A hook that takes its time, so that there is something to interrupt. */
async function slowHook(repository: string, name: string, seconds: number): Promise<void> {
  const file = join(repository, 'hooks', name);
  await writeFile(file, `#!/bin/sh\nsleep ${seconds}\n`);
  await chmod(file, 0o755);
}

/** Ctrl-C as soon as the step has begun and, where that is asked for, has printed something. */
async function interruptIn(on: Stage, step: string, args: readonly string[], printed = ''): Promise<Ended> {
  const running = on.begin(...args);
  await until(
    `${args.join(' ')} is at ${step}`,
    () => stateOn(on) === step && isDriven(on) && running.err().includes(printed),
  );
  running.child.kill('SIGINT');
  const ended = await running.ended;
  expect(ended.status, `${step}: ${ended.err}`).toBe(130);
  expect(ended.err).toMatch(/Nothing is lost\. (Go on with: flow resume|What can be done now: flow status)/);
  return ended;
}

/** Ctrl-C twice in a step that was interrupted once, where it still goes on. */
async function interruptTwice(on: Stage, step: string): Promise<void> {
  if (stateOn(on) !== step) return;
  const running = on.begin('resume', '--yes');
  await until(`${step} is resumed`, () => running.err().includes('record'));
  running.child.kill('SIGINT');
  await until(`${step} parks`, () => running.err().includes('Parking') || running.child.exitCode !== null);
  running.child.kill('SIGINT');
  const at = performance.now();
  const { status, err } = await running.ended;
  expect(status, `${step}: ${err}`).toBe(130);
  expect(performance.now() - at).toBeLessThan(AT_ONCE_MS);
}

/** Once and twice in a step, and then to its end. */
async function interruptThoroughly(on: Stage, step: string, milestone: string): Promise<void> {
  await interruptIn(on, step, ['send', 'NEXT', '--yes']);
  await interruptTwice(on, step);
  await resumed(on, milestone, 0);
}

failures('leaving', interruptedRows, {
  forward: {
    stage: { config: { drain: { watch: '300ms' } } },
    async trouble(on) {
      await on.start();
      await on.leave();
      await on.sandbox.publishKnobs({ SLEEP_BEFORE: 1.5 });
      await slowHook(join(on.sandbox.root, 'cil.git'), 'pre-receive', 0.6);
      await interruptThoroughly(on, 'testing', 'tested');
      await interruptThoroughly(on, 'tagging', 'tagged');
      await interruptThoroughly(on, 'drainingApp1', 'app1Drained');
      return await interruptIn(on, 'publishingApp1', ['send', 'NEXT', '--yes'], 'Publish v1.3.8');
    },
    async mended(on) {
      await interruptTwice(on, 'publishingApp1');
      await resumed(on, 'app1Published', 0);
      expect(await published(on)).toEqual([1, 1, 0]);
    },
  },
  forwardAgain: {
    stage: { soakMs: 1_500, watchMs: 1_000 },
    async trouble(on) {
      await on.walkTo(await on.start(), 'app1Published');
      await on.leave();
      await on.sandbox.publishKnobs({ SLEEP_BEFORE: 1.5 });
      await interruptThoroughly(on, 'goingLiveApp1', 'app1Live');
      await interruptThoroughly(on, 'verifying', 'verified');
      return await interruptIn(on, 'publishingApp2', ['send', 'NEXT', '--yes'], 'Publish v1.3.8');
    },
    async mended(on) {
      await interruptTwice(on, 'publishingApp2');
      await resumed(on, 'app2Published', 0);
      await slowHook(join(on.sandbox.projectDir, '.git'), 'post-merge', 1.5);
      await interruptIn(on, 'goingAllLive', ['send', 'NEXT', '--yes']);
      await interruptIn(on, 'watchingAll', ['resume', '--yes']);
      await interruptTwice(on, 'watchingAll');
      // A merge is not cut in half: one Ctrl-C waits for it, and two leave it to end by itself.
      const merging = on.begin('resume', '--yes');
      await until('it merges back', () => stateOn(on) === 'mergingBack');
      merging.child.kill('SIGINT');
      await until('it waits', () => merging.err().includes('Parking'));
      const at = performance.now();
      merging.child.kill('SIGINT');
      const left = await merging.ended;
      expect([left.status, left.err]).toEqual([130, expect.stringContaining('Left at once. Nothing is lost.')]);
      expect(performance.now() - at).toBeLessThan(AT_ONCE_MS);
      expect(stateOn(on)).toBe('mergingBack');
      await resumed(on, 'allLive', 0);
      expect(on.document().snapshot.context.followUps).toEqual([]);
      expect(await published(on)).toEqual([1, 1, 1]);
      expect(execFileSync('git', ['-C', on.sandbox.projectDir, 'status', '--porcelain'], { encoding: 'utf8' })).toBe(
        '',
      );
    },
  },
  back: {
    async trouble(on) {
      await on.walkTo(await on.start(), 'app1Live');
      await on.leave();
      await on.sandbox.publishKnobs({ SLEEP_BEFORE: 1.5 });
      await interruptIn(on, 'movingBack', ['send', 'ROLLBACK', '--yes']);
      return await interruptIn(on, 'restoringApp1', ['resume', '--yes'], 'Publish v1.3.7');
    },
    async mended(on) {
      await interruptTwice(on, 'restoringApp1');
      await interruptIn(on, 'rejoiningApp1', ['resume', '--yes']);
      if (stateOn(on) !== 'rolledBack') await resumed(on, 'rolledBack', 7);
      expect(await published(on)).toEqual([1, 2, 0]);
      expect(on.document().snapshot.context.runs).toEqual({ app1: 'old', app2: 'old' });
    },
  },
});
