import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import type { Config } from '../../src/config/schema.ts';
import {
  routesOf,
  serverSettings,
  soakOf,
  testServerSettings,
  topologyOf,
  wavesFrom,
} from '../../src/config/settings.ts';

function configOf(app1: string, ...lines: string[]): Config {
  const servers = `servers: { app1: { address: "10.0.0.1:80"${app1} }, app2: { address: "10.0.0.2:80" } }`;
  const result = parseConfig(
    ['version: 1', 'project: p', servers, 'test: { address: "10.0.0.9:80", dir: /srv/t }', ...lines].join('\n'),
  );
  if ('issues' in result) throw new Error(JSON.stringify(result.issues));
  return result.config;
}

describe('the settings of a server', () => {
  it('are those of the runbook when nothing is given', () => {
    expect(serverSettings(configOf(''), 'app1')).toEqual({
      name: 'app1',
      address: '10.0.0.1:80',
      dir: '/opt/quickpay',
      log: '/opt/quickpay/logs/quickpay.log',
      version: { run: ['/opt/quickpay/quickpay', '-version'] },
      health: { http: 'http://10.0.0.1:80/health', status: 200, timeout: 5_000 },
    });
  });

  it('are the common ones with its own folder, name and address filled in', () => {
    const config = configOf('', 'probes: { dir: "/srv/{server} x", version: { run: "{dir}/q -v {address}" } }');
    expect(serverSettings(config, 'app2')).toMatchObject({
      dir: '/srv/app2 x',
      log: '/srv/app2 x/logs/quickpay.log',
      version: { run: ['/srv/app2 x/q', '-v', '10.0.0.2:80'] },
    });
    expect(testServerSettings(config)).toMatchObject({ name: 'test', dir: '/srv/t', log: '/srv/t/logs/quickpay.log' });
  });

  it('are its own where it has any', () => {
    const own =
      ', dir: /d, log: "/l/{server}", version: { http: "http://{address}/v" }, health: { http: "http://h", status: 204 }';
    expect(serverSettings(configOf(own), 'app1')).toMatchObject({
      log: '/l/app1',
      version: { http: 'http://10.0.0.1:80/v' },
      health: { http: 'http://h', status: 204 },
    });
    expect(serverSettings(configOf(own), 'app1').version).not.toHaveProperty('run');
    expect(serverSettings(configOf(', version: { cwd: "{dir}/w" }'), 'app1').version).toEqual({
      run: ['/opt/quickpay/quickpay', '-version'],
      cwd: '/opt/quickpay/w',
    });
  });

  it.each(['app3', 'constructor'])('do not exist for %s', (name) => {
    expect(() => serverSettings(configOf(''), name)).toThrow(`no server "${name}"`);
  });
});

describe('the routes', () => {
  it('are the branches of the runbook when none is given', () => {
    expect(routesOf(configOf(''))).toEqual([
      { servers: ['app1', 'app2'], branch: 'master' },
      { servers: ['app1'], branch: 'yun-app1' },
      { servers: ['app2'], branch: 'yun-app2' },
    ]);
  });

  it('are the given ones, with servers in the order of the config', () => {
    const rows = ['[app2, app1], branch: both', '[app1], branch: one', '[app2], branch: two'];
    const lines = ['nginx:', '  routes:', ...rows.map((row) => `    - { servers: ${row} }`)];
    expect(routesOf(configOf('', ...lines))[0]).toEqual({ servers: ['app1', 'app2'], branch: 'both' });
  });
});

function fleetOf(count: number, ...lines: string[]): Config {
  const servers = Array.from({ length: count }, (_, at) => `s${at + 1}: { address: "10.0.0.${at + 1}:80" }`).join(', ');
  const result = parseConfig(
    ['version: 1', 'project: p', `servers: { ${servers} }`, 'test: { address: "10.0.9.9:80" }', ...lines].join('\n'),
  );
  if ('issues' in result) throw new Error(JSON.stringify(result.issues));
  return result.config;
}
const sizes = (config: Config) => wavesFrom(config).map(({ servers }) => servers.length);

describe('the waves', () => {
  it('are those of the runbook for two servers', () => {
    expect(topologyOf(configOf(''))).toEqual({ servers: ['app1', 'app2'], cutover: 'exclusive' });
  });

  it('are one server, then quarters, for more', () => {
    expect(sizes(fleetOf(3))).toEqual([1, 1, 1]);
    expect(sizes(fleetOf(20))).toEqual([1, 5, 5, 5, 4]);
    expect(topologyOf(fleetOf(3))).toEqual({ servers: ['s1', 's2', 's3'], cutover: 'rolling', minimumHealthy: 2 });
  });

  it('take at most what the load can do without, and repeat the last size', () => {
    expect(sizes(fleetOf(20, 'waves: [1, 25%, 100%]'))).toEqual([1, 5, 10, 4]);
    expect(sizes(fleetOf(10, 'waves: [2]'))).toEqual([2, 2, 2, 2, 2]);
    expect(sizes(fleetOf(10, 'waves: [1, 100%]', 'minimumHealthy: 7'))).toEqual([1, 3, 3, 3]);
  });

  it('take the servers that no wave names', () => {
    const waves = wavesFrom(fleetOf(5, 'waves: [[s4], 2]')).map(({ servers }) => servers);
    expect(waves).toEqual([['s4'], ['s1', 's2'], ['s3', 's5']]);
  });

  it('are observed for as long as they say, in whatever order they are released', () => {
    const config = fleetOf(3, 'waves: [1, { servers: 1, soak: 7m }, 1]', 'verify: { soak: 20m, waveSoak: 3m }');
    const topology = topologyOf(config);
    expect([0, 1, 2].map((wave) => soakOf(config, topology, wave))).toEqual([1_200_000, 420_000, 180_000]);
    const reordered = { ...topology, waves: [['s3'], ['s1'], ['s2']] };
    expect([0, 1, 2].map((wave) => soakOf(config, reordered, wave))).toEqual([1_200_000, 180_000, 420_000]);
  });
});

describe('the routes of a fleet', () => {
  it('are those that its release and its rollback need, and no branch for every set', () => {
    expect(
      routesOf(fleetOf(3))
        .map(({ branch }) => branch)
        .sort(),
    ).toEqual(['master', 'without-s1', 'without-s2', 'without-s3']);
    const twenty = routesOf(fleetOf(20));
    expect(twenty.length).toBeLessThan(10);
    expect(twenty.find(({ servers }) => !servers.includes('s1'))?.branch).toBe('without-s1');
  });
});
