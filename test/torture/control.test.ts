/** The same random kills, against a release as one would write it first: they have to hurt it, or they prove nothing. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { FULL, report } from './report.ts';
import { drawn } from './simulation/effects.ts';

const SEED = Number(process.env.TORTURE_SEED ?? 20_261_123);
const KILLS = FULL ? 30 : 8;
const NAIVE = join(import.meta.dirname, 'programs/naive.mjs');

test('the naive form runs something twice when it is killed at random', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'flow-naive-'));
  let wrong = 0;
  try {
    for (let kill = 0; kill < KILLS; kill++) {
      const [state, log] = [join(folder, `state-${kill}.json`), join(folder, `log-${kill}`)];
      const live = (): { ended: Promise<number | null>; kill: () => void } => {
        const child = spawn(process.execPath, [NAIVE, state, log], { stdio: 'ignore' });
        const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
        return { ended, kill: () => void child.kill('SIGKILL') };
      };
      const first = live();
      await delay(200 + drawn(SEED, 'naive', kill) * 600);
      first.kill();
      await first.ended;
      const status = await live().ended;
      // What the first life left behind ends, too.
      await delay(300);
      const lines = readFileSync(log, 'utf8').trim().split('\n').sort();
      const once = ['end app1', 'end app2', 'end test', 'start app1', 'start app2', 'start test'];
      if (status !== 0 || JSON.stringify(lines) !== JSON.stringify(once)) wrong += 1;
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  report('control', `seed ${SEED}: the naive form went wrong in ${wrong} of ${KILLS} kills`);
  // A few kills say little of how often, on a machine that may be busy.
  expect(wrong).toBeGreaterThan(FULL ? KILLS / 4 : 0);
}, 300_000);
