/**
 * `flow demo`: a whole release on a sandbox, with clients at work all the while. It drives flow as a person would: every step is
 * a real `flow` process. What it says afterwards it has looked at; it ends with 0 only when all of it holds and no client saw an error.
 *
 * Invariant: whatever ends it (a failure, Ctrl-C, a closed pipe) ends every process it started first. A world is left running
 * only where `--keep` asked for it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { canaryAndRest, milestonesOf } from '../../machines/topology.ts';
import { codeOf, EXIT, type ExitCode, UsageError } from '../errors.ts';
import { locate } from '../release/locate.ts';
import { readLatest } from '../release/read.ts';
import { type Load, startLoad } from '../sandbox/load.ts';
import { createSandbox, openSandbox, type Sandbox, type SandboxOptions } from '../sandbox/world.ts';
import type { ReleaseDocument } from '../store/document.ts';
import { commandText, paintFor } from '../views/text.ts';
import { type Clients, closingTable, requestsPerSecond, unavoidableSeconds } from './demo/closing-table.ts';
import { narrationOf } from './demo/narration.ts';
import { type Expected, proveWorld, remoteTags } from './demo/world-proof.ts';

export interface DemoOptions {
  /** Absolute path of the flow to be driven. */
  flow: string;
  badRelease: boolean;
  crash: boolean;
  keep: boolean;
  fast: boolean;
  /** How many servers there are. Default 2. */
  servers?: number;
  /** How many proxies there are. Default 1. */
  proxies?: number;
  /** Everything but the project is on a machine of its own, behind ssh. */
  ssh?: boolean;
  /** The new version is looked at through a pre-release proxy first. */
  preview?: boolean;
  /** Who has the traffic stands in one file that flow writes, and not in a branch for each route. */
  include?: boolean;
  /** Folder for the world. Default: a new one among the temporary files. */
  root?: string;
  /** Other windows than the demo's own. */
  windows?: Pick<SandboxOptions, 'startMs' | 'soakMs' | 'watchMs'>;
  out: NodeJS.WritableStream;
  colour: boolean;
}

const OLD_VERSION = 'v1.3.7';
const VERSION = 'v1.3.8';
const CLOSE_PER_SECOND = 150;
const KEEP_ALIVE_PER_SECOND = 100;
const LEAST_PER_SECOND = 200;
const TARGET_RATIO = 1.25;
const FOLDER_PREFIX = 'flow-demo-';
/** How long clients go on after the end: a late failure would still show. */
const AFTER_MS = 1_000;

/** Stops and removes a sandbox that `--keep` left. Throws FlowError NO_SANDBOX where there is none; nothing else is ever removed. */
export async function runDemoStop(root: string): Promise<void> {
  await remove(await openSandbox(root));
}

/** Ends the processes of a world and removes its folder, and the demo's own folder around it when nothing else is in there. */
async function remove(sandbox: Sandbox): Promise<void> {
  await sandbox.destroy();
  const parent = dirname(sandbox.root);
  if (!basename(parent).startsWith(FOLDER_PREFIX)) return;
  try {
    await rmdir(parent);
  } catch (error) {
    if (!['ENOTEMPTY', 'ENOENT'].includes(codeOf(error) ?? '')) throw error;
  }
}

/**
 * Performs the demo. Resolves with the exit status: 0 only when everything it set out to show was seen, 6 when not (the folder
 * is left then), 130 when it was interrupted. Throws UsageError DEMO_OPTIONS, and what the sandbox and the load throw.
 */
export async function runDemo(options: DemoOptions): Promise<ExitCode> {
  if (options.fast && (options.badRelease || options.crash)) {
    throw new UsageError(
      'DEMO_OPTIONS',
      '--fast measures a release that goes well, so it does not go together with --bad-release or --crash. Nothing was started.',
    );
  }
  const demo = new Demo(options);
  let stop: () => void = () => undefined;
  const interrupted = new Promise<'interrupted'>((resolve) => {
    stop = () => {
      resolve('interrupted');
    };
  });
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, stop);
  // Nobody reads any more (`flow demo | head`): the world must not stay behind.
  options.out.on('error', stop);
  let keepFolder = true;
  try {
    const performed = demo.perform();
    const shown = await Promise.race([performed, interrupted]);
    if (shown === 'interrupted') {
      keepFolder = false;
      demo.say('\nInterrupted. Ending the clients and the servers …');
      demo.cutShort();
      // Only when it has come to its end does it start nothing more; how it ended does not matter now.
      await performed.catch(() => undefined);
      return EXIT.interrupted;
    }
    keepFolder = !shown;
    if (shown && options.keep) demo.release();
    return shown ? EXIT.ok : EXIT.stepFailed;
  } finally {
    await demo.clear(keepFolder);
    for (const signal of signals) process.off(signal, stop);
    options.out.off('error', stop);
  }
}

interface Ended {
  status: number;
  signal: NodeJS.Signals | null;
  out: string;
}

class Demo {
  readonly #options: DemoOptions;
  readonly #paint;
  #sandbox: Sandbox | null = null;
  #loads: Load[] = [];
  #children = new Set<ChildProcess>();
  #isOver = false;
  /** What each flow begins with: over ssh it finds no machine's folders on this one. */
  #alone: string[] = [];

  constructor(options: DemoOptions) {
    this.#options = options;
    this.#paint = paintFor(options.colour, true);
  }

  /** True when all of it was seen: the steps, their end, the clients' count and the world. */
  async perform(): Promise<boolean> {
    const { badRelease, crash, fast, keep } = this.#options;
    const paint = this.#paint;
    const sandbox = await this.#build();
    const tagsBefore = await remoteTags(sandbox);
    if (badRelease) await sandbox.misbehaveNext({ errorEvery: 20 });
    for (const [ratePerSecond, keepAlive] of [
      [CLOSE_PER_SECOND, false],
      [KEEP_ALIVE_PER_SECOND, true],
    ] as const) {
      this.#assertGoesOn();
      // Of several proxies the clients of one kind use the last, so that every one is used.
      const url = (keepAlive ? sandbox.urls.at(-1) : sandbox.url) ?? sandbox.url;
      this.#loads.push(await startLoad({ url, ratePerSecond, keepAlive }));
    }
    this.say(
      `\nClients are at work: ${CLOSE_PER_SECOND} requests/s with a connection each, ${KEEP_ALIVE_PER_SECOND} over kept ones, GET and POST.`,
    );
    const startedAt = performance.now();
    const planned = await this.#succeeds('start', '--to', VERSION, '--yes');
    const went = planned && (fast ? await this.#fast() : await this.#steps(badRelease, crash));
    const seconds = (performance.now() - startedAt) / 1_000;
    if (!planned) return false;
    await delay(AFTER_MS);
    const [close, keepAlive] = await Promise.all(this.#loads.map((load) => load.stop()));
    if (close === undefined || keepAlive === undefined) throw new Error('the clients have vanished');

    const { context, value } = (await this.#document()).snapshot;
    this.say(`\n${paint.bold('The count')}`);
    for (const line of closingTable({ close, keepAlive }, seconds, context)) this.say(line);
    this.say(`\n${paint.bold('The world, looked at')}`);
    const proven = await this.#prove(sandbox, tagsBefore, { close, keepAlive });
    const ended = this.#line(value === (badRelease ? 'rolledBack' : 'allLive'), 'the release has ended', value);
    if (keep) await this.#leave(sandbox);
    else this.say(`\nTo look around in such a world yourself: ${paint.bold('flow demo --keep')}`);
    return went && ended && proven;
  }

  /** Leaves the world to whoever started the demo. */
  release(): void {
    this.#sandbox = null;
  }

  /** Makes `perform` end soon, with whatever result; it starts nothing from now on. */
  cutShort(): void {
    this.#isOver = true;
    for (const child of this.#children) child.kill('SIGKILL');
  }

  /** After `perform`: ends everything that was started and not released, and removes its folder unless it is kept for a look. */
  async clear(keepFolder: boolean): Promise<void> {
    this.cutShort();
    await Promise.allSettled(this.#loads.map((load) => load.stop()));
    const sandbox = this.#sandbox;
    if (sandbox === null) return;
    if (!keepFolder) {
      await remove(sandbox);
      return;
    }
    await sandbox.stop();
    this.#options.out.write(
      `\nEverything is stopped. The folder is left for you to look at: ${sandbox.root}\n` +
        `To remove it: ${this.#command('demo', '--stop', sandbox.root)}\n`,
    );
  }

  say(text: string): void {
    if (!this.#isOver) this.#options.out.write(`${text}\n`);
  }

  async #build(): Promise<Sandbox> {
    const {
      badRelease,
      fast,
      windows,
      servers = 2,
      proxies = 1,
      ssh = false,
      preview = false,
      include = false,
    } = this.#options;
    const root = this.#options.root ?? join(await mkdtemp(join(tmpdir(), FOLDER_PREFIX)), 'world');
    this.say(
      `Building a world in ${root}: a project with a remote, ${servers} servers and one to test on, ${proxies === 1 ? 'an Nginx' : `${proxies} Nginx`}${preview ? ', and one to look at the new version first' : ''}${ssh ? '; each on a machine of its own, behind an sshd' : ''} …`,
    );
    const sandbox = await createSandbox({
      root,
      startMs: 1_000,
      // The bad version is found out long before such a soak ends.
      soakMs: badRelease ? 20_000 : 6_000,
      watchMs: 3_000,
      servers: Array.from({ length: servers }, (_, index) => `app${index + 1}`),
      proxies,
      ssh,
      preview,
      include,
      ...windows,
      ...(fast
        ? { config: { verify: { soak: '0s', every: '1s' }, watch: { soak: '0s' }, drain: { watch: '0s' } } }
        : {}),
      onProgress: (text: string) => {
        this.say(this.#paint.dim(`  ${text}`));
      },
    });
    // First of all: from here on `clear` can end it.
    this.#sandbox = sandbox;
    this.#assertGoesOn();
    this.#alone = (await sandbox.ssh?.alone()) ?? [];
    this.say(sandbox.describe());
    return sandbox;
  }

  /** NEXT by NEXT, each with its story and its evidence. True when every step ended as it should. */
  async #steps(badRelease: boolean, crash: boolean): Promise<boolean> {
    const paint = this.#paint;
    const { topology } = (await this.#document()).snapshot.context;
    const crashAt = `${canaryAndRest(topology).canary.lower}Published`;
    for (const milestone of milestonesOf(topology).slice(1)) {
      this.say(`\n${paint.bold(`${paint.icons.arrow} ${milestone}`)}  ${narrationOf(topology, milestone)}`);
      const expected = badRelease && milestone === 'verified' ? EXIT.rolledBack : EXIT.ok;
      const wentDown = crash && milestone === crashAt ? await this.#crash() : true;
      const { status } = await this.#flow(...(crash && milestone === crashAt ? ['resume'] : ['send', 'NEXT']), '--yes');
      const { requests, failed, resets } = this.#seen();
      this.say(paint.dim(`  clients so far: ${requests} requests, ${failed} failed, ${resets} idle connections reset`));
      if (!wentDown) return false;
      if (status !== expected) {
        this.say(`${paint.red(paint.icons.bad)} flow ended with exit status ${status}, expected ${expected}`);
        return false;
      }
      if (expected === EXIT.rolledBack) {
        const { rollback } = (await this.#document()).snapshot.context;
        this.say(`  Rolled back by itself: ${rollback?.because ?? ''}`);
        return true;
      }
    }
    return true;
  }

  /** flow is killed while a publish runs, which goes on. True when it was in the middle and `flow status` says UNWATCHED. */
  async #crash(): Promise<boolean> {
    const sandbox = this.#world();
    const { topology } = (await this.#document()).snapshot.context;
    const [server = ''] = canaryAndRest(topology).canary.servers;
    await sandbox.publishKnobs({ SLEEP_BEFORE: 2 }, server);
    this.say('  This time flow is killed in the middle of it.');
    const { child, ended } = this.#begin('send', 'NEXT', '--yes');
    while ((await sandbox.publishCount(server)) === 0 && child.exitCode === null && child.signalCode === null) {
      await delay(20);
    }
    // Only flow: the publish has a session of its own.
    child.kill('SIGKILL');
    const { signal } = await ended;
    await sandbox.publishKnobs(null, server);
    this.say(`  ${this.#paint.red('SIGKILL')} to flow, process ${child.pid ?? ''}. What flow status says now:\n`);
    const { out } = await this.#flow('status');
    for (const line of out.split('\n')) this.say(`    ${line}`);
    const stillOld = (await sandbox.runningVersion(server)) === OLD_VERSION;
    this.say('  And now: flow resume');
    return this.#line(
      signal === 'SIGKILL' && stillOld && out.includes('UNWATCHED'),
      `flow was killed while ${server} was being published, and its status says so`,
      `ended by ${signal ?? 'itself'}; ${server} ${stillOld ? 'still ran' : 'did not run'} ${OLD_VERSION}`,
    );
  }

  /** One `flow run` from the tag to the end, measured against what no tool could avoid. The target is shown, not enforced. */
  async #fast(): Promise<boolean> {
    for (const milestone of ['tested', 'tagged']) {
      if (!(await this.#succeeds('send', 'NEXT', '--yes'))) return false;
      const { value } = (await this.#document()).snapshot;
      if (value !== milestone) return this.#line(false, `the release should be ${milestone}`, value);
    }
    this.say('\nOne flow run from tagged to allLive, without soak and log windows, against the clock:');
    const startedAt = performance.now();
    const went = await this.#succeeds('run', '--yes');
    const seconds = (performance.now() - startedAt) / 1_000;
    if (!went) return false;
    const { publishes, drains, total } = unavoidableSeconds((await this.#document()).snapshot.context);
    this.say(
      `\n  ${seconds.toFixed(2)} s from tagged to allLive; unavoidable ${total.toFixed(2)} s (two publishes ${publishes.toFixed(2)} s, ` +
        `two drains ${drains.toFixed(2)} s): ${this.#paint.bold(`${(seconds / total).toFixed(2)} times`)} (target: at most ${TARGET_RATIO})`,
    );
    return true;
  }

  async #prove(sandbox: Sandbox, tagsBefore: string[], clients: Clients): Promise<boolean> {
    const { badRelease } = this.#options;
    const { topology } = (await this.#document()).snapshot.context;
    const canary = new Set(canaryAndRest(topology).canary.servers);
    const publishes = (server: string): number => (badRelease ? (canary.has(server) ? 2 : 0) : 1);
    const expected: Expected = {
      runs: badRelease ? OLD_VERSION : VERSION,
      tag: VERSION,
      tagsBefore,
      // A bad release is published to the first wave and then restored there; the others are never touched.
      published: Object.fromEntries(topology.servers.map((server) => [server, publishes(server)])),
      mergedBack: !badRelease,
    };
    const proofs = await proveWorld(sandbox, expected);
    const lines = proofs.map(({ what, ok, saw }) => this.#line(ok, what, saw));
    const { close, keepAlive } = clients;
    const failed = close.failed + keepAlive.failed;
    const requests = close.requests + keepAlive.requests;
    const rate = requestsPerSecond(clients);
    lines.push(
      this.#line(
        rate >= LEAST_PER_SECOND,
        `clients sent at least ${LEAST_PER_SECOND} requests/s all the while`,
        `${rate.toFixed(0)}/s`,
      ),
      this.#line(failed === 0, 'no request failed', `${failed} of ${requests}`),
    );
    for (const { at, kind, method } of [close, keepAlive].flatMap(({ failures }) => failures)) {
      if (failed > 0) this.say(`    ${at} ${method} ${kind}`);
    }
    return lines.every((ok) => ok);
  }

  /** Makes the next version ready and says how to go on by hand. */
  async #leave(sandbox: Sandbox): Promise<void> {
    if (this.#options.badRelease) await sandbox.misbehaveNext(null);
    else await sandbox.commitChange('Show the order number on the receipt');
    this.say(
      [
        `\n${this.#paint.bold('Left running')}, with one more change on develop, to be released by hand:`,
        `  ${commandText(['cd', sandbox.projectDir])}`,
        `  alias flow=${commandText([commandText([process.execPath, this.#options.flow])])}`,
        '  flow start --bump patch   then flow send NEXT again and again; flow status, flow why, flow history',
        '  flow send ROLLBACK        at any time in production',
        '  flow inspect              all of it in a browser',
        `  curl ${sandbox.url}/pay/1   a request through Nginx`,
        `  tail -f ${commandText([sandbox.server('app1').log])}`,
        `Stop and remove it: ${this.#command('demo', '--stop', sandbox.root)}`,
      ].join('\n'),
    );
  }

  #command(...args: string[]): string {
    return commandText([process.execPath, this.#options.flow, ...args]);
  }

  /** Says what was looked at, and returns whether it held. */
  #line(ok: boolean, what: string, saw: string): boolean {
    const paint = this.#paint;
    this.say(`  ${ok ? paint.green(paint.icons.ok) : paint.red(paint.icons.bad)} ${what}  ${paint.dim(saw)}`);
    return ok;
  }

  #assertGoesOn(): void {
    if (this.#isOver) throw new Error('the demo is over');
  }

  #world(): Sandbox {
    if (this.#sandbox === null) throw new Error('there is no sandbox');
    return this.#sandbox;
  }

  #seen(): Record<'requests' | 'failed' | 'resets', number> {
    const totals = this.#loads.map((load) => load.totals());
    const sum = (what: 'requests' | 'failed' | 'resets') => totals.reduce((all, one) => all + one[what], 0);
    return { requests: sum('requests'), failed: sum('failed'), resets: sum('resets') };
  }

  async #document(): Promise<ReleaseDocument> {
    const { stateDir } = await locate(this.#world().projectDir);
    const document = readLatest(stateDir);
    if (document === null) throw new Error('there is no release in the sandbox');
    return document;
  }

  async #flow(...args: string[]): Promise<Ended> {
    return await this.#begin(...args).ended;
  }

  async #succeeds(...args: string[]): Promise<boolean> {
    const { status } = await this.#flow(...args);
    return status === EXIT.ok || this.#line(false, `flow ${args.join(' ')}`, `ended with exit status ${status}`);
  }

  /** Starts a real flow. What it prints of its work is shown, its plans are not: there would be too many. */
  #begin(...args: string[]): { child: ChildProcess; ended: Promise<Ended> } {
    this.#assertGoesOn();
    // Plain lines whatever the environment says of colours: they are read here.
    const { FORCE_COLOR: _, ...env } = process.env;
    const [program = process.execPath, ...words] = [...this.#alone, process.execPath, this.#options.flow, ...args];
    const child = spawn(program, words, {
      cwd: this.#world().projectDir,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...env, NO_COLOR: '1' },
    });
    this.#children.add(child);
    let out = '';
    const errors: string[] = [];
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      out += chunk;
    });
    createInterface({ input: child.stderr }).on('line', (line) => {
      if (/^\d\d:\d\d:\d\d /.test(line)) this.say(`  ${line}`);
      else if (!/^ *\d+ +(?:looks|changes) |^ {4}/.test(line)) errors.push(line);
    });
    const ended = new Promise<Ended>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (status, signal) => {
        this.#children.delete(child);
        if (status !== 0 && status !== null && status !== EXIT.rolledBack) {
          for (const line of errors) this.say(`  ${line}`);
        }
        resolve({ status: status ?? -1, signal, out });
      });
    });
    // Interrupted while it runs, nobody waits for it any more.
    ended.catch(() => undefined);
    return { child, ended };
  }
}
