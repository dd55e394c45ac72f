/** `flow doctor` on a real world: what is well, what is not, and that looking changes nothing. */
import { execFileSync } from 'node:child_process';
import { chmodSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { examine } from '../../src/release/doctor.ts';
import { git, stage, type Stage } from '../scenarios/stage.ts';

let on: Stage | undefined;
afterEach(async () => {
  await on?.close();
  on = undefined;
});
const look = async (at: Stage) => (await examine(at.place, { node: '>=20', growthMs: 300 })).findings;
/** What stands in the way, as `about what`. */
const bad = async (at: Stage) =>
  (await look(at)).flatMap(({ about, what, verdict }) => (verdict === 'bad' ? [`${about} ${what}`] : []));
/** Everything git knows of the two repositories. */
const standing = ({ sandbox: { projectDir, nginxDir } }: Stage) =>
  [projectDir, nginxDir].map((dir) => [git(dir, 'status', '--porcelain', '--branch'), git(dir, 'for-each-ref')]);

test('finds nothing in the way where a release can be carried out, and leaves everything as it is', async () => {
  on = await stage();
  await on.load();
  const before = standing(on);
  const findings = await look(on);
  expect(findings.filter(({ verdict }) => verdict === 'bad')).toEqual([]);
  const said = (about: string, what: string) =>
    findings.find((finding) => finding.about === about && finding.what === what)?.because;
  expect(said('nginx', 'routes')).toBe(
    'master: app1 and app2; yun-app1: app1; yun-app2: app2; they differ in nothing else',
  );
  expect(said('app1', 'version')).toBe('v1.3.7');
  expect(said('app1', 'log')).toMatch(/grows$/);
  expect(standing(on)).toEqual(before);
  expect(on.latest()).toBeNull();

  const shown = await on.flow('doctor');
  expect([shown.status, shown.out]).toEqual([0, expect.stringContaining('Plan one: flow start')]);
}, 60_000);

test('names everything that is broken at once, each with what mends it, and ends with 8', async () => {
  on = await stage();
  const { projectDir, nginxDir, root } = on.sandbox;
  // The publish command, the remote, a route, the tree, the master and a server, each in its own way.
  chmodSync(join(projectDir, 'publish.sh'), 0o644);
  git(projectDir, 'commit', '--quiet', '-a', '-m', 'It cannot be executed any more');
  git(projectDir, 'remote', 'set-url', 'cil', join(root, 'gone.git'));
  git(nginxDir, 'branch', '--quiet', '--move', 'yun-app2', 'only-app2');
  execFileSync('sbin/nginx', ['-s', 'stop'], { cwd: nginxDir, stdio: 'ignore' });
  writeFileSync(join(nginxDir, 'conf/upstream.conf'), 'upstream app { }\n');
  rmSync(join(root, 'servers/app1/logs/quickpay.log'));
  process.kill((await on.sandbox.serverPid('app2')) ?? 0, 'SIGKILL');
  const found = await bad(on);
  expect(found).toEqual(
    expect.arrayContaining([
      'project remote cil',
      'project publish command',
      'nginx master',
      'nginx traffic',
      'nginx routes',
      'nginx configuration',
      'app2 health',
    ]),
  );
  const shown = await on.flow('doctor');
  expect(shown.status).toBe(8);
  expect(shown.out).toContain('git update-index --chmod=+x publish.sh && git commit');
  expect(shown.out).toContain('Nothing was changed. Mend that, then: flow doctor');
  const told = JSON.parse((await on.flow('doctor', '--json')).out) as { findings: { verdict: string }[] };
  expect(told.findings.filter(({ verdict }) => verdict === 'bad').length).toBe(found.length);
}, 60_000);

test('looks at every host over ssh, and tells one that cannot be reached from what is wrong on it', async () => {
  on = await stage({ ssh: true });
  await on.load();
  expect(await bad(on)).toEqual([]);
  const { ssh } = on.sandbox;
  await ssh?.stop('app2');
  const findings = await look(on);
  const reached = findings.find(({ about, what }) => about === 'app2' && what === 'reached');
  expect(reached).toMatchObject({ verdict: 'bad', because: expect.stringContaining('refused') as string });
  expect(reached?.mend).toContain(`-F ${ssh?.configFile ?? ''} app2 true`);
  expect(findings.filter(({ verdict }) => verdict === 'bad').every(({ about }) => about === 'app2')).toBe(true);

  // An address that only the server's own host reaches looks like one where nobody listens.
  process.kill((await on.sandbox.serverPid('app1')) ?? 0, 'SIGKILL');
  const silent = (await look(on)).find(({ about, what }) => about === 'app1' && what === 'health');
  expect(silent?.mend).toContain('where only app1 reaches it: probes.from: host in flow.yaml');
}, 60_000);
