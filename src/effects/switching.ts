/**
 * Steps that move traffic: draining (R3.2, R3.3), going live (R4.1, R5.2) and moving back (R4.3).
 * Twice is safe: switching to the route that is already there reloads again, because "already on the branch" is no proof, and a
 * drain that was begun is waited for only while its switch still stands.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { CheckResult, DrainEvidence, Question, Rates, SwitchEvidence } from '../../machines/contract.ts';
import { canaryAndRest, sameServers } from '../../machines/topology.ts';
import { serverSettings } from '../config/settings.ts';
import { codeOf, messageOf, StepError } from '../errors.ts';
import type { EffectTools, Effects } from './effect.ts';
import { watchLogs } from './log-rates.ts';
import { placeholderValues } from './placeholder-values.ts';
import { askHealth, askVersion, runCheck } from './probes.ts';
import { rememberOldErrors } from './soak.ts';
import { purposeOf, tryAgain } from './try-again.ts';
import type { World } from './world.ts';

const POLL_MS = 20;
const LOG_EVERY_MS = 250;

/** Takes servers out of rotation and proves that they have finished what they had. */
export function drain(world: World): Effects['drain'] {
  return async (input, tools) => {
    const { servers } = input;
    const { watch } = world.config.drain;
    const all = Object.keys(world.config.servers);
    // Where no server is healthy at all (the first installation, or everything is down) nobody is served, and nothing is lost.
    if (await isAnyHealthy(world, all))
      await assertHealthy(world, input, tools, `take ${servers.join(' and ')} out of rotation`);
    else
      tools.report({
        kind: 'note',
        text: `no server is healthy, so nobody is served and nothing is lost by the switch`,
      });
    const stands = input.switched !== null && (await stillStands(world, input.switched));
    let ratesBefore: Rates = {};
    if (!stands) {
      // Only before the new version has served there is an old rate to remember: later waves, and the way back, read its errors too.
      if (input.step === `draining${canaryAndRest(world.topology).canary.upper}`) await rememberOldErrors(world);
      ratesBefore = await measureRates(world, all, watch, tools, 'before the switch');
    }
    const first = stands && input.switched !== null ? input.switched : await switchTo(world, input, tools);
    const waited = await waitDrained(world, first, servers, input, tools);
    const { switched } = waited;
    const checks = waited.left === 0 ? await drainChecks(world, servers, tools) : [];
    const red = checks.filter((check) => !check.ok);
    const ratesAfter =
      waited.left === 0 ? await measureRates(world, all, watch, tools, 'after the drain') : waited.rates;
    const evidence: DrainEvidence = {
      switched,
      drainedAfterSeconds: waited.left === 0 && red.length === 0 ? sinceReload(switched, waited.seconds) : null,
      workersLeft: waited.left,
      ratesBefore,
      ratesAfter,
      judgedBy: judgedBy(servers, ratesAfter, waited.reloads),
      checks,
    };
    if (evidence.drainedAfterSeconds !== null) return { outcome: 'done', evidence };
    const why =
      waited.unseen !== null
        ? `nobody can say ${waited.seconds.toFixed(0)} s after the switch whether they are drained: ${waited.unseen}`
        : waited.left > 0
          ? `${waited.left} old Nginx ${waited.left === 1 ? 'worker' : 'workers'} (process ${waited.pids.join(', ')}) still carry requests ` +
            `or open connections ${waited.seconds.toFixed(0)} s after the switch`
          : `a drain check fails: ${red.map((check) => `${check.name}: ${check.because}`).join('; ')}`;
    return { outcome: 'ask', evidence, question: drainQuestion(input, why) };
  };
}

/** Puts servers into rotation (and, on an exclusive cutover, the others out of it) and says how far those are drained. */
export function goLive(world: World): Effects['goLive'] {
  return async (input, tools) => {
    const { to, gained, lost } = input;
    const { watch } = world.config.drain;
    const all = Object.keys(world.config.servers);
    await assertHealthy(world, input, tools, `send traffic to ${to.join(' and ')}`, gained);
    // Last: the facts may be old by now, and somebody may have published something else in the meantime.
    await assertReleased(world, input, gained);
    const first = await switchTo(world, input, tools);
    // Where nobody leaves the rotation, nothing has to be drained before the next step.
    const waited =
      lost.length === 0
        ? { switched: first, left: 0, seconds: 0, reloads: 0 }
        : await waitDrained(world, first, lost, input, tools);
    const { switched } = waited;
    const ratesAfter = await measureRates(world, all, watch, tools, 'after the switch');
    return {
      outcome: 'done',
      evidence: {
        switched,
        drainedAfterSeconds: waited.left === 0 ? sinceReload(switched, waited.seconds) : null,
        workersLeft: waited.left,
        ratesBefore: {},
        ratesAfter,
        judgedBy: judgedBy(lost, ratesAfter, waited.reloads),
        checks: [],
      },
    };
  };
}

/** Moves traffic to a route and proves it live: the way back, and the way back in. */
export function moveTraffic(world: World): Effects['moveTraffic'] {
  return async (input, tools) => {
    // Where traffic is put back to where it was, it goes there whatever the health says: it is the smaller harm.
    const isReturn = ['revertingRoute', 'reestablishingRoute'].includes(input.step);
    if (!isReturn) await assertHealthy(world, input, tools, `send traffic to ${input.to.join(' and ')}`);
    const startedAt = performance.now();
    const switched = await switchTo(world, input, tools);
    const secondsUntilMoved = (performance.now() - startedAt) / 1_000;
    tools.report({
      kind: 'note',
      text: `traffic goes to ${input.to.join(' and ')} since ${secondsUntilMoved.toFixed(2)} s after the step began`,
    });
    return { outcome: 'done', evidence: { switched, secondsUntilMoved } };
  };
}

/** What every step that moves traffic is told. */
interface Move {
  step: string;
  to: readonly string[];
  from: readonly string[];
  atLeastHealthy: number | null;
}

async function switchTo(world: World, { step, to, from }: Move, tools: EffectTools): Promise<SwitchEvidence> {
  await world.ownership.assert();
  const switched = await world.proxy.switchTo(to, {
    from,
    again: tryAgain(world, step),
    purpose: purposeOf(world, step),
    signal: tools.signal,
    onProgress: (text) => {
      tools.report({ kind: 'note', text });
    },
  });
  return { ...switched, workersBefore: [...switched.workersBefore], workersAfter: [...switched.workersAfter] };
}

/** The drain begins with the reload, not with the moment the new route was proven. */
const sinceReload = (switched: SwitchEvidence, waitedSeconds: number): number =>
  switched.liveAfterMs / 1_000 + waitedSeconds;

/** Whether the files are those of the switch. */
const isRouteOf = (
  { branch, servers }: { branch: string | null; servers: string[] | null },
  switched: SwitchEvidence,
) => servers !== null && branch === switched.branch && sameServers(servers, switched.servers);

/** Whether nobody has switched or reloaded since. */
async function stillStands(world: World, switched: SwitchEvidence): Promise<boolean> {
  const seen = await world.proxy.observe();
  // Without a master nothing stands; the switch that follows says what is wrong with it.
  if (seen.problem !== undefined) return false;
  const foreign = await world.proxy.reloadedByOthers(switched);
  return foreign === null && isRouteOf(seen, switched) && seen.treeProblem === undefined;
}

async function isAnyHealthy(world: World, servers: readonly string[]): Promise<boolean> {
  const health = await Promise.all(servers.map((server) => askHealth(world, serverSettings(world.config, server))));
  return health.some((check) => check.ok);
}

/**
 * The servers that are to carry the load have to be healthy: those of `must`, and of all as many as `atLeastHealthy` says (null: all).
 * One that is ill is named, and tolerated where the others are enough.
 */
async function assertHealthy(
  world: World,
  { step, to, from, atLeastHealthy }: Move,
  tools: EffectTools,
  toDo: string,
  must: readonly string[] = [],
): Promise<void> {
  const health = await Promise.all(
    to.map(async (server) => ({ server, ...(await askHealth(world, serverSettings(world.config, server))) })),
  );
  const red = health.filter((check) => !check.ok);
  if (red.length === 0) return;
  const ill = red.map((check) => `${check.name}: ${check.because}`).join('; ');
  const isEnough = atLeastHealthy !== null && to.length - red.length >= atLeastHealthy;
  if (isEnough && !red.some(({ server }) => must.includes(server))) {
    tools.report({ kind: 'note', text: `${to.length - red.length} of ${to.length} servers are healthy. Not: ${ill}` });
    return;
  }
  const needed =
    atLeastHealthy === null || must.length > 0 ? to.join(' and ') : `${atLeastHealthy} of ${to.join(', ')}`;
  throw new StepError(
    'SERVER_UNHEALTHY',
    'unsafe',
    `To ${toDo}, ${needed} must be healthy, but: ${ill}. ` +
      `Traffic stays on ${from.join(' and ')}. Mend it, then: ${tryAgain(world, step)}`,
  );
}

/** Servers get traffic only while they report the version that this release published on them. */
async function assertReleased(
  world: World,
  { step, from, release }: Move & { release: { version: string } },
  gained: readonly string[],
): Promise<void> {
  const answers = await Promise.all(gained.map((server) => askVersion(world, serverSettings(world.config, server))));
  const other = answers.filter(({ version }) => version !== release.version);
  if (other.length === 0) return;
  throw new StepError(
    'VERSION_DIFFERS',
    'unsafe',
    `${gained.join(' and ')} must run ${release.version} before traffic goes there, but ${other.map(({ because }) => because).join('; ')}. ` +
      `Traffic stays on ${from.join(' and ')}. Find out who changed it. ` +
      `When it runs ${release.version} again: ${tryAgain(world, step)}, or go back: flow send ROLLBACK`,
  );
}

interface Waited {
  /** The switch that was waited for: the first, or the one after somebody else's reload. */
  switched: SwitchEvidence;
  left: number;
  pids: number[];
  seconds: number;
  rates: Rates;
  /** How often somebody else reloaded Nginx meanwhile. */
  reloads: number;
  /** Why nobody can say which workers are left; null where they were counted. */
  unseen: string | null;
}

/**
 * Waits until every worker from before the switch is gone, or the deadline has passed. Shows workers and log rates meanwhile.
 * Nobody can say what workers have loaded that somebody else's reload brought: as long as the files are still ours, Nginx is
 * reloaded once more and *all* workers from before that have to end; else the switch does not stand (`unknownOutcome`).
 */
async function waitDrained(
  world: World,
  first: SwitchEvidence,
  servers: readonly string[],
  move: Move,
  tools: EffectTools,
): Promise<Waited> {
  const { deadline } = world.config.drain;
  const logs = watchLogs(world, Object.keys(world.config.servers));
  const startedAt = performance.now();
  let shownAt = 0;
  let switched = first;
  let reloads = 0;
  for (;;) {
    // A host that does not answer for a while has not ended the drain: it is looked at again until the deadline.
    const { workers, unseen } = await remaining(world, switched);
    const pids = workers.map(({ pid }) => pid);
    const left = pids.length;
    tools.signal.throwIfAborted();
    const elapsedMs = performance.now() - startedAt;
    const isDue = left === 0 || elapsedMs > deadline;
    // Looked at after the workers, so that no drain is called proven over a reload that came while it was waited for.
    const stranger =
      unseen === null && (isDue || elapsedMs - shownAt > LOG_EVERY_MS)
        ? await reloadBySomebodyElse(world, switched, move)
        : null;
    if (stranger !== null) {
      reloads += 1;
      tools.report({
        kind: 'note',
        text: `somebody else reloaded Nginx while ${servers.join(' and ')} drained (workers ${stranger.join(', ')}); its files are still ours, so it is reloaded once more, and every worker from before has to end`,
      });
      switched = await switchTo(world, move, tools).catch((error: unknown) => {
        throw notStanding(error, messageOf(error));
      });
      continue;
    }
    if (isDue)
      return { switched, left, pids, seconds: elapsedMs / 1_000, rates: logs.rates(elapsedMs), reloads, unseen };
    if (elapsedMs - shownAt > LOG_EVERY_MS) {
      shownAt = elapsedMs;
      await logs.poll();
      const rates = Object.entries(logs.rates(elapsedMs)).map(
        ([server, rate]) => `${server} ${rate?.toFixed(0) ?? '?'}/s`,
      );
      tools.report({
        kind: 'figures',
        text: `draining ${servers.join(' and ')}: ${left} old workers left, log ${rates.join(', ')}, asks in ${((deadline - elapsedMs) / 1_000).toFixed(0)} s`,
      });
    }
    await delay(POLL_MS);
  }
}

/** The workers from before the switch: all of them, where the host cannot be asked. */
async function remaining(
  world: World,
  switched: SwitchEvidence,
): Promise<{ workers: readonly { pid: number }[]; unseen: string | null }> {
  try {
    return { workers: await world.proxy.remaining(switched), unseen: null };
  } catch (error) {
    if (codeOf(error) !== 'HOST_UNREACHABLE') throw error;
    return { workers: switched.workersBefore, unseen: messageOf(error) };
  }
}

/** Traffic has moved already, so whatever ends the waiting leaves it unknown where it is: the chart puts it back. */
const notStanding = (error: unknown, message: string): StepError =>
  new StepError(codeOf(error) ?? 'SWITCH_LOST', 'unknownOutcome', message, { cause: error });

/** The workers of somebody else's reload or restart while the files are still those of the switch; null where there was none. */
async function reloadBySomebodyElse(world: World, switched: SwitchEvidence, move: Move): Promise<number[] | null> {
  const to = move.to.join(' and ');
  const again = tryAgain(world, move.step);
  const foreign = await world.proxy.reloadedByOthers(switched).catch((error: unknown) => {
    throw notStanding(error, `After traffic had gone to ${to}: ${messageOf(error)}, then: ${again}`);
  });
  // The master puts a new worker in the place of one that crashed, with the configuration that it has loaded.
  if (foreign === null || foreign.how === 'workerReplaced') return null;
  const seen = await world.proxy.observe();
  if (isRouteOf(seen, switched)) return foreign.pids;
  const files =
    seen.treeProblem ??
    `its files are those of ${seen.servers?.join(' and ') ?? 'no route'} (branch ${seen.branch ?? 'none'})`;
  throw notStanding(
    null,
    `Somebody else switched or reloaded Nginx (workers ${foreign.pids.join(', ')}) after flow had sent the traffic to ${to}, and ${files}. ` +
      `Agree on who works on the proxy, then: ${again}`,
  );
}

async function measureRates(
  world: World,
  servers: string[],
  windowMs: number,
  tools: EffectTools,
  when: string,
): Promise<Rates> {
  if (windowMs === 0) return {};
  const logs = watchLogs(world, servers);
  await logs.poll();
  const startedAt = performance.now();
  tools.report({ kind: 'figures', text: `reading the logs for ${(windowMs / 1_000).toFixed(1)} s ${when}` });
  await delay(windowMs, undefined, { signal: tools.signal });
  await logs.poll();
  return logs.rates(performance.now() - startedAt);
}

async function drainChecks(world: World, servers: readonly string[], tools: EffectTools): Promise<CheckResult[]> {
  const results: CheckResult[] = [];
  for (const server of servers) {
    const values = await placeholderValues(world, serverSettings(world.config, server));
    for (const check of world.config.drain.checks) {
      const result = await runCheck(world, check, values);
      tools.report({ kind: 'note', text: `${result.ok ? 'passes' : 'fails'}: ${result.name}` });
      results.push(result);
    }
  }
  return results;
}

function judgedBy(servers: readonly string[], after: Rates, reloads: number): string {
  if (servers.length === 0) return 'nobody left the rotation';
  const unread = servers.filter((server) => after[server] === null);
  const still = servers.filter((server) => (after[server] ?? 0) > 0);
  const busy = Object.entries(after).some(([server, rate]) => !servers.includes(server) && (rate ?? 0) > 0);
  const notes = [
    ...(reloads > 0 ? ['somebody else reloaded Nginx meanwhile, and flow once more after that'] : []),
    ...(unread.length > 0 ? [`the log of ${unread.join(' and ')} could not be read`] : []),
    ...(still.length > 0 ? [`the log of ${still.join(' and ')} still moves: somebody talks to it past the proxy`] : []),
    ...(busy ? [] : ['no traffic was seen in the logs of the others']),
  ];
  return ["Nginx's old workers are gone", ...notes].join('; ');
}

function drainQuestion(
  input: { step: string; attempt: number; servers: string[]; canRevert: boolean },
  why: string,
): Question {
  const servers = input.servers.join(' and ');
  return {
    id: `drainOverdue.${input.step}.${input.attempt}`,
    kind: 'drainOverdue',
    text: `${servers} is out of rotation, but not proven drained: ${why}.`,
    choices: [
      { choice: 'wait', does: 'wait for as long again' },
      { choice: 'proceed', does: `go on although requests on ${servers} may be cut off; recorded with your reason` },
      ...(input.canRevert ? [{ choice: 'revert', does: `put ${servers} back into rotation` }] : []),
    ],
  };
}
