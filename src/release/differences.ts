/** Belief against world, for `flow resume`: what the record says, what is seen, and which differences stop it. Read-only. */
import { existsSync } from 'node:fs';
import { recheckStates, servesExactly } from '../../machines/guards.ts';
import { loadConfig } from '../config/load.ts';
import { serverSettings } from '../config/settings.ts';
import { askVersion } from '../effects/probes.ts';
import type { World } from '../effects/world.ts';
import { messageOf } from '../errors.ts';
import type { ReleaseDocument } from '../store/document.ts';
import { lookAtProxy } from './facts.ts';
import type { Place } from './locate.ts';

export interface Difference {
  what: string;
  because: string;
  /** Nothing goes on until it is answered. */
  stops: boolean;
}

/** What a pending step does with traffic: a step that only watches must not go on over a proxy that was moved. */
export function effectStepsOn(state: string): 'watches' | 'moves' {
  return ['verifying', 'watchingAll'].includes(state) ? 'watches' : 'moves';
}

export async function differences(world: World, place: Place, document: ReleaseDocument): Promise<Difference[]> {
  const { value, context } = document.snapshot;
  const found: Difference[] = [];
  const config = changedConfig(place, document);
  if (config !== null) found.push(config);
  const rests = recheckStates(context).includes(value);
  if (rests || effectStepsOn(value) === 'watches') {
    const proxy = await lookAtProxy(world, context);
    const expected = context.routes[0] ?? [];
    if (proxy !== null && !servesExactly(proxy, expected)) {
      found.push({
        what: 'proxy',
        because: `it should serve ${expected.join(' and ')}, but ${proxy.because}`,
        stops: true,
      });
    }
  }
  for (const server of context.topology.servers) {
    const runs = context.runs[server];
    const expected = runs === 'new' ? context.version : runs === 'old' ? (context.before[server] ?? null) : undefined;
    if (expected === undefined) continue;
    const answer = await askVersion(world.host, serverSettings(world.config, server));
    if (answer.version !== expected)
      found.push({
        what: server,
        because: `it should run ${expected ?? 'nothing'}, but ${answer.because}`,
        stops: false,
      });
  }
  const tagging = context.evidence.tagging;
  if (tagging !== undefined && 'tag' in tagging) {
    const now = await world.repository.tagCommit(tagging.tag);
    if (now !== tagging.commit)
      found.push({
        what: 'tag',
        because: `${tagging.tag} should be at ${tagging.commit.slice(0, 10)}, but is ${now === null ? 'gone' : `at ${now.slice(0, 10)}`}`,
        stops: false,
      });
  }
  return found;
}

function changedConfig(place: Place, document: ReleaseDocument): Difference | null {
  const pinned = 'the release goes on with the config it was started with';
  if (!existsSync(place.configFile))
    return { what: 'config', because: `${place.configFile} is gone; ${pinned}`, stops: false };
  try {
    const { hash } = loadConfig(place.configFile);
    return hash === document.config.hash
      ? null
      : { what: 'config', because: `${place.configFile} has changed since the start; ${pinned}`, stops: false };
  } catch (error) {
    return { what: 'config', because: `${messageOf(error)}; ${pinned}`, stops: false };
  }
}
