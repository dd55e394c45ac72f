/** Trouble in publish.sh and in the program it starts. */
import { readFileSync } from 'node:fs';
import { expect } from 'vitest';
import type { Misbehaviour } from '../../src/sandbox/program.ts';
import type { PublishKnobs } from '../../src/sandbox/publish-script.ts';
import type { Stage } from '../scenarios/stage.ts';
import type { Ended } from '../scenarios/terminal.ts';
import { failures } from './failure.ts';
import { publishRows } from './publish.rows.ts';

const IMPATIENT = { config: { publish: { silence: '1s' } } };

/** NEXT at a milestone, with a publish.sh that misbehaves from there on. */
const publishing = (knobs: PublishKnobs, milestone = 'app1Drained') =>
  async function trouble(on: Stage): Promise<Ended> {
    await on.walkTo(await on.start(), milestone);
    await on.leave();
    await on.sandbox.publishKnobs(knobs);
    return await on.flow('send', 'NEXT', '--yes');
  };

/** NEXT at app1Drained, with a version that misbehaves by itself. The test server is told to behave. */
const carrying = (trouble: Misbehaviour, knobs: PublishKnobs = { PATIENCE_MS: 1_500 }) =>
  async function carry(on: Stage): Promise<Ended> {
    const driver = await on.start();
    await on.sandbox.misbehaveNext(trouble);
    await on.sandbox.misbehaveServer('test', behaved);
    await on.walkTo(driver, 'app1Drained');
    await on.leave();
    await on.sandbox.publishKnobs(knobs);
    return await on.flow('send', 'NEXT', '--yes');
  };
const behaved: Misbehaviour = { crashOnStart: false, neverStarts: false, wrongVersion: false, unhealthy: false };

async function rollsBack(on: Stage): Promise<void> {
  await on.sandbox.publishKnobs(null);
  const ended = await on.flow('send', 'ROLLBACK', '--yes');
  expect(ended.status, ended.err).toBe(7);
  expect(on.document().snapshot.context.runs).toEqual({ app1: 'old', app2: 'old' });
  expect([await on.sandbox.runningVersion('app1'), await on.sandbox.runningVersion('app2')]).toEqual([
    'v1.3.7',
    'v1.3.7',
  ]);
}
const publishes = async (on: Stage): Promise<number[]> =>
  await Promise.all(['app1', 'app2'].map((name) => on.sandbox.publishCount(name)));

failures('a publish', publishRows, {
  exitsNonZero: { trouble: publishing({ EXIT_WITH: 3 }), mended: rollsBack },
  secondServerFails: {
    trouble: publishing({ EXIT_AFTER: 4 }, 'verified'),
    async mended(on) {
      // Trying again is as good as going back.
      await on.sandbox.publishKnobs(null);
      const ended = await on.flow('send', 'NEXT', '--yes');
      expect(ended.status, ended.err).toBe(0);
      expect(on.document().snapshot.value).toBe('app2Published');
    },
  },
  hangs: {
    stage: IMPATIENT,
    trouble: publishing({ HANG: 1 }),
    async mended(on) {
      const ended = await on.flow('send', 'ANSWER', 'end', '--yes');
      expect([ended.status, ended.err]).toEqual([6, expect.stringContaining('was ended as you said')]);
      expect(on.document().snapshot.value).toBe('app1Drained');
      await on.sandbox.publishKnobs(null);
      const next = await on.flow('send', 'NEXT', '--yes');
      expect(next.status, next.err).toBe(0);
      expect(await publishes(on)).toEqual([2, 0]);
    },
  },
  hangsOnlyForAWhile: {
    stage: IMPATIENT,
    async trouble(on) {
      const asked = await publishing({ SLEEP_BEFORE: 3 })(on);
      expect([asked.status, on.document().snapshot.value]).toEqual([6, 'askingPublishApp1']);
      let ended = asked;
      // Asked again for as long as nothing is printed.
      while (on.document().snapshot.value === 'askingPublishApp1')
        ended = await on.flow('send', 'ANSWER', 'wait', '--yes');
      expect(await publishes(on)).toEqual([1, 0]);
      return ended;
    },
  },
  hangsInRollback: {
    stage: IMPATIENT,
    async trouble(on) {
      const asked = await publishing({ HANG: 1 })(on);
      expect([asked.status, on.document().snapshot.value]).toEqual([6, 'askingPublishApp1']);
      return await on.flow('send', 'ROLLBACK', '--yes');
    },
    async mended(on) {
      await on.sandbox.publishKnobs(null);
      const ended = await on.flow('send', 'ANSWER', 'end', '--yes');
      expect(ended.status, ended.err).toBe(7);
      expect(on.document().snapshot.context.runs).toEqual({ app1: 'old', app2: 'old' });
      expect(await publishes(on)).toEqual([2, 0]);
    },
  },
  hangsInTest: {
    stage: IMPATIENT,
    trouble: publishing({ HANG: 1 }, 'planned'),
    async mended(on) {
      expect((await on.flow('send', 'ANSWER', 'end', '--yes')).status).toBe(6);
      expect(on.document().snapshot.value).toBe('planned');
      await on.sandbox.publishKnobs(null);
      expect((await on.flow('send', 'NEXT', '--yes')).status).toBe(0);
      expect(on.document().snapshot.value).toBe('tested');
    },
  },
  neverStarts: { trouble: carrying({ neverStarts: true }), mended: rollsBack },
  diesAtStart: { trouble: carrying({ crashOnStart: true }), mended: rollsBack },
  diesLater: {
    async trouble(on) {
      await on.walkTo(await on.start(), 'app1Published');
      await on.leave();
      await on.sandbox.misbehaveServer('app1', { dieAfterMs: 10 });
      await expect.poll(() => on.sandbox.serverPid('app1')).toBeNull();
      return await on.flow('send', 'NEXT', '--yes');
    },
    async mended(on) {
      await on.sandbox.misbehaveServer('app1', null);
      await rollsBack(on);
    },
  },
  wrongVersion: {
    stage: { config: { publish: { settle: '1s' } } },
    trouble: carrying({ wrongVersion: true }),
    mended: rollsBack,
  },
  unhealthy: {
    stage: { config: { publish: { settle: '1s' } } },
    trouble: carrying({ unhealthy: true }),
    mended: rollsBack,
  },
  asksAgain: { trouble: publishing({ ASK_AGAIN: 1 }), mended: rollsBack },
  asksTheTerminal: { trouble: publishing({ ASK_TERMINAL: 1 }), mended: rollsBack },
  printsMuch: {
    async trouble(on) {
      await on.walkTo(await on.start(), 'app1Drained');
      await on.leave();
      await on.sandbox.publishKnobs({ PRINT_MB: 100 });
      const sending = on.begin('send', 'NEXT', '--yes');
      let mostMb = 0;
      const measure = setInterval(() => {
        try {
          const status = readFileSync(`/proc/${sending.child.pid}/status`, 'utf8');
          mostMb = Math.max(mostMb, Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1_024);
        } catch {
          // It has ended.
        }
      }, 20);
      const ended = await sending.ended;
      clearInterval(measure);
      expect(mostMb).toBeGreaterThan(20);
      expect(mostMb).toBeLessThan(200);
      expect(ended.err.length).toBeLessThan(2_000_000);
      return ended;
    },
  },
  leavesADaemon: { trouble: publishing({ DAEMON: 1 }) },
});
