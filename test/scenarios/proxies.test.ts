/** Two proxies that have to serve the same route: switched both or not at all, and proven both. */
import { createServer, type Server } from 'node:net';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { startLoad } from '../../src/sandbox/load.ts';
import { freePorts } from '../../src/sandbox/ports.ts';
import { git, stage, type Stage } from './stage.ts';
import { ALL } from './terminal.ts';

let on: Stage | undefined;
let blocker: Server | undefined;
afterEach(async () => {
  blocker?.close();
  blocker = undefined;
  await on?.close();
  on = undefined;
});

const branches = ({ sandbox }: Stage): string[] => sandbox.nginxDirs.map((dir) => git(dir, 'branch', '--show-current'));
/** The workers of each master: a reload replaces them. */
const workers = async ({ sandbox }: Stage) =>
  await Promise.all(
    sandbox.nginxDirs.map(async (dir) => {
      const pid = await sandbox.nginxPid(dir);
      return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
    }),
  );
/** Who answers through each proxy. */
const answering = async ({ sandbox }: Stage): Promise<string[]> =>
  await Promise.all(
    sandbox.urls.map(async (url) => {
      const answers = await Promise.all(
        Array.from({ length: 8 }, async () => (await fetch(`${url}/version`)).headers.get('x-server')),
      );
      return [...new Set(answers)].sort().join();
    }),
  );
/** Commits a change of a branch of the second proxy. */
function edit(at: Stage, branch: string, change: (conf: string) => string): void {
  const [, dir = ''] = at.sandbox.nginxDirs;
  const file = join(dir, 'conf/nginx.conf');
  git(dir, 'switch', '--quiet', branch);
  writeFileSync(file, change(readFileSync(file, 'utf8')));
  git(dir, 'commit', '--quiet', '-a', '-m', 'A change');
  git(dir, 'switch', '--quiet', 'master');
}

test('are switched together, and no client of either sees an error', async () => {
  on = await stage({ proxies: 2 });
  const { sandbox } = on;
  await on.load();
  const second = await startLoad({ url: sandbox.urls[1] ?? '', ratePerSecond: 100, keepAlive: false, maxSeconds: 120 });
  const driver = await on.start();
  await on.walkTo(driver, 'app1Drained');
  expect(branches(on)).toEqual(['yun-app2', 'yun-app2']);
  const drain = driver.engine.context.evidence.drainingApp1;
  const also = drain !== undefined && 'switched' in drain ? drain.switched.also : undefined;
  expect(also?.map(({ proxy, switched }) => [proxy, switched.servers])).toEqual([['nginx2', ['app2']]]);
  expect(also?.[0]?.switched.master.pid).not.toBe(driver.engine.context.switched?.master.pid);
  await on.walkTo(driver, 'allLive');
  expect(branches(on)).toEqual(['master', 'master']);
  const [first, other] = [await on.calm(), await second.stop()];
  expect([first.failed, other.failed]).toEqual([0, 0]);
  expect(other.requests).toBeGreaterThan(200);
}, 60_000);

test('both stay on the old route when one of them refuses the new configuration, and neither is reloaded', async () => {
  on = await stage({ proxies: 2 });
  await on.load();
  const driver = await on.start();
  await on.walkTo(driver, 'tagged');
  const before = [branches(on), await workers(on)];
  edit(on, 'yun-app2', (conf) => `${conf}\nnonsense on;\n`);
  await on.send(driver, { type: 'NEXT', force: ['routesDiffer'], reason: 'a test' });
  const { failure, routes } = driver.engine.context;
  expect([driver.engine.state, failure?.code, failure?.kind]).toEqual(['tagged', 'NGINX_TEST_FAILED', 'rejected']);
  expect(failure?.message).toMatch(/^nginx2: .*nonsense.*No proxy was reloaded\./s);
  expect(routes).toEqual([['app1', 'app2']]);
  expect([branches(on), await workers(on)]).toEqual(before);
  expect(await answering(on)).toEqual(['app1,app2', 'app1,app2']);
  expect((await on.calm()).failed).toBe(0);
}, 60_000);

test('both go back when one of them does not become live, and the release rests where it was', async () => {
  on = await stage({ proxies: 2, include: true });
  const { sandbox } = on;
  await on.load();
  const driver = await on.start();
  await on.walkTo(driver, 'tagged');
  const [port = 0] = await freePorts(1);
  blocker = createServer().listen(port, '127.0.0.1');
  edit(on, 'master', (conf) => conf.replace(/(listen 127\.0\.0\.1:\d+ )/, `listen 127.0.0.1:${port};\n        $1`));
  const heads = () => sandbox.nginxDirs.map((dir) => git(dir, 'rev-parse', 'HEAD'));
  const before = heads();
  await on.send(driver, { type: 'NEXT' });
  const { failure, routes } = driver.engine.context;
  expect([driver.engine.state, failure?.code]).toEqual(['tagged', 'RELOAD_NOT_LOADED']);
  expect(failure?.message).toMatch(/^nginx2: .*nginx was live already, and is back\.$/s);
  expect(routes).toEqual([['app1', 'app2']]);
  // The first was on the new route already: how it went there and back is in its history. The second was never there.
  expect(git(sandbox.nginxDirs[0] ?? '', 'show', 'HEAD^^:./conf/quickpay.servers')).toContain(
    sandbox.server('app1').address,
  );
  expect(heads()[1]).toBe(before[1]);
  expect(await answering(on)).toEqual(['app1,app2', 'app1,app2']);
  expect((await on.calm()).failed).toBe(0);
}, 60_000);

// As the row of a proxy that was switched by hand.
if (ALL) {
  test('of which one was switched by hand are named, and NEXT is refused until they agree', async () => {
    on = await stage({ proxies: 2 });
    const driver = await on.start();
    await on.walkTo(driver, 'tagged');
    const [, dir = ''] = on.sandbox.nginxDirs;
    git(dir, 'switch', '--quiet', 'yun-app1');
    const refused = await on.send(driver, { type: 'NEXT' });
    expect(refused.accepted).toBe(false);
    const because = 'verdicts' in refused ? refused.verdicts.find(({ id }) => id === 'proxyAsBelieved')?.because : '';
    expect(because).toContain('the proxies differ: nginx serves app1 and app2, nginx2 serves app1');
    git(dir, 'switch', '--quiet', 'master');
    await on.walkTo(driver, 'app1Drained');
  }, 60_000);
}

test('are on one route again when flow is killed between the two reloads and resumed', async () => {
  on = await stage({ proxies: 2, config: { drain: { deadline: '20s' } } });
  const { sandbox } = on;
  const file = join(sandbox.projectDir, 'flow.yaml');
  const [, dir = ''] = sandbox.nginxDirs;
  const slow = `- dir: ${dir}\n      reload: [sh, -c, "sleep 2; exec sbin/nginx -s reload"]`;
  writeFileSync(file, readFileSync(file, 'utf8').replace(`- dir: ${dir}`, slow));
  git(sandbox.projectDir, 'commit', '--quiet', '-a', '-m', 'The second reload takes its time');
  await on.load();
  await on.walkTo(await on.start(), 'tagged');
  await on.leave();
  const running = on.begin('send', 'NEXT', '--yes');
  const route = (url: string) => fetch(`${url}/version`).then((answer) => answer.headers.get('x-server'));
  const isAlone = async () =>
    (await Promise.all(Array.from({ length: 6 }, () => route(sandbox.url)))).every((name) => name === 'app2');
  await expect.poll(isAlone, { timeout: 15_000, interval: 30 }).toBe(true);
  running.child.kill('SIGKILL');
  await running.ended;
  expect(on.document().snapshot.value).toBe('drainingApp1');
  const resumed = await on.flow('resume', '--yes');
  expect(resumed.status, resumed.err).toBe(0);
  expect(on.document().snapshot.value).toBe('app1Drained');
  expect(branches(on)).toEqual(['yun-app2', 'yun-app2']);
  expect(await answering(on)).toEqual(['app2', 'app2']);
  expect((await on.calm()).failed).toBe(0);
}, 90_000);
