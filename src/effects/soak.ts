/**
 * R4.2 and R5.2: the observation window. Checks, error patterns in the logs and rates stay good for the whole soak.
 * Only observed time counts: progress is checkpointed per attempt, so a crash neither loses nor invents any of it, and a clock
 * that jumps or a machine that slept adds at most one tick. Twice is safe: it reads, and goes on from the checkpoint.
 */
import { posix } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { sameServers } from '../../machines/topology.ts';
import type { CheckResult, SoakEvidence } from '../../machines/contract.ts';
import { type ProxySettings, proxiesOf, serverSettings, soakOf } from '../config/settings.ts';
import { ANSWERED, ANSWERED_5XX } from '../logs/access-log.ts';
import { createLogFollower, type LogPosition } from '../logs/follow.ts';
import { countTail, type TailCount } from '../logs/tail.ts';
import type { Effects } from './effect.ts';
import { type ServerLog, watchLogs } from './log-rates.ts';
import { placeholderValues } from './placeholder-values.ts';
import { askHealth, runCheck } from './probes.ts';
import type { World } from './world.ts';

const TICK_MS = 250;
const CHECKPOINT_EVERY_MS = 1_000;
/** How many standard deviations above what is allowed may still be chance. */
const CHANCE_DEVIATIONS = 3;
const BASELINE = 'old-errors';

interface Progress {
  observedMs: number;
  checksRun: number;
  /** Requests that the checks of the config have made: each may be a line in a log, and is no customer. */
  ownRequests: number;
  checksFailed: number;
  failedInARow: number;
  lines: Record<string, number>;
  errors: number;
  samples: string[];
  positions: Record<string, LogPosition>;
  /** Servers of whose logs lines may be missing, because the rest of a rotated file was not found. */
  gaps: string[];
  requests: number;
  failedRequests: number;
  accessPositions: LogPosition[];
  /** Why the access log told nothing for a while; null while it is read. */
  accessProblem: string | null;
}

/** What the old version wrote and Nginx answered before the release. */
interface Before {
  log: TailCount;
  proxy: TailCount;
}

const NOTHING: Before = { log: { lines: 0, errors: 0 }, proxy: { lines: 0, errors: 0 } };

export function soak(world: World): Effects['soak'] {
  return async (input, tools) => {
    const { verify, watch } = world.config;
    const windowMs = input.wave === null ? watch.soak : soakOf(world.config, world.topology, input.wave);
    const name = `${input.step}.${input.attempt}`;
    const saved = world.checkpoint.read(name) as Progress | null | undefined;
    const progress: Progress = saved ?? {
      observedMs: 0,
      checksRun: 0,
      ownRequests: 0,
      checksFailed: 0,
      failedInARow: 0,
      lines: {},
      errors: 0,
      samples: [],
      positions: {},
      gaps: [],
      requests: 0,
      failedRequests: 0,
      accessPositions: [],
      accessProblem: null,
    };
    const before = (world.checkpoint.read(BASELINE) as Before | null | undefined) ?? NOTHING;
    const logs = watchLogs(world, input.watched, progress.positions);
    const access = proxiesOf(world.config).map((nginx, index) =>
      createLogFollower(world.on(nginx), accessLogOf(nginx), {
        errors: [ANSWERED_5XX],
        only: ANSWERED,
        from: progress.accessPositions[index] ?? 'end',
      }),
    );
    const checks = await checksOf(world, input.watched);
    const ownRequests = verify.checks.filter((check) => 'http' in check).length;
    const evidence = (note = '') => evidenceOf(progress, before, [note, ...gapNotes(world, progress)]);
    let blindMs = 0;
    let checkedAt = Number.NEGATIVE_INFINITY;
    let isCheckedAtEnd = false;
    let savedAt = performance.now();
    let lastAt = performance.now();
    await Promise.all([logs.poll(), ...access.map((log) => log.poll())]);
    for (;;) {
      const round = performance.now();
      const isLast = progress.observedMs >= windowMs;
      if (round - checkedAt >= verify.every || (isLast && !isCheckedAtEnd)) {
        checkedAt = round;
        isCheckedAtEnd = isLast;
        const [failed, moved] = await Promise.all([
          runChecks(checks, ownRequests, progress),
          proxyMoved(world, input.serving, tools.signal),
        ]);
        if (moved !== null) return { outcome: 'ask', evidence: evidence(moved), because: moved };
        if (progress.failedInARow > verify.failuresTolerated) {
          return { outcome: 'bad', evidence: evidence(), because: checksFailed(failed, progress) };
        }
      }
      const [seen, ...answers] = await Promise.all([logs.poll(), ...access.map((log) => log.poll())]);
      progress.positions = logs.positions();
      progress.accessPositions = access.map((log) => log.position());
      count(progress, seen);
      for (const { lines, errors, problem } of answers) {
        progress.requests += lines;
        progress.failedRequests += errors;
        progress.accessProblem = problem ?? progress.accessProblem;
      }
      const blind = Object.entries(seen).filter(([, log]) => log.problem !== null);
      const tickMs = Math.min(performance.now() - lastAt, 4 * TICK_MS);
      lastAt = performance.now();
      blindMs = blind.length > 0 ? blindMs + tickMs : 0;
      if (blind.length === 0 && !isLast) progress.observedMs += tickMs;
      const bad = tooManyErrors(world, progress, before) ?? tooManyFailedRequests(world, progress, before);
      if (bad !== null) return { outcome: 'bad', evidence: evidence(), because: bad };
      if (blindMs > verify.blind) {
        const which = blind.map(([server, log]) => blindness(world, server, log)).join(', and ');
        return {
          outcome: 'ask',
          evidence: evidence(which),
          because:
            `For ${inSeconds(blindMs)} ${which}: after ${inSeconds(progress.observedMs)} of ${inSeconds(windowMs)} ` +
            'the soak can say neither good nor bad.',
        };
      }
      // It does not end on a red check that is tolerated for now, nor while nobody knows what the logs say.
      if (isLast && progress.failedInARow === 0 && blind.length === 0) break;
      if (performance.now() - savedAt > CHECKPOINT_EVERY_MS) {
        savedAt = performance.now();
        world.checkpoint.write(name, progress);
      }
      tools.signal.throwIfAborted();
      tools.report({
        kind: 'figures',
        text: figures(input.step, progress, windowMs, seen),
        soak: { observedMs: Math.round(progress.observedMs), windowMs },
      });
      const leftMs = isLast ? TICK_MS : windowMs - progress.observedMs;
      await delay(Math.max(1, Math.min(TICK_MS, leftMs)), undefined, { signal: tools.signal });
    }
    if (windowMs === 0 || sawCustomers(progress)) return { outcome: 'good', evidence: evidence() };
    if (verify.checks.length === 0) {
      return {
        outcome: 'ask',
        evidence: evidence('no traffic was seen'),
        because: `No request came in ${inSeconds(progress.observedMs)}, and no checks are configured (verify.checks): the soak can say neither good nor bad.`,
      };
    }
    return { outcome: 'good', evidence: evidence('no traffic was seen: judged by the checks alone') };
  };
}

/** What is observed counts only while the proxy serves those that are watched; null while it does, or cannot be looked at. */
async function proxyMoved(world: World, serving: readonly string[], signal: AbortSignal): Promise<string | null> {
  const seesOther = async () => {
    const { servers, branch } = await world.proxy.observe();
    return servers === null || sameServers(servers, serving) ? null : { servers, branch };
  };
  if ((await seesOther()) === null) return null;
  // Looked at twice: in the middle of somebody's git switch the files are of one branch and HEAD is of another.
  await delay(TICK_MS, undefined, { signal });
  const seen = await seesOther();
  if (seen === null) return null;
  const { servers, branch } = seen;
  const { dir } = world.config.nginx;
  return (
    `Somebody switched the proxy during the soak: ${dir} is on ${branch ?? 'no branch'} (${servers.join(' and ')}), and should serve ` +
    `${serving.join(' and ')}. What was observed since proves nothing. Put it back: ${world.proxy.byHand(serving)}, reload Nginx`
  );
}

/**
 * Remembers how many errors the old version writes and how many requests fail in Nginx, from the end of their logs: what comes of
 * the new one is judged against it. Twice is safe: it reads, and replaces a note.
 */
export async function rememberOldErrors(world: World): Promise<void> {
  const errors = errorPatterns(world);
  const tails = Object.keys(world.config.servers).map((server) => serverSettings(world.config, server));
  const [proxies, logs] = await Promise.all([
    Promise.all(
      proxiesOf(world.config).map((nginx) =>
        orNothing(countTail(world.on(nginx), accessLogOf(nginx), { errors: [ANSWERED_5XX], only: ANSWERED })),
      ),
    ),
    Promise.all(tails.map((server) => orNothing(countTail(world.on(server), server.log, { errors })))),
  ]);
  const before: Before = { proxy: sumOf(proxies), log: sumOf(logs) };
  world.checkpoint.write(BASELINE, before);
}

/** An unreadable log has no old share; the soak will say that it cannot read it. */
const orNothing = (count: Promise<TailCount>): Promise<TailCount> => count.catch(() => NOTHING.log);

const errorPatterns = (world: World): RegExp[] => world.config.verify.errors.map((pattern) => new RegExp(pattern));

const sumOf = (counts: readonly TailCount[]): TailCount => ({
  lines: counts.reduce((sum, { lines }) => sum + lines, 0),
  errors: counts.reduce((sum, { errors }) => sum + errors, 0),
});

const accessLogOf = (nginx: Pick<ProxySettings, 'dir' | 'accessLog'>): string =>
  posix.resolve(nginx.dir, nginx.accessLog);

async function checksOf(world: World, serving: readonly string[]): Promise<(() => Promise<CheckResult>)[]> {
  const settings = serving.map((server) => serverSettings(world.config, server));
  const [first] = settings;
  if (first === undefined) return [];
  // The configured checks ask the system through its front, so once is enough, however many servers serve.
  const values = await placeholderValues(world, first);
  return [
    ...settings.map((server) => () => askHealth(world, server)),
    ...world.config.verify.checks.map((check) => () => runCheck(world, check, values)),
  ];
}

async function runChecks(
  checks: (() => Promise<CheckResult>)[],
  ownRequests: number,
  progress: Progress,
): Promise<CheckResult[]> {
  const results = await Promise.all(checks.map((check) => check()));
  const failed = results.filter((result) => !result.ok);
  progress.checksRun += results.length;
  progress.ownRequests += ownRequests;
  progress.checksFailed += failed.length;
  progress.failedInARow = failed.length > 0 ? progress.failedInARow + 1 : 0;
  return failed;
}

function checksFailed(failed: CheckResult[], { failedInARow }: Progress): string {
  const which = failed.map((check) => `${check.name}: ${check.because}`).join('; ');
  return failedInARow > 1 ? `${which} (${failedInARow} times in a row).` : `${which}.`;
}

function count(progress: Progress, seen: Record<string, ServerLog>): void {
  for (const [server, log] of Object.entries(seen)) {
    progress.lines[server] = (progress.lines[server] ?? 0) + log.lines;
    progress.errors += log.errors;
    progress.samples = [...progress.samples, ...log.samples].slice(0, 5);
    if (log.gap && !progress.gaps.includes(server)) progress.gaps.push(server);
  }
}

const linesOf = (progress: Progress): number => Object.values(progress.lines).reduce((sum, lines) => sum + lines, 0);

/** flow's own checks come through the front as customers do; where no more came than these, nobody tried the new version. */
const sawCustomers = (progress: Progress): boolean =>
  Math.max(linesOf(progress), progress.requests) > progress.ownRequests;

/**
 * Errors are judged by their share of all lines, so that the comparison holds when one server carries the traffic of two. It is made
 * all the time, so it allows for chance: the second line of a soak may be one of the errors that the old version wrote as well.
 */
function exceeds(now: TailCount, before: TailCount, factor: number, tolerated: number): boolean {
  const expected = shareOf(before) * factor * now.lines;
  return now.errors > tolerated && now.errors > expected + CHANCE_DEVIATIONS * Math.sqrt(expected);
}

const shareOf = ({ lines, errors }: TailCount): number => (lines === 0 ? 0 : errors / lines);

function tooManyErrors(world: World, progress: Progress, { log }: Before): string | null {
  const { errorsTolerated, errorFactor } = world.config.verify;
  const now = { lines: linesOf(progress), errors: progress.errors };
  if (!exceeds(now, log, errorFactor, errorsTolerated)) return null;
  return (
    `${world.versions.version} writes more errors than the version before: ${now.errors} in ${now.lines} log lines, ` +
    `before ${told(log)}. The first: ${progress.samples[0] ?? '(not kept)'}`
  );
}

function tooManyFailedRequests(world: World, progress: Progress, { proxy }: Before): string | null {
  const { proxyErrorsTolerated, proxyErrorFactor } = world.config.verify;
  const now = { lines: progress.requests, errors: progress.failedRequests };
  if (!exceeds(now, proxy, proxyErrorFactor, proxyErrorsTolerated)) return null;
  return (
    `More requests fail with ${world.versions.version} than before: Nginx answered ${now.errors} of ${now.lines} with 5xx, ` +
    `before ${told(proxy)}.`
  );
}

const told = ({ lines, errors }: TailCount): string => (lines === 0 ? '(nothing is known)' : `${errors} in ${lines}`);

function blindness(world: World, server: string, log: ServerLog): string {
  const { log: path } = serverSettings(world.config, server);
  return `the log of ${server} (${path}) ${log.problem === 'missing' ? 'is missing' : 'cannot be read'}`;
}

function gapNotes(world: World, progress: Progress): string[] {
  const access = proxiesOf(world.config).map(accessLogOf).join(' and ');
  const silent = progress.requests === 0 && linesOf(progress) > 0;
  return [
    ...progress.gaps.map((server) => `the log of ${server} was rotated or emptied, and the rest of it was not found`),
    ...(progress.accessProblem === null
      ? []
      : [`${access} was ${progress.accessProblem}: 5xx answers were not counted`]),
    ...(progress.accessProblem === null && silent ? [`${access} names no answers: 5xx answers were not counted`] : []),
  ];
}

function evidenceOf(progress: Progress, before: Before, notes: string[]): SoakEvidence {
  const seconds = progress.observedMs / 1_000;
  const perSecond = (value: number) => (seconds === 0 ? 0 : Math.round((value / seconds) * 100) / 100);
  return {
    observedSeconds: Math.round(seconds * 10) / 10,
    checksRun: progress.checksRun,
    checksFailed: progress.checksFailed,
    errorsSeen: progress.errors,
    rates: Object.fromEntries(Object.entries(progress.lines).map(([server, count]) => [server, perSecond(count)])),
    errorsPerSecond: perSecond(progress.errors),
    oldErrorsPerSecond: perSecond(shareOf(before.log) * linesOf(progress)),
    samples: progress.samples,
    proxy:
      progress.requests === 0
        ? null
        : {
            requests: progress.requests,
            failed: progress.failedRequests,
            oldRequests: before.proxy.lines,
            oldFailed: before.proxy.errors,
          },
    note: notes.filter((note) => note !== '').join('; '),
  };
}

const inSeconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`;

function figures(step: string, progress: Progress, windowMs: number, seen: Record<string, ServerLog>): string {
  const left = Math.max(0, (windowMs - progress.observedMs) / 1_000);
  const rates = Object.entries(seen).map(([server, log]) =>
    log.problem === null ? `${server} ${(log.lines * (1_000 / TICK_MS)).toFixed(0)}/s` : `${server} log ${log.problem}`,
  );
  const what = step === 'watchingAll' ? 'watch' : 'soak';
  const answers = progress.requests === 0 ? [] : [`5xx ${progress.failedRequests}/${progress.requests}`];
  return [
    `${what}: ${left.toFixed(0)} s left of ${(windowMs / 1_000).toFixed(0)}`,
    `checks ${progress.checksRun - progress.checksFailed}/${progress.checksRun}`,
    `errors ${progress.errors}`,
    ...answers,
    ...rates,
  ].join(', ');
}
