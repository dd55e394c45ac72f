/**
 * What the inspector knows at this moment, and everyone who is told of it. The store is followed all the time; what costs the
 * world something (asking servers, reading logs, judging NEXT) is done only while somebody looks.
 *
 * Invariant: whoever joins is told everything first, and every change after it, in the same order as all others. Nothing that goes
 * wrong here can reach the release: the worst is a page that says what it could not read.
 */
import type { ReleaseDocument } from '../store/document.ts';
import { messageOf } from '../errors.ts';
import { peek } from '../store/envelope.ts';
import { readLiveFigures } from '../store/live.ts';
import { listReleaseIds, releasePaths } from '../store/state-folder.ts';
import { chartOf } from './chart.ts';
import { followStore, type Follower } from './follow.ts';
import { Inspected } from './inspected.ts';
import { lineOf, recordingOf } from './recording.ts';
import type { ChartPicture, Message, NextPicture, Recording, ReleaseLine, SendRequest } from './wire.ts';

/** What is seen of the world for one release. Calls never overlap; a rejection is shown, and asked again later. */
export interface Observation {
  /** Log lines per second of every server since the last call; null where a log cannot be read. */
  rates(): Promise<Record<string, number | null>>;
  /** What was printed since the last call. */
  texts(): Promise<{ source: string; lines: string[]; dropped: number }[]>;
  /** What NEXT would be judged by now, and what each event would run. */
  next(): Promise<NextPicture>;
}

export interface SessionOptions {
  stateDir: string;
  project: string;
  host: string;
  allowSend: boolean;
  now: () => Date;
  /** For one release, from its first sight to its end; `current` is what is stored of it when it is asked. */
  observe: (current: () => ReleaseDocument) => Observation;
  /** Sends an event as the command line does; only called when `allowSend`. */
  send: (request: SendRequest) => void;
}

/** Who is told. Must not throw. */
export type Listener = (message: Message) => void;

const LOOK_EVERY_MS = 80;
const RATES_EVERY_MS = 1_000;
const TEXTS_EVERY_MS = 250;
const NEXT_EVERY_MS = 5_000;
const BEAT_EVERY_MS = 2_000;
/** Charts are generated once for a topology. */
const charts = new Map<string, ChartPicture>();

export class Session {
  readonly inspected: Inspected;
  readonly #options: SessionOptions;
  readonly #follower: Follower;
  readonly #listeners = new Set<Listener>();
  readonly #timers: NodeJS.Timeout[];
  #document: ReleaseDocument | null = null;
  #observation: { id: string; of: Observation } | null = null;
  #lines: ReleaseLine[] = [];
  #texts: Extract<Message, { type: 'text' }>[] = [];
  #status: Message | null = null;
  #next: Message | null = null;
  #rates: Message | null = null;
  #problem: string | null = null;
  readonly #busy = new Set<string>();

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#follower = followStore(options.stateDir, options.now);
    this.inspected = new Inspected(options.send);
    this.#look();
    this.#timers = [
      setInterval(() => {
        if (this.#tryLook(() => this.#follower.hasChanged())) this.#look();
      }, LOOK_EVERY_MS),
      setInterval(() => void this.#whileWatched('rates', () => this.#tellRates()), RATES_EVERY_MS),
      setInterval(() => void this.#whileWatched('texts', () => this.#tellTexts()), TEXTS_EVERY_MS),
      setInterval(() => void this.#whileWatched('next', () => this.#tellNext()), NEXT_EVERY_MS),
      setInterval(() => {
        this.#tell({ type: 'beat', at: options.now().toISOString() });
      }, BEAT_EVERY_MS),
    ];
  }

  get watchers(): number {
    return this.#listeners.size;
  }

  get document(): ReleaseDocument | null {
    return this.#document;
  }

  /** Tells everything that is known, and every change from now on. Returns how to end that. */
  join(listener: Listener): () => void {
    const { allowSend, project, host } = this.#options;
    const first: (Message | null)[] = [
      { type: 'hello', allowSend, project, host },
      this.#status,
      this.#next,
      this.#rates,
      this.#problem === null ? null : { type: 'problem', message: this.#problem },
      ...this.#texts,
    ];
    for (const message of first) if (message !== null) listener(message);
    this.#listeners.add(listener);
    if (this.#listeners.size === 1) {
      for (const [what, ask] of this.#askings()) void this.#whileWatched(what, ask);
    }
    return () => this.#listeners.delete(listener);
  }

  /** Any release by its id; null when there is none. Throws StateError for a bad id or a damaged file. */
  recording(id: string): Recording | null {
    const document = peek<ReleaseDocument>(releasePaths(this.#options.stateDir, id).state)?.data ?? null;
    return document === null ? null : recordingOf(document, chartFor(document));
  }

  stop(): void {
    for (const timer of this.#timers) clearInterval(timer);
    this.inspected.stop();
    this.#listeners.clear();
  }

  #askings(): [string, () => Promise<void>][] {
    return [
      ['next', () => this.#tellNext()],
      ['rates', () => this.#tellRates()],
      ['texts', () => this.#tellTexts()],
    ];
  }

  #tell(message: Message): void {
    for (const listener of this.#listeners) listener(message);
  }

  #look(): void {
    this.#tryLook(() => {
      const before = this.#document;
      const { document, status } = this.#follower.look();
      this.#document = document;
      const isNews = document?.id !== before?.id || document?.endedAt !== before?.endedAt;
      if (isNews || this.#lines.length === 0) this.#lines = this.#readLines();
      else if (document !== null)
        this.#lines = this.#lines.map((line) => (line.id === document.id ? lineOf(document) : line));
      const recording = document === null ? null : recordingOf(document, chartFor(document));
      this.#status = { type: 'status', status, recording, releases: this.#lines };
      if (document !== null && document.rev !== before?.rev) {
        this.inspected.show(document, chartFor(document));
        if (document.id !== before?.id) this.#texts = [];
        this.#next = { type: 'next', next: null };
        void this.#whileWatched('next', () => this.#tellNext());
      }
      this.#problem = null;
      this.#tell(this.#status);
      return true;
    });
  }

  /** A store that cannot be read is told once, and looked at again. */
  #tryLook(look: () => boolean): boolean {
    try {
      return look();
    } catch (error) {
      const message = messageOf(error);
      if (message !== this.#problem) this.#tell({ type: 'problem', message });
      this.#problem = message;
      return false;
    }
  }

  /** The newest first; one that cannot be read is left out, because `flow history` says why. */
  #readLines(): ReleaseLine[] {
    const { stateDir } = this.#options;
    return listReleaseIds(stateDir)
      .reverse()
      .flatMap((id) => {
        try {
          const document = peek<ReleaseDocument>(releasePaths(stateDir, id).state)?.data;
          return document === undefined ? [] : [lineOf(document)];
        } catch {
          return [];
        }
      });
  }

  #observed(): Observation | null {
    const document = this.#document;
    if (document === null) return null;
    if (this.#observation?.id !== document.id) {
      let latest = document;
      const current = () => {
        if (this.#document?.id === latest.id) latest = this.#document;
        return latest;
      };
      this.#observation = { id: document.id, of: this.#options.observe(current) };
    }
    return this.#observation.of;
  }

  async #whileWatched(what: string, ask: () => Promise<void>): Promise<void> {
    if (this.#listeners.size === 0 || this.#busy.has(what)) return;
    this.#busy.add(what);
    try {
      await ask();
    } catch (error) {
      this.#tell({ type: 'problem', message: messageOf(error) });
    } finally {
      this.#busy.delete(what);
    }
  }

  async #tellRates(): Promise<void> {
    const document = this.#document;
    const observation = this.#observed();
    if (document === null || observation === null) return;
    const servers = await observation.rates();
    const live = readLiveFigures(this.#options.stateDir, document.id);
    const isNow = live !== null && live.step === this.#document?.snapshot.value;
    this.#rates = {
      type: 'rates',
      rates: {
        at: this.#options.now().toISOString(),
        servers,
        step: isNow ? live.text : null,
        soak: isNow ? live.soak : null,
      },
    };
    this.#tell(this.#rates);
  }

  async #tellTexts(): Promise<void> {
    for (const text of (await this.#observed()?.texts()) ?? []) {
      const message = { type: 'text' as const, ...text };
      this.#texts = [...this.#texts, message].slice(-TEXTS_KEPT);
      this.#tell(message);
    }
  }

  async #tellNext(): Promise<void> {
    const document = this.#document;
    if (document?.endedAt !== null) return;
    const next = await this.#observed()?.next();
    if (next === undefined) return;
    // The release may have moved while the world was asked: what was seen then is about another state.
    if (this.#document?.rev !== next.rev) {
      this.#busy.delete('next');
      await this.#whileWatched('next', () => this.#tellNext());
      return;
    }
    this.#next = { type: 'next', next };
    this.#tell(this.#next);
  }
}

/** Whoever joins later sees so many messages of what was printed before. */
const TEXTS_KEPT = 200;

function chartFor({ machine, snapshot }: ReleaseDocument): ChartPicture {
  const known = charts.get(machine) ?? chartOf(snapshot.context.topology);
  charts.set(machine, known);
  return known;
}
