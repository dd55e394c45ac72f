/**
 * What `send`, `run` and `resume` share: becoming the driver, showing what happens, parking on Ctrl-C, and the exit status that the
 * release's resting place means.
 */
import { EXIT, type ExitCode } from '../errors.ts';
import { Driver } from '../release/drive.ts';
import type { Place } from '../release/locate.ts';
import { readLatest } from '../release/read.ts';
import { thisSender } from '../release/sender.ts';
import type { ReleaseDocument } from '../store/document.ts';
import { statusText, statusView } from '../views/status.ts';
import { follower } from './follow.ts';
import { terminal } from './terminal.ts';

/** The exit status of a release that rests (or has ended) as stored. */
export function statusOf({ snapshot }: ReleaseDocument): ExitCode {
  const { value, context } = snapshot;
  if (value === 'rolledBack') return EXIT.rolledBack;
  if (snapshot.status === 'done') return EXIT.ok;
  return context.failure !== null || context.question !== null ? EXIT.stepFailed : EXIT.ok;
}

/**
 * Becomes the driver, lets `work` send events, and closes again. The first Ctrl-C (or a terminal that disappears) parks, the second
 * leaves at once; both are safe, because what is needed to go on is on disk.
 */
export async function withDriver(
  place: Place,
  document: ReleaseDocument,
  doing: string,
  work: (driver: Driver) => Promise<ExitCode>,
): Promise<ExitCode> {
  const shown = follower();
  const driver = await Driver.open(place, document, thisSender('command line'), doing, (told) => {
    shown.tell(told);
  });
  const interrupted = onInterrupt(() => driver.park());
  try {
    const result = await Promise.race([work(driver), interrupted.parked]);
    if (result !== 'parked' && !driver.engine.isParked) return result;
    shown.stop();
    const state = driver.engine.state;
    const job = driver.engine.runsJob ? ' The publish goes on by itself, as a job.' : '';
    say(`Parked at ${state}.${job} Nothing is lost. Go on with: flow resume`);
    return EXIT.interrupted;
  } finally {
    shown.stop();
    interrupted.forget();
    await driver.close();
    // A parked effect may still wait for its job; the process is not to wait for it.
    if (driver.engine.isParked) setTimeout(() => process.exit(), 100).unref();
  }
}

function say(text: string): void {
  try {
    process.stderr.write(`${text}\n`);
  } catch {
    // The terminal is gone, which is why we are leaving.
  }
}

function onInterrupt(park: () => Promise<void>): { parked: Promise<'parked'>; forget: () => void } {
  let times = 0;
  let resolve: (value: 'parked') => void = () => undefined;
  const parked = new Promise<'parked'>((settle) => {
    resolve = settle;
  });
  const first = () => {
    times += 1;
    if (times > 1) {
      say('Left at once. Nothing is lost. Go on with: flow resume');
      process.exit(EXIT.interrupted);
    }
    say('Parking: the step comes to a safe point first. Ctrl-C again leaves at once.');
    void park().then(() => {
      resolve('parked');
    });
  };
  const broken = (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE' && times === 0) first();
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, first);
  process.stderr.on('error', broken);
  process.stdout.on('error', broken);
  return {
    parked,
    forget: () => {
      for (const signal of signals) process.off(signal, first);
    },
  };
}

/** Prints where the release stands now, as the command's result, and returns the exit status it means. */
export function showResult(place: Place, json: boolean): ExitCode {
  const document = readLatest(place.stateDir);
  if (document === null) return EXIT.noRelease;
  const view = statusView({ document, driver: null, live: null, now: new Date() });
  process.stdout.write(json ? `${JSON.stringify(view)}\n` : `\n${statusText(view, terminal().outPaint)}\n`);
  return statusOf(document);
}
