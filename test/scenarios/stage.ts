/** A stage for whole releases: a real sandbox, clients at work, and a driver that a test steps by hand. */
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ReleaseEvent } from '../../machines/events.ts';
import { Driver, type Told } from '../../src/release/drive.ts';
import type { Decision } from '../../src/release/engine.ts';
import { locate, type Place } from '../../src/release/locate.ts';
import { readLatest } from '../../src/release/read.ts';
import { planRelease, type StartOptions, storeRelease } from '../../src/release/start.ts';
import { startLoad, type Load, type LoadTotals } from '../../src/sandbox/load.ts';
import { createSandbox, type Sandbox, type SandboxOptions } from '../../src/sandbox/world.ts';
import type { ReleaseDocument } from '../../src/store/document.ts';
import { begin, type Ended, type Running } from './terminal.ts';

/** Runs git in a folder and returns what it printed. */
export const git = (dir: string, ...args: string[]): string =>
  execFileSync('git', ['-C', dir, ...args], { encoding: 'utf8', stdio: 'pipe' }).trim();

const BY = { user: 'test', host: 'here', via: 'test' };

export interface Stage {
  sandbox: Sandbox;
  place: Place;
  told: Told[];
  /** Plans a release and becomes its driver. */
  start(options?: StartOptions): Promise<Driver>;
  /** Opens the newest release again, as another process would after a crash. */
  reopen(): Promise<Driver>;
  /** Sends an event and performs until the release rests. */
  send(driver: Driver, event: ReleaseEvent): Promise<Decision>;
  /** NEXT until a milestone; throws where it is refused or fails. */
  walkTo(driver: Driver, milestone: string): Promise<void>;
  document(): ReleaseDocument;
  /** The newest release, if there ever was one. */
  latest(): ReleaseDocument | null;
  /** Lets go of the release, so that another process can drive it. */
  leave(): Promise<void>;
  /** Starts the real command line in the project; it is ended with the stage. */
  begin(...args: string[]): Running;
  /** Runs the real command line in the project to its end. Let go of the release first. */
  flow(...args: string[]): Promise<Ended>;
  /** Clients at work, each request on a connection of its own. */
  load(options?: { ratePerSecond?: number }): Promise<Load>;
  /** Ends the clients and returns what they saw. */
  calm(): Promise<LoadTotals>;
  close(): Promise<void>;
}

/** FAILURES_HOSTS=ssh: the proxy, every server and the machine that publishes are behind ssh, in every test. */
export const OVER_SSH = process.env.FAILURES_HOSTS === 'ssh';

/** Builds a stage. Close it, or processes stay behind. */
export async function stage(options: Partial<SandboxOptions> = {}): Promise<Stage> {
  const parent = await mkdtemp(join(tmpdir(), 'flow-stage-'));
  const { config, ...rest } = options;
  const sandbox = await createSandbox({
    root: join(parent, 'world'),
    startMs: 100,
    soakMs: 600,
    watchMs: 300,
    ssh: OVER_SSH,
    ...rest,
    config: {
      ...config,
      drain: { deadline: '10s', watch: '100ms', ...(config as { drain?: object } | undefined)?.drain },
      publish: { settle: '3s', ...(config as { publish?: object } | undefined)?.publish },
    },
  });
  const place = await locate(sandbox.projectDir);
  const told: Told[] = [];
  const loads: Load[] = [];
  const drivers: Driver[] = [];
  const children: Running[] = [];
  const tell = (one: Told) => {
    told.push(one);
  };
  const latest = () => readLatest(place.stateDir);
  const document = () => {
    const found = latest();
    if (found === null) throw new Error('there is no release');
    return found;
  };
  const reopen = async () => {
    const driver = await Driver.open(place, document(), BY, 'testing', tell);
    drivers.push(driver);
    return driver;
  };
  const send = async (driver: Driver, event: ReleaseEvent) => {
    const decision = await driver.decide({ event, by: BY, expect: null });
    if (decision.accepted) await driver.drive();
    return decision;
  };
  const leave = async () => {
    for (const driver of drivers.splice(0)) await driver.close();
  };
  const beginHere = (...args: string[]) => {
    const running = begin(sandbox.projectDir, args);
    children.push(running);
    return running;
  };
  return {
    sandbox,
    place,
    leave,
    begin: beginHere,
    flow: async (...args) => await beginHere(...args).ended,
    told,
    document,
    latest,
    reopen,
    send,
    async start(startOptions = {}) {
      await leave();
      storeRelease(place, await planRelease(place, startOptions));
      return await reopen();
    },
    async walkTo(driver, milestone) {
      while (driver.engine.state !== milestone) {
        const from = driver.engine.state;
        const decision = await send(driver, { type: 'NEXT' });
        if (!decision.accepted || driver.engine.context.failure !== null || driver.engine.context.question !== null) {
          const { failure, question } = driver.engine.context;
          throw new Error(
            `NEXT at ${from} on the way to ${milestone}: ${JSON.stringify({ decision, failure, question, state: driver.engine.state }, null, 1)}`,
          );
        }
      }
    },
    async load({ ratePerSecond = 100 } = {}) {
      const load = await startLoad({ url: sandbox.url, ratePerSecond, keepAlive: false, maxSeconds: 120 });
      loads.push(load);
      return load;
    },
    async calm() {
      const [first, ...others] = await Promise.all(loads.splice(0).map((load) => load.stop()));
      if (first === undefined || others.length > 0) throw new Error('calm ends exactly one load');
      return first;
    },
    async close() {
      await Promise.all(loads.splice(0).map((load) => load.stop()));
      for (const { child } of children.splice(0)) child.kill('SIGKILL');
      await leave();
      await sandbox.stop();
      await rm(parent, { recursive: true, force: true });
    },
  };
}
