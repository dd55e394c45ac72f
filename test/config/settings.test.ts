import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';
import type { Config } from '../../src/config/schema.ts';
import { routesOf, serverSettings, testServerSettings } from '../../src/config/settings.ts';

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
