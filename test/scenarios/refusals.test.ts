/** What is refused, on the real thing: a guard says no, names the reason, and nothing has changed. */
import { execFileSync } from 'node:child_process';
import { afterEach, expect, test } from 'vitest';
import type { Driver } from '../../src/release/drive.ts';
import { git, stage, type Stage } from './stage.ts';
import { ALL } from './terminal.ts';

let on: Stage | undefined;
afterEach(async () => {
  await on?.close();
  on = undefined;
});

/** NEXT is refused by exactly this guard, and the release did not move. */
async function expectRefused(at: Stage, driver: Driver, guard: string): Promise<string> {
  const { rev } = at.document();
  const { state } = driver.engine;
  const decision = await at.send(driver, { type: 'NEXT' });
  expect(decision.accepted).toBe(false);
  expect(decision.verdicts.filter(({ ok }) => !ok).map(({ id }) => id)).toContain(guard);
  expect([at.document().rev, driver.engine.state]).toEqual([rev, state]);
  const verdict = decision.verdicts.find(({ id }) => id === guard);
  expect(verdict?.unblock).toBeTruthy();
  return verdict?.because ?? '';
}

test('refuses NEXT at app1Drained when Nginx was reloaded by somebody else with other files in between', async () => {
  on = await stage();
  const driver = await on.start();
  await on.walkTo(driver, 'app1Drained');
  git(on.sandbox.nginxDir, 'switch', 'master');
  execFileSync('sbin/nginx', ['-s', 'reload'], { cwd: on.sandbox.nginxDir });
  await expect.poll(async () => (await driver.world.proxy.observe()).workers.length).toBeGreaterThan(0);
  // The files are as believed again, but what the workers have loaded is not.
  git(on.sandbox.nginxDir, 'switch', 'yun-app2');
  await expect
    .poll(async () => await driver.world.proxy.reloadedByOthers(driver.engine.context.switched as never))
    .not.toBeNull();
  expect(await expectRefused(on, driver, 'proxyAsBelieved')).toContain('somebody else');
  expect(await on.sandbox.publishCount('app1')).toBe(0);
}, 60_000);

test('refuses NEXT at tested when testing or the test server moved, and RETEST puts it right', async () => {
  on = await stage();
  const driver = await on.start();
  await on.walkTo(driver, 'tested');
  const { projectDir } = on.sandbox;
  const tested = git(projectDir, 'rev-parse', 'testing');
  git(projectDir, 'update-ref', 'refs/heads/testing', 'develop');
  await expectRefused(on, driver, 'testingUnmoved');
  git(projectDir, 'update-ref', 'refs/heads/testing', tested);

  // Somebody publishes develop to the test server by hand (R1.4).
  execFileSync('./publish.sh', ['test'], { cwd: projectDir, input: 'y\n' });
  expect(await expectRefused(on, driver, 'testServerUnmoved')).toContain('test server');
  expect(git(projectDir, 'tag', '--list', 'v1.3.8')).toBe('');
  expect((await on.send(driver, { type: 'RETEST' })).accepted).toBe(true);
  await on.walkTo(driver, 'tagged');
}, 60_000);

test('ABORT before the push restores the branches and removes the tag; after it nothing is undone', async () => {
  on = await stage();
  const { projectDir, root } = on.sandbox;
  const master = git(projectDir, 'rev-parse', 'master');
  const driver = await on.start();
  await on.walkTo(driver, 'tested');
  // The remote refuses the push.
  execFileSync('sh', [
    '-c',
    `printf '#!/bin/sh\\nexit 1\\n' > "$1/cil.git/hooks/pre-receive" && chmod +x "$1/cil.git/hooks/pre-receive"`,
    'sh',
    root,
  ]);
  await on.send(driver, { type: 'NEXT' });
  expect(driver.engine.state).toBe('tested');
  expect(driver.engine.context.failure?.code).toBe('PUSH_REJECTED');
  expect([git(projectDir, 'rev-parse', 'master'), git(projectDir, 'tag', '--list', 'v1.3.8')]).toEqual([master, '']);
  await on.send(driver, { type: 'ABORT' });
  expect(driver.engine.state).toBe('aborted');
  expect(git(projectDir, 'rev-parse', 'master')).toBe(master);

  execFileSync('rm', [`${root}/cil.git/hooks/pre-receive`]);
  const again = await on.start();
  await on.walkTo(again, 'tagged');
  await on.send(again, { type: 'ABORT' });
  expect(again.engine.state).toBe('aborted');
  expect(again.engine.context.evidence.aborting).toMatchObject({ undone: [] });
  expect(git(`${root}/cil.git`, 'tag', '--list', 'v1.3.8')).toBe('v1.3.8');
}, 60_000);

// As the row of a stale revision.
if (ALL) {
  test('refuses a stale revision', async () => {
    on = await stage();
    const driver = await on.start();
    const decision = await driver.decide({
      event: { type: 'NEXT' },
      by: { user: 'x', host: 'y', via: 'z' },
      expect: 7,
    });
    expect(decision).toMatchObject({ accepted: false, because: expect.stringContaining('revision 1') as string });
  }, 60_000);
}
