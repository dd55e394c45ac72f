/**
 * The proxy's configuration as a git repository (R3.1), reached only through the proxy's host, because that may be
 * another machine than this one.
 *
 * Invariants: the name in HEAD is never taken for the content of the tree (a killed switch leaves them apart); only a
 * clean, unlocked tree on a known branch is ever switched; nothing is forced, and no lock file of theirs is removed.
 * Branch names travel as `refs/heads/NAME`, so that none of them becomes an option. Hooks of theirs run as they would
 * for a person.
 *
 * Not seen: ignored files that an `include` takes in. They are outside of what a branch can say.
 */
import { posix } from 'node:path';
import { StepError } from '../errors.ts';
import type { Host, RunOptions, RunResult } from '../hosts/host.ts';
import { besidesServerLines, upstreamAddresses } from './upstream.ts';

export interface TreeState {
  /** The branch HEAD names, or null when HEAD is detached. Says nothing of the files. */
  branch: string | null;
  /** The commit of HEAD. */
  head: string;
  /** What differs from HEAD, as `git status --porcelain` prints it; untracked files and hidden edits included. */
  dirty: string[];
  /** True while git's lock file stands: a git command runs, or one was killed. */
  locked: boolean;
  /** True when the files equal that branch, by content, and nothing is dirty. Looks anew each time. */
  matches: (branch: string) => Promise<boolean>;
}

const SWITCH_TIMEOUT_MS = 60_000;

/** Variables that would make git work on another repository than the one in `dir` (set while a hook runs, say). */
const REDIRECTING = [
  'GIT_DIR',
  'GIT_WORK_TREE',
  'GIT_INDEX_FILE',
  'GIT_COMMON_DIR',
  'GIT_OBJECT_DIRECTORY',
  'GIT_NAMESPACE',
  'GIT_PREFIX',
] as const;

async function git(host: Host, dir: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const unset = REDIRECTING.flatMap((name) => ['-u', name]);
  const result = await host.run(
    ['env', ...unset, 'git', '-C', dir, '-c', 'core.quotePath=false', '-c', 'core.fsmonitor=false', ...args],
    { env: { LC_ALL: 'C', GIT_TERMINAL_PROMPT: '0', GIT_EDITOR: 'true' }, ...options },
  );
  if (result.status === null || result.status === 127) {
    throw unreadable(host, dir, result, `git ${args[0] ?? ''}`);
  }
  return result;
}

/** Reads never take the index lock: a reader must not make someone's git command fail. */
function read(host: Host, dir: string, args: readonly string[]): Promise<RunResult> {
  return git(host, dir, ['--no-optional-locks', ...args]);
}

async function readSuccessfully(host: Host, dir: string, args: readonly string[]): Promise<string> {
  const result = await read(host, dir, args);
  if (result.status !== 0) throw unreadable(host, dir, result, `git ${args[0] ?? ''}`);
  return result.stdout;
}

function unreadable(host: Host, dir: string, result: RunResult, what: string): StepError {
  const why = result.notStarted ?? (result.timedOut ? 'it did not answer in time' : result.stderr.trim());
  return new StepError(
    'CONFIG_REPOSITORY_UNREADABLE',
    'unreachable',
    `${what} failed in ${dir} on ${host.name}: ${why || `status ${String(result.status)}`}. ` +
      `Nothing was changed by it. Look with: git -C ${dir} status`,
  );
}

function ref(branch: string): string {
  return `refs/heads/${branch}`;
}

/** True when the branch exists. A name git does not allow for a branch does not exist. */
export async function branchExists(host: Host, dir: string, branch: string): Promise<boolean> {
  // `git switch` takes a short name, and a name that starts with "-" can only be given as an option.
  if (branch.startsWith('-')) return false;
  const result = await read(host, dir, ['show-ref', '--verify', '--quiet', '--', ref(branch)]);
  return result.status === 0;
}

/** How the tree stands. Throws StepError `unreachable` when git can not tell. */
export async function readTree(host: Host, dir: string): Promise<TreeState> {
  const [status, hidden, locked] = await Promise.all([
    readSuccessfully(host, dir, ['status', '--porcelain=v2', '--branch', '--untracked-files=normal', '--no-renames']),
    hiddenEdits(host, dir),
    isLocked(host, dir),
  ]);
  const all = lines(status);
  const head = all.find((line) => line.startsWith('# branch.oid '))?.slice('# branch.oid '.length) ?? '';
  const name = all.find((line) => line.startsWith('# branch.head '))?.slice('# branch.head '.length) ?? '';
  return {
    branch: name === '(detached)' || name === '' ? null : name,
    head,
    dirty: [...all.filter((line) => !line.startsWith('# ')).map(shortStatus), ...hidden],
    locked,
    matches: (branch) => treeEquals(host, dir, branch),
  };
}

/** A line of `git status --porcelain=v2` as people know it: `XY path`. Fields before the path are counted, by kind of line. */
function shortStatus(line: string): string {
  const kind = line.charAt(0);
  if (kind !== '1' && kind !== 'u') return `${kind}${kind} ${line.slice(2)}`;
  const fields = line.split(' ');
  const state = (fields[1] ?? '').replaceAll('.', ' ');
  return `${state} ${fields.slice(kind === '1' ? 8 : 10).join(' ')}`;
}

/** assume-unchanged (a small letter) and skip-worktree (S) make git look away from a file: nobody knows what it holds. */
async function hiddenEdits(host: Host, dir: string): Promise<string[]> {
  const flags = await readSuccessfully(host, dir, ['ls-files', '-v', '--full-name', '--', ':/']);
  return lines(flags)
    .filter((line) => /^[a-zS] /.test(line))
    .map((line) => `!h ${line.slice(2)} (hidden from git status by assume-unchanged or skip-worktree)`);
}

/** Where git keeps its locks; asked once for each folder, because it stays. */
const lockPaths = new WeakMap<Host, Map<string, string[]>>();

async function isLocked(host: Host, dir: string): Promise<boolean> {
  const known = lockPaths.get(host) ?? new Map<string, string[]>();
  lockPaths.set(host, known);
  const paths =
    known.get(dir) ??
    lines(await readSuccessfully(host, dir, ['rev-parse', '--git-path', 'index.lock', '--git-path', 'HEAD.lock']));
  known.set(dir, paths);
  for (const path of paths) {
    if ((await host.readSlice(posix.resolve(dir, path), 0, 0)) !== null) return true;
  }
  return false;
}

/**
 * The branches whose content equals that of HEAD. Where the tree is clean (readTree), these are the branches the files equal,
 * for the price of two commands however many branches there are.
 */
export async function branchesEqualToHead(host: Host, dir: string): Promise<Set<string>> {
  const [head, all] = await Promise.all([
    readSuccessfully(host, dir, ['rev-parse', '--verify', '--quiet', 'HEAD^{tree}']),
    readSuccessfully(host, dir, ['for-each-ref', '--format=%(tree) %(refname)', 'refs/heads/']),
  ]);
  const prefix = `${head.trim()} refs/heads/`;
  return new Set(lines(all).flatMap((line) => (line.startsWith(prefix) ? [line.slice(prefix.length)] : [])));
}

/** True when every file equals the branch, by content, and nothing is dirty, untracked or locked. */
export async function treeEquals(host: Host, dir: string, branch: string): Promise<boolean> {
  if (!(await branchExists(host, dir, branch))) return false;
  const tree = await readTree(host, dir);
  return !tree.locked && tree.dirty.length === 0 && (await equalsByContent(host, dir, branch));
}

/** Whether the tracked files equal the branch. */
async function equalsByContent(host: Host, dir: string, branch: string): Promise<boolean> {
  const diff = await read(host, dir, ['diff', '--quiet', '--no-ext-diff', '--no-textconv', ref(branch), '--', ':/']);
  if (diff.status === 0) return true;
  if (diff.status === 1) return false;
  throw unreadable(host, dir, diff, 'git diff');
}

/**
 * Switches the tree to the branch, and answers only when the files equal it. Safe to do twice: on the branch already,
 * it changes nothing and checks again.
 *
 * Throws StepError: `unsafe` (nothing was touched) when the tree is dirty, locked, detached or the branch unknown;
 * `rejected` when git refused; `unknownOutcome` when the files are not the branch's afterwards.
 * Answers the tree's state afterwards. With `asserted`, the caller has called `assertSwitchable` just now.
 */
export async function switchTree(host: Host, dir: string, branch: string, asserted = false): Promise<TreeState> {
  if (!asserted) await assertSwitchable(host, dir, branch);
  const result = await git(
    host,
    dir,
    // An ignored file that the branch tracks would be overwritten without a word.
    ['switch', '--no-guess', '--no-overwrite-ignore', '--no-recurse-submodules', '--quiet', branch],
    { changesWorld: true, timeoutMs: SWITCH_TIMEOUT_MS },
  );
  const tree = await readTree(host, dir);
  const isClean = tree.dirty.length === 0 && !tree.locked;
  if (tree.branch === branch && isClean && (await equalsByContent(host, dir, branch))) return tree;
  const text = result.stderr.trim();
  if (result.status !== 0 && isClean) {
    throw new StepError(
      'CONFIG_SWITCH_REFUSED',
      'rejected',
      `git switch ${branch} was refused in ${dir}: ${text}. The tree is still on ${tree.branch ?? tree.head}, ` +
        `unchanged. Mend what git names, then send the same event again.`,
    );
  }
  throw new StepError(
    'CONFIG_TREE_NOT_THE_BRANCH',
    'unknownOutcome',
    `After git switch ${branch}, the files in ${dir} are not those of the branch${text === '' ? '' : ` (${text})`}. ` +
      `Nginx was not reloaded. Look with: git -C ${dir} status`,
  );
}

/**
 * Throws StepError `unsafe` unless the tree may be switched to the branch: clean, no lock, on a branch, the branch
 * known. Answers the tree's state. Reads only.
 */
export async function assertSwitchable(
  host: Host,
  dir: string,
  branch: string,
): Promise<TreeState & { branch: string }> {
  const refuse = (code: string, why: string, next: string) =>
    new StepError(code, 'unsafe', `${why} Nothing was changed. ${next}`);
  if (!(await branchExists(host, dir, branch))) {
    throw refuse(
      'CONFIG_BRANCH_UNKNOWN',
      `The config repository ${dir} has no branch ${JSON.stringify(branch)}.`,
      `See which there are: git -C ${dir} branch`,
    );
  }
  const tree = await readTree(host, dir);
  if (tree.locked) {
    throw refuse(
      'CONFIG_TREE_LOCKED',
      `${dir} holds git's lock file: a git command runs there, or one was killed.`,
      `If none runs, look at: git -C ${dir} status, and remove .git/index.lock by hand.`,
    );
  }
  if (tree.dirty.length > 0) {
    const shown = tree.dirty.slice(0, 10).join(', ');
    throw refuse(
      'CONFIG_TREE_DIRTY',
      `The config repository ${dir} is not clean (${shown}${tree.dirty.length > 10 ? ', …' : ''}).`,
      `Commit or remove that: git -C ${dir} status`,
    );
  }
  const { branch: current } = tree;
  if (current === null) {
    throw refuse(
      'CONFIG_TREE_DETACHED',
      `${dir} stands on commit ${tree.head.slice(0, 12)} and on no branch, so there is no branch to return to.`,
      `Put it on the branch that is live: git -C ${dir} switch BRANCH`,
    );
  }
  return { ...tree, branch: current };
}

/**
 * The addresses (`host:port`) that the upstream blocks of the branch's *.conf files name, sorted, each once; servers
 * marked `down` are left out. `path` limits it to one file or folder of `dir`.
 */
export async function upstreamServers(host: Host, dir: string, branch: string, path?: string): Promise<string[]> {
  await requireBranches(host, dir, [branch]);
  const where = path === undefined ? ':(glob)**/*.conf' : `:(literal)${path}`;
  const result = await read(host, dir, [
    'grep',
    '--no-color',
    '--no-column',
    '--text',
    '--full-name',
    '--null',
    '--line-number',
    '--extended-regexp',
    '-e',
    '',
    ref(branch),
    '--',
    where,
  ]);
  if (result.status !== 0 && result.status !== 1) throw unreadable(host, dir, result, 'git grep');
  const files = new Map<string, string[]>();
  for (const line of result.stdout.split('\n')) {
    const [file, , ...rest] = line.split('\0');
    if (file === undefined || rest.length === 0) continue;
    const content = files.get(file) ?? [];
    content.push(rest.join('\0'));
    files.set(file, content);
  }
  const found = [...files.values()].flatMap((content) => upstreamAddresses(content.join('\n')));
  return [...new Set(found)].sort();
}

/**
 * The lines that make branch `b` differ from branch `a` besides upstream `server` lines and comments, as
 * `FILE: -LINE` and `FILE: +LINE`; empty when the routes differ in nothing else.
 */
export async function otherDifferences(host: Host, dir: string, a: string, b: string): Promise<string[]> {
  await requireBranches(host, dir, [a, b]);
  const diff = await readSuccessfully(host, dir, [
    'diff',
    '--unified=0',
    '--no-color',
    '--no-ext-diff',
    '--no-textconv',
    '--no-renames',
    '--src-prefix=a/',
    '--dst-prefix=b/',
    '--submodule=short',
    ref(a),
    ref(b),
    '--',
    ':/',
  ]);
  return differencesOf(diff);
}

async function requireBranches(host: Host, dir: string, branches: readonly string[]): Promise<void> {
  for (const branch of branches) {
    if (await branchExists(host, dir, branch)) continue;
    throw new StepError(
      'CONFIG_BRANCH_UNKNOWN',
      'unsafe',
      `The config repository ${dir} has no branch ${JSON.stringify(branch)}. Nothing was changed. ` +
        `See which there are: git -C ${dir} branch`,
    );
  }
}

function differencesOf(diff: string): string[] {
  const found: string[] = [];
  let file = '';
  let removed: string[] = [];
  let added: string[] = [];
  const closeFile = () => {
    // Only the order and the words count: a block written anew around the same lines is no difference.
    if (removed.join('\n') !== added.join('\n')) {
      found.push(...removed.map((line) => `${file}: -${line}`), ...added.map((line) => `${file}: +${line}`));
    }
    removed = [];
    added = [];
  };
  // Inside a hunk a line's first character alone says what it is: "--- x" may be a removed line "-- x".
  let left = 0;
  for (const line of diff.split('\n')) {
    if (left > 0) {
      if (line.startsWith('\\')) continue;
      left -= 1;
      const conf = file.endsWith('.conf');
      const text = conf ? besidesServerLines(line.slice(1)) : line.slice(1);
      if (text !== '' || !conf) (line.startsWith('-') ? removed : added).push(text);
      continue;
    }
    const hunk = /^@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@/.exec(line);
    if (hunk !== null) {
      left = Number(hunk[1] ?? 1) + Number(hunk[2] ?? 1);
    } else if (line.startsWith('diff --git ')) {
      closeFile();
      // Both sides have the same name, as renames are not looked for.
      const names = line.slice('diff --git a/'.length);
      file = names.slice((names.length + ' b/'.length) / 2);
    } else if (/^(?:old mode|new mode|Binary files) /.test(line)) {
      found.push(`${file}: ${line}`);
    }
  }
  closeFile();
  return found;
}

function lines(text: string): string[] {
  return text.split('\n').filter((line) => line !== '');
}
