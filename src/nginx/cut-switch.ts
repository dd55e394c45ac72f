/**
 * A switch of flow's own that was cut in half: files of one branch, HEAD of another, the lock left behind. It is put back to the
 * branch it began from, because that is what Nginx has loaded.
 *
 * Invariants: only where the lock's note says that it is flow's, its processes are gone, the branches stand where they stood, and
 * every file that differs is that of one of the two branches, or a beginning of it, or missing. Everything else is refused with what to do: what a
 * person wrote is never overwritten.
 */
import { posix } from 'node:path';
import { StepError } from '../errors.ts';
import type { Host } from '../hosts/host.ts';
import {
  betweenText,
  branchExists,
  filesOf,
  heldLocks,
  readSuccessfully,
  readTree,
  runBack,
} from './config-repository.ts';
import { isOver, readNote, type SwitchNote } from './switch-note.ts';

/**
 * Puts a switch that was cut in half back to where it began, and answers the sentence that says so; null when there is none.
 * Safe to do twice: cut in half itself, it leaves the same note. Throws StepError `unsafe` when it may not be put back by flow.
 */
export async function mendCutSwitch(host: Host, dir: string): Promise<string | null> {
  const locks = await heldLocks(host, dir);
  const [lock] = locks.filter((path) => path.endsWith('index.lock'));
  if (lock === undefined) return null;
  const note = await readNote(host, lock);
  if (note === null || !(await isOver(host, note))) return null;
  const cut = `A switch of flow's own in ${dir}, ${betweenText(note)}, was cut in half`;
  const foreign = await whatIsForeign(host, dir, note, locks.length > 1);
  if (foreign !== null) {
    throw new StepError(
      'CONFIG_SWITCH_CUT',
      'unsafe',
      `${cut}, and ${foreign}, so flow does not put it right by itself. Nothing was changed. Keep what you need of it, then: ` +
        `rm ${lock} && git -C ${dir} switch --discard-changes ${isOfOne(note) ? `-C ${note.from} ${note.fromCommit}` : note.from}, and send the same event again.`,
    );
  }
  const result = await runBack(host, dir, note);
  const tree = await readTree(host, dir);
  if (result.status === 0 && !tree.locked && tree.dirty.length === 0 && tree.branch === note.from) {
    return `${cut} (process ${note.pid} is gone); the files are those of ${isOfOne(note) ? note.fromCommit.slice(0, 10) : note.from} again, as Nginx has them loaded`;
  }
  throw new StepError(
    'CONFIG_SWITCH_CUT',
    'unknownOutcome',
    `${cut}, and could not be put back: ${result.stderr.trim()}. Nginx was not reloaded. Look with: git -C ${dir} status`,
  );
}

/** A switch that moves one branch, and goes to no other. */
const isOfOne = ({ from, to }: SwitchNote): boolean => from === to;

/** What keeps flow from putting it back, as the rest of a sentence; null when all there is comes from the two branches. */
async function whatIsForeign(host: Host, dir: string, note: SwitchNote, otherLock: boolean): Promise<string | null> {
  if (otherLock) return 'another lock of git stands beside its own';
  for (const [branch, commit] of [
    [note.from, note.fromCommit],
    [note.to, note.toCommit],
  ] as const) {
    if (!(await branchExists(host, dir, branch))) return `the branch ${branch} is gone since`;
    const now = (await readSuccessfully(host, dir, ['rev-parse', '--verify', `refs/heads/${branch}`])).trim();
    // A branch that was itself to be moved is where it was, or where it was to go.
    const isMoving = isOfOne(note) && (now === note.fromCommit || now === note.toCommit);
    if (now !== commit && !isMoving) return `the branch ${branch} has moved since`;
  }
  const tree = await readTree(host, dir);
  if (tree.branch !== note.from && tree.branch !== note.to) return 'HEAD is on neither of the two';
  const between = await filesBetween(host, dir, note);
  const paths = (await filesOf(host, dir, tree.dirty)).map((line) => line.slice(3));
  const outside = paths.find((path) => !between.has(path));
  if (outside !== undefined) return `${outside}, which differs between them in nothing, was changed as well`;
  const top = (await readSuccessfully(host, dir, ['rev-parse', '--show-toplevel'])).trim();
  const slices = await Promise.all(
    [...between].map(async ([path, known]) => {
      const absolute = posix.join(top, path);
      return { path, known, absolute, isThere: (await host.readSlice(absolute, 0, 0)) !== null };
    }),
  );
  const there = slices.filter(({ isThere }) => isThere);
  const names = there.map(({ absolute }) => `${absolute}\n`).join('');
  const hashes = (await readSuccessfully(host, dir, ['hash-object', '--stdin-paths'], names)).split('\n');
  for (const [index, { path, known, absolute }] of there.entries()) {
    if (known.includes(hashes[index] ?? '')) continue;
    if (!(await isBegunOf(host, dir, absolute, known))) return `${path} is of neither`;
  }
  return null;
}

/** Whether the file is the beginning of what a branch has: git was killed while it wrote it, and nothing in it is anybody's own. */
async function isBegunOf(host: Host, dir: string, path: string, known: readonly string[]): Promise<boolean> {
  const text = (await host.readFile(path))?.toString('utf8') ?? '';
  if (text === '') return true;
  for (const blob of known.filter((oid) => !/^0+$/.test(oid))) {
    if ((await readSuccessfully(host, dir, ['cat-file', 'blob', blob])).startsWith(text)) return true;
  }
  return false;
}

/** Every file in which the two branches differ, with what each of them has there. */
async function filesBetween(host: Host, dir: string, note: SwitchNote): Promise<Map<string, string[]>> {
  const diff = ['diff', '--raw', '-z', '--no-abbrev', '--no-renames', '--no-ext-diff'];
  const fields = (await readSuccessfully(host, dir, [...diff, note.fromCommit, note.toCommit, '--', ':/'])).split('\0');
  const found = new Map<string, string[]>();
  // `:MODE MODE OID OID STATUS`, then the path.
  for (let at = 0; at + 1 < fields.length; at += 2) {
    const [, , before = '', after = ''] = (fields[at] ?? '').split(' ');
    found.set(fields[at + 1] ?? '', [before, after]);
  }
  return found;
}
