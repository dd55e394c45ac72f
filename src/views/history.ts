/** What happened, commit by commit, and the list of all releases: values for `--json`, and their texts. */
import type { HistoryEntry, ReleaseDocument } from '../store/document.ts';
import { durationText, type Paint, plainLine, table, timeText } from './text.ts';

export interface HistoryView {
  schemaVersion: 1;
  id: string;
  project: string;
  version: string;
  state: string;
  entries: HistoryEntry[];
}

/** The record of one release, oldest first. */
export function historyView(document: ReleaseDocument): HistoryView {
  const { id, project, snapshot, history } = document;
  return { schemaVersion: 1, id, project, version: snapshot.context.version, state: snapshot.value, entries: history };
}

/** The text of `flow history`, without a line end at its end. */
export function historyText(view: HistoryView, paint: Paint): string {
  const header = ['REV', 'TIME', 'WHAT', 'WHO', 'TOOK', 'NOTE'].map((text) => ({ text, paint: paint.dim }));
  const rows = view.entries.map((entry) => [
    String(entry.rev),
    timeText(entry.at),
    { text: `${plainLine(entry.event)} ${paint.icons.arrow} ${plainLine(entry.to)}`, paint: colourOf(entry, paint) },
    entry.by === null ? '' : plainLine(`${entry.by.user}@${entry.by.host}, ${entry.by.via}`),
    entry.seconds === null ? '' : durationText(entry.seconds * 1_000),
    notesOf(entry),
  ]);
  const title = `${plainLine(view.project)} ${plainLine(view.version)}   ${view.id}   ${view.state}`;
  return paint.finish([paint.bold(title), '', ...table([header, ...rows])].join('\n'));
}

function colourOf({ event }: HistoryEntry, paint: Paint): (text: string) => string {
  if (event === 'failed' || event === 'ROLLBACK') return paint.red;
  return event === 'asked' ? paint.yellow : (text) => text;
}

/** What the step saw, then why a person did it, then what was overridden. */
function notesOf({ note, reason, forced }: HistoryEntry): string {
  return [
    ...(note === null ? [] : [plainLine(note)]),
    ...(reason === null ? [] : [`reason: ${plainLine(reason)}`]),
    ...forced.map(({ id, because }) => `overridden: ${id} (${plainLine(because)})`),
  ].join('; ');
}

/** One release in the list of all. */
export interface ReleaseLine {
  id: string;
  version: string;
  startedAt: string;
  endedAt: string | null;
  state: string;
}

/** The list of releases, in the order given, without a line end at its end. */
export function releasesText(releases: readonly ReleaseLine[], paint: Paint): string {
  if (releases.length === 0) return 'There has been no release yet. Plan one: flow start';
  const header = ['RELEASE', 'VERSION', 'STARTED', 'ENDED', 'STATE'].map((text) => ({ text, paint: paint.dim }));
  const rows = releases.map(({ id, version, startedAt, endedAt, state }) => [
    id,
    plainLine(version),
    timeText(startedAt),
    endedAt === null ? 'running' : timeText(endedAt),
    state,
  ]);
  return paint.finish(table([header, ...rows]).join('\n'));
}
