/** The list of changes that a release's ChangeLog section begins with (R2.2). Read-only. */
import type { Config } from '../config/schema.ts';
import { changesSince } from '../effects/tag.ts';
import type { ReleaseDocument } from '../store/document.ts';
import type { Place } from './locate.ts';
import { openWorld } from './world.ts';

/** The subjects of what was tested and not yet released, newest first, and the tag they are counted from. */
export async function listChanges(
  place: Place,
  document: ReleaseDocument,
): Promise<{ previousTag: string | null; subjects: string[]; changelog: string }> {
  const world = openWorld(place, document.config.pinned as Config, document);
  const tested = document.snapshot.context.evidence.testing;
  const commit =
    tested !== undefined && 'merged' in tested ? tested.commit : `refs/heads/${world.config.git.branches.testing}`;
  return { ...(await changesSince(world, commit)), changelog: world.config.git.changelog };
}
