/**
 * A stored release as the page shows and replays it, and the list of all releases. Pure: everything comes out of the record, so
 * a release that ended a month ago is replayed as well as the one that runs.
 */
import type { ReleaseContext } from '../../machines/contract.ts';
import type { HistoryEntry, ReleaseDocument } from '../store/document.ts';
import { serverStatus, type ServerStatus, type Standings } from '../views/status.ts';
import type { ChartPicture, Frame, Recording, ReleaseLine } from './wire.ts';

/** One release, frame by frame. */
export function recordingOf(document: ReleaseDocument, chart: ChartPicture): Recording {
  const { context } = document.snapshot;
  return {
    id: document.id,
    project: document.project,
    kind: context.kind,
    version: context.version,
    before: [...new Set(context.topology.servers.map((server) => context.before[server] ?? 'none'))],
    startedAt: document.startedAt,
    endedAt: document.endedAt,
    chart,
    frames: framesOf(document.history, context),
  };
}

function framesOf(history: readonly HistoryEntry[], context: ReleaseContext): Frame[] {
  const { topology, before, version, serving } = context;
  let standing: Standings | null = null;
  let shown: Record<string, string> = {};
  return history.map((entry) => {
    if (entry.stood !== undefined) {
      const known: Standings = standing ?? {
        topology,
        before,
        version,
        runs: {},
        routes: [serving],
        drained: [],
        drainWaived: [],
        leftOut: [],
      };
      standing = { ...known, ...entry.stood, runs: { ...known.runs, ...entry.stood.runs } };
    }
    const now = standing;
    const servers: ServerStatus[] = now === null ? [] : topology.servers.map((server) => serverStatus(server, now));
    const changed = servers.filter((server) => shown[server.name] !== JSON.stringify(server));
    shown = Object.fromEntries(servers.map((server) => [server.name, JSON.stringify(server)]));
    return frameOf(entry, changed);
  });
}

function frameOf(entry: HistoryEntry, servers: ServerStatus[]): Frame {
  const { rev, at, event, from, to, by, reason, forced, note, seconds } = entry;
  return {
    rev,
    at,
    event,
    from,
    state: to,
    by: by === null ? null : `${by.user}@${by.host}, ${by.via}`,
    reason,
    forced: forced.map(({ id }) => id),
    note,
    seconds,
    servers,
  };
}

/** One line of the list of releases. */
export function lineOf({ id, startedAt, endedAt, snapshot }: ReleaseDocument): ReleaseLine {
  return { id, version: snapshot.context.version, startedAt, endedAt, state: snapshot.value };
}
