/** Two people, two terminals, two control machines: one of them drives, the others are told who, and who was deposed does nothing more. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { readOwner } from '../../src/nginx/owner.ts';
import { localHost } from '../../src/hosts/local.ts';
import { begin, type Ended } from '../scenarios/terminal.ts';
import { stage, type Stage } from '../scenarios/stage.ts';
import { FULL, report } from './report.ts';

/** For so long a driver is stopped before another machine takes over. */
const PAUSED_MS = FULL ? 60_000 : 0;

let on: Stage | undefined;
afterEach(async () => {
  await on?.close();
  on = undefined;
});

/** Another control machine: a clone of its own, with a state folder of its own. */
function otherMachine(at: Stage): (...args: string[]) => Promise<Ended> {
  const { root } = at.sandbox;
  const dir = join(root, 'second');
  execFileSync('git', ['clone', '--quiet', '--origin', 'cil', '--branch', 'develop', join(root, 'cil.git'), dir]);
  for (const branch of ['master', 'testing'])
    execFileSync('git', ['-C', dir, 'branch', '--quiet', branch, `cil/${branch}`]);
  return async (...args) => {
    execFileSync('git', ['-C', dir, 'fetch', '--quiet', '--tags', 'cil']);
    return await begin(dir, args).ended;
  };
}
/** How many milliseconds something took, and what came of it. */
async function timed<T>(work: () => Promise<T>): Promise<[number, T]> {
  const startedAt = performance.now();
  const result = await work();
  return [performance.now() - startedAt, result];
}

const owner = async (at: Stage) => await readOwner(localHost(), at.sandbox.nginxDir);

describe('two control machines', () => {
  test('the second is refused while the first releases, and let in when that has ended', async () => {
    on = await stage();
    const second = otherMachine(on);
    const driver = await on.start();
    await on.walkTo(driver, 'app1Drained');
    const started = await second('start', '--to', 'v1.4.0', '--yes');
    expect([started.status, started.err]).toEqual([5, expect.stringContaining('r-0001 (v1.3.8)')]);
    expect(started.err).toContain('flow lock take-over');
    await on.walkTo(driver, 'allLive');
    await on.leave();
    expect(await owner(on)).toBeNull();
    const again = await second('start', '--to', 'v1.4.0', '--yes');
    expect(again.status, again.err).toBe(0);
  }, 60_000);

  test(
    'whoever is taken over from switches and publishes nothing more, also when it was paused',
    async () => {
      on = await stage({ soakMs: 60_000 });
      const second = otherMachine(on);
      await on.walkTo(await on.start(), 'app1Live');
      await on.leave();
      const first = on.begin('send', 'NEXT', '--yes');
      await expect.poll(() => on?.document().snapshot.value, { timeout: 10_000 }).toBe('verifying');
      first.child.kill('SIGSTOP');
      await delay(PAUSED_MS);
      const taken = await second('lock', 'take-over', '--yes');
      expect([taken.status, taken.out]).toEqual([0, expect.stringContaining('flow start')]);
      // Only app1 serves: the release of the other machine begins with app2.
      const claimed = await second('start', '--to', 'v1.4.0', '--yes');
      expect(claimed.status, claimed.err).toBe(0);
      const tested = await second('send', 'NEXT', '--yes');
      expect(tested.status, tested.err).toBe(0);
      const branch = () =>
        execFileSync('git', ['-C', on?.sandbox.nginxDir ?? '', 'branch', '--show-current']).toString();
      const before = [branch(), await on.sandbox.publishCount('app1'), await on.sandbox.publishCount('app2')];
      first.child.kill('SIGCONT');
      await on.flow('send', 'ROLLBACK', '--yes');
      const ended = await first.ended;
      expect([ended.status, ended.err]).toEqual([74, expect.stringContaining('flow lock show')]);
      expect([branch(), await on.sandbox.publishCount('app1'), await on.sandbox.publishCount('app2')]).toEqual(before);
      report(
        'operators',
        `stopped for ${PAUSED_MS / 1_000} s, taken over from another machine, woken: 74, 0 double writes`,
      );
    },
    60_000 + PAUSED_MS,
  );
});

describe('one control machine', () => {
  test('a driver that hangs is taken over: it is ended, and the release goes on', async () => {
    on = await stage({ soakMs: 1_500 });
    const dir = on.sandbox.projectDir;
    const flow = async (...args: string[]) => await begin(dir, args).ended;
    await on.walkTo(await on.start(), 'app1Live');
    await on.leave();
    const first = on.begin('send', 'NEXT', '--yes');
    await expect.poll(() => on?.document().snapshot.value, { timeout: 10_000 }).toBe('verifying');
    first.child.kill('SIGSTOP');
    // What a process takes to start is the machine's matter, which may be busy: it is measured, and taken off.
    const [startMs] = await timed(() => flow('send', '--help'));
    const [tookMs, refused] = await timed(() => flow('run', '--yes'));
    expect([refused.status, refused.err]).toEqual([5, expect.stringContaining(String(first.child.pid))]);
    expect(tookMs - startMs).toBeLessThan(1_500);
    const shown = await on.flow('lock', 'show');
    expect(shown.out).toContain(`process ${first.child.pid}`);
    const taken = await on.flow('lock', 'take-over', '--yes');
    expect([taken.status, taken.out]).toEqual([0, expect.stringContaining('flow resume')]);
    expect((await first.ended).status).toBeNull();
    const resumed = await on.flow('resume', '--yes');
    expect([resumed.status, on.document().snapshot.value]).toEqual([0, 'verified']);
  }, 60_000);

  // As the row of a second terminal that follows along.
  if (FULL) {
    test('--wait waits for whoever drives, says so, and goes on when it is free', async () => {
      on = await stage({ soakMs: 2_500 });
      await on.walkTo(await on.start(), 'app1Live');
      await on.leave();
      const first = on.begin('send', 'NEXT', '--yes');
      await expect.poll(() => on?.document().snapshot.value, { timeout: 10_000 }).toBe('verifying');
      const waited = await on.flow('run', '--until', 'app2Published', '--yes', '--wait');
      expect([waited.status, on.document().snapshot.value], waited.err).toEqual([0, 'app2Published']);
      expect(waited.err).toContain(`process ${first.child.pid}`);
      expect((await first.ended).status).toBe(0);
    }, 60_000);
  }

  // `writers` kills one as well, and puts a stranger in its place.
  test.each(FULL ? ['ROLLBACK'] : [])(
    'a killed driver leaves the lock free for the next at once, with %s',
    async (event) => {
      on = await stage({ soakMs: 60_000 });
      await on.walkTo(await on.start(), 'app1Live');
      await on.leave();
      const first = on.begin('send', 'NEXT', '--yes');
      await expect.poll(() => on?.document().snapshot.value, { timeout: 10_000 }).toBe('verifying');
      first.child.kill('SIGKILL');
      await first.ended;
      const rolledBack = await on.flow('send', event, '--yes');
      expect(rolledBack.status, rolledBack.err).toBe(7);
    },
    60_000,
  );
});
