/** One line on what a step saw, for the history and the closing line of a step. Pure. */
import type { Evidence, ReleaseContext, WaveEvidence } from '../../machines/contract.ts';
import { namesText } from './states.ts';

const seconds = (value: number): string => `${value.toFixed(value < 10 ? 1 : 0)} s`;
const rate = (value: number | null | undefined): string =>
  value === null || value === undefined ? '?' : value.toFixed(0);

/** What an effect saw, as one line of text. */
export function evidenceLine(evidence: Evidence): string {
  if ('merged' in evidence) {
    const merged = evidence.merged ? 'develop merged into testing' : 'testing already contained develop';
    return `${merged} as ${evidence.commit.slice(0, 10)}; the test server runs ${evidence.version}; ${evidence.checks.length} checks pass; published in ${seconds(evidence.publishSeconds)}`;
  }
  if ('previousTag' in evidence) {
    return `${evidence.tag} at ${evidence.commit.slice(0, 10)} pushed to ${evidence.pushedTo}; ${evidence.changes} changes since ${evidence.previousTag ?? 'the beginning'}`;
  }
  if ('judgedBy' in evidence) {
    const rates = Object.entries(evidence.ratesAfter).map(([server, after]) => {
      const before = evidence.ratesBefore[server];
      return `${server} ${before === undefined ? '' : `${rate(before)} → `}${rate(after)}/s`;
    });
    const drained =
      evidence.drainedAfterSeconds === null
        ? `${evidence.workersLeft} old workers still finish their requests`
        : `drained after ${evidence.drainedAfterSeconds.toFixed(2)} s`;
    return `${namesText(evidence.switched.servers)} live after ${evidence.switched.liveAfterMs.toFixed(0)} ms; ${drained}; ${rates.length === 0 ? 'logs not measured' : `log lines ${someOf(rates)}`}`;
  }
  if ('server' in evidence) {
    return `${evidence.server} reports ${evidence.version} and is healthy (${evidence.health}); published in ${seconds(evidence.seconds)}`;
  }
  if ('results' in evidence) return waveLine(evidence);
  if ('previewed' in evidence) {
    const through = evidence.through === null ? '' : ' through the pre-release proxy';
    return `${namesText(evidence.previewed)}${through}: ${evidence.checks.length} checks pass, before any customer`;
  }
  if ('observedSeconds' in evidence) {
    const rates = Object.entries(evidence.rates).map(([server, value]) => `${server} ${rate(value)}/s`);
    const { proxy } = evidence;
    const answers = proxy === null ? '' : `${proxy.failed} of ${proxy.requests} requests through Nginx answered 5xx; `;
    return `observed ${seconds(evidence.observedSeconds)}: ${evidence.checksRun} checks, ${evidence.checksFailed} failed; ${evidence.errorsSeen} errors in the logs; ${answers}${someOf(rates)}${evidence.note === '' ? '' : `; ${evidence.note}`}`;
  }
  if ('secondsUntilMoved' in evidence) {
    return `${namesText(evidence.switched.servers)} serve after ${seconds(evidence.secondsUntilMoved)}`;
  }
  if ('followUp' in evidence)
    return evidence.followUp ?? `develop contains master (${evidence.commit?.slice(0, 10) ?? ''})`;
  return [...evidence.undone.map((what) => `undone: ${what}`), ...evidence.kept.map((what) => `kept: ${what}`)].join(
    '; ',
  );
}

const MOST_NAMED = 6;

/** Names for a line; of many, the first ones and how many there are. */
const some = (names: readonly string[]): string =>
  names.length > MOST_NAMED
    ? `${names.slice(0, MOST_NAMED).join(', ')} and ${names.length - MOST_NAMED} more`
    : names.join(', ');

function waveLine({ results }: WaveEvidence): string {
  const done = results.flatMap((result) => (result.outcome === 'done' ? [result.evidence] : []));
  const longest = Math.max(0, ...done.map((evidence) => evidence.seconds));
  const versions = [...new Set(done.map(({ version }) => version))].join(', ');
  const published =
    done.length === 0
      ? []
      : [
          `${some(done.map(({ server }) => server))} ${done.length === 1 ? 'reports' : 'report'} ${versions}, healthy; the longest publish took ${seconds(longest)}`,
        ];
  const not = (['failed', 'lost', 'silent', 'held'] as const).flatMap((outcome) => {
    const names = results.flatMap((result) => (result.outcome === outcome ? [result.server] : []));
    return names.length === 0 ? [] : [`${outcome === 'held' ? 'not begun' : outcome}: ${some(names)}`];
  });
  return [...published, ...not].join('; ');
}

/** The line kept in the history when a step has ended; null where there is nothing to say. */
export function noteOn(event: string, step: string, context: ReleaseContext): string | null {
  const { failure, question } = context;
  const evidence = context.evidence[step];
  // A soak that went bad ended as it should: its verdict is a failure, and what it saw is evidence all the same.
  if (event === 'failed' && failure?.code === 'SOAK_BAD' && evidence !== undefined)
    return `${failure.message} (${evidenceLine(evidence)})`;
  if (event === 'failed') return failure?.message ?? null;
  if (event === 'asked') return question?.text ?? null;
  return event !== 'done' || evidence === undefined ? null : evidenceLine(evidence);
}

const MOST_RATES_SHOWN = 8;

/** A few rates, and how many more there are. */
const someOf = (rates: readonly string[]): string =>
  rates.length <= MOST_RATES_SHOWN
    ? rates.join(', ')
    : `${rates.slice(0, MOST_RATES_SHOWN - 2).join(', ')} and ${rates.length - MOST_RATES_SHOWN + 2} more`;
