/** Belief against world, for `flow resume`: what the record says, what is seen, and which differences stop it. Read-only. */
import { existsSync } from 'node:fs';
import { recheckStates, servesExactly } from '../../machines/guards.ts';
import { sameServers } from '../../machines/topology.ts';
import { loadConfig } from '../config/load.ts';
import { serverSettings } from '../config/settings.ts';
import { askVersion } from '../effects/probes.ts';
import type { World } from '../effects/world.ts';
import { messageOf } from '../errors.ts';
import type { ReleaseContext } from '../../machines/contract.ts';
import type { ReleaseDocument } from '../store/document.ts';
import { lookAtProxy } from './facts.ts';
import type { Place } from './locate.ts';

export interface Difference {
  what: string;
  because: string;
  /** `stops`: nothing goes on until a person has acted or overridden it. `asks`: the ordinary yes is enough. */
  weight: 'stops' | 'asks';
}

/** What `flow resume --force` calls the belief that these differences contradict. */
export const AS_RECORDED = 'worldAsRecorded';

/** Every difference between what is on record and what is seen; reads only. */
export async function differences(world: World, place: Place, document: ReleaseDocument): Promise<Difference[]> {
  const { context } = document.snapshot;
  const [proxy, versions, tag] = await Promise.all([
    proxyMoved(world, document),
    Promise.all(context.topology.servers.map((server) => versionMoved(world, context, server))),
    tagMoved(world, context),
  ]);
  return [...configChanged(place, document), ...[proxy, ...versions, tag].filter((found) => found !== null)];
}

/** While a switch is under way any route that was tried may be the one; otherwise only the one that was proven. */
async function proxyMoved(world: World, { snapshot }: ReleaseDocument): Promise<Difference | null> {
  const { value, context } = snapshot;
  const rests = recheckStates(context).includes(value) || ['verifying', 'watchingAll'].includes(value);
  if (!rests && context.switched === null) return null;
  const proxy = await lookAtProxy(world, context);
  const [proven = [], ...tried] = context.routes;
  // A tree that equals no route may be a switch cut in half; the step that was interrupted judges that for itself.
  const servers = proxy?.servers ?? null;
  const asBelieved = rests
    ? servesExactly(proxy, proven)
    : servers === null || [proven, ...tried].some((route) => sameServers(servers, route));
  if (asBelieved) return null;
  const routes = [proven, ...(rests ? [] : tried)].map((route) => route.join(' and ')).join(', or ');
  return {
    what: 'proxy',
    because: `it should serve ${routes}, but ${proxy?.because ?? 'it could not be looked at'}`,
    weight: 'stops',
  };
}

async function versionMoved(world: World, context: ReleaseContext, server: string): Promise<Difference | null> {
  const runs = context.runs[server];
  if (runs === 'unknown') return null;
  const expected = runs === 'new' ? context.version : (context.before[server] ?? null);
  const answer = await askVersion(world, serverSettings(world.config, server));
  if (answer.version === expected) return null;
  return { what: server, because: `it should run ${expected ?? 'nothing'}, but ${answer.because}`, weight: 'stops' };
}

async function tagMoved(world: World, context: ReleaseContext): Promise<Difference | null> {
  const { tagging } = context.evidence;
  if (tagging === undefined || !('tag' in tagging)) return null;
  const now = await world.repository.tagCommit(tagging.tag);
  if (now === tagging.commit) return null;
  const is = now === null ? 'is gone' : `is at ${now.slice(0, 10)}`;
  return {
    what: 'tag',
    because: `${tagging.tag} was pushed at ${tagging.commit.slice(0, 10)}, and ${is}. Put it back: git tag -f ${tagging.tag} ${tagging.commit.slice(0, 10)}`,
    weight: 'stops',
  };
}

const PINNED = 'the release goes on with the settings it was started with';

/** What has changed in flow.yaml since the release started, a setting each; the release has its own copy and takes no notice. */
export function configChanged(place: Place, document: ReleaseDocument): Difference[] {
  const changed = (because: string): Difference[] => [{ what: 'flow.yaml', because, weight: 'asks' }];
  if (!existsSync(place.configFile)) return changed(`${place.configFile} is gone; ${PINNED}`);
  try {
    const { config, hash } = loadConfig(place.configFile);
    if (hash === document.config.hash) return [];
    const lines = changedSettings(document.config.pinned, config);
    return changed(
      `${place.configFile} has changed since the start; ${PINNED}. Changed (times in ms): ${lines.join('; ')}`,
    );
  } catch (error) {
    return changed(`${messageOf(error)}; ${PINNED}`);
  }
}

/** Every setting that differs, as `verify.soak: 600000, now 1000`. */
export function changedSettings(before: unknown, now: unknown, path = ''): string[] {
  if (JSON.stringify(before) === JSON.stringify(now)) return [];
  if (!isTable(before) || !isTable(now)) return [`${path}: ${shown(before)}, now ${shown(now)}`];
  const keys = [...new Set([...Object.keys(before), ...Object.keys(now)])];
  return keys.flatMap((key) => changedSettings(before[key], now[key], path === '' ? key : `${path}.${key}`));
}

const isTable = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const shown = (value: unknown): string => (value === undefined ? 'not set' : JSON.stringify(value));
