/** Puts the world of a project together from its config: the only place where the parts of the world are chosen. */
import { dirname, resolve } from 'node:path';
import { canaryAndRest, type Topology } from '../../machines/topology.ts';
import type { Config } from '../config/schema.ts';
import { previewRouteOf, proxiesOf, routesOf, topologyOf } from '../config/settings.ts';
import type { World } from '../effects/world.ts';
import { openRepository } from '../git/repository.ts';
import type { Host } from '../hosts/host.ts';
import { localHost } from '../hosts/local.ts';
import { sshCommandLine, sshHost, type SshOptions } from '../hosts/ssh.ts';
import { type Ownership, unowned } from '../nginx/owner.ts';
import { allOf } from '../nginx/proxies.ts';
import { createProxy, type Proxy } from '../nginx/proxy.ts';
import { readProgress, writeProgress } from '../store/release-file.ts';
import { statePaths } from '../store/state-folder.ts';
import type { ReleaseDocument } from '../store/document.ts';
import type { Place } from './locate.ts';

/** What makes the difference between a driver and whoever only looks. */
interface Driving {
  epoch: number;
  ownership: Ownership;
  /** Throws StateError FENCED when the state folder is not the driver's any more. */
  guard: () => void;
}

const ONLOOKER: Driving = { epoch: 0, ownership: unowned, guard: () => undefined };

/** The world of one release. Without one (before it is planned) nothing can be checkpointed; only a driver owns the proxy. */
export function openWorld(
  place: Place,
  config: Config,
  document: ReleaseDocument | null,
  driver: Driving = ONLOOKER,
): World {
  const host = localHost();
  const on = hostsOf(host, config, place.configFile);
  const addresses = Object.fromEntries(Object.entries(config.servers).map(([name, { address }]) => [name, address]));
  const paths = statePaths(place.stateDir);
  const topology = document?.snapshot.context.topology ?? topologyOf(config);
  const proxies = proxiesOf(config).map(({ name, ...nginx }) => ({
    name,
    on: nginx.on,
    proxy: createProxy(on(nginx), { ...nginx, routes: routesOf(config) }, addresses),
  }));
  const unplanned = (): never => {
    throw new Error('a release that is not planned yet has no checkpoints');
  };
  return {
    config,
    host,
    on,
    sshCommand: sshCommandLine(sshOptions(config, place.configFile)),
    repository: openRepository(resolve(dirname(place.configFile), config.git.dir)),
    proxy: allOf(proxies),
    proxies,
    preview: previewProxy(on, config, topology, addresses),
    topology,
    worktree: paths.worktree,
    jobs: paths.jobs,
    epoch: driver.epoch,
    ownership: driver.ownership,
    versions: {
      version: document?.snapshot.context.version ?? '',
      previous: Object.values(document?.snapshot.context.before ?? {}).find((version) => version !== null) ?? '',
    },
    release: document?.id ?? '',
    now: () => new Date(),
    checkpoint: {
      read: (name) => (document === null ? unplanned() : readProgress(place.stateDir, document.id, name)),
      write: (name, value) => {
        if (document === null) return unplanned();
        // A folder that was moved away would be made anew by the checkpoint, and the checkpoint be lost with it.
        driver.guard();
        writeProgress(place.stateDir, document.id, name, value);
      },
    },
  };
}

const sshOptions = ({ ssh }: Pick<Config, 'ssh'>, configFile: string): SshOptions => ({
  connectTimeoutMs: ssh.connect,
  ...(ssh.config === undefined ? {} : { configFile: resolve(dirname(configFile), ssh.config) }),
});

/** The hosts that flow.yaml names, each made once. */
export function hostsOf(here: Host, { ssh }: Pick<Config, 'ssh'>, configFile: string): World['on'] {
  const known = new Map<string, Host>();
  const options = sshOptions({ ssh }, configFile);
  return ({ on }) => {
    if (on === undefined) return here;
    const host = known.get(on) ?? sshHost(on, options);
    known.set(on, host);
    return host;
  };
}

function previewProxy(
  on: World['on'],
  config: Config,
  topology: Topology,
  addresses: Readonly<Record<string, string>>,
): Proxy | null {
  const nginx = config.preview?.nginx;
  if (nginx === undefined) return null;
  const route = previewRouteOf(config, canaryAndRest(topology).canary.servers);
  return createProxy(on(nginx), { ...nginx, routes: nginx.routes ?? (route === null ? [] : [route]) }, addresses);
}
