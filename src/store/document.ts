/**
 * What is stored of one release: the one JSON document that every command reads. Types only.
 * Everything people see later (status, history, the page) is computed from it; nothing that matters is kept elsewhere.
 */
import type { ReleaseContext } from '../../machines/contract.ts';
import type { Verdict } from '../../machines/guards.ts';

/** Who sent an event, and from where. */
export interface Sender {
  user: string;
  host: string;
  /** `command line`, `second terminal`, `inspector`. */
  via: string;
}

/** One commit of the release: what happened, and the state it led to. */
export interface HistoryEntry {
  rev: number;
  /** ISO time. */
  at: string;
  /** `NEXT`, `ROLLBACK` … as sent, or `done`, `failed`, `asked` when an effect ended, or `started`. */
  event: string;
  from: string | null;
  to: string;
  by: Sender | null;
  reason: string | null;
  /** Guards that were overridden by name. */
  forced: Verdict[];
  /** What the step saw, or why it failed, in one line. */
  note: string | null;
  seconds: number | null;
  /** How the servers stood afterwards: only what is otherwise than one entry before, so that long records stay short. */
  stood?: Standing;
}

/** What is told of the servers at a commit, for the replay. A field that is left out is as it was. */
export interface Standing {
  /** Of the servers that changed. */
  runs?: ReleaseContext['runs'];
  routes?: ReleaseContext['routes'];
  drained?: ReleaseContext['drained'];
  drainWaived?: ReleaseContext['drainWaived'];
  leftOut?: ReleaseContext['leftOut'];
}

/** The chart's snapshot as XState persists it; only what flow itself reads of it is spelled out. */
export interface StoredSnapshot {
  value: string;
  status: 'active' | 'done' | 'error' | 'stopped';
  context: ReleaseContext;
}

export interface ReleaseDocument {
  format: 1;
  id: string;
  /** Version and topology of the chart the snapshot belongs to. */
  machine: string;
  project: string;
  startedAt: string;
  by: Sender;
  /** Counts the commits; `--expect` names it. */
  rev: number;
  /** flow.yaml as it was when the release started; that is what it is carried out with to its end. */
  config: { file: string; hash: string; pinned: unknown };
  snapshot: StoredSnapshot;
  history: HistoryEntry[];
  endedAt: string | null;
}
