/** SIGKILL at every commit and at random instants of a real release: it ends where the uninterrupted one ends, everything once. */
import { afterEach, expect, test } from 'vitest';
import { readLatest } from '../../src/release/read.ts';
import { type Arena, arena } from './release.ts';
import { FULL, report, rounds } from './report.ts';
import { drawn } from './simulation/effects.ts';

const SEED = Number(process.env.TORTURE_SEED ?? 20_261_123);
/** Commits of an uninterrupted release, its plan included. */
const COMMITS = 19;

let on: Arena | undefined;
afterEach(async () => {
  await on?.close();
  on = undefined;
});

test.each(FULL ? ['before', 'after'] : [])(
  'a storm in which every life dies %s a commit ends in allLive',
  async (when) => {
    on = await arena();
    const version = await on.plan();
    const lives = await on.carry(() => undefined, `${when}:*`);
    await on.expectAllLive(version);
    expect(readLatest(on.place.stateDir)?.rev).toBe(COMMITS);
    expect(lives).toBeGreaterThan(COMMITS - 3);
    report(
      'crash-storm',
      `every life dies ${when} a commit: allLive after ${lives} lives, each job once, 0 failed requests`,
    );
  },
  300_000,
);

test('dies after a push, a publish and a switch, before their outcome is on disk', async () => {
  on = await arena();
  const version = await on.plan();
  // The outcomes of tagging, publishing app1 and going live everywhere.
  await on.carry(() => undefined, 'before:5,9,17');
  await on.expectAllLive(version);
}, 120_000);

test.each(FULL ? ['before:2,8,14', 'before:3,9,15', 'before:4,10,16', 'before:6,12,18', 'after:*'] : ['before:5,9,17'])(
  'dies at commits %s with every host behind ssh',
  async (plan) => {
    on = await arena({}, { ssh: true });
    const version = await on.plan();
    await on.carry(() => undefined, plan);
    await on.expectAllLive(version);
    report('crash-ssh', `deaths at ${plan}, every host behind ssh: allLive, each job once, 0 failed requests`);
  },
  300_000,
);

test.each(FULL ? [rounds(5)] : [])(
  'dies before and after each commit, %i times',
  async (times) => {
    on = await arena();
    let kills = 0;
    for (let repeat = 0; repeat < times; repeat++) {
      for (const when of ['before', 'after']) {
        // Three deaths to a release, far apart: every commit has its turn.
        for (let first = 2; first < 8; first++) {
          const at = [first, first + 6, first + 12].filter((commit) => commit <= COMMITS);
          const version = await on.plan();
          await on.carry(() => undefined, `${when}:${at.join(',')}`);
          await on.expectAllLive(version);
          kills += at.length;
        }
      }
    }
    const { requests } = on.load.totals();
    report(
      'crash-matrix',
      `${kills} deaths before and after each of ${COMMITS - 1} commits: all allLive, each job once, 0 of ${requests} requests failed`,
    );
  },
  3_600_000,
);

test('dies at random instants', async () => {
  on = await arena();
  const wanted = FULL ? rounds(200) : 4;
  let kills = 0;
  let releases = 0;
  while (kills < wanted) {
    const version = await on.plan();
    releases += 1;
    let life = 0;
    await on.carry((running) => {
      life += 1;
      // Long enough to get on, or it would only ever start.
      const afterMs = 150 + drawn(SEED, releases, life) * (1_800 + 100 * life);
      const timer = setTimeout(() => {
        if (running.child.kill('SIGKILL')) kills += 1;
      }, afterMs);
      void running.ended.finally(() => clearTimeout(timer));
    });
    await on.expectAllLive(version);
  }
  const { requests } = on.load.totals();
  report(
    'crash-random',
    `seed ${SEED}: ${kills} kills in ${releases} releases: all allLive, each job once, 0 of ${requests} requests failed`,
  );
}, 3_600_000);
