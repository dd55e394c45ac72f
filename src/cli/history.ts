/** `flow history`: who did what, when, why, and on what evidence. */
import { EXIT, type ExitCode, FlowError } from '../errors.ts';
import type { Place } from '../release/locate.ts';
import { readAll, readLatest, readRelease } from '../release/read.ts';
import { historyText, historyView, releasesText } from '../views/history.ts';
import { terminal } from './terminal.ts';

export function history(place: Place, id: string | undefined, options: { json?: boolean; all?: boolean }): ExitCode {
  const paint = terminal().outPaint;
  if (options.all === true) {
    const releases = readAll(place.stateDir).map((document) => ({
      id: document.id,
      version: document.snapshot.context.version,
      startedAt: document.startedAt,
      endedAt: document.endedAt,
      state: document.snapshot.value,
    }));
    process.stdout.write(
      `${options.json === true ? JSON.stringify({ schemaVersion: 1, releases }) : releasesText(releases, paint)}\n`,
    );
    return EXIT.ok;
  }
  const document = id === undefined ? readLatest(place.stateDir) : readRelease(place.stateDir, id);
  if (document === null) {
    throw new FlowError(
      'NO_RELEASE',
      EXIT.noRelease,
      id === undefined
        ? 'There was no release yet. Plan one: flow start'
        : `There is no release ${id}. See all of them: flow history --all`,
    );
  }
  const view = historyView(document);
  process.stdout.write(`${options.json === true ? JSON.stringify(view) : historyText(view, paint)}\n`);
  return EXIT.ok;
}
