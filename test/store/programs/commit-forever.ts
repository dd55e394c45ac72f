/**
 * Commits one generation after the other into release r-0001 of the folder given, and reports each one once it is durable: for ever,
 * or as many as the second argument says.
 */
import { writeSync } from 'node:fs';
import { acquireLock } from '../../../src/store/lock.ts';
import { createReleaseFile, openReleaseFile } from '../../../src/store/release-file.ts';
import { latestReleaseId } from '../../../src/store/state-folder.ts';

interface Data {
  count: number;
  ballast: string;
}

const dir = process.argv[2] ?? '';
const lock = acquireLock(dir, { who: 'alice', doing: 'counting' });
const file =
  latestReleaseId(dir) === null
    ? createReleaseFile<Data>(dir, 'r-0001', lock, { count: 1, ballast: '' })
    : openReleaseFile<Data>(dir, 'r-0001', lock);
for (let left = Number(process.argv[3] ?? Number.POSITIVE_INFINITY); left > 0; left--) {
  const count = file.data.count + 1;
  file.commit({ count, ballast: 'x'.repeat((count * 997) % 20_000) });
  writeSync(1, `${count}\n`);
}
