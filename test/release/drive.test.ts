/** The driver and the events that other terminals hand to it. */
import { afterEach, expect, test } from 'vitest';
import { handOver } from '../../src/release/hand-over.ts';
import { stage, type Stage } from '../scenarios/stage.ts';

const BY = { user: 'second', host: 'here', via: 'test' };
const { signal } = new AbortController();

let on: Stage | undefined;
afterEach(async () => {
  await on?.close();
  on = undefined;
});

test('performs what it accepted from another terminal although its own event came to nothing, and then decides no more', async () => {
  on = await stage();
  const driver = await on.start();
  await on.walkTo(driver, 'app1Drained');
  const { stateDir } = on.place;
  const rollback = handOver(stateDir, { event: { type: 'ROLLBACK' }, by: BY, expect: null }, () => undefined, signal);
  await expect.poll(() => driver.engine.state, { timeout: 5_000 }).toBe('movingBack');
  const own = await driver.decide({ event: { type: 'NEXT' }, by: BY, expect: null });
  expect(own.accepted).toBe(false);
  expect(await driver.settle()).toBe(true);
  expect(driver.engine.state).toBe('rolledBack');

  // Nobody would perform it any more: the asking terminal is not answered, and becomes the driver itself.
  const late = handOver(stateDir, { event: { type: 'NEXT' }, by: BY, expect: null }, () => undefined, signal);
  await driver.close();
  expect(await late).toBeNull();
  expect((await rollback)?.accepted).toBe(true);
}, 60_000);

test('has nothing to settle where nobody else sent anything', async () => {
  on = await stage();
  const driver = await on.start();
  expect(await driver.settle()).toBe(false);
  expect(driver.engine.state).toBe('planned');
}, 60_000);
