/**
 * The events an operator can send, and the facts that travel with them.
 * Facts are observed by the runtime just before the event is decided, so that guards stay pure and an event can be replayed.
 */

/** What was seen, read-only, just before the event was decided. A null says that it was not or could not be looked at. */
export interface Facts {
  /** The route whose branch the proxy's tree equals and whose workers are live; `mend`: what a person must do before it can be. */
  proxy: { servers: string[] | null; live: boolean; because: string; mend?: string } | null;
  /** What is wrong with the branches of the routes, and in what they differ besides their servers; sentences. */
  routes: { wrong: string[]; differ: string[] } | null;
  servers: Record<string, { version: string | null; healthy: boolean; because: string }>;
  /** Servers out of rotation: whether every worker that could still reach them is gone. */
  drained: Record<string, { ok: boolean; because: string }>;
  testing: { commit: string | null; serverCommit: string | null; because: string } | null;
  /** Where the release's tag is now; null when it was not looked for. */
  tag: { commit: string | null } | null;
  freeze: { because: string; until: string } | null;
  preflight: { name: string; ok: boolean; because: string }[];
}

interface Sent {
  facts?: Facts;
  /** Ids of guards to be overridden; only those that can be. */
  force?: string[];
  reason?: string;
}

export type ReleaseEvent =
  | ({ type: 'NEXT'; notes?: string } & Sent)
  | ({ type: 'ABORT' } & Sent)
  | ({ type: 'RETEST' } & Sent)
  | ({ type: 'ROLLBACK' } & Sent)
  | ({ type: 'ANSWER'; question: string; choice: string } & Sent)
  /** Sent by `flow resume` with what it found: asks when the proxy is not as believed. */
  | ({ type: 'RECHECK' } & Sent);

export type EventName = ReleaseEvent['type'];

/** What a person can send, in the order in which help lists it. */
export const OPERATOR_EVENTS = [
  'NEXT',
  'ROLLBACK',
  'ANSWER',
  'RETEST',
  'ABORT',
] as const satisfies readonly EventName[];
