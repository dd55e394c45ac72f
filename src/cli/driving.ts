/**
 * What `send`, `run` and `resume` share: becoming the driver, showing what happens, parking on Ctrl-C, and the exit status that the
 * release's resting place means.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { EXIT, type ExitCode, LockHeldError } from '../errors.ts';
import { Driver } from '../release/drive.ts';
import type { Place } from '../release/locate.ts';
import { readLatest } from '../release/read.ts';
import { thisSender } from '../release/sender.ts';
import type { ReleaseDocument } from '../store/document.ts';
import { statusText, statusView } from '../views/status.ts';
import { follower } from './follow.ts';
import { terminal } from './terminal.ts';

/** For so long a driver may be just coming or going, before somebody is told that there is no way to it. */
const COMING_OR_GOING_MS = 700;
const COMING_OR_GOING_EVERY_MS = 25;
const WAIT_EVERY_MS = 300;

/**
 * Tries until the lock was free or its holder could be reached, for a moment: a driver is just coming or going. With `wait` for as
 * long as it takes, which is said once.
 */
export async function pastTheLock<T>(wait: boolean, attempt: () => Promise<T> | T): Promise<T> {
  const until = performance.now() + COMING_OR_GOING_MS;
  let isSaid = false;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof LockHeldError)) throw error;
      const isOver = performance.now() > until;
      if (isOver && !wait) throw error;
      if (isOver && !isSaid) {
        isSaid = true;
        say(`Waiting, because ${error.message}`);
      }
      await delay(isOver ? WAIT_EVERY_MS : COMING_OR_GOING_EVERY_MS);
    }
  }
}

/** The exit status of a release that rests (or has ended) as stored. */
export function statusOf({ snapshot }: ReleaseDocument): ExitCode {
  const { value, context } = snapshot;
  if (value === 'rolledBack') return EXIT.rolledBack;
  if (snapshot.status === 'done') return EXIT.ok;
  return context.failure !== null || context.question !== null ? EXIT.stepFailed : EXIT.ok;
}

/**
 * Becomes the driver, lets `work` send events, and closes again. Where `work` resolves with null, the result is where the release
 * rests then. The first Ctrl-C (or a terminal that disappears) parks, a second Ctrl-C leaves at once; both are safe, because what
 * is needed to go on is on disk.
 */
export async function withDriver(
  place: Place,
  document: ReleaseDocument,
  doing: string,
  work: (driver: Driver) => Promise<ExitCode | null>,
  json = false,
): Promise<ExitCode> {
  const shown = follower();
  const driver = await Driver.open(place, document, thisSender('command line'), doing, (told) => {
    shown.tell(told);
  });
  const interrupted = onInterrupt(() => driver.park());
  const performed = async (): Promise<ExitCode> => {
    const own = await work(driver);
    // Another terminal may have been faster, and ours was refused: whoever accepted its event performs it.
    const others = await driver.settle();
    if (driver.engine.isParked) return EXIT.interrupted;
    if (own !== null && !others) return own;
    const status = showResult(place, json);
    return own ?? status;
  };
  try {
    const result = await Promise.race([performed(), interrupted.parked]);
    const { engine } = driver;
    if (typeof result === 'number' && !engine.isParked) return result;
    // Only when it is safe to leave is it known what is left behind.
    const left = await interrupted.parked;
    shown.stop();
    if (engine.document.endedAt !== null) return showResult(place, json);
    const job = left.job ? ' The publish goes on by itself, as a job.' : '';
    say(
      engine.isWorking
        ? `Parked at ${engine.state}.${job} Nothing is lost. Go on with: flow resume`
        : `Stopped at ${engine.state}, where the release rests. Nothing is lost. What can be done now: flow status`,
    );
    return EXIT.interrupted;
  } finally {
    shown.stop();
    // Pressed again while it closes, Ctrl-C still leaves at once: it is no death by a signal.
    if (!driver.engine.isParked) interrupted.forget();
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

/**
 * Calls back when the person wants to leave: Ctrl-C, or a terminal or pager that has gone. `again` hears of a second Ctrl-C
 * alone, since one terminal that goes is told in several ways.
 */
export function onLeaving(first: () => void, again: () => void): { forget: () => void } {
  let isLeaving = false;
  const leave = () => {
    if (isLeaving) return;
    isLeaving = true;
    first();
  };
  const interrupt = () => {
    if (isLeaving) again();
    else leave();
  };
  // EIO is a terminal that has gone, and comes with a SIGHUP; where that is ignored (nohup), flow is meant to go on.
  const broken = (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') leave();
  };
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  process.on('SIGHUP', leave);
  process.stderr.on('error', broken);
  return {
    forget: () => {
      process.off('SIGINT', interrupt);
      process.off('SIGTERM', interrupt);
      process.off('SIGHUP', leave);
      process.stderr.off('error', broken);
    },
  };
}

function onInterrupt(park: () => Promise<boolean>): { parked: Promise<{ job: boolean }>; forget: () => void } {
  let resolve: (value: { job: boolean }) => void = () => undefined;
  const parked = new Promise<{ job: boolean }>((settle) => {
    resolve = settle;
  });
  const leaving = onLeaving(
    () => {
      say('Parking: the step comes to a safe point first. Ctrl-C again leaves at once.');
      void park().then((job) => {
        resolve({ job });
      });
    },
    () => {
      say('Left at once. Nothing is lost. Go on with: flow resume');
      process.exit(EXIT.interrupted);
    },
  );
  return { parked, forget: leaving.forget };
}

/** Prints where the release stands now, as the command's result, and returns the exit status it means. */
export function showResult(place: Place, json: boolean): ExitCode {
  const document = readLatest(place.stateDir);
  if (document === null) return EXIT.noRelease;
  const view = statusView({ document, driver: null, live: null, now: new Date() });
  process.stdout.write(json ? `${JSON.stringify(view)}\n` : `\n${statusText(view, terminal().outPaint)}\n`);
  return statusOf(document);
}
