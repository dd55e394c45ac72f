/** Terminals that go away: a closed window, a pager that is quit, a second terminal that follows, and the one that drives. */
import { expect } from 'vitest';
import { beginInTerminal } from '../scenarios/pseudo-terminal.ts';
import type { Stage } from '../scenarios/stage.ts';
import type { Running } from '../scenarios/terminal.ts';
import { failures } from './failure.ts';
import { terminalRows } from './person.rows.ts';
import { isDriven, published, resumed, stateOn, until } from './person.steps.ts';

/** How many seconds something took, and what came of it. */
async function timed<T>(work: () => Promise<T>): Promise<[number, T]> {
  const startedAt = performance.now();
  const result = await work();
  return [(performance.now() - startedAt) / 1_000, result];
}

/** Two terminals: one soaks, the other sends ROLLBACK, which comes to the slow restoring of app1. */
async function rollbackFromSecondTerminal(on: Stage): Promise<{ driver: Running; second: Running }> {
  await on.walkTo(await on.start(), 'app1Live');
  await on.leave();
  await on.sandbox.publishKnobs({ SLEEP_BEFORE: 2 });
  const driver = on.begin('send', 'NEXT', '--yes');
  await until('the first soaks', () => stateOn(on) === 'verifying');
  // A second terminal is answered at once, whatever the driver does. What a process of flow takes to start is the machine's
  // matter, which may be busy with other tests: it is measured, and taken off.
  const [startSeconds] = await timed(() => on.flow('send', '--help'));
  const [seconds, next] = await timed(() => on.flow('send', 'NEXT', '--yes'));
  process.stdout.write(
    `a second terminal was answered after ${seconds.toFixed(2)} s; to start takes ${startSeconds.toFixed(2)} s of it\n`,
  );
  expect([next.status, next.err]).toEqual([4, expect.stringContaining('verifying is at work')]);
  expect(seconds - startSeconds).toBeLessThan(1);
  const second = on.begin('send', 'ROLLBACK', '--yes', '-m', 'customers call');
  await until('app1 is restored', () => stateOn(on) === 'restoringApp1');
  return { driver, second };
}

failures('a terminal goes', terminalRows, {
  terminalGone: {
    stage: { soakMs: 4_000 },
    async trouble(on) {
      await on.walkTo(await on.start(), 'app1Live');
      await on.leave();
      const window = beginInTerminal(on.sandbox.projectDir, ['send', 'NEXT', '--yes']);
      await window.shows('verifying');
      window.hangUp();
      await until('flow has left the closed window', () => !isDriven(on));
      expect(stateOn(on)).toBe('verifying');
      const read = on.begin('resume', '--yes');
      read.child.stderr?.destroy();
      expect((await read.ended).status).toBe(130);
      const hungUp = on.begin('resume', '--yes');
      await until('the soak goes on', () => hungUp.err().includes('record'));
      // One closed window is told in several ways, and is one Ctrl-C all the same.
      hungUp.child.kill('SIGHUP');
      hungUp.child.kill('SIGHUP');
      return await hungUp.ended;
    },
    async mended(on) {
      await resumed(on, 'verified', 0);
    },
  },
  secondTerminalGone: {
    stage: { soakMs: 60_000 },
    async trouble(on) {
      const { driver, second } = await rollbackFromSecondTerminal(on);
      second.child.kill('SIGINT');
      const ended = await second.ended;
      expect(stateOn(on)).toBe('restoringApp1');
      expect((await driver.ended).status).toBe(7);
      return ended;
    },
  },
  driverGone: {
    stage: { soakMs: 60_000 },
    async trouble(on) {
      const { driver, second } = await rollbackFromSecondTerminal(on);
      driver.child.kill('SIGKILL');
      return await second.ended;
    },
    async mended(on) {
      await resumed(on, 'rolledBack', 7);
      expect(await published(on)).toEqual([1, 2, 0]);
    },
  },
});
