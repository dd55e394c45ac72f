/** ROLLBACK from every production state, under load: what is in rotation and what each server runs afterwards. */
import { afterEach, describe, expect, test } from 'vitest';
import { peekJob } from '../../src/hosts/jobs.ts';
import type { Driver } from '../../src/release/drive.ts';
import { git, stage, type Stage } from './stage.ts';
import { ALL } from './terminal.ts';

let on: Stage | undefined;
afterEach(async () => {
  await on?.close();
  on = undefined;
});

/** Everything is as before the release: the old version everywhere, all servers in rotation, nobody saw an error. */
async function expectOldEverywhere(at: Stage, options: { served: boolean }): Promise<void> {
  const totals = await at.calm();
  const { context, value } = at.document().snapshot;
  expect(value).toBe('rolledBack');
  expect(totals.failed, JSON.stringify(totals.failures)).toBe(0);
  expect(context.runs).toEqual({ app1: 'old', app2: 'old' });
  expect(context.routes).toEqual([['app1', 'app2']]);
  expect([await at.sandbox.runningVersion('app1'), await at.sandbox.runningVersion('app2')]).toEqual([
    'v1.3.7',
    'v1.3.7',
  ]);
  expect(git(at.sandbox.nginxDir, 'branch', '--show-current')).toBe('master');
  expect(context.bad === null).toBe(!options.served);
  // The tag was pushed before production and stays: what was released is on record.
  expect(git(`${at.sandbox.root}/cil.git`, 'tag', '--list', 'v1.3.8')).toBe('v1.3.8');
}

const steps = (at: Stage): string[] =>
  at
    .document()
    .history.filter(({ event }) => event === 'done')
    .map(({ from }) => from ?? '');

/** `npm test` takes the longest way back; that from app1Published is the one which is stuck below, and then goes on. */
const quick = <Case extends { from: string }>(cases: Case[]): Case[] =>
  ALL ? cases : cases.filter(({ from }) => from === 'app2Published');

describe('ROLLBACK by hand', () => {
  test.each(
    quick([
      { from: 'app1Drained', served: false, then: ['movingBack'], published: [0, 0] },
      {
        from: 'app1Published',
        served: false,
        then: ['movingBack', 'drainingBackApp1', 'restoringApp1', 'rejoiningApp1'],
        published: [2, 0],
      },
      {
        from: 'app1Live',
        served: true,
        then: ['movingBack', 'drainingBackApp1', 'restoringApp1', 'rejoiningApp1'],
        published: [2, 0],
      },
      {
        from: 'verified',
        served: true,
        then: ['movingBack', 'drainingBackApp1', 'restoringApp1', 'rejoiningApp1'],
        published: [2, 0],
      },
      {
        from: 'app2Published',
        served: true,
        then: ['restoringApp2', 'movingBack', 'drainingBackApp1', 'restoringApp1', 'rejoiningApp1'],
        published: [2, 2],
      },
    ]),
  )(
    'from $from brings the old version back everywhere',
    async ({ from, served, then, published }) => {
      on = await stage();
      await on.load();
      const driver = await on.start();
      await on.walkTo(driver, from);
      const before = steps(on).length;
      const decision = await on.send(driver, { type: 'ROLLBACK', reason: 'a test' });
      expect(decision.accepted).toBe(true);
      const took = steps(on).slice(before);
      // A drain that the way back has proven already is not proven again.
      expect(then.filter((step) => !step.startsWith('drainingBack'))).toEqual(
        took.filter((step) => !step.startsWith('drainingBack')),
      );
      await expectOldEverywhere(on, { served });
      expect([await on.sandbox.publishCount('app1'), await on.sandbox.publishCount('app2')]).toEqual(published);
    },
    60_000,
  );

  // As the row of a second terminal that sends ROLLBACK in a step.
  if (ALL) {
    test('in the middle of a soak moves the traffic at once', async () => {
      on = await stage({ soakMs: 60_000 });
      await on.load();
      const driver = await on.start();
      await on.walkTo(driver, 'app1Live');
      const soaking = on.send(driver, { type: 'NEXT' });
      await expect.poll(() => driver.engine.state, { timeout: 5_000 }).toBe('verifying');
      const refused = await driver.decide({
        event: { type: 'NEXT' },
        by: { user: 'second', host: 'here', via: 'second terminal' },
        expect: null,
      });
      expect(refused.accepted).toBe(false);
      expect(refused.verdicts.map(({ id }) => id)).toEqual(['stepAtRest']);
      const startedAt = performance.now();
      const decision = await driver.decide({
        event: { type: 'ROLLBACK' },
        by: { user: 'second', host: 'here', via: 'second terminal' },
        expect: null,
      });
      expect(decision.accepted).toBe(true);
      await expect.poll(() => driver.engine.context.rollback?.moved, { timeout: 5_000, interval: 20 }).toBe(true);
      expect(performance.now() - startedAt).toBeLessThan(3_000);
      await soaking;
      await expectOldEverywhere(on, { served: true });
    }, 60_000);
  }
});

describe('ROLLBACK while a step works', () => {
  /** What a step has told so far. */
  const said = (at: Stage, step: string): string =>
    at.told.map((one) => (one.kind === 'progress' && one.step === step ? `${one.progress.text}\n` : '')).join('');

  /** NEXT, and ROLLBACK as soon as the step that it began is in the middle of its work. */
  async function rollBackIn(
    at: Stage,
    driver: Driver,
    step: string,
    isInTheMiddle: () => Promise<boolean> | boolean,
  ): Promise<void> {
    const working = at.send(driver, { type: 'NEXT' });
    await expect.poll(isInTheMiddle, { timeout: 10_000, interval: 5 }).toBe(true);
    expect(driver.engine.state).toBe(step);
    const by = { user: 'second', host: 'here', via: 'second terminal' };
    const decision = await driver.decide({ event: { type: 'ROLLBACK', reason: 'a test' }, by, expect: null });
    expect(decision.accepted, JSON.stringify(decision)).toBe(true);
    await working;
    expect(steps(at)).not.toContain(step);
  }

  const published = async (at: Stage): Promise<number[]> =>
    await Promise.all(['app1', 'app2'].map((name) => at.sandbox.publishCount(name)));

  // As the row of requests that are under way.
  if (ALL) {
    test('in the middle of a drain leaves the requests under way alone, and publishes nothing', async () => {
      on = await stage();
      const at = on;
      await at.load();
      const driver = await at.start();
      await at.walkTo(driver, 'tagged');
      const underWay = Promise.all(
        [1, 2, 3, 4].map(() => fetch(`${at.sandbox.url}/slow?ms=5000`, { headers: { connection: 'close' } })),
      );
      await rollBackIn(at, driver, 'drainingApp1', () => said(at, 'drainingApp1').includes(' old workers left'));
      expect((await underWay).map(({ status }) => status)).toEqual([200, 200, 200, 200]);
      await expectOldEverywhere(at, { served: false });
      expect(await published(at)).toEqual([0, 0]);
    }, 60_000);
  }

  test('in the middle of a publish moves the traffic at once, and lets the publish come to its end first', async () => {
    on = await stage();
    const at = on;
    await at.load();
    const driver = await at.start();
    await at.walkTo(driver, 'app1Drained');
    await at.sandbox.publishKnobs({ SLEEP_AFTER: 4 });
    const { world } = driver;
    const job = `${at.document().id}/app1/publishingApp1.1`;
    const begun = async () => (await at.sandbox.publishCount('app1')) === 1;
    const moved = expect
      .poll(() => driver.engine.context.rollback?.moved === true, { timeout: 20_000, interval: 20 })
      .toBe(true)
      .then(async () => (await peekJob(world.host, world.jobs, job)).state);
    await rollBackIn(at, driver, 'publishingApp1', begun);
    // When traffic had moved, the publish was still at work; afterwards it had ended well, and was published over.
    expect(await moved).toBe('running');
    expect(await peekJob(world.host, world.jobs, job)).toMatchObject({ state: 'done', status: 0 });
    expect(said(at, 'restoringApp1')).toContain(`${job} is still at work; it is waited for`);
    await expectOldEverywhere(at, { served: false });
    expect(await published(at)).toEqual([2, 0]);
  }, 60_000);

  const lastSteps = [
    { step: 'goingAllLive', middle: 'sbin/nginx -s reload', soaks: {} },
    { step: 'watchingAll', middle: 's left of 60', soaks: { watchMs: 60_000 } },
  ];
  test.each(ALL ? lastSteps : [])(
    'in the middle of $step, with the new version everywhere, restores every server',
    async ({ step, middle, soaks }) => {
      on = await stage(soaks);
      const at = on;
      await at.load();
      const driver = await at.start();
      await at.walkTo(driver, 'app2Published');
      await rollBackIn(at, driver, step, () => driver.engine.state === step && said(at, step).includes(middle));
      await expectOldEverywhere(at, { served: true });
      expect(await published(at)).toEqual([2, 2]);
    },
    60_000,
  );
});

// The rows of publish failures tell the same of one server each; here the whole way back is looked at.
if (ALL) {
  describe('a failed publish', () => {
    test('of app1 leaves app1 without traffic, and ROLLBACK restores it', async () => {
      on = await stage();
      await on.load();
      const driver = await on.start();
      await on.walkTo(driver, 'app1Drained');
      await on.sandbox.publishKnobs({ EXIT_WITH: 3 });
      await on.send(driver, { type: 'NEXT' });
      expect(driver.engine.state).toBe('app1Drained');
      expect(driver.engine.context.failure).toMatchObject({ code: 'PUBLISH_FAILED', kind: 'rejected' });
      expect(driver.engine.context.runs).toEqual({ app1: 'unknown', app2: 'old' });
      expect(driver.engine.context.routes).toEqual([['app2']]);
      await on.sandbox.publishKnobs(null);
      await on.send(driver, { type: 'ROLLBACK' });
      await expectOldEverywhere(on, { served: false });
    }, 60_000);

    test('of app2 restores app2 first, then moves the traffic, then restores app1', async () => {
      on = await stage();
      await on.load();
      const driver = await on.start();
      await on.walkTo(driver, 'verified');
      await on.sandbox.publishKnobs({ EXIT_AFTER: 4 }, 'app2');
      await on.send(driver, { type: 'NEXT' });
      expect(driver.engine.state).toBe('verified');
      expect(driver.engine.context.runs).toEqual({ app1: 'new', app2: 'unknown' });
      await on.sandbox.publishKnobs(null, 'app2');
      const before = steps(on).length;
      await on.send(driver, { type: 'ROLLBACK' });
      expect(
        steps(on)
          .slice(before)
          .filter((step) => !step.startsWith('drainingBack')),
      ).toEqual(['restoringApp2', 'movingBack', 'restoringApp1', 'rejoiningApp1']);
      await expectOldEverywhere(on, { served: true });
    }, 60_000);
  });
}

test('a way back that cannot go on is stuck, and names the command that is taken there', async () => {
  on = await stage({ config: { publish: { settle: '1s' } } });
  await on.load();
  const driver = await on.start();
  await on.walkTo(driver, 'app1Published');
  const { engine } = driver;
  const expectStuck = (code: string, step: string) => {
    expect([engine.state, engine.context.failure]).toEqual(['stuck', expect.objectContaining({ code, step })]);
    expect(engine.context.failure?.message).toContain('flow send ROLLBACK');
    expect(engine.context.failure?.message).not.toContain('flow send NEXT');
  };
  // Restored, but the process that answers says something else.
  await on.sandbox.misbehaveServer('app1', { wrongVersion: true });
  await on.send(driver, { type: 'ROLLBACK' });
  expectStuck('VERSION_DIFFERS', 'restoringApp1');
  await on.sandbox.misbehaveServer('app1', null);

  // The one that serves turns ill while the other is restored.
  await on.sandbox.publishKnobs({ SLEEP_AFTER: 2 });
  const working = on.send(driver, { type: 'ROLLBACK' });
  await expect.poll(() => on?.sandbox.publishCount('app1'), { timeout: 10_000 }).toBe(3);
  await on.sandbox.misbehaveServer('app2', { unhealthy: true });
  await working;
  expectStuck('SERVER_UNHEALTHY', 'rejoiningApp1');
  expect(engine.context.failure?.message).toContain('Traffic stays on app2.');
  await on.sandbox.publishKnobs(null);
  await on.sandbox.misbehaveServer('app2', null);
  await on.send(driver, { type: 'ROLLBACK' });
  await expectOldEverywhere(on, { served: false });
}, 60_000);

// As the row of a soak with errors.
if (ALL) {
  test('a bad soak rolls back by itself', async () => {
    on = await stage({ soakMs: 20_000 });
    await on.sandbox.misbehaveNext({ errorEvery: 5 });
    await on.load();
    const driver = await on.start();
    await on.walkTo(driver, 'app1Live');
    await on.send(driver, { type: 'NEXT' });
    expect(driver.engine.context.rollback?.because).toMatch(
      /more errors than the version before: \d+ in \d+ log lines/,
    );
    await expectOldEverywhere(on, { served: true });
  }, 60_000);
}
