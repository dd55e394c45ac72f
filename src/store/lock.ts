/**
 * One driver at a time: flock(2) on the state folder itself, and an epoch that every driver raises.
 *
 * The lock belongs to our open descriptor of the folder. A helper program inherits the descriptor, takes the lock for us
 * and exits, so no native module is needed; the kernel drops the lock when this process ends, however it ends. Node opens
 * with O_CLOEXEC, so children never keep it. The folder is locked and not a file in it, because a file can be removed
 * and made anew while it is held; if even the folder is replaced, `guard` notices.
 * The helper is started here and not through a Host, because only a direct child can inherit a descriptor.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, constants, fstatSync, openSync, readFileSync, statSync } from 'node:fs';
import { hostname } from 'node:os';
import { codeOf, LockHeldError, StateError } from '../errors.ts';
import { removeQuietly, replaceFile } from './atomic-file.ts';
import { type Driver, isRunning, readDriver, startOfProcess } from './driver.ts';
import { stateFailure } from './envelope.ts';
import { statePaths } from './state-folder.ts';

export interface LockOptions {
  /** The person, for others to read. */
  who: string;
  /** What the driver is about to do, in words that follow "is": `publishing app1`. */
  doing: string;
  /** The epoch taken is higher than this one and than every epoch taken in this folder before. */
  minEpoch?: number;
}

export interface Lock {
  readonly epoch: number;
  /** Throws StateError FENCED when this process may not change anything any more. About 15 µs. */
  guard(): void;
  /** Tells others what the driver does now. Best effort: never throws. */
  describe(now: { doing?: string; socket?: string | null }): void;
  /** Lets go; calling it again does nothing. */
  release(): void;
}

/** Programs that lock descriptor 3: exit 0 taken, 1 held by someone else, anything else: did not work. */
const HELPERS: readonly (readonly [string, readonly string[]])[] = [
  ['flock', ['-n', '-x', '3']],
  [
    'perl',
    [
      '-e',
      'use Fcntl ":flock"; open(my $f, "+<&=", 3) or open($f, "<&=", 3) or exit 2; exit(flock($f, LOCK_EX | LOCK_NB) ? 0 : 1)',
    ],
  ],
];
const ATTEMPTS = 10;

/**
 * Becomes the driver. Throws LockHeldError naming the one there is, or StateError (NO_FLOCK, CORRUPT, FULL, system codes).
 * The folder must exist (createStateFolder).
 */
export function acquireLock(dir: string, { who, doing, minEpoch = 0 }: LockOptions): Lock {
  const fd = lockFolder(dir);
  try {
    const epoch = raiseEpoch(dir, minEpoch);
    const driver: Driver = {
      who,
      host: hostname(),
      pid: process.pid,
      pidStart: startOfProcess(process.pid),
      since: new Date().toISOString(),
      doing,
      epoch,
      socket: null,
    };
    writeDriver(dir, driver);
    return heldLock(dir, fd, driver);
  } catch (error) {
    closeSync(fd);
    throw error instanceof StateError ? error : stateFailure(dir, 'could not be locked', error);
  }
}

/**
 * Raises the epoch without holding the lock: whoever drives now writes nothing more, and starts no job. For a person who takes
 * over. Throws StateError when it cannot be stored.
 */
export function depose(dir: string): void {
  try {
    raiseEpoch(dir, 0);
  } catch (error) {
    throw error instanceof StateError ? error : stateFailure(dir, 'could not be taken over', error);
  }
}

function heldLock(dir: string, fd: number, first: Driver): Lock {
  let driver = first;
  let held = true;
  const fenced = (why: string) =>
    new StateError('FENCED', `${dir}: ${why}. Nothing further was started. See who drives now: flow status`);
  const guard = () => {
    if (!held) throw fenced('this process has let go of the lock');
    if (!isSameFolder(fd, dir)) throw fenced('the state folder was replaced while this process held its lock');
    const now = readEpoch(dir);
    if (now !== driver.epoch) throw fenced(`another flow took over (epoch ${now}, this one holds ${driver.epoch})`);
  };
  return {
    epoch: driver.epoch,
    guard,
    describe(now) {
      driver = { ...driver, ...now };
      try {
        guard();
        writeDriver(dir, driver);
      } catch {
        // Only a description; the next commit meets the same trouble and reports it.
      }
    },
    release() {
      if (!held) return;
      // While the lock is still held, so that it cannot be the next driver's description that is removed.
      if (readDriver(dir)?.epoch === driver.epoch) removeQuietly(statePaths(dir).driver);
      held = false;
      closeSync(fd);
    },
  };
}

function lockFolder(dir: string): number {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    let fd: number;
    try {
      fd = openSync(dir, constants.O_RDONLY | constants.O_DIRECTORY);
    } catch (error) {
      throw stateFailure(dir, 'could not be opened', error);
    }
    const taken = takeLock(fd);
    if (taken === true && isSameFolder(fd, dir)) return fd;
    closeSync(fd);
    if (taken === false) throw heldBy(dir);
    if (taken === undefined) {
      throw new StateError('NO_FLOCK', `${dir} was not locked: neither flock nor perl works here. Install util-linux`);
    }
  }
  throw new StateError('FENCED', `${dir} keeps being replaced while it is locked; nothing was started`);
}

/** True: taken. False: someone else holds it. Undefined: no helper works on this machine. */
function takeLock(fd: number): boolean | undefined {
  for (const [program, args] of HELPERS) {
    const { error, status } = spawnSync(program, args, { stdio: ['ignore', 'ignore', 'ignore', fd], timeout: 5_000 });
    if (error === undefined && (status === 0 || status === 1)) return status === 0;
  }
  return undefined;
}

function heldBy(dir: string): LockHeldError {
  // The winner of a race describes itself a moment after it has won; until then a dead driver's description is there.
  let driver = readDriver(dir);
  for (let waits = 0; waits < 20 && (driver === null || !isRunning(driver)); waits++) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
    driver = readDriver(dir);
  }
  if (driver === null) {
    return new LockHeldError(
      `another flow drives (${dir} is locked) and has not said who it is; try again in a moment`,
    );
  }
  const { who, host, pid, since, doing } = driver;
  return new LockHeldError(
    `${who} drives this release on ${host} (process ${pid}, since ${since}) and is ${doing}. ` +
      'Nothing was started. Follow it: flow status --watch',
  );
}

function isSameFolder(fd: number, dir: string): boolean {
  const ours = fstatSync(fd);
  try {
    const there = statSync(dir);
    return ours.ino === there.ino && ours.dev === there.dev;
  } catch {
    return false;
  }
}

function raiseEpoch(dir: string, minEpoch: number): number {
  const epoch = Math.max(readEpoch(dir), minEpoch) + 1;
  replaceFile(statePaths(dir).epoch, Buffer.from(`${epoch}\n`), { durable: true });
  return epoch;
}

function readEpoch(dir: string): number {
  const file = statePaths(dir).epoch;
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return 0;
    throw stateFailure(file, 'could not be read', error);
  }
  if (!/^\d{1,15}\n$/.test(text)) {
    throw new StateError(
      'CORRUPT',
      `${file} does not hold a number, so it is unknown how often the lock was taken. Nothing was started. ` +
        'Remove it, then flow resume: the epoch goes on from the newest release',
    );
  }
  return Number(text);
}

function writeDriver(dir: string, driver: Driver): void {
  replaceFile(statePaths(dir).driver, Buffer.from(`${JSON.stringify(driver)}\n`), { durable: false });
}
