/** The machine that flow runs on: what it needs by itself, where the state is kept, who drives, and what the environment has to hold. */
import { accessSync, constants, existsSync, statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import semver from 'semver';
import type { World } from '../../effects/world.ts';
import { isRunning } from '../../store/driver.ts';
import { refuseFileSystem } from '../../store/state-folder.ts';
import type { Place } from '../locate.ts';
import { readLatest, readLiveDriver } from '../read.ts';
import { type Finding, look } from './finding.ts';

const HERE = 'this machine';
/** A release stores a few MB; its jobs hold what the publish command prints. */
const NEEDED_BYTES = 100_000_000;

/** `node`: the versions of Node that this flow runs on. */
export async function lookAtSenders(
  place: Place,
  world: World,
  { env, node }: { env: NodeJS.ProcessEnv; node: string },
): Promise<Finding[]> {
  const { config } = world;
  return await Promise.all([
    look(HERE, 'Node', () => {
      const ok = semver.satisfies(process.versions.node, node);
      return Promise.resolve({
        verdict: ok ? ('ok' as const) : ('bad' as const),
        because: `${process.version}; ${node} is needed`,
        ...(ok ? {} : { mend: 'install a newer Node, then: node --version' }),
      });
    }),
    look(HERE, 'state folder', () => Promise.resolve(stateFolder(place.stateDir))),
    look(HERE, 'who drives', () => Promise.resolve(drives(place))),
    ...config.notify.map(({ webhook }) =>
      look(HERE, 'webhook', () => Promise.resolve(inEnvironment(webhook.env, env))),
    ),
    ...config.secrets.map((name) => look(HERE, 'secret', () => Promise.resolve(inEnvironment(name, env)))),
  ]);
}

function stateFolder(dir: string): Omit<Finding, 'about' | 'what'> {
  // The folder is made by the first release; until then the one that it will be made in has to do.
  let at = dir;
  while (!existsSync(at)) at = dirname(at);
  try {
    accessSync(at, constants.W_OK | constants.X_OK);
  } catch {
    return { verdict: 'bad', because: `${at} cannot be written by you`, mend: `sudo chown "$USER" ${at}` };
  }
  const { type, bavail, bsize } = statfsSync(at);
  refuseFileSystem(dir, type);
  const free = bavail * bsize;
  return free < NEEDED_BYTES
    ? { verdict: 'bad', because: `${dir}: only ${megabytes(free)} are free`, mend: `make room: df -h ${at}` }
    : { verdict: 'ok', because: `${dir}; ${megabytes(free)} are free` };
}

export const megabytes = (bytes: number): string =>
  bytes >= 1e10 ? `${Math.round(bytes / 1e9)} GB` : `${Math.round(bytes / 1e6)} MB`;

function drives(place: Place): Omit<Finding, 'about' | 'what'> {
  const driver = readLiveDriver(place.stateDir);
  if (driver !== null && isRunning(driver)) {
    return {
      verdict: 'told',
      because: `${driver.who} drives (process ${driver.pid}, since ${driver.since}) and is ${driver.doing}`,
      mend: 'flow status',
    };
  }
  const document = readLatest(place.stateDir);
  if (document?.endedAt === null) {
    const { value, context } = document.snapshot;
    return {
      verdict: 'told',
      because: `release ${document.id} (${context.version}) stands at ${value}, with its own copy of flow.yaml`,
      mend: 'flow status',
    };
  }
  return { verdict: 'ok', because: 'nobody, and no release is running' };
}

function inEnvironment(name: string, env: NodeJS.ProcessEnv): Omit<Finding, 'about' | 'what'> {
  return (env[name] ?? '') === ''
    ? { verdict: 'told', because: `${name} is not set in this terminal`, mend: `export ${name}=…` }
    : { verdict: 'ok', because: `${name} is set` };
}
