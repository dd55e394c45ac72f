/** A release in a simulated world, cut at every moment, deterministic and in one process: where it ends, and what it never does. */
import { expect, test } from 'vitest';
import { live } from './simulation/life.ts';

const FULL = process.env.TORTURE === 'full';
const POLICIES = [
  { kind: 'release', restore: 'auto', onBad: 'rollback' },
  { kind: 'release', restore: 'hold', onBad: 'hold' },
  { kind: 'rollback', restore: 'auto', onBad: 'hold' },
] as const;

test('a release that is cut once, at each of its moments, ends as the one that is not', async () => {
  let cuts = 0;
  for (const policy of POLICIES) {
    for (let seed = 1; seed <= (FULL ? 60 : 6); seed++) {
      const options = { ...policy, seed, trouble: seed % 3 === 0 ? 0 : 0.3 };
      const whole = await live(options);
      expect(whole.world.broken).toEqual([]);
      for (let at = 1; at <= whole.moments; at++) {
        cuts += 1;
        const cut = await live({ ...options, cuts: (moment) => moment === at });
        expect(cut.world.broken, `seed ${seed}, cut at ${at}`).toEqual([]);
        // A cut after the last commit leaves nothing to do.
        expect(cut.lives).toBe(at === whole.moments ? 1 : 2);
        expect(cut.outcome, `seed ${seed}, cut at ${at}: ${cut.states.join(' ')}`).toEqual(whole.outcome);
      }
    }
  }
  console.log(`${cuts} cuts`);
}, 120_000);
