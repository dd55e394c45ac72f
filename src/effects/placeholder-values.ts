/** The values of the closed list of placeholders, for the commands and checks of a release. */
import type { PlaceholderValues } from '../config/placeholders.ts';
import type { ServerSettings } from '../config/settings.ts';
import type { World } from './world.ts';

/** Every placeholder that a command about this server may hold; `published` is what its publish brings, where that is another version. */
export async function placeholderValues(
  world: World,
  server: Pick<ServerSettings, 'name' | 'dir' | 'address'>,
  published?: { version: string; commit: string },
): Promise<Required<PlaceholderValues>> {
  const { previous } = world.versions;
  const version = published?.version ?? world.versions.version;
  const commit = published?.commit ?? (await world.repository.tagCommit(version)) ?? '';
  return { server: server.name, dir: server.dir, address: server.address, version, tag: version, previous, commit };
}
