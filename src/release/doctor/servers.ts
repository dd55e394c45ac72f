/** The servers, and that of the test environment: version, health, and a log that can be read and grows. */
import { setTimeout as delay } from 'node:timers/promises';
import { type ServerSettings, serverSettings, testServerSettings } from '../../config/settings.ts';
import { askHealth, askVersion, runCheck } from '../../effects/probes.ts';
import type { World } from '../../effects/world.ts';
import { type Finding, look } from './finding.ts';

/** `growthMs`: for how long each log is watched for new lines. */
export async function lookAtServers(world: World, growthMs: number): Promise<Finding[]> {
  const { config } = world;
  const production = Object.keys(config.servers).map((name) => serverSettings(config, name));
  const test = testServerSettings(config);
  const findings = await Promise.all([
    ...production.map(async (server) => [
      await version(world, server),
      await look(server.name, 'health', async () => {
        const { ok, because } = await askHealth(world, server);
        return ok
          ? { verdict: 'ok', because: `${server.health.http}: ${because}` }
          : { verdict: 'bad', because, mend: `curl -i ${server.health.http}${fromItsHost(server)}` };
      }),
      await look(server.name, 'log', async () => await logGrows(world, server, growthMs)),
    ]),
    version(world, test).then((finding) => [finding]),
    ...config.preflight.map(async (check) => [
      await look('preflight', 'name' in check && check.name !== undefined ? check.name : 'check', async () => {
        const { ok, because } = await runCheck(world, check, {});
        return { verdict: ok ? 'ok' : 'bad', because };
      }),
    ]),
  ]);
  return findings.flat();
}

const version = async (world: World, server: ServerSettings): Promise<Finding> =>
  await look(server.name, 'version', async () => {
    const { version: runs, because } = await askVersion(world, server);
    if (runs !== null) return { verdict: 'ok', because: runs };
    const { run, http } = server.version;
    return { verdict: 'bad', because, mend: run?.join(' ') ?? `curl -i ${http ?? ''}${fromItsHost(server)}` };
  });

/** What helps where only the server's own host can reach it. */
const fromItsHost = ({ on, from }: ServerSettings): string =>
  on === undefined || from !== undefined ? '' : `; where only ${on} reaches it: probes.from: host in flow.yaml`;

async function logGrows(
  world: World,
  server: ServerSettings,
  growthMs: number,
): Promise<Omit<Finding, 'about' | 'what'>> {
  const { log } = server;
  const host = world.on(server);
  const before = await host.readSlice(log, 0, 0);
  if (before === null) {
    return {
      verdict: 'bad',
      because: `${log} is not there`,
      mend: 'correct probes.log, or the log of this server, in flow.yaml',
    };
  }
  await delay(growthMs);
  const after = await host.readSlice(log, 0, 0);
  const grew = after !== null && (after.id !== before.id || after.size !== before.size);
  return grew
    ? { verdict: 'ok', because: `${log} grows` }
    : {
        verdict: 'told',
        because: `${log} did not grow in ${growthMs / 1_000} s: with customers at work that would mean that the server logs elsewhere`,
      };
}
