/**
 * `flow demo`: a whole release on a sandbox, with clients at work all the while. It drives flow as a person would: every step is
 * a real `flow` process. What it says afterwards it has looked at; it ends with 0 only when all of it holds and no client saw an error.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { milestonesOf } from '../../machines/topology.ts';
import { EXIT, type ExitCode } from '../errors.ts';
import { locate } from '../release/locate.ts';
import { readLatest } from '../release/read.ts';
import { type Load, startLoad } from '../sandbox/load.ts';
import { createSandbox, openSandbox, type Sandbox } from '../sandbox/world.ts';
import type { ReleaseDocument } from '../store/document.ts';
import { paintFor } from '../views/text.ts';
import { closingTable, unavoidableSeconds } from './demo/closing-table.ts';
import { narrationOf } from './demo/narration.ts';
import { type Expected, proveWorld, remoteTags } from './demo/world-proof.ts';

export interface DemoOptions {
  /** Absolute path of the flow to be driven. */
  flow: string;
  badRelease: boolean;
  crash: boolean;
  keep: boolean;
  fast: boolean;
  out: NodeJS.WritableStream;
  colour: boolean;
}

const VERSION = 'v1.3.8';
const CLOSE_PER_SECOND = 150;
const KEEP_ALIVE_PER_SECOND = 100;
const TARGET_RATIO = 1.25;

/** Stops and removes a sandbox that `--keep` left. */
export async function runDemoStop(root: string): Promise<void> {
  const sandbox = await openSandbox(root);
  await sandbox.stop();
  await rm(dirname(root), { recursive: true, force: true });
}

/** Performs the demo. Resolves with the exit status: 0 only when everything it set out to show was seen. */
export async function runDemo(options: DemoOptions): Promise<ExitCode> {
  const demo = new Demo(options);
  const stop = () => {
    void demo.clear(false).finally(() => process.exit(EXIT.interrupted));
  };
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  let shown = false;
  try {
    shown = await demo.perform();
    return shown ? EXIT.ok : EXIT.stepFailed;
  } finally {
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
    if (!(options.keep && shown)) await demo.clear(!shown);
  }
}

class Demo {
  readonly #options: DemoOptions;
  readonly #paint;
  #sandbox: Sandbox | null = null;
  #parent = '';
  #loads: Load[] = [];
  #children = new Set<ChildProcess>();

  constructor(options: DemoOptions) {
    this.#options = options;
    this.#paint = paintFor(options.colour, true);
  }

  async perform(): Promise<boolean> {
    const { badRelease, crash, fast, keep } = this.#options;
    const paint = this.#paint;
    this.#parent = await mkdtemp(join(tmpdir(), 'flow-demo-'));
    const root = join(this.#parent, 'world');
    this.#say(`Building a world in ${root}: a project with a remote, three servers, an Nginx …`);
    const sandbox = await createSandbox({
      root,
      startMs: 1_000,
      soakMs: badRelease ? 20_000 : 6_000,
      watchMs: 3_000,
      ...(fast
        ? { config: { verify: { soak: '0s', every: '1s' }, watch: { soak: '0s' }, drain: { watch: '0s' } } }
        : {}),
      onProgress: (text: string) => {
        this.#say(paint.dim(`  ${text}`));
      },
    });
    this.#sandbox = sandbox;
    this.#say(sandbox.describe());
    const tagsBefore = await remoteTags(sandbox);
    if (badRelease) await sandbox.misbehaveNext({ errorEvery: 20 });
    this.#loads = await Promise.all([
      startLoad({ url: sandbox.url, ratePerSecond: CLOSE_PER_SECOND, keepAlive: false }),
      startLoad({ url: sandbox.url, ratePerSecond: KEEP_ALIVE_PER_SECOND, keepAlive: true }),
    ]);
    this.#say(
      `\nClients are at work: ${CLOSE_PER_SECOND + KEEP_ALIVE_PER_SECOND} requests/s, GET and POST, with new and with kept connections.`,
    );
    const startedAt = performance.now();
    await this.#flow('start', '--to', VERSION, '--yes');
    const measured = fast ? await this.#fast() : await this.#steps(badRelease, crash);
    const seconds = (performance.now() - startedAt) / 1_000;
    await delay(1_000);
    const [close, keepAlive] = await Promise.all(this.#loads.map((load) => load.stop()));
    this.#loads = [];
    if (close === undefined || keepAlive === undefined) throw new Error('the clients have vanished');

    const { context, value } = (await this.#document()).snapshot;
    this.#say(`\n${paint.bold('The count')}`);
    for (const line of closingTable({ close, keepAlive }, seconds, context)) this.#say(line);
    const proven = await this.#prove(sandbox, badRelease, tagsBefore);
    const ended = value === (badRelease ? 'rolledBack' : 'allLive');
    const quiet = close.failed === 0 && keepAlive.failed === 0;
    for (const { failures } of [close, keepAlive]) if (!quiet) this.#say(JSON.stringify(failures, null, 1));
    this.#say(
      `\n${ended && quiet && proven ? paint.green(paint.icons.ok) : paint.red(paint.icons.bad)} The release ended in ${paint.bold(value)}; ` +
        `${close.failed + keepAlive.failed} of ${close.requests + keepAlive.requests} requests failed.`,
    );
    if (keep) await this.#leave(sandbox);
    return ended && quiet && proven && measured;
  }

  /** NEXT by NEXT, each with its story and its evidence. True when every step ended as it should. */
  async #steps(badRelease: boolean, crash: boolean): Promise<boolean> {
    const paint = this.#paint;
    const { topology } = (await this.#document()).snapshot.context;
    for (const milestone of milestonesOf(topology).slice(1)) {
      this.#say(`\n${paint.bold(`→ ${milestone}`)}  ${narrationOf(topology, milestone)}`);
      const expected = badRelease && milestone === 'verified' ? EXIT.rolledBack : EXIT.ok;
      const status =
        crash && milestone === 'app1Published' ? await this.#crash() : await this.#flow('send', 'NEXT', '--yes');
      const { requests, failed } = this.#seen();
      this.#say(paint.dim(`  clients so far: ${requests} requests, ${failed} failed`));
      if (status !== expected) {
        this.#say(`${paint.red(paint.icons.bad)} flow ended with exit status ${status}, expected ${expected}`);
        return false;
      }
      if (expected === EXIT.rolledBack) {
        const { rollback } = (await this.#document()).snapshot.context;
        this.#say(`  Rolled back by itself: ${rollback?.because ?? ''}`);
        return true;
      }
    }
    return true;
  }

  /** flow is killed while a publish runs; the publish goes on, and `flow resume` attaches to it. */
  async #crash(): Promise<number> {
    const sandbox = this.#world();
    await sandbox.publishKnobs({ SLEEP_BEFORE: 2 }, 'app1');
    this.#say('  This time flow is killed in the middle of it.');
    const { child, ended } = this.#begin('send', 'NEXT', '--yes');
    while ((await sandbox.publishCount('app1')) === 0 && child.exitCode === null) await delay(20);
    child.kill('SIGKILL');
    await ended;
    this.#say(`  ${this.#paint.red('SIGKILL')} to flow, process ${child.pid ?? ''}. What flow status says now:\n`);
    await this.#flow('status');
    await sandbox.publishKnobs(null, 'app1');
    this.#say('\n  And now: flow resume');
    return await this.#flow('resume', '--yes');
  }

  /** One `flow run` from the tag to the end, measured against what no tool could avoid. */
  async #fast(): Promise<boolean> {
    await this.#flow('send', 'NEXT', '--yes');
    await this.#flow('send', 'NEXT', '--yes');
    this.#say('\nOne flow run from tagged to allLive, without soak and log windows, against the clock:');
    const startedAt = performance.now();
    const status = await this.#flow('run', '--yes');
    const seconds = (performance.now() - startedAt) / 1_000;
    const { restarts, drains } = unavoidableSeconds((await this.#document()).snapshot.context);
    const ratio = seconds / (restarts + drains);
    this.#say(
      `\n  ${seconds.toFixed(2)} s from tagged to allLive; unavoidable ${(restarts + drains).toFixed(2)} s (two publishes ${restarts.toFixed(2)} s, ` +
        `two drains ${drains.toFixed(2)} s): ${this.#paint.bold(`${ratio.toFixed(2)} times`)} (target: ${TARGET_RATIO})`,
    );
    return status === EXIT.ok;
  }

  async #prove(sandbox: Sandbox, badRelease: boolean, tagsBefore: string[]): Promise<boolean> {
    const paint = this.#paint;
    const expected: Expected = badRelease
      ? { runs: 'v1.3.7', tag: VERSION, tagsBefore, published: null, mergedBack: false }
      : { runs: VERSION, tag: VERSION, tagsBefore, published: 1, mergedBack: true };
    this.#say(`\n${paint.bold('The world, looked at')}`);
    const proofs = await proveWorld(sandbox, expected);
    for (const { what, ok, saw } of proofs) {
      this.#say(`  ${ok ? paint.green(paint.icons.ok) : paint.red(paint.icons.bad)} ${what}  ${paint.dim(saw)}`);
    }
    return proofs.every(({ ok }) => ok);
  }

  /** Makes the next version ready and says how to go on by hand. */
  async #leave(sandbox: Sandbox): Promise<void> {
    await sandbox.commitChange('Show the order number on the receipt');
    this.#say(
      [
        `\n${this.#paint.bold('Left running')}, with one more change on develop, to be released by hand:`,
        `  cd ${sandbox.projectDir}`,
        `  alias flow='node ${this.#options.flow}'`,
        '  flow start            then: flow send NEXT, flow status, flow why, flow send ROLLBACK',
        `  curl ${sandbox.url}    a request through Nginx`,
        `  flow demo --stop ${sandbox.root}`,
      ].join('\n'),
    );
  }

  /** Ends everything that was started. On a failure the folder stays, for whoever wants to look. */
  async clear(keepFolder: boolean): Promise<void> {
    for (const child of this.#children) child.kill('SIGKILL');
    await Promise.allSettled(this.#loads.map((load) => load.stop()));
    await this.#sandbox?.stop();
    if (keepFolder && this.#parent !== '') this.#say(`The folder is left for you to look at: ${this.#parent}`);
    else if (this.#parent !== '') await rm(this.#parent, { recursive: true, force: true });
  }

  #world(): Sandbox {
    if (this.#sandbox === null) throw new Error('the sandbox is not built yet');
    return this.#sandbox;
  }

  #seen(): { requests: number; failed: number } {
    const totals = this.#loads.map((load) => load.totals());
    return {
      requests: totals.reduce((sum, one) => sum + one.requests, 0),
      failed: totals.reduce((sum, one) => sum + one.failed, 0),
    };
  }

  async #document(): Promise<ReleaseDocument> {
    const { stateDir } = await locate(this.#world().projectDir);
    const document = readLatest(stateDir);
    if (document === null) throw new Error('there is no release in the sandbox');
    return document;
  }

  async #flow(...args: string[]): Promise<number> {
    return await this.#begin(...args).ended;
  }

  /** Starts a real flow. What it prints of its work is shown, its plans are not: there would be too many. */
  #begin(...args: string[]): { child: ChildProcess; ended: Promise<number> } {
    const child = spawn(process.execPath, [this.#options.flow, ...args], {
      cwd: this.#world().projectDir,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#children.add(child);
    const isStatus = args[0] === 'status';
    const errors: string[] = [];
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (isStatus) this.#say(`    ${line}`);
    });
    createInterface({ input: child.stderr }).on('line', (line) => {
      if (/^\d\d:\d\d:\d\d /.test(line)) this.#say(`  ${line}`);
      else if (!/^ *\d+ +(?:looks|changes) |^ {4}/.test(line)) errors.push(line);
    });
    const ended = new Promise<number>((resolve) => {
      child.on('close', (status) => {
        this.#children.delete(child);
        if (status !== 0 && status !== null && status !== EXIT.rolledBack)
          for (const line of errors) this.#say(`  ${line}`);
        resolve(status ?? -1);
      });
    });
    return { child, ended };
  }

  #say(text: string): void {
    this.#options.out.write(`${text}\n`);
  }
}
