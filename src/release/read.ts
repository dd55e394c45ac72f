/** Reads what is stored, without the lock and without changing anything: for status, why, history and the page. Light imports. */
import type { ReleaseDocument } from '../store/document.ts';
import { type Driver, isRunning, readDriver } from '../store/driver.ts';
import { peek } from '../store/envelope.ts';
import { latestReleaseId, listReleaseIds, releasePaths } from '../store/state-folder.ts';

/** The newest release, running or ended; null when there never was one. Throws StateError when its file is damaged. */
export function readLatest(stateDir: string): ReleaseDocument | null {
  const id = latestReleaseId(stateDir);
  return id === null ? null : readRelease(stateDir, id);
}

/** One release by its id; null when it does not exist. Throws StateError when its file is damaged. */
export function readRelease(stateDir: string, id: string): ReleaseDocument | null {
  const document = peek<ReleaseDocument>(releasePaths(stateDir, id).state)?.data ?? null;
  return document === null ? null : withWhatCameLater(document);
}

/** A release of an older flow is still shown, though not gone on with: what its record lacks is what was meant then. */
function withWhatCameLater(document: ReleaseDocument): ReleaseDocument {
  const { context } = document.snapshot;
  const { serving, leftOut } = context as Partial<typeof context>;
  if (serving !== undefined && leftOut !== undefined) return document;
  const complete = { ...context, serving: serving ?? context.topology.servers, leftOut: leftOut ?? [] };
  return { ...document, snapshot: { ...document.snapshot, context: complete } };
}

/** Every release, oldest first. */
export function readAll(stateDir: string): ReleaseDocument[] {
  return listReleaseIds(stateDir).flatMap((id) => readRelease(stateDir, id) ?? []);
}

/** The highest epoch that any release was written with. */
export function latestEpoch(stateDir: string): number {
  const id = latestReleaseId(stateDir);
  return id === null ? 0 : (peek<ReleaseDocument>(releasePaths(stateDir, id).state)?.epoch ?? 0);
}

/** Who drives now; null when nobody does. */
export function readLiveDriver(stateDir: string): Driver | null {
  const driver = readDriver(stateDir);
  return driver !== null && isRunning(driver) ? driver : null;
}
