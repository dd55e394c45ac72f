/**
 * What the page knows, and how each message changes it. Pure: messages in, the next model out; the drawing is elsewhere.
 * Invariant: a message about the whole (`status`) replaces everything it is about, so that a page that missed some is right again
 * after the next.
 */
import type { ServerStatus } from '../../views/status.ts';
import type { Frame, Message, NextPicture, RatesPicture, Recording, ReleaseLine } from '../wire.ts';
import type { StatusView } from '../../views/status.ts';

export type Connection = 'connecting' | 'live' | 'lost' | 'refused' | 'noToken';

export interface Printed {
  lines: string[];
  /** Lines that were left out before them. */
  dropped: number;
}

export interface Model {
  connection: Connection;
  hello: Extract<Message, { type: 'hello' }> | null;
  status: StatusView | null;
  recording: Recording | null;
  releases: ReleaseLine[];
  next: NextPicture | null;
  rates: RatesPicture | null;
  /** The last rates of each server, oldest first. */
  sparks: Record<string, (number | null)[]>;
  printed: Record<string, Printed>;
  problem: string | null;
  /** When something was last heard, in milliseconds of a monotonic clock. */
  heardAt: number;
  /** The same moment as a person reads it. */
  heardTime: string;
  /** The active state as the chart's own protocol tells it; null before it has. */
  active: string | null;
  /** The release that is stepped through; null when the page shows what is now. */
  replay: { recording: Recording; index: number } | null;
}

export const EMPTY: Model = {
  connection: 'connecting',
  hello: null,
  status: null,
  recording: null,
  releases: [],
  next: null,
  rates: null,
  sparks: {},
  printed: {},
  problem: null,
  heardAt: 0,
  heardTime: '',
  active: null,
  replay: null,
};

const SPARKS = 120;
const LINES = 2_000;
export const STALE_MS = 5_000;

/** The model after a message that was heard at `now`. */
export function heard(model: Model, message: Message, now: { ms: number; time: string }): Model {
  const next: Model = { ...model, heardAt: now.ms, heardTime: now.time, connection: 'live' };
  switch (message.type) {
    case 'hello':
      // Everything that was printed is told again to whoever joins.
      return { ...next, hello: message, printed: {}, problem: null };
    case 'status': {
      const isOther = message.recording?.id !== model.recording?.id;
      const state = message.recording?.frames.at(-1)?.state ?? null;
      return {
        ...next,
        status: message.status,
        recording: message.recording,
        releases: message.releases,
        problem: null,
        ...(isOther ? { printed: {}, sparks: {}, next: null } : {}),
        active: isOther || model.active === null ? state : model.active,
      };
    }
    case 'next':
      return { ...next, next: message.next };
    case 'rates':
      return { ...next, rates: message.rates, sparks: sparked(model.sparks, message.rates.servers) };
    case 'text': {
      const before = model.printed[message.source] ?? { lines: [], dropped: 0 };
      const all = [...before.lines, ...message.lines];
      const lines = all.slice(-LINES);
      const dropped = before.dropped + message.dropped + all.length - lines.length;
      return { ...next, printed: { ...model.printed, [message.source]: { lines, dropped } } };
    }
    case 'beat':
      return next;
    case 'problem':
      return { ...next, problem: message.message };
  }
}

function sparked(sparks: Model['sparks'], servers: RatesPicture['servers']): Model['sparks'] {
  return Object.fromEntries(
    Object.entries(servers).map(([server, rate]) => [server, [...(sparks[server] ?? []), rate].slice(-SPARKS)]),
  );
}

/** What is shown: the release of now, or one frame of any. */
export interface Shown {
  recording: Recording;
  /** The frames up to the one that is shown. */
  frames: Frame[];
  index: number;
  state: string;
  servers: ServerStatus[];
  isReplay: boolean;
}

/** Null before there is a release. */
export function shownOf(model: Model): Shown | null {
  const { replay, recording, active, status } = model;
  if (replay !== null) {
    const frames = replay.recording.frames.slice(0, replay.index + 1);
    const state = frames.at(-1)?.state ?? '';
    const servers = serversAt(frames);
    return { recording: replay.recording, frames, index: replay.index, state, servers, isReplay: true };
  }
  if (recording === null) return null;
  return {
    recording,
    frames: recording.frames,
    index: recording.frames.length - 1,
    state: active ?? recording.frames.at(-1)?.state ?? '',
    servers: status?.release?.servers ?? serversAt(recording.frames),
    isReplay: false,
  };
}

/** For the tab, which may be all that is seen of the page: what is wrong first, then where it stands. */
export function titleOf(model: Model): string {
  const release = model.status?.release ?? null;
  const shown = shownOf(model);
  if (release === null || shown === null) return 'flow';
  const isWrong = release.unwatched !== null || (release.failure !== null && release.phase === 'resting');
  const sign =
    model.connection === 'lost' ? '… ' : shown.isReplay ? '' : isWrong ? '✖ ' : release.question === null ? '' : '? ';
  return `${sign}${shown.state} · ${shown.recording.project} ${shown.recording.version} · flow`;
}

/** How the servers stood after these frames. */
export function serversAt(frames: readonly Frame[]): ServerStatus[] {
  const servers = new Map<string, ServerStatus>();
  for (const frame of frames) for (const server of frame.servers) servers.set(server.name, server);
  return [...servers.values()];
}

/** What became of a state of the chart by a frame. */
export interface Mark {
  is: 'open' | 'done' | 'active' | 'failed' | 'skipped';
  /** ISO time when it was last entered; null when it never was. */
  at: string | null;
  /** Seconds it took, where it is a step that has ended. */
  seconds: number | null;
  /** How often it was entered. */
  times: number;
}

/** The marks of every state that these frames touch; what is not in it is open, or skipped once the release has ended. */
export function marksOf(frames: readonly Frame[], state: string): Map<string, Mark> {
  const marks = new Map<string, Mark>();
  for (const [index, frame] of frames.entries()) {
    const before = marks.get(frame.state);
    if (frame.from !== frame.state)
      marks.set(frame.state, { is: 'done', at: frame.at, seconds: null, times: (before?.times ?? 0) + 1 });
    const left = frame.from === null || frame.from === frame.state ? undefined : marks.get(frame.from);
    if (left === undefined || frame.from === null) continue;
    const isLast = !frames.slice(index + 1).some(({ state: later }) => later === frame.from);
    const failed = frame.event === 'failed' && isLast;
    marks.set(frame.from, { ...left, is: failed ? 'failed' : 'done', seconds: frame.seconds });
  }
  const active = marks.get(state);
  marks.set(state, { at: null, seconds: null, times: 1, ...active, is: 'active' });
  return marks;
}

/** The edges that were taken, as `edgeKey` names them. */
export function takenEdges(frames: readonly Frame[]): Set<string> {
  return new Set(
    frames.flatMap(({ from, state, event }) =>
      from === null ? [] : labelsOf(event).map((label) => edgeKey(from, label, state)),
    ),
  );
}

export const edgeKey = (from: string, label: string, to: string): string => `${from} ${label} ${to}`;

/** The labels of the edges that an event of the history can mean. */
function labelsOf(event: string): string[] {
  if (event.startsWith('ANSWER')) return ['ANSWER'];
  if (event === 'asked') return ['asks'];
  return event === 'failed' ? ['failed', 'bad'] : [event];
}
