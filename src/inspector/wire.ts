/**
 * What travels between the inspector's server and its page beside `@xstate/inspect`'s own protocol: pictures, rates, output and
 * replay. Types only, shared by both sides. Everything was redacted before it was stored; nothing here is ever read as markup.
 *
 * The page learns the active state from the WebSocket (`/wire`, `@xstate/inspect`), and everything else from `GET /events`:
 * server-sent events, each one `Message` as JSON, with the token as `Authorization: Bearer`.
 */
import type { EventName } from '../../machines/events.ts';
import type { Verdict } from '../../machines/guards.ts';
import type { StateKind } from '../views/states.ts';
import type { ServerStatus, StatusView } from '../views/status.ts';

/** A group of states that belong together: the preparation, one wave, the end, the way back. */
export interface ChartLane {
  id: string;
  title: string;
  /** The servers it is about; none for the lanes that are about none. */
  servers: string[];
  kind: 'preparing' | 'wave' | 'finishing' | 'returning';
}

export interface ChartNode {
  /** The state's name. */
  id: string;
  lane: string;
  /** The wave it is about, called as its server where it has one; '' where it is about none. */
  server: string;
  what: StateKind;
  /** How it is drawn: a milestone rests, a step works, a question asks, an end is final. */
  shape: 'milestone' | 'step' | 'question' | 'stuck' | 'end';
}

export interface ChartEdge {
  from: string;
  to: string;
  /** What takes it: an event (`NEXT`), an answer (`ANSWER wait`), or how a step ended (`done`, `failed`, `asks`, `bad`). */
  label: string;
  kind: 'forward' | 'answer' | 'failure' | 'rollback' | 'other';
  /** The guards that NEXT has to pass there, by name. */
  guards: string[];
}

/** The generated chart, without a position: laying it out is the page's. */
export interface ChartPicture {
  lanes: ChartLane[];
  nodes: ChartNode[];
  edges: ChartEdge[];
}

/** One commit of a release, as it is stepped through. */
export interface Frame {
  rev: number;
  /** ISO time. */
  at: string;
  event: string;
  from: string | null;
  state: string;
  /** `user@host, via`; null where no person did it. */
  by: string | null;
  reason: string | null;
  /** The names of the guards that were overridden. */
  forced: string[];
  /** What the step saw, or why it failed. */
  note: string | null;
  seconds: number | null;
  /** Servers that stand otherwise than one frame before; all of them in the first frame that knows. */
  servers: ServerStatus[];
}

/** A release from its beginning, for the path taken, the history and the replay. */
export interface Recording {
  id: string;
  project: string;
  kind: 'release' | 'rollback';
  version: string;
  /** The versions the servers ran when it started, each once. */
  before: string[];
  startedAt: string;
  endedAt: string | null;
  chart: ChartPicture;
  frames: Frame[];
}

/** One line of the list of releases, newest first. */
export interface ReleaseLine {
  id: string;
  version: string;
  startedAt: string;
  endedAt: string | null;
  state: string;
}

/** What NEXT would do now, or what stands in its way. */
export interface NextPicture {
  rev: number;
  /** ISO time of the look. */
  at: string;
  /** Events that the state takes, each with whether it would pass and what it does. */
  events: { event: EventName; passes: boolean; does: string | null; because: string | null; verdicts: Verdict[] }[];
  /** By event: the commands it would run, in order, each with what it is for. Shown before anything is sent. */
  plan: Partial<Record<EventName, { on: string; command: string; does: string }[]>>;
  /** What the servers said that were asked for it. */
  health: Record<string, { healthy: boolean; because: string }>;
}

/** Figures of the moment. They are never stored. */
export interface RatesPicture {
  /** ISO time. */
  at: string;
  /** Log lines per second of each server; null where its log cannot be read. */
  servers: Record<string, number | null>;
  /** What the running step says; null when none says anything. */
  step: string | null;
  /** How far a soak has come; null outside of one. */
  soak: { observedMs: number; windowMs: number } | null;
}

export type Message =
  | { type: 'hello'; allowSend: boolean; project: string; host: string }
  | { type: 'status'; status: StatusView; recording: Recording | null; releases: ReleaseLine[] }
  | { type: 'next'; next: NextPicture | null }
  | { type: 'rates'; rates: RatesPicture }
  /** Text that a job or a log printed, in the order in which it came; `dropped` lines before it were left out. */
  | { type: 'text'; source: string; lines: string[]; dropped: number }
  /** Nothing happened, and the server is alive. At least every 2 s. */
  | { type: 'beat'; at: string }
  | { type: 'problem'; message: string };

/** `POST /send`, refused without `--allow-send`. */
export interface SendRequest {
  event: 'NEXT' | 'ROLLBACK';
  /** The revision that the page showed: another one refuses NEXT. A ROLLBACK is meant whatever happened since. */
  expect: number;
  reason: string | null;
}

/** The answer to `POST /send`: how `flow send` ended, or that it still runs. */
export interface SendAnswer {
  accepted: boolean;
  /** What `flow send` said, for people. */
  said: string;
}
