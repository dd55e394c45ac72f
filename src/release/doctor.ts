/**
 * What a release needs of the world, looked at before one is begun: for `flow doctor`.
 * Invariants: reads only, also where something could be mended; a look that can not be had is a finding and not an error; every
 * finding that stands in the way of a release names the command that mends it.
 */
import { loadConfig } from '../config/load.ts';
import type { Finding } from './doctor/finding.ts';
import { lookAtHosts } from './doctor/hosts.ts';
import { lookAtProject } from './doctor/project.ts';
import { lookAtProxies } from './doctor/proxies.ts';
import { lookAtSenders } from './doctor/senders.ts';
import { lookAtServers } from './doctor/servers.ts';
import type { Place } from './locate.ts';
import { openWorld } from './world.ts';

export interface Examination {
  schemaVersion: 1;
  project: string;
  config: string;
  findings: Finding[];
}

/**
 * Looks at everything, side by side. Throws UsageError when flow.yaml is not right: without it there is nothing to look at.
 * `node`: the versions of Node that this flow runs on; `growthMs`: for how long logs are watched for new lines.
 */
export async function examine(
  place: Place,
  { node, growthMs = 1_500 }: { node: string; growthMs?: number },
): Promise<Examination> {
  const { config } = loadConfig(place.configFile);
  const world = openWorld(place, config, null);
  const findings = await Promise.all([
    lookAtSenders(place, world, { env: process.env, node }),
    lookAtHosts(world),
    lookAtProject(world),
    lookAtProxies(world, place.stateDir),
    lookAtServers(world, growthMs),
  ]);
  return { schemaVersion: 1, project: config.project, config: place.configFile, findings: findings.flat() };
}
