/**
 * What the rest of flow asks the config for: settings of one server with the common ones merged in and the placeholders
 * of that server filled, the waves, and the routes with their defaults. Pure.
 */
import { routesNeeded } from '../../machines/routes.ts';
import { type Topology, wavesOf } from '../../machines/topology.ts';
import { fill, fillText } from './placeholders.ts';
import type { Config, HttpCheck, ServerConfig, VersionProbe } from './schema.ts';

export interface ServerSettings {
  name: string;
  /** The host it is on, as ssh knows it; left out where that is the machine flow runs on. */
  on?: string;
  /** host:port. */
  address: string;
  /** Folder of the program on its server. */
  dir: string;
  /** Path of its log. */
  log: string;
  /** The host that its addresses are asked from; left out where that is the machine flow runs on. */
  from?: string;
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
    ...(server.on === undefined ? {} : { on: server.on }),
    ...(server.on === undefined || probes.from === 'here' ? {} : { from: server.on }),
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

/** The servers of a wave, and how long it is observed once it serves, in milliseconds. */
export interface ConfiguredWave {
  servers: string[];
  soak: number;
}

/** The way the servers are released: the runbook's for two of them, and one wave after the other for more. */
export const cutoverOf = ({ cutover, servers }: Config): 'exclusive' | 'rolling' =>
  cutover ?? (Object.keys(servers).length === 2 ? 'exclusive' : 'rolling');

/** How many servers the load needs. */
export function minimumHealthyOf({ minimumHealthy, servers }: Pick<Config, 'minimumHealthy' | 'servers'>): number {
  if (typeof minimumHealthy === 'number') return minimumHealthy;
  return Math.max(1, Math.ceil((Object.keys(servers).length * Number.parseFloat(minimumHealthy)) / 100));
}

/**
 * The waves, first to last. A size takes the next servers that no wave names, a share at most what the load can do without; the last
 * size is repeated until every server has its wave. Servers that stay without one (only names are given) are in none.
 */
export function wavesFrom(config: Config): ConfiguredWave[] {
  const all = Object.keys(config.servers);
  const isRolling = cutoverOf(config) === 'rolling';
  const entries = config.waves ?? (isRolling ? [1, '25%'] : [1]);
  const named = entries.flatMap((entry) => namesIn(entry) ?? []);
  const free = all.filter((name) => !named.includes(name));
  const most = isRolling ? Math.max(1, all.length - minimumHealthyOf(config)) : all.length;
  const waves: ConfiguredWave[] = [];
  const add = (entry: WaveEntry): void => {
    const soak =
      (isWithSoak(entry) ? entry.soak : undefined) ??
      (waves.length === 0 ? config.verify.soak : config.verify.waveSoak);
    const given = isWithSoak(entry) ? entry.servers : entry;
    const servers = Array.isArray(given) ? given : free.splice(0, countOf(given, all.length, most));
    if (servers.length > 0) waves.push({ servers: [...servers], soak });
  };
  for (const entry of entries) add(entry);
  const last = entries.findLast((entry) => namesIn(entry) === null);
  while (last !== undefined && free.length > 0) add(last);
  return waves;
}

type WaveEntry = NonNullable<Config['waves']>[number];
type Size = Exclude<WaveEntry, string[] | { servers: unknown }>;

const isWithSoak = (entry: WaveEntry): entry is Extract<WaveEntry, { servers: unknown }> =>
  typeof entry === 'object' && !Array.isArray(entry);

/** The servers that a wave names; null where it has a size. */
export function namesIn(entry: WaveEntry): string[] | null {
  const given = isWithSoak(entry) ? entry.servers : entry;
  return Array.isArray(given) ? given : null;
}

function countOf(size: Size, all: number, most: number): number {
  if (typeof size === 'number') return size;
  return Math.min(most, Math.max(1, Math.floor((all * Number.parseFloat(size)) / 100)));
}

/** The topology of a release of every server. What is as the runbook has it is left out. */
export function topologyOf(config: Config): Topology {
  const servers = Object.keys(config.servers);
  const waves = wavesFrom(config).map((wave) => wave.servers);
  const areAlone = waves.every((wave, index) => wave.length === 1 && wave[0] === servers[index]);
  const minimumHealthy = minimumHealthyOf(config);
  return {
    servers,
    cutover: cutoverOf(config),
    ...(areAlone ? {} : { waves }),
    ...(minimumHealthy === 1 ? {} : { minimumHealthy }),
    ...(config.preview === undefined ? {} : { preview: true }),
  };
}

/** One proxy, with a name for messages. */
export interface ProxySettings extends Omit<Config['nginx'], 'also'> {
  name: string;
}

/** Every proxy that has to serve the same route, the first one first. */
export function proxiesOf({ nginx }: Pick<Config, 'nginx'>): ProxySettings[] {
  const { also, ...first } = nginx;
  return [
    { ...first, name: first.on ?? 'nginx' },
    ...also.map((own, index): ProxySettings => {
      const { name, on, ...rest } = own;
      const { on: _, ...common } = first;
      const given = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined));
      return {
        ...common,
        ...given,
        ...(on === undefined ? {} : { on }),
        name: name ?? on ?? `nginx${index + 2}`,
      };
    }),
  ];
}

/** How long a wave of a release is observed, in milliseconds. A release may have its waves in another order than the config. */
export function soakOf(config: Config, topology: Topology, wave: number): number {
  if (wave === 0) return wavesFrom(config)[0]?.soak ?? config.verify.soak;
  const servers = wavesOf(topology)[wave]?.servers ?? [];
  const configured = wavesFrom(config).findIndex((known) => known.servers.some((name) => servers.includes(name)));
  return (configured <= 0 ? undefined : wavesFrom(config)[configured]?.soak) ?? config.verify.waveSoak;
}

/**
 * Every route. Without `nginx.routes`, those that a release of all servers and its rollback need, named as the runbook does:
 * `master` for all servers, `yun-NAME` for only NAME, and where most serve, `without-NAME`.
 */
export function routesOf(config: Config): Route[] {
  const names = Object.keys(config.servers);
  const given = config.nginx.routes;
  if (given !== undefined) {
    return given.map(({ servers, branch }) => ({ servers: names.filter((name) => servers.includes(name)), branch }));
  }
  const needed = routesNeeded({ topology: topologyOf(config), serving: names, leftOut: [] });
  const place = (servers: readonly string[]) => names.indexOf(servers[0] ?? '');
  return needed
    .toSorted((a, b) => b.length - a.length || place(a) - place(b))
    .map((servers) => ({ servers, branch: branchNameOf(names, servers) }));
}

function branchNameOf(all: readonly string[], servers: readonly string[]): string {
  const out = all.filter((name) => !servers.includes(name));
  if (out.length === 0) return 'master';
  return servers.length > out.length ? `without-${out.join('-')}` : `yun-${servers.join('-')}`;
}

/** The route of the pre-release proxy that leads to these servers alone; null where it has none, or needs none. */
export function previewRouteOf({ preview }: Config, servers: readonly string[]): Route | null {
  if (preview?.nginx === undefined) return null;
  const { routes } = preview.nginx;
  if (routes === undefined) return { servers: [...servers], branch: `yun-${servers.join('-')}` };
  const isEqual = (route: Route) =>
    route.servers.length === servers.length && servers.every((name) => route.servers.includes(name));
  return routes.find(isEqual) ?? null;
}
