/** Trouble that the soak has to see, and trouble that must not disturb it. */
import { appendFile, copyFile, link, readFile, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import type { SoakEvidence } from '../../machines/contract.ts';
import type { Misbehaviour } from '../../src/sandbox/program.ts';
import { readLiveFigures } from '../../src/store/live.ts';
import { git, type Stage } from '../scenarios/stage.ts';
import type { Ended } from '../scenarios/terminal.ts';
import { failures } from './failure.ts';
import { soakRows } from './soak.rows.ts';

/** A release that rests at app1Live, with nobody driving it. */
async function live(on: Stage): Promise<void> {
  await on.walkTo(await on.start(), 'app1Live');
  await on.leave();
}

const soak = (on: Stage): Promise<Ended> => on.flow('send', 'NEXT', '--yes');

/** Sends an event that leads to a soak, does something in the middle of it, and waits for the end. */
async function duringSoak(on: Stage, act: () => Promise<void>, ...words: string[]): Promise<Ended> {
  const running = on.begin('send', ...(words.length === 0 ? ['NEXT'] : words), '--yes');
  // The soak starts at the end of the logs: its first look has to come first.
  const { stateDir } = on.place;
  const hasLooked = () => (readLiveFigures(stateDir, on.document().id)?.soak?.observedMs ?? 0) > 0;
  for (let looks = 0; !hasLooked() && looks < 1_500; looks++) await delay(10);
  await act();
  return await running.ended;
}

function evidence(on: Stage): SoakEvidence {
  const seen = on.document().snapshot.context.evidence.verifying;
  if (seen === undefined || !('observedSeconds' in seen)) throw new Error('there is no evidence of a soak');
  return seen;
}

const logOf = (on: Stage): string => on.sandbox.server('app1').log;

/** The log is there and cannot be read, until it is given back; its writer loses what it writes meanwhile. */
async function hideLog(on: Stage): Promise<() => Promise<void>> {
  const log = logOf(on);
  await link(log, `${log}.hidden`);
  // A link to itself, put in its place in one go, so that its writer does not come between.
  await symlink(log, `${log}.loop`);
  await rename(`${log}.loop`, log);
  return () => rename(`${log}.hidden`, log);
}

/** A running server misbehaves until the soak has judged it, so that what is restored there is well. */
async function untilJudged(on: Stage, trouble: Misbehaviour): Promise<void> {
  await on.sandbox.misbehaveServer('app1', trouble);
  for (let looks = 0; on.latest()?.snapshot.value === 'verifying' && looks < 1_000; looks++) await delay(10);
  await on.sandbox.misbehaveServer('app1', null);
}

const marks = (count: number): string => 'MARK of the test\n'.repeat(count);

failures('the soak', soakRows, {
  moreErrors: {
    stage: { soakMs: 20_000 },
    async trouble(on) {
      await on.sandbox.misbehaveNext({ errorEvery: 4 });
      await live(on);
      const ended = await soak(on);
      expect(ended.err).toContain('✖ verifying → movingBack');
      expect(ended.err).toContain('ledger did not answer');
      expect(on.document().snapshot.context.bad?.version).toBe('v1.3.8');
      return ended;
    },
  },

  moreErrorsHeld: {
    stage: { soakMs: 20_000, config: { verify: { onBad: 'hold' } } },
    async trouble(on) {
      await on.sandbox.misbehaveNext({ errorEvery: 4 });
      await live(on);
      return await soak(on);
    },
    async mended(on) {
      expect((await on.flow('send', 'ROLLBACK', '--yes')).status).toBe(7);
    },
  },

  errorsAsBefore: {
    // The sandbox's own check is one of the requests that would fail.
    stage: { soakMs: 1_500, config: { verify: { checks: [] } } },
    async trouble(on) {
      for (const name of ['app1', 'app2']) await on.sandbox.misbehaveServer(name, { status5xxEvery: 3 });
      // The old version has to have a past.
      await delay(1_000);
      await on.walkTo(await on.start(), 'app1Live');
      await on.leave();
      const ended = await soak(on);
      expect(evidence(on).errorsSeen).toBeGreaterThan(0);
      expect(evidence(on).proxy?.failed).toBeGreaterThan(0);
      return ended;
    },
  },

  healthOnce: {
    stage: { soakMs: 2_000, config: { verify: { every: '200ms', checks: [] } } },
    async trouble(on) {
      await live(on);
      const ended = await duringSoak(on, () => on.sandbox.misbehaveServer('app1', { healthFailEvery: 4 }));
      expect(evidence(on).checksFailed).toBeGreaterThan(0);
      return ended;
    },
  },

  healthGone: {
    stage: { soakMs: 20_000, config: { verify: { every: '200ms' } } },
    async trouble(on) {
      await live(on);
      return await duringSoak(on, () => untilJudged(on, { unhealthy: true }));
    },
  },

  slow: {
    stage: { soakMs: 20_000, config: { verify: { every: '200ms' } } },
    async trouble(on) {
      const file = join(on.sandbox.projectDir, 'flow.yaml');
      const text = await readFile(file, 'utf8');
      await writeFile(file, text.replace('/pay/check', '/pay/check\n      within: 150ms'));
      git(on.sandbox.projectDir, 'commit', '--quiet', '-a', '-m', 'A payment takes at most 150 ms');
      await live(on);
      return await duringSoak(on, () => untilJudged(on, { slowMs: 250 }));
    },
  },

  failingRequests: {
    stage: { soakMs: 20_000, config: { verify: { errors: ['panic:'], checks: [] } } },
    async trouble(on) {
      await on.sandbox.misbehaveNext({ status5xxEvery: 3 });
      await live(on);
      return await soak(on);
    },
  },

  unreadable: {
    stage: { soakMs: 1_500, config: { verify: { blind: '1s' } } },
    async trouble(on) {
      await live(on);
      const giveBack = await hideLog(on);
      const ended = await soak(on);
      await giveBack();
      return ended;
    },
    async mended(on) {
      const again = async () => {
        const giveBack = await hideLog(on);
        await delay(600);
        await giveBack();
        await appendFile(logOf(on), marks(1));
      };
      const ended = await duringSoak(on, again, 'ANSWER', 'again');
      expect(ended.status, ended.err).toBe(0);
      expect(on.document().snapshot.value).toBe('verified');
      expect(evidence(on).observedSeconds).toBeGreaterThanOrEqual(1.5);
      expect(evidence(on).note).toBe('');
    },
  },

  missing: {
    stage: { config: { verify: { blind: '500ms' } } },
    async trouble(on) {
      await live(on);
      const folder = join(logOf(on), '..');
      await rename(folder, `${folder}-gone`);
      const ended = await soak(on);
      await rename(`${folder}-gone`, folder);
      return ended;
    },
    async mended(on) {
      const ended = await on.flow('send', 'ANSWER', 'accept', '--yes', '--reason', 'the log was moved by hand');
      expect(ended.status, ended.err).toBe(0);
      expect(on.document().snapshot.value).toBe('verified');
      expect(on.document().history.at(-1)?.reason).toBe('the log was moved by hand');
    },
  },

  rotated: {
    stage: { soakMs: 2_500, config: { verify: { errors: ['MARK'], errorsTolerated: 30 } } },
    async trouble(on) {
      await live(on);
      const log = logOf(on);
      return await duringSoak(on, async () => {
        await appendFile(log, marks(5));
        await rename(log, `${log}.1`);
        // Its writer has not let go of the old file yet.
        await appendFile(`${log}.1`, marks(5));
        await appendFile(log, marks(5));
        await delay(600);
        await appendFile(log, marks(5));
        await rename(`${log}.1`, `${log}.2`);
        await copyFile(log, `${log}.1`);
        await truncate(log);
        await appendFile(log, marks(5));
        await delay(600);
        await appendFile(log, marks(5));
      });
    },
  },

  emptied: {
    stage: { soakMs: 2_000 },
    async trouble(on) {
      await live(on);
      const log = logOf(on);
      return await duringSoak(on, async () => {
        await truncate(log);
        await delay(400);
        await appendFile(log, Buffer.from([0x00, 0xff, 0xfe, 0x0a, 0xc3, 0x28, 0x1b, 0x5b, 0x32, 0x4a, 0x0a]));
        await appendFile(log, Buffer.alloc(2_000_000, 'x'));
      });
    },
  },

  noTraffic: {
    stage: { config: { verify: { checks: [] } } },
    async trouble(on) {
      await live(on);
      await on.calm();
      return await soak(on);
    },
    async mended(on) {
      await on.load({ ratePerSecond: 40 });
      expect((await on.flow('send', 'ANSWER', 'rollback', '--yes')).status).toBe(7);
      expect(on.document().snapshot.context.runs).toEqual({ app1: 'old', app2: 'old' });
    },
  },

  checksAlone: {
    async trouble(on) {
      await live(on);
      await on.calm();
      await rm(join(on.sandbox.nginxDir, 'logs/access.log'));
      const ended = await soak(on);
      expect(evidence(on).note).toContain('access.log was missing: 5xx answers were not counted');
      await on.load({ ratePerSecond: 40 });
      return ended;
    },
  },
});
