/**
 * Nginx's processes on the proxy's host, read from /proc.
 *
 * Invariant: a process is known by its id *and* its start time, because ids are used again, and a zombie is gone: it
 * serves nobody. No process is ever signalled from here; a pid file's number is believed only after the process was
 * seen to be a master of this configuration (a stale one let a reload end an innocent process).
 */
import { posix } from 'node:path';
import { StepError } from '../errors.ts';
import type { Host } from '../hosts/host.ts';

/** A process: its id, and its start time in clock ticks since the machine started. */
export interface ProcessId {
  pid: number;
  startedAtTicks: number;
}

export interface Worker extends ProcessId {
  /** True once the worker accepts nothing new and only finishes what it has. */
  shuttingDown: boolean;
}

export interface MasterProblem {
  /** Why there is no proven master, and whether one runs that the pid file does not name; no full stop. */
  problem: string;
  /** The masters of this configuration that the pid file does not name; null where that could not be looked for. */
  running: number[] | null;
  code:
    | 'PID_FILE_MISSING'
    | 'PID_FILE_INVALID'
    | 'MASTER_NOT_RUNNING'
    | 'PID_IS_NOT_NGINX'
    | 'MASTER_OF_ANOTHER_TREE'
    | 'BINARY_UPGRADE_RUNNING';
}

type Unproven = Pick<MasterProblem, 'code' | 'problem'>;

const MASTER_TITLE = 'nginx: master process';
const WORKER_TITLE = 'nginx: worker process';
/** Processes of Nginx's own that carry no requests. */
const CACHE_TITLES = ['nginx: cache manager process', 'nginx: cache loader process'];

interface Stat {
  state: string;
  startedAtTicks: number;
}

async function readStat(host: Host, pid: number): Promise<Stat | null> {
  const text = (await host.readFile(`/proc/${pid}/stat`))?.toString('latin1');
  if (text === undefined) return null;
  // The name, in parentheses, may hold blanks and parentheses of its own: the fields begin after the last one.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const startedAtTicks = Number(fields[19]);
  const state = fields[0];
  return state === undefined || !Number.isSafeInteger(startedAtTicks) ? null : { state, startedAtTicks };
}

/** Start time of a process that is alive; null when it ended or is a zombie. */
export async function aliveSince(host: Host, pid: number): Promise<number | null> {
  const stat = await readStat(host, pid);
  return stat === null || stat.state === 'Z' || stat.state === 'X' ? null : stat.startedAtTicks;
}

async function readTitle(host: Host, pid: number): Promise<string | null> {
  const bytes = await host.readFile(`/proc/${pid}/cmdline`);
  return bytes === null ? null : bytes.toString('utf8').replaceAll('\0', ' ').trimEnd();
}

/**
 * The Nginx master that `pidFile` (relative to `dir`, or absolute) names, once it is proven to be one and to run the
 * configuration in `dir`. The proof, strongest first:
 * - `-p` and `-c` of its command line, which Nginx keeps in the process title, say that its configuration file is in
 *   `dir`;
 * - without them, the `--prefix` and `--conf-path` its own program (`/proc/PID/exe -V`) was built with say so;
 * - where that program cannot be asked, the master holds a log file inside `dir` open.
 * What of this is missing or contradicts makes it a problem, never a guess. A problem says who runs instead, so that a person
 * knows whether Nginx has to be started or its pid file put right. Reads only.
 */
export async function findMaster(
  host: Host,
  nginx: { dir: string; pidFile: string },
): Promise<ProcessId | MasterProblem> {
  const found = await namedMaster(host, nginx);
  if ('pid' in found) return found;
  const running = await mastersOf(host, nginx.dir);
  const others =
    running === null
      ? ''
      : running.length === 0
        ? `, and no Nginx master of ${nginx.dir} runs`
        : `; the Nginx master of ${nginx.dir} is process ${running.join(' and ')}`;
  return { ...found, problem: `${found.problem}${others}`, running };
}

/** Every running master of the configuration in `dir`, whatever a pid file says; null when processes cannot be searched. */
async function mastersOf(host: Host, dir: string): Promise<number[] | null> {
  const listed = await host.run(['pgrep', '-f', `^${MASTER_TITLE}`], { timeoutMs: 5_000 });
  if (listed.status === 1) return [];
  if (listed.status !== 0) return null;
  const pids = listed.stdout
    .split('\n')
    .filter((line) => line !== '')
    .map(Number);
  const own = await Promise.all(
    pids.map(async (pid) => {
      const title = (await readTitle(host, pid)) ?? '';
      return (
        isMaster(title) && (await aliveSince(host, pid)) !== null && (await whyNotOf(host, pid, title, dir)) === null
      );
    }),
  );
  return pids.filter((_, index) => own[index]);
}

async function namedMaster(host: Host, nginx: { dir: string; pidFile: string }): Promise<ProcessId | Unproven> {
  const file = posix.resolve(nginx.dir, nginx.pidFile);
  const content = await host.readFile(file);
  if (content === null) {
    return { code: 'PID_FILE_MISSING', problem: `there is no pid file ${file}` };
  }
  const pid = readPid(content);
  if (pid === null) return { code: 'PID_FILE_INVALID', problem: `${file} does not hold a process id` };
  const startedAtTicks = await aliveSince(host, pid);
  if (startedAtTicks === null) {
    return { code: 'MASTER_NOT_RUNNING', problem: `${file} names process ${pid}, which does not run` };
  }
  const title = (await readTitle(host, pid)) ?? '';
  if (!isMaster(title)) {
    return {
      code: 'PID_IS_NOT_NGINX',
      problem: `${file} names process ${pid}, which is not an Nginx master but "${printable(title)}"`,
    };
  }
  const elsewhere = await whyNotOf(host, pid, title, nginx.dir);
  if (elsewhere !== null)
    return { code: 'MASTER_OF_ANOTHER_TREE', problem: `${file} names process ${pid}: ${elsewhere}` };
  const upgraded = readPid((await host.readFile(`${file}.oldbin`)) ?? Buffer.alloc(0));
  if (upgraded !== null && upgraded !== pid && isMaster((await readTitle(host, upgraded)) ?? '')) {
    return {
      code: 'BINARY_UPGRADE_RUNNING',
      problem: `two masters run (${upgraded} and ${pid}): an upgrade of the Nginx program has not been finished`,
    };
  }
  // The same process all along: the id was not used again between the first look and the last.
  if ((await aliveSince(host, pid)) !== startedAtTicks) {
    return { code: 'MASTER_NOT_RUNNING', problem: `process ${pid} of ${file} ended while it was looked at` };
  }
  return { pid, startedAtTicks };
}

function readPid(content: Buffer): number | null {
  const text = content.toString('latin1').trim();
  const pid = Number(text);
  // 0 and 1 are no Nginx that could be reloaded apart from its container; a signal to 0 goes to a whole group.
  return /^\d{1,9}$/.test(text) && pid > 0 ? pid : null;
}

function isMaster(title: string): boolean {
  return title === MASTER_TITLE || title.startsWith(`${MASTER_TITLE} `);
}

function printable(text: string): string {
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, '?').slice(0, 100);
}

/** Null when the master runs the configuration in `dir`, else what it runs instead. */
async function whyNotOf(host: Host, pid: number, title: string, dir: string): Promise<string | null> {
  const tree = await realPath(host, dir);
  const command = title.slice(MASTER_TITLE.length);
  const given = { prefix: optionOf(command, 'p'), conf: optionOf(command, 'c') };
  const built = given.prefix === null || given.conf === null ? await builtWith(host, pid, command) : null;
  const prefix = given.prefix ?? built?.prefix ?? null;
  const conf = given.conf ?? built?.conf ?? (given.prefix === null ? null : 'conf/nginx.conf');
  if (conf !== null && (posix.isAbsolute(conf) || prefix !== null)) {
    // A relative -p is relative to the folder Nginx was started in, which the master never leaves.
    const cwd = (await realPath(host, `/proc/${pid}/cwd`)) ?? '/';
    const loaded = posix.resolve(cwd, prefix ?? '/', conf);
    const folder = await realPath(host, posix.dirname(loaded));
    // The file itself may be a link that leads out of the tree; the tree still says which one is loaded.
    if (isInside(folder, tree) || isInside(await realPath(host, loaded), tree)) return null;
    return `it is an Nginx master of another configuration, ${printable(loaded)}, not of ${dir}`;
  }
  const open = await openFiles(host, pid);
  if (open.some((path) => isInside(path, tree))) return null;
  return `it is an Nginx master, but nothing shows that it runs the configuration in ${dir}`;
}

/** The value of `-p` or `-c` in a process title, where blanks inside a value can no longer be told from those between. */
function optionOf(command: string, letter: 'p' | 'c'): string | null {
  const match = new RegExp(`(?:^| )-${letter} ?(.*?)(?= -[A-Za-z?](?: |$)| -[pcge][^ ]|$)`).exec(command);
  return match?.[1] ?? null;
}

/**
 * The paths the running program was built with. Asked of the process itself, as the file on disk may be newer; a
 * process of another user hides its program, and then the one its command line names is asked.
 */
async function builtWith(host: Host, pid: number, command: string): Promise<{ prefix: string; conf: string } | null> {
  const named = /^ (\/\S+)/.exec(command)?.[1];
  for (const program of [`/proc/${pid}/exe`, ...(named === undefined ? [] : [named])]) {
    const answer = await host.run([program, '-V'], { timeoutMs: 5_000 });
    if (answer.status !== 0) continue;
    const value = (name: string) =>
      new RegExp(`--${name}=('[^']*'|\\S+)`).exec(answer.stderr)?.[1]?.replaceAll("'", '');
    return { prefix: value('prefix') ?? '/usr/local/nginx', conf: value('conf-path') ?? 'conf/nginx.conf' };
  }
  return null;
}

async function openFiles(host: Host, pid: number): Promise<string[]> {
  const listed = await host.run(['ls', '-l', `/proc/${pid}/fd`], { timeoutMs: 5_000 });
  return listed.stdout.split('\n').flatMap((line) => {
    const arrow = line.indexOf(' -> /');
    return arrow < 0 ? [] : [line.slice(arrow + ' -> '.length)];
  });
}

async function realPath(host: Host, path: string): Promise<string | null> {
  const result = await host.run(['readlink', '-f', '--', path], { timeoutMs: 5_000 });
  const text = result.stdout.replace(/\n$/, '');
  return result.status === 0 && text !== '' ? text : null;
}

function isInside(path: string | null, folder: string | null): boolean {
  return path !== null && folder !== null && (path === folder || path.startsWith(`${folder.replace(/\/$/, '')}/`));
}

/**
 * The worker processes of a master, including those that are shutting down. A child that has not named itself yet
 * counts as one, because it may carry requests a moment later. Reads only.
 *
 * Throws StepError `unreachable` when the kernel does not list children, `unsafe` when the master has ended.
 */
export async function listWorkers(host: Host, master: ProcessId): Promise<Worker[]> {
  const workers = await Promise.all((await childrenOf(host, master)).map((pid) => describe(host, pid)));
  return workers.flatMap(({ worker, title }) =>
    worker === null || CACHE_TITLES.some((cache) => title.startsWith(cache)) ? [] : [worker],
  );
}

/** As `listWorkers`, but only those known to accept requests: named as workers and not shutting down. */
export async function listAcceptingWorkers(host: Host, master: ProcessId): Promise<Worker[]> {
  const workers = await Promise.all((await childrenOf(host, master)).map((pid) => describe(host, pid)));
  return workers.flatMap(({ worker, title }) =>
    worker === null || worker.shuttingDown || !title.startsWith(WORKER_TITLE) ? [] : [worker],
  );
}

async function describe(host: Host, pid: number): Promise<{ worker: Worker | null; title: string }> {
  const [startedAtTicks, title] = await Promise.all([aliveSince(host, pid), readTitle(host, pid)]);
  if (startedAtTicks === null || title === null) return { worker: null, title: '' };
  return { worker: { pid, startedAtTicks, shuttingDown: title.includes('is shutting down') }, title };
}

async function childrenOf(host: Host, master: ProcessId): Promise<number[]> {
  const path = `/proc/${master.pid}/task/${master.pid}/children`;
  // The kernel's list may leave out a child while another one ends, so it is read until two readings agree.
  let before: string | null = null;
  for (let reading = 0; reading < 20; reading++) {
    const text: string | null = (await host.readFile(path))?.toString('latin1').trim() ?? null;
    if (text === null) break;
    if (text === before) {
      if ((await aliveSince(host, master.pid)) !== master.startedAtTicks) break;
      return text === '' ? [] : text.split(/\s+/).map(Number);
    }
    before = text;
  }
  if ((await aliveSince(host, master.pid)) !== master.startedAtTicks) {
    throw new StepError(
      'PROXY_MASTER_ENDED',
      'unsafe',
      `The Nginx master ${master.pid} on ${host.name} has ended or was started anew.`,
    );
  }
  throw new StepError(
    'PROXY_WORKERS_UNREADABLE',
    'unreachable',
    `The workers of the Nginx master ${master.pid} on ${host.name} could not be listed from ${path}. ` +
      `Nothing was changed by it.`,
  );
}

/** Those of the given workers that still live, by id and start time; a zombie does not. Reads only. */
export async function stillAlive(host: Host, workers: readonly Worker[]): Promise<Worker[]> {
  const now = await Promise.all(workers.map(({ pid }) => describe(host, pid)));
  return now.flatMap(({ worker }, index) =>
    worker !== null && worker.startedAtTicks === workers[index]?.startedAtTicks ? [worker] : [],
  );
}

/** True when both name the same process, and not only the same id. */
export function sameProcess(a: ProcessId, b: ProcessId): boolean {
  return a.pid === b.pid && a.startedAtTicks === b.startedAtTicks;
}
