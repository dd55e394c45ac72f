/**
 * Jobs: commands whose start, output and exit status survive flow itself, on any host.
 *
 * Invariant: a job (named by its id, which is stored before it starts) is run at most once. After any crash the same call
 * attaches to the running one, or takes the result of the finished one; a job that can be neither is said to be lost, and
 * whether to run it again, under a new id, is a person's decision. One job per lane (a server, say) at a time. A driver
 * with an older epoch starts nothing. The shell side is job-script.ts.
 *
 * A job is ended only by `endJob`, which is only called when a person has said so: a publish is never cut in half by itself.
 * Deliberately absent: deleting old ones.
 */
import { createHash } from 'node:crypto';
import { dirname, isAbsolute, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { codeOf, StepError, UsageError } from '../errors.ts';
import type { Argv, Host } from './host.ts';
import { JOB_SCRIPT } from './job-script.ts';

export interface Job {
  /** Folder of all jobs on that host; absolute. Made when it is missing. */
  root: string;
  /** For instance `r-0001/app1/publish.1`: release, server, step, attempt. */
  id: string;
  /** What only one job may work on at a time, a server as a rule. */
  lane: string;
  /** Epoch of the driver's lock. */
  epoch: number;
  argv: Argv;
  /** Folder it runs in, on that host; absolute. */
  cwd: string;
  /** Its standard input, whole: the answer to a confirmation. Stored beside the job. */
  stdin: string;
  /** Added to the environment. Never stored, and no part of what the job is known by. */
  env?: Record<string, string>;
}

export interface JobWatch {
  /** Standard output and error as they come, from the very beginning also when attaching; at most 1 MiB each. Awaited. */
  onOutput: (chunk: Buffer) => void | Promise<void>;
  /** Called once, when the job is known to run. */
  onState?: (state: { state: 'running'; pid: number | null }) => void;
  /** Stops watching: the call rejects with the signal's reason, the job goes on. */
  signal?: AbortSignal;
  /** Never start it: `absent` when it was not started. */
  attachOnly?: boolean;
}

export type JobEnd =
  /** `status` as a shell tells it: 128 + n for signal n, 127 not found. `seconds` is the run time of the command. */
  | { state: 'done'; status: number; outputBytes: number; seconds: number | null }
  /** Its supervisor is gone without a result. `alive`: processes of it still run. */
  | { state: 'lost'; pid: number | null; boot: 'same' | 'other'; alive: boolean }
  /** A newer driver was here; nothing was started. */
  | { state: 'fenced' }
  /** The lane is taken by the job `by`; nothing was started. */
  | { state: 'busy'; by: string }
  /** Only with `attachOnly`. */
  | { state: 'absent' };

export interface JobGlance {
  /** `claimed`: it was about to be started, and was not; safe to start. */
  state: 'absent' | 'claimed' | 'running' | 'done' | 'lost';
  status?: number;
  pid?: number;
}

interface Report {
  state: JobGlance['state'] | 'fenced' | 'busy' | 'different';
  status: number | null;
  pid: number | null;
  boot: 'same' | 'other';
  alive: boolean;
  by: string;
  seconds: number | null;
}

const CHUNK_BYTES = 256 * 1024;
/** How often the output is looked at while the job runs. Its end is noticed at once, by other means. */
const OUTPUT_INTERVAL_MS = 150;
/** How long one wait for the end of a job may block on the host. */
const WAIT_SECONDS = 10;
/** For so long a host that cannot be reached is asked again. */
const PATIENCE_MS = 60_000;
/** For a look, which is all that a person waits for then. */
const LOOK_PATIENCE_MS = 10_000;
const RETRY_MS = 500;
const CALL_TIMEOUT_MS = 60_000;
/** The kernel's limit for one string of the environment. */
const ENV_LIMIT_BYTES = 120_000;

/** Exit statuses of the script that say: this machine cannot, and asking again will not help. */
const HOST_FAILED: ReadonlySet<number> = new Set([2, 70, 71, 72, 73, 74, 75, 126, 127]);

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;
const ENV_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;
const ANSWER =
  /^flow-job state=(\w+) rc=(-|\d+) pid=(-|\d+) boot=(same|other) alive=(yes|no) by=(\S+) begin=(-|[\d.]+) end=(-|[\d.]+)$/m;

/**
 * Starts the job unless it was started before, and watches it to its end. May be called any number of times, by any
 * number of processes. Rejects with
 * - UsageError BAD_JOB when a field cannot be carried (a NUL, a relative folder, a bad name);
 * - StepError JOB_DIFFERS (unsafe) when that id was already used for another command;
 * - StepError JOB_HOST when the host cannot do it (disk full, no flock …): `rejected`, it did not run, or
 *   `unknownOutcome` once it was started;
 * - StepError JOB_UNREACHABLE (`unreachable`, or `unknownOutcome` when it may have started) after a time without an answer;
 * - the signal's reason; what `onOutput` throws.
 */
export async function ensureJob(host: Host, job: Job, watch: JobWatch): Promise<JobEnd> {
  const calls = callsOf(host, job.root, job.id);
  const start = `fj_op=start\n${startHeader(job)}`;
  const { signal, attachOnly = false } = watch;
  let report: Report;
  for (;;) {
    signal?.throwIfAborted();
    // The signal does not end a start: a starter cut in half would only have to be done again.
    report = attachOnly ? await calls.look(signal) : await calls.start(start);
    signal?.throwIfAborted();
    if (report.state !== 'absent' && report.state !== 'claimed') break;
    if (attachOnly) return { state: 'absent' };
    await nap(RETRY_MS, signal);
  }
  if (report.state === 'fenced') return { state: 'fenced' };
  if (report.state === 'busy') return { state: 'busy', by: report.by };
  if (report.state === 'different') {
    throw new StepError(
      'JOB_DIFFERS',
      'unsafe',
      `${host.name}: the job ${job.id} was already used for another command (${join(job.root, job.id, 'cmd')}). ` +
        'Nothing was started. Look at that file, then decide: flow status',
    );
  }
  const output = outputOf(host, join(job.root, job.id, 'out'), watch.onOutput);
  if (report.state === 'running') {
    watch.onState?.({ state: 'running', pid: report.pid });
    report = await follow(calls, output, signal);
  }
  const outputBytes = await output.rest(signal);
  const { state, status, pid, boot, alive, seconds } = report;
  return state === 'done' && status !== null
    ? { state: 'done', status, outputBytes, seconds }
    : { state: 'lost', pid, boot, alive };
}

/** How a job stands, without starting or waiting. Rejects as `ensureJob` does. */
export async function peekJob(host: Host, root: string, id: string): Promise<JobGlance> {
  return glanceOf(await callsOf(host, root, id).look());
}

function glanceOf({ state, status, pid }: Report): JobGlance {
  if (state === 'fenced' || state === 'busy' || state === 'different') throw new TypeError(`look answered ${state}`);
  return { state, ...(status === null ? {} : { status }), ...(pid === null ? {} : { pid }) };
}

/** The id of a job that is at work under this root, its own excepted; null when none is. Rejects as `ensureJob` does. */
export async function otherJobAtWork(host: Host, root: string, id: string): Promise<string | null> {
  const report = await callsOf(host, root, id).busy();
  return report.state === 'busy' ? report.by : null;
}

/**
 * Ends what is left of a job: asks its processes to end, and kills them after ten seconds. The status of a supervised job is
 * still recorded. Of a lost job everything that holds its lock is ended, a daemon included, because nothing else frees the
 * lane. Twice is safe: a job that has ended is left alone. Rejects as `ensureJob` does.
 */
export async function endJob(host: Host, root: string, id: string): Promise<JobGlance> {
  return glanceOf(await callsOf(host, root, id).end());
}

/** A value as one word of a POSIX shell, whatever it holds. Throws UsageError BAD_JOB for a NUL, which no argument can hold. */
export function quote(text: string): string {
  if (text.includes('\0')) throw badJob('holds a NUL character', text);
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

interface Calls {
  start(input: string): Promise<Report>;
  look(signal?: AbortSignal): Promise<Report>;
  wait(signal: AbortSignal): Promise<Report>;
  end(): Promise<Report>;
  busy(): Promise<Report>;
}

function callsOf(host: Host, root: string, id: string): Calls {
  if (!isAbsolute(root)) throw badJob('needs an absolute root', root);
  if (!id.split('/').every((part) => NAME.test(part))) throw badJob('has an unusable id', id);
  const place = `fj_root=${quote(root)} fj_above=${quote(dirname(root))} fj_id=${quote(id)} fj_wait=${WAIT_SECONDS}\n`;

  async function ask(
    op: 'start' | 'look' | 'wait' | 'busy' | 'end',
    header: string,
    signal?: AbortSignal,
  ): Promise<Report> {
    const patienceMs = op === 'look' || op === 'busy' ? LOOK_PATIENCE_MS : PATIENCE_MS;
    const patienceEnds = performance.now() + patienceMs;
    for (;;) {
      const result = await host.run(['sh', '-s'], {
        input: `${header}${place}${JOB_SCRIPT}`,
        timeoutMs: CALL_TIMEOUT_MS,
        changesWorld: op === 'start' || op === 'end',
        ...(signal === undefined ? {} : { signal }),
      });
      signal?.throwIfAborted();
      const report = reportOf(result.stdout);
      if (report !== undefined) return report;
      const said = result.unreachable ?? result.notStarted ?? result.stderr.trim().slice(-500);
      if (result.notStarted !== undefined || HOST_FAILED.has(result.status ?? -1)) {
        throw new StepError(
          'JOB_HOST',
          op === 'start' ? 'rejected' : 'unknownOutcome',
          `${host.name}: the job ${id} ${op === 'start' ? 'could not be started and did not run' : 'cannot be watched'}` +
            `: ${said}. Mend the cause, then flow resume`,
        );
      }
      if (performance.now() > patienceEnds) {
        throw new StepError(
          'JOB_UNREACHABLE',
          op === 'look' ? 'unreachable' : 'unknownOutcome',
          `${host.name} did not answer for ${patienceMs / 1_000} s about the job ${id} (${said || 'no message'}). ` +
            'If it was started, it goes on there; flow resume attaches to it',
        );
      }
      await nap(RETRY_MS, signal);
    }
  }

  return {
    start: (input) => ask('start', input),
    look: (signal) => ask('look', 'fj_op=look\n', signal),
    wait: (signal) => ask('wait', 'fj_op=wait\n', signal),
    end: () => ask('end', 'fj_op=end\n'),
    busy: () => ask('busy', 'fj_op=busy\n'),
  };
}

function startHeader({ root, id, lane, epoch, argv, cwd, stdin, env = {} }: Job): string {
  if (!NAME.test(lane)) throw badJob('has an unusable lane', lane);
  if (!Number.isSafeInteger(epoch) || epoch < 1) throw badJob('needs an epoch from 1 on', String(epoch));
  if (!isAbsolute(cwd)) throw badJob('needs an absolute folder to run in', cwd);
  // env(1), which looks the program up so that no shell builtin is meant, would take it for an assignment.
  if (argv[0] === '' || argv[0].includes('=')) throw badJob('has an unusable program name', argv[0]);
  const exported = Object.entries(env).map(([name, value]) => {
    if (!ENV_NAME.test(name)) throw badJob('has an unusable environment variable', name);
    return `export ${name}=${quote(value)}\n`;
  });
  const exports = exported.join('');
  if (Buffer.byteLength(exports) > ENV_LIMIT_BYTES) throw badJob('has an environment that is too large', id);
  const command = `cd -- ${quote(cwd)} || exit 126\nexec env -- ${argv.map(quote).join(' ')}`;
  const key = createHash('sha256')
    .update(JSON.stringify([argv, cwd, stdin]))
    .digest('hex');
  const folders: string[] = [];
  for (let folder = join(root, id); folder.length > join(root).length; folder = dirname(folder)) folders.push(folder);
  return (
    `fj_lane=${quote(lane)} fj_epoch=${epoch} fj_key=${key} fj_cmd=${quote(command)} fj_in=${quote(stdin)} ` +
    `fj_env=${quote(exports)}\nset -- ${[...folders, root].map(quote).join(' ')}\n`
  );
}

function reportOf(stdout: string): Report | undefined {
  const [, state, status, pid, boot, alive, by, begin, end] = ANSWER.exec(stdout) ?? [];
  if (state === undefined || by === undefined) return undefined;
  const number = (text: string | undefined) => (text === undefined || text === '-' ? null : Number(text));
  const [from, to] = [number(begin), number(end)];
  return {
    state: state as Report['state'],
    status: number(status),
    pid: number(pid),
    boot: boot === 'same' ? 'same' : 'other',
    alive: alive === 'yes',
    by,
    seconds: from === null || to === null ? null : Math.max(0, Math.round((to - from) * 100) / 100),
  };
}

/** Shows the output while waiting for the end; whichever fails stops the other. */
async function follow(calls: Calls, output: Output, signal: AbortSignal | undefined): Promise<Report> {
  const over = new AbortController();
  const stop = AbortSignal.any(signal === undefined ? [over.signal] : [over.signal, signal]);
  const waiting = async () => {
    for (;;) {
      const report = await calls.wait(stop);
      if (report.state !== 'running') return report;
    }
  };
  const reading = async () => {
    while (!stop.aborted) {
      await output.next();
      await delay(OUTPUT_INTERVAL_MS, undefined, { signal: stop }).catch(() => undefined);
    }
  };
  const [end, read] = await Promise.allSettled([
    waiting().finally(() => over.abort()),
    reading().finally(() => over.abort()),
  ]);
  signal?.throwIfAborted();
  if (read.status === 'rejected') throw read.reason;
  if (end.status === 'rejected') throw end.reason;
  return end.value;
}

interface Output {
  /** Hands on the next chunk, if there is one. */
  next(): Promise<void>;
  /** Hands on all there is now, and returns the number of bytes from the beginning. */
  rest(signal: AbortSignal | undefined): Promise<number>;
}

/**
 * Read through the host as bytes and not through the script, whose answer is text. A host that does not answer for a while has
 * printed nothing meanwhile; whether it is gone for good is found out by who waits for the end.
 */
function outputOf(host: Host, file: string, onOutput: JobWatch['onOutput']): Output {
  let offset = 0;
  const next = async (): Promise<number> => {
    const slice = await host.readSlice(file, offset, CHUNK_BYTES);
    if (slice === null || slice.bytes.length === 0) return offset;
    offset += slice.bytes.length;
    await onOutput(slice.bytes);
    return slice.size;
  };
  const unlessUnreachable = (error: unknown): null => {
    if (codeOf(error) === 'HOST_UNREACHABLE') return null;
    throw error;
  };
  return {
    async next() {
      await next().catch(unlessUnreachable);
    },
    async rest(signal) {
      const patienceEnds = performance.now() + PATIENCE_MS;
      const surely = async (): Promise<number> => {
        for (;;) {
          const isLast = performance.now() > patienceEnds;
          const size = isLast ? await next() : await next().catch(unlessUnreachable);
          if (size !== null) return size;
          await nap(RETRY_MS, signal);
        }
      };
      // Up to the size at the end of the job: a daemon it left behind may go on writing for ever.
      const size = await surely();
      while (offset < size) {
        signal?.throwIfAborted();
        const before = offset;
        await surely();
        if (offset === before) break;
      }
      return offset;
    },
  };
}

/** Rejects with the signal's reason when aborted. */
async function nap(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await delay(ms, undefined, signal === undefined ? {} : { signal }).catch(() => undefined);
  signal?.throwIfAborted();
}

function badJob(what: string, value: string): UsageError {
  return new UsageError(
    'BAD_JOB',
    `a job ${what}: ${JSON.stringify(value)}; nothing was started. See: flow config check`,
  );
}
