/**
 * R4.2 and R5.2: the observation window. Checks, error patterns in the logs and rates stay good for the whole soak.
 * Only observed time counts: progress is checkpointed per attempt, so a crash neither loses nor invents any of it, and a clock
 * that jumps or a machine that slept adds at most one tick. Twice is safe: it reads, and goes on from the checkpoint.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { CheckResult, SoakEvidence } from '../../machines/contract.ts';
import { serverSettings } from '../config/settings.ts';
import type { LogPosition } from '../logs/follow.ts';
import type { Effects } from './effect.ts';
import { type ServerLog, watchLogs } from './log-rates.ts';
import { placeholderValues } from './placeholder-values.ts';
import { askHealth, runCheck } from './probes.ts';
import type { World } from './world.ts';

const TICK_MS = 250;
const CHECKPOINT_EVERY_MS = 1_000;
/** A log may be unreadable for so long (a rotation, say) before the soak is inconclusive. */
const BLIND_LIMIT_MS = 5_000;
const TAIL_BYTES = 1_048_576;
const BASELINE = 'old-errors';

interface Progress {
  observedMs: number;
  checksRun: number;
  checksFailed: number;
  failedInARow: number;
  lines: Record<string, number>;
  errors: number;
  samples: string[];
  positions: Record<string, LogPosition>;
}

interface OldErrors {
  lines: number;
  errors: number;
}

export function soak(world: World): Effects['soak'] {
  return async (input, tools) => {
    const { verify, watch } = world.config;
    const windowMs = input.step === 'watchingAll' ? watch.soak : verify.soak;
    const name = `${input.step}.${input.attempt}`;
    const saved = world.checkpoint.read(name) as Progress | null | undefined;
    const progress: Progress = saved ?? {
      observedMs: 0,
      checksRun: 0,
      checksFailed: 0,
      failedInARow: 0,
      lines: {},
      errors: 0,
      samples: [],
      positions: {},
    };
    const logs = watchLogs(world, input.serving, progress.positions);
    const old = (world.checkpoint.read(BASELINE) as OldErrors | null | undefined) ?? { lines: 0, errors: 0 };
    const checks = await checksOf(world, input.serving);
    let blindMs = 0;
    let checkedAt = Number.NEGATIVE_INFINITY;
    let savedAt = performance.now();
    let lastAt = performance.now();
    await logs.poll();
    for (;;) {
      const round = performance.now();
      const isLast = progress.observedMs >= windowMs;
      if (round - checkedAt >= verify.every || isLast) {
        checkedAt = round;
        const failed = await runChecks(checks, progress);
        if (failed.length > 0 && progress.failedInARow > verify.failuresTolerated) {
          return {
            outcome: 'bad',
            evidence: evidenceOf(progress, old, ''),
            because: failed.map((check) => `${check.name}: ${check.because}`).join('; '),
          };
        }
      }
      const seen = await logs.poll();
      progress.positions = logs.positions();
      count(progress, seen);
      const blind = Object.entries(seen).filter(([, log]) => log.problem !== null);
      const tickMs = Math.min(performance.now() - lastAt, 4 * TICK_MS);
      lastAt = performance.now();
      blindMs = blind.length > 0 ? blindMs + tickMs : 0;
      if (blind.length === 0) progress.observedMs += tickMs;
      const bad = tooManyErrors(world, progress, old);
      if (bad !== null) return { outcome: 'bad', evidence: evidenceOf(progress, old, ''), because: bad };
      if (blindMs > BLIND_LIMIT_MS) {
        const which = blind.map(([server, log]) => `the log of ${server} is ${log.problem ?? ''}`).join('; ');
        return {
          outcome: 'ask',
          evidence: evidenceOf(progress, old, which),
          question: question(name, `The soak can say neither good nor bad: ${which}.`),
        };
      }
      if (isLast) break;
      if (performance.now() - savedAt > CHECKPOINT_EVERY_MS) {
        savedAt = performance.now();
        world.checkpoint.write(name, progress);
      }
      tools.signal.throwIfAborted();
      tools.report({ kind: 'figures', text: figures(input.step, progress, windowMs, seen) });
      await delay(Math.max(1, Math.min(TICK_MS, windowMs - progress.observedMs)), undefined, { signal: tools.signal });
    }
    const noTraffic = windowMs > 0 && Object.values(progress.lines).every((lines) => lines === 0);
    if (noTraffic && world.config.verify.checks.length === 0) {
      return {
        outcome: 'ask',
        evidence: evidenceOf(progress, old, 'no traffic was seen'),
        question: question(
          name,
          'The soak can say neither good nor bad: no request came in the whole window, and no checks are configured.',
        ),
      };
    }
    return {
      outcome: 'good',
      evidence: evidenceOf(progress, old, noTraffic ? 'no traffic was seen; judged by the checks alone' : ''),
    };
  };
}

/**
 * Remembers how many errors the old version writes, from the end of its logs: what the new one writes is judged against it.
 * Twice is safe: it reads, and replaces a note.
 */
export async function rememberOldErrors(world: World): Promise<void> {
  const patterns = world.config.verify.errors.map((pattern) => new RegExp(pattern));
  const old: OldErrors = { lines: 0, errors: 0 };
  for (const server of Object.keys(world.config.servers)) {
    const { log } = serverSettings(world.config, server);
    try {
      const end = await world.host.readSlice(log, Number.MAX_SAFE_INTEGER, 0);
      if (end === null) continue;
      const slice = await world.host.readSlice(log, Math.max(0, end.size - TAIL_BYTES), TAIL_BYTES);
      const lines = (slice?.bytes.toString('latin1') ?? '').split('\n').slice(0, -1);
      old.lines += lines.length;
      old.errors += lines.filter((line) => patterns.some((pattern) => pattern.test(line))).length;
    } catch {
      // An unreadable log has no old rate; the soak will say that it cannot read it.
    }
  }
  world.checkpoint.write(BASELINE, old);
}

async function checksOf(world: World, serving: readonly string[]): Promise<(() => Promise<CheckResult>)[]> {
  const settings = serving.map((server) => serverSettings(world.config, server));
  const [first] = settings;
  if (first === undefined) return [];
  // The configured checks ask the system through its front, so once is enough, however many servers serve.
  const values = await placeholderValues(world, first);
  return [
    ...settings.map((server) => () => askHealth(server)),
    ...world.config.verify.checks.map((check) => () => runCheck(world.host, check, values)),
  ];
}

async function runChecks(checks: (() => Promise<CheckResult>)[], progress: Progress): Promise<CheckResult[]> {
  const results = await Promise.all(checks.map((check) => check()));
  const failed = results.filter((result) => !result.ok);
  progress.checksRun += results.length;
  progress.checksFailed += failed.length;
  progress.failedInARow = failed.length > 0 ? progress.failedInARow + 1 : 0;
  return failed;
}

function count(progress: Progress, seen: Record<string, ServerLog>): void {
  for (const [server, log] of Object.entries(seen)) {
    progress.lines[server] = (progress.lines[server] ?? 0) + log.lines;
    progress.errors += log.errors;
    progress.samples = [...progress.samples, ...log.samples].slice(0, 5);
  }
}

const linesOf = (progress: Progress): number => Object.values(progress.lines).reduce((sum, lines) => sum + lines, 0);

/** Errors are judged by their share of all lines, so that the comparison holds when one server carries the traffic of two. */
function tooManyErrors(world: World, progress: Progress, old: OldErrors): string | null {
  const { errorsTolerated, errorFactor } = world.config.verify;
  if (progress.errors <= errorsTolerated) return null;
  const lines = Math.max(1, linesOf(progress));
  const oldShare = old.lines === 0 ? 0 : old.errors / old.lines;
  if (progress.errors / lines <= oldShare * errorFactor) return null;
  return (
    `${progress.errors} errors in ${lines} log lines; the old version had ${old.errors} in ${old.lines}. ` +
    `The first: ${progress.samples[0] ?? '(not kept)'}`
  );
}

function evidenceOf(progress: Progress, old: OldErrors, note: string): SoakEvidence {
  const seconds = progress.observedMs / 1_000;
  const perSecond = (value: number) => (seconds === 0 ? 0 : Math.round((value / seconds) * 100) / 100);
  const lines = linesOf(progress);
  return {
    observedSeconds: Math.round(seconds * 10) / 10,
    checksRun: progress.checksRun,
    checksFailed: progress.checksFailed,
    errorsSeen: progress.errors,
    rates: Object.fromEntries(Object.entries(progress.lines).map(([server, count]) => [server, perSecond(count)])),
    errorsPerSecond: perSecond(progress.errors),
    oldErrorsPerSecond: old.lines === 0 ? 0 : perSecond((old.errors / old.lines) * lines),
    samples: progress.samples,
    note,
  };
}

function figures(step: string, progress: Progress, windowMs: number, seen: Record<string, ServerLog>): string {
  const left = Math.max(0, (windowMs - progress.observedMs) / 1_000);
  const rates = Object.entries(seen).map(([server, log]) =>
    log.problem === null ? `${server} ${(log.lines * (1_000 / TICK_MS)).toFixed(0)}/s` : `${server} log ${log.problem}`,
  );
  const what = step === 'watchingAll' ? 'watch' : 'soak';
  return `${what}: ${left.toFixed(0)} s left of ${(windowMs / 1_000).toFixed(0)}, checks ${progress.checksRun - progress.checksFailed}/${progress.checksRun}, errors ${progress.errors}, ${rates.join(', ')}`;
}

const question = (name: string, text: string) => ({
  id: `soakInconclusive.${name}`,
  kind: 'soakInconclusive' as const,
  text,
  choices: [
    { choice: 'again', does: 'observe once more, from the beginning' },
    { choice: 'accept', does: 'go on as if the observation had been good; recorded with your reason' },
    { choice: 'rollback', does: 'roll the release back' },
  ],
});
