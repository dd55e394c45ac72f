/**
 * What the rest of flow asks the config for: settings of one server with the common ones merged in and the placeholders
 * of that server filled, and the routes with their defaults. Pure.
 */
import { fill, fillText } from './placeholders.ts';
import type { Config, HttpCheck, ServerConfig, VersionProbe } from './schema.ts';

export interface ServerSettings {
  name: string;
  /** host:port. */
  address: string;
  /** Folder of the program on its server. */
  dir: string;
  /** Path of its log. */
  log: string;
  /** Has `run`, `http` or both. */
  version: VersionProbe;
  health: HttpCheck;
}

/** A set of servers in rotation and the branch of the Nginx folder that brings it about. */
export interface Route {
  /** In the order of the config. */
  servers: string[];
  branch: string;
}

/** The settings of one production server. Throws when the config does not name it: a defect of the caller. */
export function serverSettings(config: Config, name: string): ServerSettings {
  const server = Object.hasOwn(config.servers, name) ? config.servers[name] : undefined;
  if (server === undefined) throw new Error(`flow.yaml names no server "${name}"`);
  return settingsOf(config, name, server);
}

/** The settings of the server of the test environment. */
export function testServerSettings(config: Config): ServerSettings {
  return settingsOf(config, config.test.name, config.test);
}

function settingsOf(config: Config, name: string, server: ServerConfig): ServerSettings {
  const { probes } = config;
  const dir = fillText(server.dir ?? probes.dir, { server: name, address: server.address });
  const values = { server: name, address: server.address, dir };
  const { run, http, cwd } = versionProbeOf(probes.version, server.version);
  const health = server.health ?? probes.health;
  return {
    name,
    address: server.address,
    dir,
    log: fillText(server.log ?? probes.log, values),
    version: {
      ...(run === undefined ? {} : { run: [...fill(run, values)] }),
      ...(http === undefined ? {} : { http: fillText(http, values) }),
      ...(cwd === undefined ? {} : { cwd: fillText(cwd, values) }),
    },
    health: { ...health, http: fillText(health.http, values) },
  };
}

/** A server that says how it is asked is asked in this way alone; one that only names a folder is asked as the others are. */
function versionProbeOf(common: VersionProbe, own: VersionProbe | undefined): VersionProbe {
  if (own === undefined) return common;
  return own.run !== undefined || own.http !== undefined ? own : { ...common, ...own };
}

/** Every route. Without `nginx.routes`, those of the runbook: `master` for all servers, `yun-NAME` for only NAME. */
export function routesOf(config: Config): Route[] {
  const names = Object.keys(config.servers);
  const given = config.nginx.routes;
  if (given !== undefined) {
    return given.map(({ servers, branch }) => ({ servers: names.filter((name) => servers.includes(name)), branch }));
  }
  const single = names.map((name) => ({ servers: [name], branch: `yun-${name}` }));
  return [{ servers: names, branch: 'master' }, ...single];
}
