/**
 * Facts: what is seen, read-only, just before an event is decided. They travel with the event, so that guards stay pure.
 * A look that fails is a fact too ("could not be asked"), never a reason to give up: ROLLBACK has to work in a broken world.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { ReleaseContext, SwitchEvidence } from '../../machines/contract.ts';
import type { EventName, Facts } from '../../machines/events.ts';
import { looksFor } from '../../machines/guards.ts';
import { mayServe } from '../../machines/rollback.ts';
import { sameServers, without } from '../../machines/topology.ts';
import { activeFreeze } from '../config/freeze.ts';
import { serverSettings, testServerSettings } from '../config/settings.ts';
import { askHealth, askVersion, runCheck } from '../effects/probes.ts';
import type { World } from '../effects/world.ts';
import { messageOf } from '../errors.ts';

const HEALTH_PATIENCE_MS = 2_000;

/** Looks at what the guards of an event in a state need. */
export async function gatherFacts(
  world: World,
  state: string,
  context: ReleaseContext,
  event: EventName,
): Promise<Facts> {
  const nothing: Facts = {
    proxy: null,
    routes: null,
    servers: {},
    drained: {},
    testing: null,
    tag: null,
    freeze: null,
    preflight: [],
  };
  // A rollback needs to know only who can carry the traffic, and must not wait for anything else.
  if (event === 'ROLLBACK') return { ...nothing, servers: await lookAtHealth(world, context) };
  if (event !== 'NEXT' && event !== 'RECHECK') return nothing;
  const looks = looksFor(state, context);
  const [proxy, routes, servers, drained, testing, tag, preflight] = await Promise.all([
    looks.proxy ? lookAtProxy(world, context) : null,
    looks.routes ? lookAtRoutes(world) : null,
    lookAtServers(world, looks.servers),
    looks.drain ? lookAtDrain(world, context) : {},
    looks.testing ? lookAtTesting(world) : null,
    looks.tag ? lookAtTag(world, context) : null,
    looks.preflight ? preflightChecks(world) : [],
  ]);
  const freeze = activeFreeze(world.config.freeze, world.now());
  return { proxy, routes, servers, drained, testing, tag, preflight, freeze };
}

/** What the work answers, or the other where it fails or takes too long. */
async function within<T, Otherwise>(ms: number, work: Promise<T>, otherwise: Otherwise): Promise<T | Otherwise> {
  return await Promise.race([work, delay(ms, otherwise, { ref: false })]).catch(() => otherwise);
}

async function lookAtHealth(world: World, context: ReleaseContext): Promise<Facts['servers']> {
  return Object.fromEntries(
    await Promise.all(
      context.topology.servers.map(async (name) => {
        // One that hangs says nothing of the others, and is no place to send customers to.
        const silent = { ok: false, because: `${name} gave no answer within ${HEALTH_PATIENCE_MS / 1_000} s` };
        const health = await within(HEALTH_PATIENCE_MS, askHealth(world, serverSettings(world.config, name)), silent);
        return [name, { version: null, healthy: health.ok, because: health.because }] as const;
      }),
    ),
  );
}

async function lookAtServers(world: World, servers: readonly string[]): Promise<Facts['servers']> {
  return Object.fromEntries(
    await Promise.all(
      servers.map(async (name) => {
        const settings = serverSettings(world.config, name);
        const [version, health] = await Promise.all([askVersion(world, settings), askHealth(world, settings)]);
        return [
          name,
          { version: version.version, healthy: health.ok, because: health.ok ? version.because : health.because },
        ] as const;
      }),
    ),
  );
}

/** The route whose branch the tree equals, served by workers that are ours. */
export async function lookAtProxy(world: World, context: ReleaseContext): Promise<Facts['proxy']> {
  try {
    const seen = await world.proxy.observe();
    if (seen.problem !== undefined) {
      // Workers that this release has switched are gone with their master: others have to be proven in their place.
      const isRestart = context.switched !== null && seen.problemMend?.startsWith('Start') === true;
      const mend = `${seen.problemMend ?? ''}${isRestart ? ', let flow prove the route again (flow resume)' : ''}`;
      return { servers: seen.servers, live: false, because: seen.problem, ...(mend === '' ? {} : { mend }) };
    }
    const foreign = context.switched === null ? null : await world.proxy.reloadedByOthers(context.switched);
    if (seen.servers === null) {
      const mend = seen.treeMend === undefined ? {} : { mend: seen.treeMend };
      return { servers: null, live: false, because: seen.treeProblem ?? 'its files equal no known route', ...mend };
    }
    const serves = `its configuration is that of ${seen.servers.join(' and ')} (branch ${seen.branch ?? 'none'})`;
    if (foreign !== null && foreign.how !== 'workerReplaced') {
      const how = foreign.how === 'restart' ? 'restarted' : 'reloaded';
      return {
        servers: seen.servers,
        live: false,
        because: `${serves}, and somebody else ${how} it since this release switched it (workers ${foreign.pids.join(', ')})`,
      };
    }
    return { servers: seen.servers, live: true, because: serves };
  } catch (error) {
    return { servers: null, live: false, because: messageOf(error) };
  }
}

async function lookAtRoutes(world: World): Promise<Facts['routes']> {
  try {
    return await world.proxy.routeProblems();
  } catch (error) {
    return { wrong: [messageOf(error)], differ: [] };
  }
}

async function lookAtDrain(world: World, context: ReleaseContext): Promise<Facts['drained']> {
  const out = without(context.topology, ...mayServe(context));
  const { switched } = context;
  if (out.length === 0) return {};
  const judged = await judgeDrain(world, switched, context.routes[0] ?? []);
  return Object.fromEntries(out.map((name) => [name, judged]));
}

async function judgeDrain(
  world: World,
  switched: SwitchEvidence | null,
  serving: string[],
): Promise<{ ok: boolean; because: string }> {
  if (switched === null || !sameServers(switched.servers, serving))
    return { ok: false, because: 'the switch that took it out of rotation is not on record' };
  try {
    const left = await world.proxy.remaining(switched);
    return left.length === 0
      ? { ok: true, because: 'every Nginx worker from before the switch is gone' }
      : {
          ok: false,
          because: `${left.length} Nginx workers from before the switch still finish requests (${left.map((worker) => worker.pid).join(', ')})`,
        };
  } catch (error) {
    return { ok: false, because: messageOf(error) };
  }
}

async function lookAtTesting(world: World): Promise<Facts['testing']> {
  const [commit, answer] = await Promise.all([
    world.repository.resolve(`refs/heads/${world.config.git.branches.testing}`).catch(() => null),
    askVersion(world, testServerSettings(world.config)),
  ]);
  return { commit, serverCommit: answer.commit, because: answer.because };
}

async function lookAtTag(world: World, context: ReleaseContext): Promise<Facts['tag']> {
  try {
    return { commit: await world.repository.tagCommit(context.version) };
  } catch {
    return null;
  }
}

async function preflightChecks(world: World): Promise<Facts['preflight']> {
  const { version, previous } = world.versions;
  return await Promise.all(
    world.config.preflight.map((check) => runCheck(world, check, { version, tag: version, previous })),
  );
}
