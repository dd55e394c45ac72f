/** What the steps that move traffic assert right before they act: the facts an event was decided on may be old by then. */
import { afterEach, expect, test } from 'vitest';
import { gatherFacts } from '../../src/release/facts.ts';
import { git, stage, type Stage } from '../scenarios/stage.ts';

let on: Stage | undefined;
afterEach(async () => {
  await on?.close();
  on = undefined;
});

test.each([
  { kind: 'a release', options: {}, released: 'v1.3.8' },
  { kind: 'a way back', options: { backTo: 'v1.3.6' }, released: 'v1.3.6' },
])(
  'traffic does not go to a server of $kind whose version has changed since the facts were taken',
  async ({ options, released }) => {
    on = await stage();
    const driver = await on.start(options);
    await on.walkTo(driver, 'app1Published');
    const { engine, world } = driver;
    const facts = await gatherFacts(world, engine.state, engine.context, 'NEXT');
    await on.sandbox.misbehaveServer('app1', { wrongVersion: true });
    const before = (await world.proxy.observe()).workers;

    expect(engine.send({ type: 'NEXT', facts }, { user: 'test', host: 'here', via: 'test' }).accepted).toBe(true);
    await driver.drive();
    expect([engine.state, engine.context.failure]).toEqual([
      'app1Published',
      expect.objectContaining({ code: 'VERSION_DIFFERS', kind: 'unsafe', step: 'goingLiveApp1' }),
    ]);
    expect(engine.context.failure?.message).toContain(
      `app1 must run ${released} before traffic goes there, but app1: the installed program is ${released}, but the running one is v0.0.0. Traffic stays on app2.`,
    );
    expect((await world.proxy.observe()).workers).toEqual(before);
    expect(git(on.sandbox.nginxDir, 'branch', '--show-current')).toBe('yun-app2');

    await on.sandbox.misbehaveServer('app1', null);
    await on.walkTo(driver, 'app1Live');
  },
  60_000,
);
