/** Two people at once: real processes that are started together, again and again. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import { milestonesOf } from '../../machines/topology.ts';
import { beginInTerminal } from '../scenarios/pseudo-terminal.ts';
import type { Stage } from '../scenarios/stage.ts';
import { ALL, type Ended } from '../scenarios/terminal.ts';
import { failures } from './failure.ts';
import { racingRows } from './person.rows.ts';

/** The record is one line of events, each from where the one before it led. */
function expectOneOrder(on: Stage): void {
  const { history, rev } = on.document();
  expect(history.map((entry) => entry.rev)).toEqual(history.map((_entry, index) => index + 1));
  expect(history.at(-1)?.rev).toBe(rev);
  for (const [index, entry] of history.entries()) {
    expect(entry.from).toBe(index === 0 ? null : history[index - 1]?.to);
  }
}

const sent = (on: Stage, event: string): number =>
  on.document().history.filter((entry) => entry.event === event).length;

/** The versions that were published to app1, in their order. */
async function publishesOf(on: Stage): Promise<string[]> {
  const text = await readFile(join(on.sandbox.server('app1').dir, 'publishes.log'), 'utf8').catch(() => '');
  return text.split('\n').flatMap((line) => line.split(' ')[1] ?? []);
}

/** One of the two ended well, and the other was told that it was too late. */
function loserOf(ends: readonly Ended[]): Ended {
  const told = ends.map(({ status, err, out }) => `${status}: ${err}${out}`).join('\n');
  expect(ends.map(({ status }) => status).sort(), told).toEqual([0, 4]);
  const loser = ends.find(({ status }) => status === 4);
  if (loser === undefined) throw new Error('nobody lost');
  return loser;
}

/** A way back to v1.3.6 is planned: it begins at `tagged`, so that the race is soon reached again. How ROLLBACK ended. */
async function race(
  on: Stage,
  from: 'app1Drained' | 'publishingApp1',
  headStartMs: number,
  kills = false,
): Promise<Ended> {
  await on.walkTo(await on.start({ backTo: 'v1.3.6' }), 'app1Drained');
  await on.leave();
  const before = await publishesOf(on);
  if (from === 'publishingApp1') await on.sandbox.publishKnobs({ SLEEP_BEFORE: 1 });
  const working = from === 'app1Drained' ? null : on.begin('send', 'NEXT', '--yes');
  if (working !== null) {
    await expect.poll(() => on.document().snapshot.value, { timeout: 10_000, interval: 5 }).toBe(from);
  }
  const next = on.begin('send', 'NEXT', '--yes');
  await delay(headStartMs);
  const rollback = on.begin('send', 'ROLLBACK', '--yes');
  if (kills) {
    await expect.poll(() => sent(on, 'ROLLBACK'), { timeout: 10_000, interval: 5 }).toBe(1);
    rollback.child.kill('SIGKILL');
  }
  const [first, second, driver] = await Promise.all([next.ended, rollback.ended, working?.ended]);
  const told = `${first.status}: ${first.err}\n${second.status}: ${second.err}\n${driver?.status ?? ''}`;
  expect(on.document().snapshot.value, told).toBe('rolledBack');
  expect(second.status, told).toBe(kills ? null : 7);
  if (driver !== undefined) expect(driver.status, told).toBe(7);
  expectOneOrder(on);
  expect(sent(on, 'ROLLBACK'), told).toBe(1);
  const wasTaken = sent(on, 'NEXT') === 2;
  expect(first.status, told).toBe(driver === undefined && wasTaken ? 7 : 4);
  // Published at most once, as a ROLLBACK can come before the job has begun; and restored once where NEXT was taken.
  const published = (await publishesOf(on)).slice(before.length);
  expect(published.filter((version) => version === 'v1.3.6').length, told).toBeLessThanOrEqual(wasTaken ? 1 : 0);
  expect(published.filter((version) => version === 'v1.3.7').length, told).toBe(wasTaken ? 1 : 0);
  await on.sandbox.publishKnobs(null);
  return second;
}

failures('two at once', racingRows, {
  bothNext: {
    async trouble(on) {
      const driver = await on.start();
      const milestones = milestonesOf(driver.engine.context.topology).slice(1);
      await on.leave();
      // The slowest of races: one looks at the question while the other has long sent, and been carried out.
      const terminal = beginInTerminal(on.sandbox.projectDir, ['send', 'NEXT']);
      await terminal.shows('Send NEXT (revision 1)?');
      expect((await on.flow('send', 'NEXT', '--yes')).status).toBe(0);
      terminal.type('y');
      expect((await terminal.ended).status, terminal.screen()).toBe(4);
      expect(terminal.screen()).toContain('not at 1 any more: somebody was faster');
      let loser: Ended | undefined;
      for (const milestone of milestones.slice(1)) {
        loser = loserOf(await Promise.all([on.flow('send', 'NEXT', '--yes'), on.flow('send', 'NEXT', '--yes')]));
        expect(on.document().snapshot.value).toBe(milestone);
      }
      expectOneOrder(on);
      expect(sent(on, 'NEXT')).toBe(milestones.length);
      expect(await Promise.all(['test', 'app1', 'app2'].map((name) => on.sandbox.publishCount(name)))).toEqual([
        1, 1, 1,
      ]);
      if (loser === undefined) throw new Error('there was no race');
      return loser;
    },
  },
  nextAndRollback: {
    async trouble(on) {
      for (const headStartMs of ALL ? [0, 20, 60, 120, 180] : [20]) await race(on, 'app1Drained', headStartMs);
      return await race(on, 'app1Drained', 240);
    },
  },
  nextAndRollbackInAStep: {
    async trouble(on) {
      for (const headStartMs of [0, 20]) await race(on, 'publishingApp1', headStartMs);
      // The terminal that sent ROLLBACK is killed as soon as that was taken.
      await race(on, 'publishingApp1', 0, true);
      return await race(on, 'publishingApp1', 0);
    },
  },
  bothStart: {
    async trouble(on) {
      let loser: Ended | undefined;
      for (let round = 1; round <= (ALL ? 4 : 2); round++) {
        if (round > 1) expect((await on.flow('send', 'ABORT', '--yes')).status).toBe(0);
        loser = loserOf(await Promise.all([on.flow('start', '--yes'), on.flow('start', '--yes')]));
        expect(on.document().id).toBe(`r-000${round}`);
      }
      if (loser === undefined) throw new Error('there was no race');
      return loser;
    },
  },
});
