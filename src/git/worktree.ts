/**
 * A worktree of flow's own, in which merges and commits are made, so that the operator's tree is not touched.
 *
 * Invariants: HEAD there is always detached, so no branch moves by what happens in it; a command that overwrites files
 * finds its repository in that folder itself or fails, and never reaches the operator's tree above it; a folder that is
 * not such a worktree is never emptied.
 */
import { lstat, mkdir, readdir, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve, sep } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { codeOf, messageOf, StepError } from '../errors.ts';
import { gitOutput, objectId, printable, runGit, said } from './command.ts';

/** How long a lock file in flow's own worktree may be a running git's, left over by a flow that was killed. */
const LOCK_PATIENCE_MS = 2_000;

/** The place of a worktree: its folder, and the repository it belongs to. */
export interface WorktreePlace {
  /** A folder of the repository, from which worktrees are added. */
  dir: string;
  /** The repository's common git directory. */
  commonDir: string;
  /** The worktree's folder; absolute. */
  path: string;
}

/**
 * Makes the worktree, or brings it back, to exactly the commit: detached, without changes and untracked files. Ignored
 * files stay: they are what a build is quick by. A missing, unregistered, half made or damaged one is made anew.
 *
 * Throws StepError `unsafe` when the folder holds something else, `rejected` when git can not make it.
 */
export async function prepareWorktree(place: WorktreePlace, oid: string): Promise<void> {
  const { dir, path } = place;
  objectId(oid);
  if (await isOwn(place)) {
    try {
      await bringTo(path, oid);
      return;
    } catch (error) {
      // Damaged inside (an index cut in half, say): made anew below.
      if (!(error instanceof StepError)) throw error;
    }
  } else {
    await assertFree(place);
  }
  await rm(path, { recursive: true, force: true });
  await mkdir(dirname(path), { recursive: true });
  // Twice: once for a folder that is registered and missing, once more for one that a killed git left locked.
  await gitOutput(dir, ['worktree', 'add', '--detach', '--force', '--force', '--quiet', path, oid]);
  if ((await headOf(path)) !== oid) {
    throw new StepError(
      'WORKTREE_NOT_READY',
      'rejected',
      `The worktree ${path} could not be brought to ${oid.slice(0, 12)}. Nothing else was changed. ` +
        `Remove it: git worktree remove --force ${path}`,
    );
  }
}

async function bringTo(path: string, oid: string): Promise<void> {
  await removeLocks(path);
  // Not `reset`, which would move a branch that someone checked out here.
  // Not quiet, and with a branch line: simple-git waits another 50 ms for a command that says nothing.
  await gitOutput(path, ['checkout', '--detach', '--force', oid, '--'], { hereOnly: true });
  const status = await gitOutput(path, ['status', '--porcelain=v1', '--branch', '--untracked-files=normal'], {
    hereOnly: true,
  });
  if (status.trim().includes('\n')) await gitOutput(path, ['clean', '-ffdq'], { hereOnly: true });
  if ((await headOf(path)) !== oid) throw new StepError('WORKTREE_NOT_READY', 'rejected', `${path} is not at ${oid}`);
}

async function headOf(path: string): Promise<string> {
  return (await gitOutput(path, ['rev-parse', '--verify', 'HEAD^{commit}'], { hereOnly: true })).trim();
}

/** True when the folder is the top of a worktree of this repository, other than its main one. */
async function isOwn({ path, commonDir }: WorktreePlace): Promise<boolean> {
  const gitFile = await readGitFile(path);
  if (gitFile === null) return false;
  const asked = await runGit(path, ['rev-parse', '--git-common-dir', '--show-toplevel'], { hereOnly: true });
  const [common = '', top = ''] = asked.stdout.split('\n');
  if (asked.status !== 0) return false;
  return (await realpath(resolve(path, common))) === commonDir && (await realpath(top)) === (await realpath(path));
}

/** The text of the `.git` file that makes a folder a worktree; null when there is none (or it is a repository). */
async function readGitFile(path: string): Promise<string | null> {
  try {
    const file = join(path, '.git');
    return (await lstat(file)).isFile() ? await readFile(file, 'utf8') : null;
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR') return null;
    throw error;
  }
}

/** Throws unless the folder may be removed: missing, empty, or a worktree of this repository that is damaged. */
async function assertFree({ path, commonDir }: WorktreePlace): Promise<void> {
  const gitFile = await readGitFile(path);
  if (gitFile?.startsWith(`gitdir: ${join(commonDir, 'worktrees')}${sep}`) === true) return;
  try {
    if ((await readdir(path)).length === 0) return;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return;
    if (codeOf(error) !== 'ENOTDIR') throw error;
  }
  throw new StepError(
    'WORKTREE_PATH_TAKEN',
    'unsafe',
    `${path} is not a worktree of this repository, so flow does not empty it. Nothing was changed. ` +
      `Look what it is, and move it away.`,
  );
}

/** Removes lock files of a git that was killed in this worktree of flow's own. */
async function removeLocks(path: string): Promise<void> {
  const own = await gitOutput(path, ['rev-parse', '--git-dir'], { hereOnly: true });
  const gitDir = resolve(path, own.trim());
  for (const name of ['index.lock', 'HEAD.lock']) {
    const lock = join(gitDir, name);
    const until = performance.now() + LOCK_PATIENCE_MS;
    while ((await exists(lock)) && performance.now() < until) await sleep(50);
    await rm(lock, { force: true });
  }
}

async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}

/** One commit to be merged into another, and what people call the two. */
export interface Merge {
  into: string;
  from: string;
  names: { into: string; from: string };
  message: string;
}

/**
 * Merges one commit into another with a merge commit (--no-ff) and answers its object id; where it is contained
 * already, answers `into`. No ref moves. Safe to do twice: it begins again from `into` each time.
 *
 * Throws StepError `rejected` (the merge undone, the files named) on a conflict or a hook's refusal, `unsafe` when git
 * does not know who commits.
 */
export async function mergeInWorktree(place: WorktreePlace, merge: Merge): Promise<string> {
  const { path } = place;
  await prepareWorktree(place, merge.into);
  const contained = await runGit(path, ['merge-base', '--is-ancestor', objectId(merge.from), merge.into]);
  if (contained.status === 0) return merge.into;
  await requireIdentity(path);
  await mergeHere(path, ['--no-ff'], merge);
  return headOf(path);
}

/**
 * Merges into the branch that is checked out in `path` and answers the commit it is at then. On a conflict or another
 * failure the merge is aborted.
 */
export async function mergeHere(
  path: string,
  options: readonly string[],
  { from, names, message }: Pick<Merge, 'from' | 'names' | 'message'>,
): Promise<void> {
  const result = await runGit(
    path,
    ['merge', '--commit', '--no-squash', '--no-edit', '--quiet', ...options, '-m', message, objectId(from)],
    { hereOnly: true },
  );
  if (result.status === 0) return;
  const unmerged = await gitOutput(path, ['diff', '--name-only', '--diff-filter=U', '-z'], { hereOnly: true });
  const files = unmerged.split('\0').filter((file) => file !== '');
  // Its status is no matter: where no merge began there is none to abort.
  await runGit(path, ['merge', '--abort'], { hereOnly: true });
  const what = `${names.from} (${from.slice(0, 10)})`;
  if (files.length > 0) {
    throw new StepError(
      'MERGE_CONFLICT',
      'rejected',
      `${what} does not merge into ${names.into}: conflicts in ${printable(files.join(', '))}. The merge was undone and no branch moved.`,
    );
  }
  throw new StepError(
    'MERGE_FAILED',
    'rejected',
    `${what} could not be merged into ${names.into}, git or a hook says: ${said(result)} The merge was undone and no branch moved.`,
  );
}

/**
 * Writes one file in the worktree and commits it alone; answers the commit. Where the file has that content already,
 * nothing is committed, so twice is safe.
 *
 * Throws StepError `unsafe` when the file would lie outside the worktree or git does not know who commits, `rejected`
 * when git (or a hook) refuses.
 */
export async function commitFile(path: string, file: string, content: string, message: string): Promise<string> {
  const target = resolve(path, file);
  await assertInside(path, target, file);
  await requireIdentity(path);
  await writeFile(target, content);
  const here = { hereOnly: true };
  await gitOutput(path, ['--literal-pathspecs', 'add', '--', file], here);
  const unchanged = await runGit(
    path,
    ['--literal-pathspecs', 'diff', '--cached', '--quiet', 'HEAD', '--', file],
    here,
  );
  if (unchanged.status !== 0) {
    const commit = ['commit', '--quiet', '--cleanup=whitespace', '-m', message, '--only', '--', file];
    const committed = await runGit(path, ['--literal-pathspecs', ...commit], here);
    if (committed.status !== 0) {
      throw new StepError(
        'COMMIT_FAILED',
        'rejected',
        `${file} could not be committed, git or a hook says: ${said(committed)} No branch or tag moved.`,
      );
    }
  }
  return headOf(path);
}

/** A link in the tree (ChangeLog.md, or a folder above it) must not lead a write out of it. */
async function assertInside(path: string, target: string, file: string): Promise<void> {
  const root = await realpath(path);
  let folder = '';
  let isLink = false;
  try {
    folder = await realpath(dirname(target));
    isLink = (await lstat(target)).isSymbolicLink();
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
  }
  if ((folder === root || folder.startsWith(root + sep)) && !isLink && target !== root) return;
  throw new StepError(
    'FILE_OUTSIDE_WORKTREE',
    'unsafe',
    `${JSON.stringify(file)} is a link, or not in an existing folder of the project, so it was not written. ` +
      `Correct git.changelog in flow.yaml.`,
  );
}

/** Throws StepError `unsafe`, with the commands to run, when git does not know who commits. */
export async function requireIdentity(dir: string): Promise<void> {
  for (const name of ['GIT_COMMITTER_IDENT', 'GIT_AUTHOR_IDENT']) {
    const known = await runGit(dir, ['var', name]).catch((error: unknown) => {
      throw new StepError('GIT_IDENTITY_MISSING', 'unsafe', messageOf(error), { cause: error });
    });
    if (known.status === 0) continue;
    throw new StepError(
      'GIT_IDENTITY_MISSING',
      'unsafe',
      `git does not know who commits, so nothing was committed. Tell it once:\n` +
        `  git config --global user.name "YOUR NAME"\n  git config --global user.email "YOU@EXAMPLE.ORG"`,
    );
  }
}
