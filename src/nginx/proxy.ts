/**
 * The proxy: which servers it sends traffic to, how that is changed, and what proves the change (R3.2, R4.1, R4.3, R5.2).
 *
 * Invariants, in the order of a switch:
 * - nothing is touched unless the tree is clean and the master is proven to be the one of this configuration;
 * - the workers that may still carry old requests are captured *before* anything changes;
 * - a tree that Nginx refuses, or that did not come live, is switched back, so that the next reboot does not load it;
 * - "live" means new workers under the same master. The exit status of a reload means only that a signal was sent.
 *
 * Deliberately absent: waiting for the drain (the caller polls `remaining`, has its deadline and may ask a person), and
 * any signal of our own: the configured reload command alone talks to Nginx.
 */
import { posix } from 'node:path';
import semver from 'semver';
import type { Config } from '../config/schema.ts';
import { messageOf, StepError } from '../errors.ts';
import { type Argv, type Host, requireReached, type RunResult } from '../hosts/host.ts';
import { BranchRoutes } from './branch-routes.ts';
import { IncludeRoute } from './include-route.ts';
import type { MasterProblem, ProcessId, Worker } from './processes.ts';
import { findMaster, listAcceptingWorkers, listWorkers, sameProcess, stillAlive } from './processes.ts';
import type { FilesOfRoute, Route, RouteFiles, RouteObservation, RouteProblems } from './route-files.ts';
import { untouched } from './route-files.ts';

export type ProxyConfig = Omit<Config['nginx'], 'also'>;

/** What switches traffic: one Nginx, or several that have to serve the same route (proxies.ts). */
export type TrafficProxy = Pick<
  Proxy,
  'hasRoute' | 'byHand' | 'observe' | 'routeProblems' | 'switchTo' | 'remaining' | 'reloadedByOthers'
>;

export interface ProxyObservation extends RouteObservation {
  master?: ProcessId;
  workers: Worker[];
  /** Why there is no `master`, or why its workers could not be listed. */
  problem?: string;
  /** What a person does about that. */
  problemMend?: string;
}

/** What a switch saw. Plain data, so that it can be stored and the drain judged by it after a crash. */
export interface SwitchEvidence {
  servers: string[];
  branch: string;
  /** The commit of the config repository that was loaded. */
  commit: string;
  /** The branch before; null is kept for a switch whose branch before is not known. */
  from: string | null;
  master: ProcessId;
  /** Every worker there was before the reload: those that may still send requests the old way. */
  workersBefore: Worker[];
  /** The workers that accept requests since. */
  workersAfter: Worker[];
  /** From the start of the reload command until it was proven live. */
  liveAfterMs: number;
  /** What the test command printed. */
  testedOutput: string;
  /** Exit status of the reload command; null when it did not end by itself. */
  reloadStatus: number | null;
  provenBy: string;
  /** The same for each further proxy, by its name; left out where there is one alone. */
  also?: { proxy: string; switched: SwitchEvidence }[];
}

/** A proxy whose files are those of a route, tested and not loaded: it is loaded, or taken back. */
export interface Prepared {
  /** Reloads Nginx and proves it live. Throws as `switchTo` does. */
  load(): Promise<SwitchEvidence>;
  /** Who had the traffic; null where nobody can say. */
  servedBefore: readonly string[] | null;
  /** Brings the files back to where they were. Throws StepError `unknownOutcome` when that fails. */
  takeBack(): Promise<void>;
}

export interface ForeignReload {
  /** The workers that accept requests and are not those of the evidence. */
  pids: number[];
  /** `reload`: all were replaced; `restart`: the master too; `workerReplaced`: only some, as after a crash of one. */
  how: 'reload' | 'restart' | 'workerReplaced';
}

export interface ProxyFacts {
  /** For instance "1.22.1"; null when the program did not tell. */
  version: string | null;
  /**
   * True when Nginx has `keepalive_min_timeout` (1.27.4 and later). Without it a reload resets about one idle
   * keep-alive connection per switch, whatever the tool.
   */
  keepaliveMinTimeout: boolean | null;
}

export interface SwitchOptions {
  /** The route that the traffic is believed to be on: back there when it fails. Default: what the tree holds now. */
  from?: readonly string[];
  /** The command that tries it again, for messages. */
  again?: string;
  /** What it is for, as the history of the files is to name it: the release and its step. */
  purpose?: string;
  onProgress?: (text: string) => void;
  /** Stops the switch before the reload (the tree goes back); a reload that was sent is followed to its end. */
  signal?: AbortSignal;
  /** How long a reload may take until it is live. Default 5000: one that waits for a port takes 2.5 s. */
  liveWithinMs?: number;
}

const LIVE_DEADLINE_MS = 5_000;
/** After a reload command that failed: long enough for a signal that was sent all the same. */
const LIVE_AFTER_FAILED_RELOAD_MS = 1_000;
const POLL_MS = 10;
const TEST_TIMEOUT_MS = 60_000;
const LOG_CHUNK_BYTES = 256 * 1024;

/** The proxy of one configuration; `addresses` has the host:port of every server of the project, by name. */
export function createProxy(host: Host, nginx: ProxyConfig, addresses: Readonly<Record<string, string>>): Proxy {
  return new Proxy(host, nginx, addresses);
}

export class Proxy {
  readonly #host: Host;
  readonly #nginx: ProxyConfig;
  readonly #files: RouteFiles;

  constructor(host: Host, nginx: ProxyConfig, addresses: Readonly<Record<string, string>>) {
    const { dir, include, routes = defaultRoutes(Object.keys(addresses)) } = nginx;
    this.#host = host;
    this.#nginx = nginx;
    this.#files =
      include === undefined
        ? new BranchRoutes(host, dir, routes, addresses)
        : new IncludeRoute(host, dir, include, addresses);
  }

  /** The routes that have a branch each; none where flow writes the servers into one file. */
  get routes(): readonly Route[] {
    return this.#files.routes;
  }

  /** Whether traffic can be sent to exactly these servers, in whatever order. Pure. */
  hasRoute(servers: readonly string[]): boolean {
    return this.#files.hasRoute(servers);
  }

  /** What a person runs to bring the files to these servers by hand. Pure. */
  byHand(servers: readonly string[]): string {
    return this.#files.byHand(servers);
  }

  /**
   * How the proxy stands. Reads only, so any number of times is safe. A tree or a master that is not as it should be is
   * told in the answer. Throws StepError `unreachable` only when the host's files cannot be read at all.
   */
  async observe(): Promise<ProxyObservation> {
    const [tree, found] = await Promise.all([this.#files.observe(), findMaster(this.#host, this.#nginx)]);
    if ('problem' in found) {
      return { ...tree, workers: [], problem: found.problem, problemMend: this.#mendOf(found) };
    }
    try {
      return { ...tree, master: found, workers: await listWorkers(this.#host, found) };
    } catch (error) {
      return { ...tree, master: found, workers: [], problem: messageOf(error) };
    }
  }

  /** Whether every route can be switched to, sends traffic to exactly its servers, and differs in nothing else. Reads only. */
  async routeProblems(): Promise<RouteProblems> {
    return await this.#files.problems();
  }

  /**
   * Sends traffic to exactly these servers and proves that it is live; does not wait for the drain.
   *
   * Safe to do twice: on the branch already, it tests and reloads all the same, because a branch checked out by a run
   * that crashed proves nothing about what Nginx has loaded.
   *
   * Throws StepError: `unsafe` (nothing was touched) when there is no such route, its branch is not
   * what it is named for, the tree is not clean or the master not proven; `rejected` when Nginx refused the configuration or logged that it could not load it, or when `signal`
   * stopped it before the reload; `timedOut` when it was not proven live in time; in these three the tree is back on the
   * branch before. `unknownOutcome` when the tree could not be brought back, or Nginx not watched after the reload.
   */
  async switchTo(servers: readonly string[], options: SwitchOptions = {}): Promise<SwitchEvidence> {
    return await (await this.prepare(servers, options)).load();
  }

  /** The first half of `switchTo`: everything before Nginx is told. Throws as that does, and the files are back then. */
  async prepare(servers: readonly string[], options: SwitchOptions = {}): Promise<Prepared> {
    const host = this.#host;
    const tell = options.onProgress ?? (() => {});
    const again = options.again ?? 'send the same event again';
    const { to, back } = await this.#files.plan(servers, {
      again,
      tell,
      ...(options.from === undefined ? {} : { believed: options.from }),
      ...(options.purpose === undefined ? {} : { purpose: options.purpose }),
    });
    const turn: Turn = { to, back, stays: back.servers?.join(' and ') ?? back.name, again };
    const { master, logStart, workersBefore } = await untouched(async () => {
      const found = await this.#provenMaster(turn);
      return {
        master: found,
        logStart: await this.#errorLogEnd(again),
        workersBefore: await listWorkers(host, found),
      };
    });
    this.#stopIfAborted(options.signal, turn);

    const commit = await to.enter();
    const ready = await this.#orBack(turn, async () => {
      const test = await this.#test(turn);
      // Workers that came in the meantime (someone else's reload) may hold the old routes as well.
      const captured = union(workersBefore, await listWorkers(host, master));
      const logEnd = (await this.#errorLogEnd(again)) ?? logStart;
      this.#stopIfAborted(options.signal, turn);
      // The last look before the signal: the master may have been started anew while the tree was switched.
      if (!sameProcess(await this.#provenMaster(turn), master)) throw this.#masterChanged(again);
      return { test, captured, logEnd };
    });
    return {
      servedBefore: back.servers,
      load: async () => await this.#load(turn, servers, { ...ready, master, commit, options }),
      takeBack: async () => {
        await this.#back(turn, null);
      },
    };
  }

  async #load(
    turn: Turn,
    servers: readonly string[],
    prepared: {
      test: RunResult;
      captured: readonly Worker[];
      logEnd: LogEnd | null;
      master: ProcessId;
      commit: string;
      options: SwitchOptions;
    },
  ): Promise<SwitchEvidence> {
    const { test, captured, logEnd, master, commit, options } = prepared;
    const { dir } = this.#nginx;
    const tell = options.onProgress ?? (() => {});
    tell(this.#nginx.reload.join(' '));
    const startedAt = performance.now();
    const reload = await this.#host.run(this.#nginx.reload, { cwd: dir, changesWorld: true, env: { LC_ALL: 'C' } });
    const { workersAfter, waitedFor } = await this.#orBack(turn, () =>
      this.#provenLive({ ...turn, master, captured, logEnd, reload, options }),
    );
    const liveAfterMs = Math.round(performance.now() - startedAt);
    tell(`live after ${liveAfterMs} ms; ${workersAfter.length} new workers`);
    return {
      servers: [...servers],
      branch: turn.to.branch,
      commit,
      from: turn.back.branch,
      master,
      workersBefore: [...captured],
      workersAfter,
      liveAfterMs,
      testedOutput: `${test.stdout}${test.stderr}`.trim(),
      reloadStatus: reload.status,
      provenBy:
        `${workersAfter.length} new worker${workersAfter.length === 1 ? '' : 's'} under the same master ` +
        `(${master.pid}), none of the ${captured.length} from before accepting any more, and ` +
        (waitedFor === null ? 'no new [emerg] in the error log' : `Nginx got what it had waited for (${waitedFor})`),
    };
  }

  /**
   * The workers from before the switch that still live: they may still send requests to a server that left. Empty is
   * the proof of the drain. Reads only, so any number of times is safe.
   */
  async remaining(evidence: Pick<SwitchEvidence, 'workersBefore' | 'also'>): Promise<Worker[]> {
    return stillAlive(this.#host, evidence.workersBefore);
  }

  /**
   * Whether workers accept requests that the switch of `evidence` did not bring: someone reloaded or restarted Nginx
   * since, or a worker crashed and was replaced. Null when not. Reads only, so any number of times is safe.
   * Throws StepError `unsafe` when there is no proven master now.
   */
  async reloadedByOthers(
    evidence: Pick<SwitchEvidence, 'master' | 'workersAfter' | 'also'>,
  ): Promise<ForeignReload | null> {
    const master = await findMaster(this.#host, this.#nginx);
    if ('problem' in master) {
      throw new StepError(
        master.code,
        'unsafe',
        `Nginx on ${this.#host.name} is not as it was: ${master.problem}. ${this.#mendOf(master)}`,
      );
    }
    const now = await listAcceptingWorkers(this.#host, master);
    const isOurs = (worker: Worker) => evidence.workersAfter.some((ours) => sameProcess(ours, worker));
    const pids = now.filter((worker) => !isOurs(worker)).map(({ pid }) => pid);
    if (pids.length === 0) return null;
    if (!sameProcess(master, evidence.master)) return { pids, how: 'restart' };
    return { pids, how: now.some(isOurs) ? 'workerReplaced' : 'reload' };
  }

  /** What this Nginx can do: asked of the test command's program with -v. Reads only. */
  async facts(): Promise<ProxyFacts> {
    const ask = this.#nginx.test.map((word) => (word === '-t' ? '-v' : word));
    if (!ask.includes('-v')) return { version: null, keepaliveMinTimeout: null };
    const answer = await this.#host.run(ask as [string, ...string[]], { cwd: this.#nginx.dir, timeoutMs: 10_000 });
    const found = /nginx version: \S+?\/(\d+\.\d+\.\d+)/.exec(answer.stderr)?.[1];
    if (answer.status !== 0 || found === undefined) return { version: null, keepaliveMinTimeout: null };
    return { version: found, keepaliveMinTimeout: semver.gte(found, '1.27.4') };
  }

  async #provenMaster({ stays, again }: Pick<Turn, 'stays' | 'again'>): Promise<ProcessId> {
    const found = await findMaster(this.#host, this.#nginx);
    if (!('problem' in found)) return found;
    const traffic =
      found.running === null ? '' : found.running.length === 0 ? ' Nobody is served.' : ` Traffic stays on ${stays}.`;
    throw new StepError(
      found.code,
      'unsafe',
      `Nginx on ${this.#host.name} was not reloaded, because ${found.problem}.${traffic} ${this.#mendOf(found)}, then: ${again}`,
    );
  }

  /** What a person does about a master that is not proven; no full stop. */
  #mendOf({ running, code }: MasterProblem): string {
    const { dir, pidFile, test } = this.#nginx;
    const [only, ...more] = running ?? [];
    if (code === 'BINARY_UPGRADE_RUNNING') return 'Finish the upgrade, or take it back';
    if (running !== null && only === undefined) {
      return `Start Nginx (cd ${dir} && ${test.filter((word) => word !== '-t').join(' ')})`;
    }
    if (only === undefined) return `Look at Nginx, and put ${posix.resolve(dir, pidFile)} right`;
    return more.length === 0
      ? `Put its number back (echo ${only} > ${posix.resolve(dir, pidFile)})`
      : 'End the one that is one too many, and see that the pid file names the other';
  }

  #masterChanged(again: string): StepError {
    return new StepError(
      'PROXY_MASTER_CHANGED',
      'unsafe',
      `Nginx on ${this.#host.name} was started anew during the switch, so it was not reloaded. ` +
        `Its files are as before. When nobody works on it any more: ${again}`,
    );
  }

  #stopIfAborted(signal: AbortSignal | undefined, { stays, again }: Turn): void {
    if (signal?.aborted !== true) return;
    throw new StepError(
      'SWITCH_STOPPED',
      'rejected',
      `The switch was stopped before Nginx was reloaded; traffic stays on ${stays}. To try it again: ${again}`,
    );
  }

  /** Runs the test command; throws `rejected` with Nginx's own words when it is red. */
  async #test({ to, back, stays, again }: Turn): Promise<RunResult> {
    const { dir, test } = this.#nginx;
    const result = await this.#host.run(test, { cwd: dir, timeoutMs: TEST_TIMEOUT_MS, env: { LC_ALL: 'C' } });
    if (result.status === 0) return result;
    // The files go back where that is possible; what cannot be asked has refused nothing.
    requireReached(this.#host, result);
    throw new StepError(
      'NGINX_TEST_FAILED',
      // Also where the test could not be run at all: the files go back, and nothing has moved.
      'rejected',
      `Nginx refuses the configuration of ${to.called}: ${saidBy(test, result)} ` +
        `It was not reloaded, its files are back on ${back.name}, and traffic stays on ${stays}. ` +
        `${to.correct}, then: ${again}`,
    );
  }

  /** Runs `work`; when it throws, brings the tree back to where it was before the error goes on. */
  async #orBack<T>({ back, again }: Turn, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      await this.#back({ back, again }, error);
      throw error;
    }
  }

  async #back({ back, again }: Pick<Turn, 'back' | 'again'>, error: unknown): Promise<void> {
    const { dir } = this.#nginx;
    try {
      await back.enter();
    } catch (second) {
      throw new StepError(
        'CONFIG_TREE_NOT_RESTORED',
        'unknownOutcome',
        `${error === null ? 'The' : `${messageOf(error)} But the`} files could not be brought back to ${back.name}: ${messageOf(second)} ` +
          `The next start of Nginx would load what lies there now. Mend that first (git -C ${dir} status), then: ${again}`,
        { cause: error ?? second },
      );
    }
  }

  async #provenLive(
    reloaded: Turn & {
      master: ProcessId;
      captured: readonly Worker[];
      logEnd: LogEnd | null;
      reload: RunResult;
      options: SwitchOptions;
    },
  ): Promise<{ workersAfter: Worker[]; waitedFor: string | null }> {
    const { master, captured, reload, to, back, stays, again, options } = reloaded;
    // A connection that broke off says nothing of the signal: it may have been sent.
    const sent = reload.status === 0 || reload.unreachable !== undefined;
    const deadlineMs = sent ? (options.liveWithinMs ?? LIVE_DEADLINE_MS) : LIVE_AFTER_FAILED_RELOAD_MS;
    const until = performance.now() + deadlineMs;
    const log = this.#emergencies(reloaded.logEnd);
    if (reload.status !== 0) options.onProgress?.(`the reload command failed: ${saidBy(this.#nginx.reload, reload)}`);
    let waitedFor: string | null = null;
    for (;;) {
      const [accepting, emergencies] = await this.#lookAfterReload(master, log, again);
      // For a port that is taken, Nginx waits 2.5 s and may get it yet: only its last word says that it gave up.
      const emergency = emergencies.find((line) => !TRIES_AGAIN.test(line)) ?? null;
      waitedFor ??= emergencies.find((line) => TRIES_AGAIN.test(line)) ?? null;
      const old = accepting.some((worker) => captured.some((before) => sameProcess(before, worker)));
      if (emergency !== null) {
        const kept = accepting.length > 0 && old;
        throw new StepError(
          'RELOAD_NOT_LOADED',
          kept ? 'rejected' : 'unknownOutcome',
          `Nginx was told to load ${to.called}, and its error log says: ${waitedFor ?? emergency} ` +
            (kept
              ? `It serves as before: traffic stays on ${stays}, and its files are back on ${back.name}. Correct that, then: ${again}`
              : `Its workers were replaced all the same, so nobody can say what it serves. Look at ${this.#errorLog}, then: ${again}`),
        );
      }
      // While an old worker still accepts, a single new one proves nothing: it may replace one that crashed.
      if (accepting.length > 0 && !old) return { workersAfter: accepting, waitedFor };
      if (performance.now() >= until) break;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    if (!sent && reload.status !== null) {
      throw new StepError(
        'RELOAD_FAILED',
        'rejected',
        `The reload command failed: ${saidBy(this.#nginx.reload, reload)} ` +
          `Nginx serves as before: traffic stays on ${stays}, and its files are back on ${back.name}. Correct that, then: ${again}`,
      );
    }
    throw new StepError(
      'RELOAD_NOT_LIVE',
      'timedOut',
      `${to.called.charAt(0).toUpperCase()}${to.called.slice(1)} was not live ${deadlineMs / 1_000} s after the reload: no full set of new workers` +
        `${waitedFor === null ? '' : ` (${waitedFor})`}. Its files are back on ${back.name}, but a reload that hangs may still ` +
        `load ${to.name} late. Look at ${this.#errorLog}, then: ${again}`,
    );
  }

  /** One look at both signs of a reload. After the signal was sent, not being able to look is an unknown outcome. */
  async #lookAfterReload(
    master: ProcessId,
    log: { next: () => Promise<string[]> },
    again: string,
  ): Promise<[Worker[], string[]]> {
    try {
      return await Promise.all([listAcceptingWorkers(this.#host, master), log.next()]);
    } catch (error) {
      throw new StepError(
        'RELOAD_UNOBSERVED',
        'unknownOutcome',
        `Nginx was told to reload, and could not be watched: ${messageOf(error)} When it can be looked at again: ${again}`,
        { cause: error },
      );
    }
  }

  get #errorLog(): string {
    return posix.resolve(this.#nginx.dir, this.#nginx.errorLog);
  }

  /** Where the error log ends now; null when it does not exist. */
  async #errorLogEnd(again: string): Promise<LogEnd | null> {
    try {
      const slice = await this.#host.readSlice(this.#errorLog, 0, 0);
      return slice === null ? null : { id: slice.id, offset: slice.size };
    } catch (error) {
      throw new StepError(
        'ERROR_LOG_UNREADABLE',
        'unsafe',
        `Nginx's error log ${this.#errorLog} cannot be read (${messageOf(error)}), so a reload could not be judged. ` +
          `Nginx was not reloaded. Make it readable, then: ${again}`,
        { cause: error },
      );
    }
  }

  /** Reads on in the error log; `next` answers the [emerg] lines that are new since it was asked last. */
  #emergencies(start: LogEnd | null): { next: () => Promise<string[]> } {
    let id = start?.id ?? null;
    let offset = start?.offset ?? 0;
    let tail = '';
    const next = async (): Promise<string[]> => {
      const found: string[] = [];
      for (;;) {
        const slice = await this.#host.readSlice(this.#errorLog, offset, LOG_CHUNK_BYTES);
        if (slice === null) return found;
        if (slice.id !== id || slice.size < offset) {
          // Rotated or emptied: all of the file is new. What was read belongs to another file.
          const known = id !== null || offset > 0;
          id = slice.id;
          if (known) {
            offset = 0;
            tail = '';
            continue;
          }
        }
        if (slice.bytes.length === 0) return found;
        offset += slice.bytes.length;
        const lines = (tail + slice.bytes.toString('latin1')).split('\n');
        tail = (lines.pop() ?? '').slice(-LOG_CHUNK_BYTES);
        for (const line of lines) {
          if (line.includes('[emerg]')) found.push(printableLine(Buffer.from(line, 'latin1').toString('utf8')));
        }
      }
    };
    return { next };
  }
}

/** One switch, for the way back and the messages about it. */
interface Turn {
  to: FilesOfRoute;
  back: FilesOfRoute;
  /** Who has the traffic as long as nothing has moved. */
  stays: string;
  /** The command that tries it again. */
  again: string;
}

/** What Nginx logs of a listen address that is taken, before it tries again (five times, for 2.5 s in all). */
const TRIES_AGAIN = /\bbind\(\) to .* failed\b/;

interface LogEnd {
  id: string;
  offset: number;
}

/** The runbook's branches (R3.1): `master` for all servers, `yun-NAME` for only NAME. */
function defaultRoutes(servers: readonly string[]): Route[] {
  const single = servers.length > 1 ? servers.map((server) => ({ servers: [server], branch: `yun-${server}` })) : [];
  return [{ servers: [...servers], branch: 'master' }, ...single];
}

function union(a: readonly Worker[], b: readonly Worker[]): Worker[] {
  return [...a, ...b.filter((worker) => !a.some((known) => sameProcess(known, worker)))];
}

/** What a command that failed said, in one sentence. */
function saidBy(command: Argv, result: RunResult): string {
  const text = printableLine(`${result.stderr}\n${result.stdout}`.trim());
  const why =
    result.unreachable ??
    result.notStarted ??
    (result.timedOut ? 'it took too long' : `status ${String(result.status)}`);
  return `${command.join(' ')} (${why})${text === '' ? '' : `: ${text}`}.`;
}

/** Text of another program, safe to print: no control characters, of bounded length. */
function printableLine(text: string): string {
  return text
    .replaceAll(/\s*\n\s*/g, ' | ')
    .replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, '?')
    .slice(0, 2_000);
}
