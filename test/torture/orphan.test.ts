/**
 * flow is killed in the middle of a publish: resumed at once and after the publish has ended, with a script that prints and with one
 * that is silent. It is attached to, its whole output is shown, its status is kept, and it ran once.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import type { PublishKnobs } from '../../src/sandbox/publish-script.ts';
import { stage, type Stage } from '../scenarios/stage.ts';
import { FULL, report } from './report.ts';

const SECONDS = FULL ? 20 : 2;

let on: Stage | undefined;
afterEach(async () => {
  await on?.close();
  on = undefined;
});

const scripts: Record<string, PublishKnobs> = {
  silent: { SLEEP_BEFORE: SECONDS },
  printing: { TICK: SECONDS },
};

const CASES = [
  { script: 'silent', resumed: 'at once', status: 0 },
  { script: 'printing', resumed: 'after it has ended', status: 5 },
  { script: 'printing', resumed: 'at once', status: 0 },
  { script: 'silent', resumed: 'after it has ended', status: 0 },
] as const;

test.each(FULL ? CASES : CASES.slice(0, 2))(
  'a publish ($script) that ends with status $status is resumed $resumed',
  async ({ script, resumed, status }) => {
    on = await stage();
    await on.load({ ratePerSecond: 40 });
    await on.walkTo(await on.start(), 'app1Drained');
    await on.leave();
    await on.sandbox.publishKnobs({ ...scripts[script], EXIT_AFTER: status });
    const first = on.begin('send', 'NEXT', '--yes');
    await expect.poll(() => on?.sandbox.publishCount('app1'), { timeout: 10_000 }).toBe(1);
    await delay(300);
    first.child.kill('SIGKILL');
    await first.ended;
    if (resumed === 'after it has ended') await delay((SECONDS + 2) * 1_000);
    const next = await on.flow('resume', '--yes');
    expect([next.status, on.document().snapshot.value], next.err).toEqual(
      status === 0 ? [0, 'app1Published'] : [6, 'app1Drained'],
    );
    // From its first line to its last.
    expect(next.err).toContain('quickpay v1.3.8');
    expect(next.err).toContain('Published v1.3.8');
    if (script === 'printing') {
      for (let tick = 1; tick <= SECONDS * 10; tick++) expect(next.err).toContain(`tick ${tick} of ${SECONDS * 10}`);
    }
    if (status !== 0) expect(next.err).toContain(`exit status ${status}`);
    expect(await on.sandbox.publishCount('app1')).toBe(1);
    expect((await on.calm()).failed).toBe(0);
    report('orphan', `${script}, resumed ${resumed}, status ${status}: attached, whole output, once`);
  },
  120_000,
);
