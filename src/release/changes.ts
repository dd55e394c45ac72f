/** The list of changes that a release's ChangeLog section begins with (R2.2). Read-only. */
import type { Config } from '../config/schema.ts';
import { changeLines, changesSince } from '../effects/tag.ts';
import type { ReleaseDocument } from '../store/document.ts';
import type { Place } from './locate.ts';
import { openWorld } from './world.ts';

/** What was tested and not yet released, newest first, one line each, and the tag it is counted from. */
export async function listChanges(
  place: Place,
  document: ReleaseDocument,
): Promise<{ previousTag: string | null; list: string; changelog: string }> {
  const world = openWorld(place, document.config.pinned as Config, document);
  const tested = document.snapshot.context.evidence.testing;
  const commit =
    tested !== undefined && 'merged' in tested ? tested.commit : `refs/heads/${world.config.git.branches.testing}`;
  const { previousTag, subjects } = await changesSince(world, commit);
  return { previousTag, list: changeLines(subjects), changelog: world.config.git.changelog };
}
