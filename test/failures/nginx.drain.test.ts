/** Drains that take long, never end, or are disturbed: nothing is called drained that is not, and nothing is cut off unasked. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Socket } from 'node:net';
import { afterEach, expect } from 'vitest';
import { git, type Stage } from '../scenarios/stage.ts';
import type { Ended } from '../scenarios/terminal.ts';
import { answering, failures } from './failure.ts';
import { drainRows } from './nginx.rows.ts';
import { type Answered, echoes, expectFlow, nginx, openSocket, slow, toTagged } from './nginx.steps.ts';

const IMPATIENT = { config: { drain: { deadline: '1s' } } };
const LONG_MS = 6_000;

let socket: Socket | undefined;
afterEach(() => {
  socket?.destroy();
  socket = undefined;
});

/** NEXT with long requests and uploads under way: they are all answered, and before the step has ended. */
async function nextOverLongRequests(on: Stage): Promise<{ ended: Ended; answers: Answered[] }> {
  const under = [1, 2, 3].flatMap(() => [slow(on, 'get', LONG_MS), slow(on, 'upload', LONG_MS)]);
  // Until Nginx has them: what is accepted before the switch is what the old workers have to end.
  await delay(300);
  const ended = await on.flow('send', 'NEXT', '--yes');
  const endedAt = performance.now();
  const answers = await Promise.all(under);
  expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
  expect(answers.every(({ at }) => at < endedAt)).toBe(true);
  return { ended, answers };
}

/** NEXT, and a hand on the proxy while app1 drains; the connection that keeps it from ending is closed once `noticed` is said. */
async function disturbed(on: Stage, disturb: () => void, noticed: RegExp): Promise<Ended> {
  await toTagged(on);
  socket = await openSocket(on, 'app1');
  const sending = on.begin('send', 'NEXT', '--yes');
  await expect.poll(() => sending.err(), { timeout: 15_000, interval: 20 }).toMatch(/live after \d+ ms/);
  disturb();
  await expect.poll(() => sending.err(), { timeout: 15_000, interval: 20 }).toMatch(noticed);
  expect(await echoes(socket)).toBe(true);
  socket.destroy();
  return await sending.ended;
}

failures('Nginx, a drain', drainRows, {
  inFlight: {
    async trouble(on) {
      await toTagged(on);
      const first = await nextOverLongRequests(on);
      expect(first.ended.status, first.ended.err).toBe(0);
      expect(new Set(first.answers.map(({ version }) => version))).toEqual(new Set(['v1.3.7']));
      await on.walkTo(await on.reopen(), 'app1Published');
      await on.leave();
      // The dangerous one: from only app2 to only app1, where nobody is left to try again with.
      const second = await nextOverLongRequests(on);
      expect(new Set(second.answers.map(({ server, version }) => `${server} ${version}`))).toEqual(
        new Set(['app2 v1.3.7']),
      );
      return second.ended;
    },
  },
  neverEnds: {
    stage: IMPATIENT,
    async trouble(on) {
      await toTagged(on);
      socket = await openSocket(on, 'app1');
      return await on.flow('send', 'NEXT', '--yes');
    },
    async mended(on) {
      if (socket === undefined) throw new Error('no connection was opened');
      await expectFlow(on, 0, 'tagged', 'send', 'ANSWER', 'revert', '--yes');
      expect([await answering(on.sandbox.url), git(on.sandbox.nginxDir, 'branch', '--show-current')]).toEqual([
        ['app1', 'app2'],
        'master',
      ]);
      expect(await echoes(socket)).toBe(true);

      await expectFlow(on, 6, 'askingDrainApp1', 'send', 'NEXT', '--yes');
      await expectFlow(on, 6, 'askingDrainApp1', 'send', 'ANSWER', 'wait', '--yes');
      const waiting = on.begin('send', 'ANSWER', 'wait', '--yes');
      await expect.poll(() => on.document().snapshot.value, { timeout: 10_000 }).toBe('drainingApp1');
      expect(await echoes(socket)).toBe(true);
      socket.destroy();
      const ended = await waiting.ended;
      expect([ended.status, on.document().snapshot.value], ended.err).toEqual([0, 'app1Drained']);
      expect(on.document().snapshot.context.drainWaived).toEqual([]);
    },
  },
  neverEndsProceed: {
    stage: IMPATIENT,
    async trouble(on) {
      await toTagged(on);
      socket = await openSocket(on, 'app1');
      await expectFlow(on, 6, 'askingDrainApp1', 'send', 'NEXT', '--yes');
      return await on.flow('send', 'ANSWER', 'proceed', '--yes', '--reason', 'only the monitoring is connected');
    },
    async mended(on) {
      const { history, snapshot } = on.document();
      expect(history.at(-1)).toMatchObject({ event: 'ANSWER proceed', reason: 'only the monitoring is connected' });
      expect(snapshot.context.drainWaived).toEqual(['app1']);
      await expectFlow(on, 0, 'app1Published', 'send', 'NEXT', '--yes');
    },
  },
  reloadedMeanwhile: {
    async trouble(on) {
      return await disturbed(on, () => nginx(on, '-s', 'reload'), /somebody else reloaded Nginx/);
    },
    async mended(on) {
      expect(on.document().snapshot.context.evidence.drainingApp1).toMatchObject({
        judgedBy: expect.stringContaining('somebody else reloaded Nginx meanwhile') as string,
      });
      await expectFlow(on, 0, 'app1Published', 'send', 'NEXT', '--yes');
    },
  },
  movedMeanwhile: {
    async trouble(on) {
      const switchByHand = () => {
        git(on.sandbox.nginxDir, 'switch', '--quiet', 'master');
        nginx(on, '-s', 'reload');
      };
      return await disturbed(on, switchByHand, /Agree on who works on the proxy/);
    },
    async mended(on) {
      expect(await on.sandbox.publishCount('app1')).toBe(0);
      await expectFlow(on, 0, 'app1Drained', 'send', 'NEXT', '--yes');
    },
  },
});
