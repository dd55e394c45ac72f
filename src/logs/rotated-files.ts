/**
 * Finds what a log was before it was rotated. Names are the rotations' own (logrotate with and without dates, `start 0`,
 * newsyslog), so that nothing that merely lies beside the log is taken for it; what is compressed cannot be read on.
 */
import { posix } from 'node:path';
import type { Host } from '../hosts/host.ts';

export interface RotatedFile {
  path: string;
  /** As FileSlice has it. */
  id: string;
}

const NUMBER = /^\.\d{1,3}$/;
/** What rotations write after the name of the log: a number, or a date with or without a time. */
const SUFFIX = /^(?:\.\d{1,3}|[-._]?\d{4}-?\d{2}-?\d{2}(?:[-_T.]?[\d:.-]+)?)$/;
/** Where most rotations put the file before; looked at where the host cannot list files. */
const USUAL = ['.1', '.0'];

/** The files that the log was before, the one written last first. Never rejects: a host that cannot list them is asked for the usual two. */
export async function rotatedFiles(host: Host, path: string): Promise<RotatedFile[]> {
  const base = posix.basename(path);
  const pattern = `${base.replaceAll(/[[\]*?\\]/g, String.raw`\$&`)}?*`;
  const folder = posix.dirname(path);
  const listed = await host
    .run([
      'find',
      folder.startsWith('-') ? `./${folder}` : folder,
      '-maxdepth',
      '1',
      '-name',
      pattern,
      '-printf',
      '%T@ %D:%i %f\\0',
    ])
    .catch(() => null);
  if (listed === null || listed.unreachable !== undefined) return [];
  if (listed.status !== 0) return await usualFiles(host, path);
  const found = listed.stdout.split('\0').flatMap((line) => {
    const [, time = '', id = '', name = ''] = /^(\S+) (\S+) (.*)$/s.exec(line) ?? [];
    const suffix = name.slice(base.length);
    return SUFFIX.test(suffix) ? [{ time: Number(time), suffix, id, path: posix.join(folder, name) }] : [];
  });
  return found
    .sort((a, b) => b.time - a.time || bySuffix(a.suffix, b.suffix))
    .map(({ id, path: at }) => ({ id, path: at }));
}

/** Of files of the same moment, as far as the file system tells moments apart: .1 is newer than .2, and a later date than one before. */
function bySuffix(a: string, b: string): number {
  const [first, second] = [a, b].map((suffix) => (NUMBER.test(suffix) ? Number(suffix.slice(1)) : null));
  if (typeof first === 'number' && typeof second === 'number') return first - second;
  return a.replaceAll(/\D/g, '') < b.replaceAll(/\D/g, '') ? 1 : -1;
}

async function usualFiles(host: Host, path: string): Promise<RotatedFile[]> {
  const slices = await Promise.all(
    USUAL.map(async (suffix) => ({
      path: `${path}${suffix}`,
      slice: await host.readSlice(`${path}${suffix}`, 0, 0).catch(() => null),
    })),
  );
  return slices.flatMap(({ path: at, slice }) => (slice === null ? [] : [{ path: at, id: slice.id }]));
}
