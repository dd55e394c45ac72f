/**
 * Being the driver: the lock, the engine, the socket on which other terminals hand in events, and the live figures.
 * One driver at a time. What ends it: the release rests, it was parked (Ctrl-C), or the state could not be written.
 * Invariant: whoever accepts an event performs what follows. From the moment nothing more will be performed, nothing is decided:
 * the asking terminal finds the connection closed without an answer, and becomes the driver itself.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { OPERATOR_EVENTS, type ReleaseEvent } from '../../machines/events.ts';
import type { Config } from '../config/schema.ts';
import type { Progress } from '../effects/effect.ts';
import { createEffects } from '../effects/index.ts';
import type { World } from '../effects/world.ts';
import { serverSettings, testServerSettings } from '../config/settings.ts';
import { jobId, publishPlace } from '../effects/server-job.ts';
import { messageOf } from '../errors.ts';
import { peekJob } from '../hosts/jobs.ts';
import { localHost } from '../hosts/local.ts';
import { claim, giveUp, ownerName, unowned } from '../nginx/owner.ts';
import { type Channel, listen } from '../store/channel.ts';
import type { HistoryEntry, ReleaseDocument, Sender } from '../store/document.ts';
import { acquireLock, type Lock } from '../store/lock.ts';
import { openReleaseFile, writeLive } from '../store/release-file.ts';
import { type Decision, Engine } from './engine.ts';
import { gatherFacts } from './facts.ts';
import type { Place } from './locate.ts';
import { notify } from './notify.ts';
import { latestEpoch } from './read.ts';
import { redactor } from './secrets.ts';
import { hostsOf, openWorld } from './world.ts';

/** What an operator asks for; the driver adds the facts. */
export interface Request {
  event: ReleaseEvent;
  by: Sender;
  /** Refused unless the release is at this revision. */
  expect: number | null;
}

/** Told to whoever watches, here or through the socket. Plain data. */
export type Told =
  | { kind: 'committed'; entry: HistoryEntry; state: string; rev: number }
  | { kind: 'progress'; step: string; progress: Progress }
  | { kind: 'decision'; decision: Decision }
  | { kind: 'problem'; message: string };

const LIVE_EVERY_MS = 250;
/** How long a parked driver waits for the step to come to a safe point. A publish is not waited for: it goes on as a job. */
const PARK_PATIENCE_MS = 10_000;

export class Driver {
  readonly engine: Engine;
  readonly world: World;
  readonly #lock: Lock;
  readonly #owner: string;
  readonly #place: Place;
  readonly #deciding = new Set<Promise<unknown>>();
  #owes = false;
  #decidesNoMore = false;
  readonly #channels = new Set<Channel>();
  readonly #tell: (told: Told) => void;
  readonly #telling = new Set<Promise<void>>();
  #socket: { close(): Promise<void> } | null = null;
  #liveAt = 0;
  #closed = false;

  private constructor(
    place: Place,
    id: string,
    { lock, owner }: { lock: Lock; owner: string },
    world: World,
    tell: (told: Told) => void,
  ) {
    this.#place = place;
    this.#lock = lock;
    this.#owner = owner;
    this.world = world;
    this.#tell = tell;
    this.engine = new Engine({
      file: openReleaseFile<ReleaseDocument>(place.stateDir, id, lock),
      clock: { now: () => world.now() },
      redact: redactor(world.config, process.env),
      onCommit: (document, entry) => {
        lock.describe({ doing: `at ${entry.to}` });
        this.#broadcast({ kind: 'committed', entry, state: document.snapshot.value, rev: document.rev });
        this.#notify(document, entry);
      },
      onProgress: (step, progress) => {
        this.#showLive(id, step, progress);
        this.#broadcast({ kind: 'progress', step, progress });
      },
    });
  }

  /**
   * Takes the lock and loads the release; performs nothing yet. Throws LockHeldError, and StateError when the state is damaged.
   * `config` is the one pinned into the release.
   */
  static async open(
    place: Place,
    document: ReleaseDocument,
    who: Sender,
    doing: string,
    tell: (told: Told) => void,
  ): Promise<Driver> {
    const config = document.config.pinned as Config;
    const { dir } = config.nginx;
    const host = hostsOf(localHost(), config, place.configFile)(config.nginx);
    const lock = acquireLock(place.stateDir, {
      who: `${who.user}@${who.host}`,
      doing,
      minEpoch: latestEpoch(place.stateDir),
    });
    let driver: Driver | null = null;
    try {
      // Named while the lock is held, which is this folder's.
      const owner = ownerName(place.stateDir);
      let claimed = unowned;
      const guard = () => {
        lock.guard();
      };
      // Who has lost the lock here, or its folder, has lost the proxy as well.
      const ownership = {
        assert: async () => {
          guard();
          await claimed.assert();
        },
      };
      const world = openWorld(place, config, document, { epoch: lock.epoch, ownership, guard });
      driver = new Driver(place, document.id, { lock, owner }, world, tell);
      // Other terminals are heard from now on, and answered when the proxy is ours: how long that takes is its host's to say.
      let answer: () => void = () => undefined;
      const isOurs = new Promise<void>((resolve) => {
        answer = resolve;
      });
      driver.#socket = await driver.#listen(isOurs);
      const mine = {
        owner,
        epoch: lock.epoch,
        who: who.user,
        since: new Date().toISOString(),
        release: `${document.id} (${document.snapshot.context.version})`,
      };
      const step = document.snapshot.value;
      claimed = await claim(host, dir, mine, {
        force: false,
        tell: (text) => {
          tell({ kind: 'progress', step, progress: { kind: 'note', text } });
        },
      });
      answer();
      return driver;
    } catch (error) {
      if (driver !== null) await driver.#socket?.close();
      lock.release();
      throw error;
    }
  }

  /** Gathers the facts an event needs and decides it. An accepted event is committed; nothing is performed before `drive`. */
  async decide(request: Request): Promise<Decision> {
    const { engine, world } = this;
    const refused = (because: string): Decision => ({
      accepted: false,
      verdicts: [],
      because,
      rev: engine.document.rev,
      state: engine.state,
    });
    const isStale = () => request.expect !== null && request.expect !== engine.document.rev;
    const stale = () => refused(staleText(engine.document.rev, request.expect ?? 0));
    if (isStale()) return stale();
    const { state } = engine;
    const facts = await gatherFacts(world, state, engine.context, request.event.type);
    // The release may have moved while the facts were gathered: facts of another state prove nothing.
    if (engine.state !== state && request.event.type !== 'ROLLBACK') {
      return refused(`the release moved from ${state} to ${engine.state} meanwhile: somebody was faster`);
    }
    return isStale() ? stale() : engine.send({ ...request.event, facts }, request.by);
  }

  /** Performs until the release rests and nobody's event is being decided. */
  async drive(): Promise<void> {
    const effects = createEffects(this.world);
    do {
      await this.engine.drive(effects);
      await this.#decided();
    } while (this.engine.isWorking && !this.engine.isParked);
    this.#owes = false;
  }

  /**
   * The end of driving: performs what was accepted from another terminal and not performed yet, and decides nothing from then on.
   * Resolves with whether there was anything of the kind.
   */
  async settle(): Promise<boolean> {
    let performed = false;
    for (;;) {
      await this.#decided();
      if (!this.#owes || this.engine.isParked) {
        this.#decidesNoMore = true;
        return performed;
      }
      performed = true;
      await this.drive();
    }
  }

  /**
   * Ctrl-C: lets the step come to a safe point, then stops. Resolves with whether a publish is left that goes on as a job.
   * Nothing is decided any more.
   */
  async park(): Promise<boolean> {
    this.#decidesNoMore = true;
    await Promise.race([this.engine.park(), delay(PARK_PATIENCE_MS, undefined, { ref: false })]);
    return await this.#jobRuns();
  }

  /** Whether a publish of the pending step has been started and has not ended. */
  async #jobRuns(): Promise<boolean> {
    const { config } = this.world;
    const effect = this.engine.pending;
    if (effect === null) return false;
    const { src, input } = effect;
    const names =
      src === 'publish' ? [input.server] : src === 'publishWave' ? input.servers.map(({ server }) => server) : [];
    const servers =
      src === 'runTests' ? [testServerSettings(config)] : names.map((name) => serverSettings(config, name));
    const running = await Promise.all(
      servers.map(async (server) => {
        const { host, jobs } = publishPlace(this.world, server);
        const { step, attempt, release } = input;
        const glance = await peekJob(host, jobs, jobId({ step, attempt, release, server })).catch(() => null);
        return glance?.state === 'running';
      }),
    );
    return running.includes(true);
  }

  async #decided(): Promise<void> {
    while (this.#deciding.size > 0) await Promise.allSettled([...this.#deciding]);
  }

  /** Lets go of the lock. Calling it twice does nothing. */
  async close(): Promise<void> {
    this.#decidesNoMore = true;
    await Promise.all([...this.#telling]);
    for (const channel of this.#channels) channel.close();
    await this.#socket?.close();
    this.#socket = null;
    const { dir } = this.world.config.nginx;
    if (this.engine.document.endedAt !== null && !this.#closed)
      await giveUp(this.world.on(this.world.config.nginx), dir, this.#owner);
    this.#closed = true;
    this.#lock.release();
  }

  async #listen(isOurs: Promise<void>) {
    const socket = await listen(this.#place.stateDir, (channel) => {
      this.#channels.add(channel);
      void channel.closed.then(() => this.#channels.delete(channel));
      void isOurs.then(async () => await this.#serve(channel));
    });
    this.#lock.describe({ socket: socket.path });
    return socket;
  }

  async #serve(channel: Channel): Promise<void> {
    for await (const message of channel.messages) {
      if (this.#decidesNoMore) return;
      const request = requestOf(message);
      if (request === null) {
        channel.send({ kind: 'problem', message: 'that is no event' } satisfies Told);
        continue;
      }
      const deciding = this.decide(request)
        .then((decision) => {
          this.#owes ||= decision.accepted;
          return channel.send({ kind: 'decision', decision } satisfies Told);
        })
        .catch((error: unknown) => channel.send({ kind: 'problem', message: messageOf(error) } satisfies Told));
      this.#deciding.add(deciding);
      void deciding.finally(() => this.#deciding.delete(deciding));
    }
  }

  #broadcast(told: Told): void {
    this.#tell(told);
    for (const channel of this.#channels) channel.send(told);
  }

  /** Only where the release rests, asks or has ended: nobody wants a message for every step. */
  #notify(document: ReleaseDocument, entry: HistoryEntry): void {
    const { notify: webhooks } = this.world.config;
    if (webhooks.length === 0 || this.engine.isWorking) return;
    const telling = notify(webhooks, document, entry).then((problems) => {
      for (const text of redactor(this.world.config, process.env)(problems))
        this.#broadcast({ kind: 'progress', step: entry.to, progress: { kind: 'note', text } });
    });
    this.#telling.add(telling);
    void telling.finally(() => this.#telling.delete(telling));
  }

  #showLive(id: string, step: string, progress: Progress): void {
    if (progress.kind === 'output' || performance.now() - this.#liveAt < LIVE_EVERY_MS) return;
    this.#liveAt = performance.now();
    const { text, soak } = progress;
    writeLive(this.#place.stateDir, id, { step, text, soak: soak ?? null, at: this.world.now().toISOString() });
  }
}

/** Why an event that expects another revision than the one there is was refused. */
export const staleText = (rev: number, expected: number): string =>
  expected > rev
    ? `the release is at revision ${rev}; there is no revision ${expected} yet`
    : `the release is at revision ${rev}, not at ${expected} any more: somebody was faster`;

const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);
const record = (value: unknown): Record<string, unknown> | null =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;

/** What came through the socket, as a request; null when it is none. Facts and `xstate.*` events are never taken from outside. */
function requestOf(message: unknown): Request | null {
  const given = record(message);
  const event = record(given?.event);
  const by = record(given?.by);
  const type = text(event?.type);
  if (
    given === null ||
    event === null ||
    by === null ||
    type === undefined ||
    !(OPERATOR_EVENTS as readonly string[]).includes(type)
  )
    return null;
  const force = Array.isArray(event.force) ? event.force.filter((id): id is string => typeof id === 'string') : [];
  const [reason, notes] = [text(event.reason), text(event.notes)];
  const clean = {
    type,
    force,
    ...(reason === undefined ? {} : { reason }),
    ...(notes === undefined ? {} : { notes }),
    ...(type === 'ANSWER' ? { question: text(event.question) ?? '', choice: text(event.choice) ?? '' } : {}),
  } as ReleaseEvent;
  return {
    event: clean,
    by: { user: text(by.user) ?? 'somebody', host: text(by.host) ?? 'somewhere', via: text(by.via) ?? 'the socket' },
    expect: typeof given.expect === 'number' ? given.expect : null,
  };
}
