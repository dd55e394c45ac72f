/**
 * Steps that move traffic: draining (R3.2, R3.3), going live (R4.1, R5.2) and moving back (R4.3).
 * Twice is safe: switching to the route that is already there reloads again, because "already on the branch" is no proof, and a
 * drain that was begun is waited for only while its switch still stands.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { CheckResult, DrainEvidence, Question, Rates, SwitchEvidence } from '../../machines/contract.ts';
import { serverSettings } from '../config/settings.ts';
import { StepError } from '../errors.ts';
import type { EffectTools, Effects } from './effect.ts';
import { watchLogs } from './log-rates.ts';
import { placeholderValues } from './placeholder-values.ts';
import { askHealth, runCheck } from './probes.ts';
import { rememberOldErrors } from './soak.ts';
import type { World } from './world.ts';

const POLL_MS = 20;
const LOG_EVERY_MS = 250;

/** Takes servers out of rotation and proves that they have finished what they had. */
export function drain(world: World): Effects['drain'] {
  return async (input, tools) => {
    const { servers, to } = input;
    const { watch } = world.config.drain;
    const all = Object.keys(world.config.servers);
    // Where no server is healthy at all (the first installation, or everything is down) nobody is served, and nothing is lost.
    if (await isAnyHealthy(world, all)) await assertHealthy(world, to, `take ${servers.join(' and ')} out of rotation`);
    else
      tools.report({
        kind: 'note',
        text: `no server is healthy, so nobody is served and nothing is lost by the switch`,
      });
    const stands = input.switched !== null && (await stillStands(world, input.switched));
    let ratesBefore: Rates = {};
    if (!stands) {
      // Only a real rollout has an old rate to remember: during a rollback the new version writes the logs.
      if (input.step.startsWith('draining') && !input.step.startsWith('drainingBack')) await rememberOldErrors(world);
      ratesBefore = await measureRates(world, all, watch, tools, 'before the switch');
    }
    const switched = stands && input.switched !== null ? input.switched : await switchTo(world, input, tools);
    const waited = await waitDrained(world, switched, servers, tools);
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
      judgedBy: judgedBy(servers, ratesAfter),
      checks,
    };
    if (evidence.drainedAfterSeconds !== null) return { outcome: 'done', evidence };
    const why =
      waited.left > 0
        ? `${waited.left} old Nginx workers still finish requests ${waited.seconds.toFixed(0)} s after the switch`
        : `a drain check fails: ${red.map((check) => `${check.name}: ${check.because}`).join('; ')}`;
    return { outcome: 'ask', evidence, question: drainQuestion(input, why) };
  };
}

/** Puts servers into rotation (and, on an exclusive cutover, the others out of it) and says how far those are drained. */
export function goLive(world: World): Effects['goLive'] {
  return async (input, tools) => {
    const { to, lost } = input;
    const { watch } = world.config.drain;
    const all = Object.keys(world.config.servers);
    await assertHealthy(world, to, `send traffic to ${to.join(' and ')}`);
    const switched = await switchTo(world, input, tools);
    // Where nobody leaves the rotation, nothing has to be drained before the next step.
    const waited = lost.length === 0 ? { left: 0, seconds: 0 } : await waitDrained(world, switched, lost, tools);
    const ratesAfter = await measureRates(world, all, watch, tools, 'after the switch');
    return {
      outcome: 'done',
      evidence: {
        switched,
        drainedAfterSeconds: waited.left === 0 ? sinceReload(switched, waited.seconds) : null,
        workersLeft: waited.left,
        ratesBefore: {},
        ratesAfter,
        judgedBy: judgedBy(lost, ratesAfter),
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
    if (!isReturn) await assertHealthy(world, input.to, `send traffic to ${input.to.join(' and ')}`);
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

async function switchTo(
  world: World,
  { to, from }: { to: readonly string[]; from: readonly string[] },
  tools: EffectTools,
): Promise<SwitchEvidence> {
  await world.ownership.assert();
  const switched = await world.proxy.switchTo(to, {
    from,
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

/** Whether nobody has switched or reloaded since. */
async function stillStands(world: World, switched: SwitchEvidence): Promise<boolean> {
  const [seen, foreign] = await Promise.all([world.proxy.observe(), world.proxy.reloadedByOthers(switched)]);
  return foreign === null && seen.branch === switched.branch && seen.treeProblem === undefined && seen.servers !== null;
}

async function isAnyHealthy(world: World, servers: readonly string[]): Promise<boolean> {
  const health = await Promise.all(servers.map((server) => askHealth(serverSettings(world.config, server))));
  return health.some((check) => check.ok);
}

async function assertHealthy(world: World, servers: readonly string[], toDo: string): Promise<void> {
  const health = await Promise.all(servers.map((server) => askHealth(serverSettings(world.config, server))));
  const red = health.filter((check) => !check.ok);
  if (red.length === 0) return;
  throw new StepError(
    'SERVER_UNHEALTHY',
    'unsafe',
    `To ${toDo}, ${servers.join(' and ')} must be healthy, but: ${red.map((check) => `${check.name}: ${check.because}`).join('; ')}. Traffic was not touched. Mend it, then: flow send NEXT`,
  );
}

/** Waits until every worker from before the switch is gone, or the deadline has passed. Shows workers and log rates meanwhile. */
async function waitDrained(
  world: World,
  switched: SwitchEvidence,
  servers: readonly string[],
  tools: EffectTools,
): Promise<{ left: number; seconds: number; rates: Rates }> {
  const { deadline } = world.config.drain;
  const logs = watchLogs(world, Object.keys(world.config.servers));
  const startedAt = performance.now();
  let shownAt = 0;
  for (;;) {
    const left = (await world.proxy.remaining(switched)).length;
    const elapsedMs = performance.now() - startedAt;
    if (left === 0 || elapsedMs > deadline) return { left, seconds: elapsedMs / 1_000, rates: logs.rates(elapsedMs) };
    tools.signal.throwIfAborted();
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
      const result = await runCheck(world.host, check, values);
      tools.report({ kind: 'note', text: `${result.ok ? 'passes' : 'fails'}: ${result.name}` });
      results.push(result);
    }
  }
  return results;
}

function judgedBy(servers: readonly string[], after: Rates): string {
  if (servers.length === 0) return 'nobody left the rotation';
  const unread = servers.filter((server) => after[server] === null);
  const still = servers.filter((server) => (after[server] ?? 0) > 0);
  const busy = Object.entries(after).some(([server, rate]) => !servers.includes(server) && (rate ?? 0) > 0);
  const notes = [
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
