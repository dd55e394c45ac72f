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
import { messageOf, StepError } from '../errors.ts';
import { type Host, requireReached, type RunOptions, type RunResult } from '../hosts/host.ts';
import { isOver, LOCKED_STATUS, MOVED_STATUS, readNote, SWITCH_SCRIPT, type SwitchNote } from './switch-note.ts';
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

const ENVIRONMENT = { LC_ALL: 'C', GIT_TERMINAL_PROMPT: '0', GIT_EDITOR: 'true' };

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
    { env: ENVIRONMENT, ...options },
  );
  requireReached(host, result);
  if (result.status === null || result.status === 127) {
    throw await unreadable(host, dir, result, `git ${args[0] ?? ''}`);
  }
  return result;
}

/** Reads never take the index lock: a reader must not make someone's git command fail. */
function read(host: Host, dir: string, args: readonly string[], input = ''): Promise<RunResult> {
  return git(host, dir, ['--no-optional-locks', ...args], { input });
}

/** What a command of git that reads prints. Throws StepError when it fails. */
export async function readSuccessfully(host: Host, dir: string, args: readonly string[], input = ''): Promise<string> {
  const result = await read(host, dir, args, input);
  if (result.status !== 0) throw await unreadable(host, dir, result, `git ${args[0] ?? ''}`);
  return result.stdout;
}

/** Why git could not tell, found out by looking and not by what it printed. */
async function unreadable(host: Host, dir: string, result: RunResult, what: string): Promise<StepError> {
  const unsafe = (code: string, text: string) => new StepError(code, 'unsafe', text);
  if (result.notStarted === undefined && !result.timedOut) {
    const isThere = await host.run(['test', '-d', dir]);
    if (isThere.status === 1) {
      return unsafe(
        'CONFIG_DIR_MISSING',
        `There is no folder ${dir} on ${host.name}, where flow.yaml says that the configuration of Nginx lies. ` +
          `Nothing was changed. Correct nginx.dir in flow.yaml, and look at it: flow config check`,
      );
    }
    const plain = await host.run(['git', '-C', dir, 'rev-parse', '--git-dir']);
    if (plain.status === 128) {
      const trusting = await host.run(['git', '-c', 'safe.directory=*', '-C', dir, 'rev-parse', '--git-dir']);
      if (trusting.status === 0) return unsafe('CONFIG_OTHER_OWNER', await otherOwner(host, dir));
      return unsafe(
        'CONFIG_NOT_A_REPOSITORY',
        `${dir} on ${host.name} is no git repository, and flow switches traffic by its branches. ` +
          `Nothing was changed. Correct nginx.dir in flow.yaml, or make it one: git -C ${dir} init`,
      );
    }
  }
  const why = result.notStarted ?? (result.timedOut ? 'it did not answer in time' : result.stderr.trim());
  return new StepError(
    'CONFIG_REPOSITORY_UNREADABLE',
    'unreachable',
    `${what} failed in ${dir} on ${host.name}: ${why || `status ${String(result.status)}`}. ` +
      `Nothing was changed by it. Look with: git -C ${dir} status`,
  );
}

/** Git refuses to work in a repository of somebody else (CVE-2022-24765): whoever owns it could make us run programs. */
async function otherOwner(host: Host, dir: string): Promise<string> {
  const name = async (argv: [string, ...string[]], otherwise: string) => {
    const { status, stdout } = await host.run(argv);
    return status === 0 && stdout.trim() !== '' ? stdout.trim() : otherwise;
  };
  const owner = await name(['stat', '-c', '%U', dir], 'somebody else');
  const self = await name(['id', '-un'], 'another user');
  return (
    `${dir} belongs to ${owner}, and flow runs as ${self}: git does not work in the repository of another user, ` +
    `because its hooks and settings would run as ${self}. Nothing was changed. Run flow as ${owner}, ` +
    `or tell git that you trust it: git config --global --add safe.directory ${dir}`
  );
}

function ref(branch: string): string {
  return `refs/heads/${branch}`;
}

/** True when the branch exists; one that git does not allow as a name does not. Throws StepError when git cannot tell. */
export async function branchExists(host: Host, dir: string, branch: string): Promise<boolean> {
  // `git switch` takes a short name, and a name that starts with "-" can only be given as an option.
  if (branch.startsWith('-')) return false;
  const result = await read(host, dir, ['show-ref', '--verify', '--quiet', '--', ref(branch)]);
  if (result.status === 0 || result.status === 1) return result.status === 0;
  throw await unreadable(host, dir, result, 'git show-ref');
}

/** How the tree stands. Throws StepError `unreachable` or `unsafe` when git can not tell. */
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
  return (await heldLocks(host, dir)).length > 0;
}

/** The lock files of git that stand now, as absolute paths. */
export async function heldLocks(host: Host, dir: string): Promise<string[]> {
  const known = lockPaths.get(host) ?? new Map<string, string[]>();
  lockPaths.set(host, known);
  const paths =
    known.get(dir) ??
    lines(await readSuccessfully(host, dir, ['rev-parse', '--git-path', 'index.lock', '--git-path', 'HEAD.lock'])).map(
      (path) => posix.resolve(dir, path),
    );
  known.set(dir, paths);
  const slices = await Promise.all(paths.map((path) => host.readSlice(path, 0, 0)));
  return paths.filter((_path, index) => slices[index] !== null);
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
  throw await unreadable(host, dir, diff, 'git diff');
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
  return await switchBetween(host, dir, await beginning(host, dir, branch), 'switch');
}

/**
 * Moves the branch that the tree is on, and the tree with it, from one commit to another; everything else as `switchTree`. A commit
 * that somebody made meanwhile is kept: then it is refused.
 */
export async function moveTree(
  host: Host,
  dir: string,
  { branch, from, to }: { branch: string; from: string; to: string },
): Promise<TreeState> {
  const gitDir = (await readSuccessfully(host, dir, ['rev-parse', '--absolute-git-dir'])).trim();
  const between = { gitDir, from: branch, to: branch, fromCommit: from, toCommit: to };
  return await switchBetween(host, dir, between, 'move');
}

async function switchBetween(host: Host, dir: string, between: Beginning, mode: 'switch' | 'move'): Promise<TreeState> {
  const { to: branch, toCommit } = between;
  const target = mode === 'switch' ? branch : `to ${toCommit.slice(0, 10)} on ${branch}`;
  const result = await runSwitch(host, dir, between, mode);
  if (result.status === LOCKED_STATUS) {
    throw notSwitchable(await lockProblem(host, dir));
  }
  if (result.status === MOVED_STATUS) {
    throw notSwitchable({
      code: 'CONFIG_BRANCH_MOVED',
      why: `somebody committed to ${branch} of ${dir} in this very moment`,
      mend: `See what it is: git -C ${dir} log -p -1`,
    });
  }
  const tree = await readAfterSwitch(host, dir, target);
  const isClean = tree.dirty.length === 0 && !tree.locked;
  const isThere = tree.branch === branch && (mode === 'switch' || tree.head === toCommit);
  if (isThere && isClean && (await equalsByContent(host, dir, branch))) return tree;
  const text = result.stderr.trim();
  if (result.status !== 0 && isClean) {
    throw new StepError(
      'CONFIG_SWITCH_REFUSED',
      'rejected',
      `git switch ${target} was refused in ${dir}: ${text}. The tree is still on ${tree.branch ?? tree.head}, ` +
        `unchanged. Mend what git names, and try again.`,
    );
  }
  throw new StepError(
    'CONFIG_TREE_NOT_THE_BRANCH',
    'unknownOutcome',
    `After git switch ${target}, the files in ${dir} are not those of the branch${text === '' ? '' : ` (${text})`}. ` +
      `Nginx was not reloaded${tree.locked ? ', and the next switch puts the files back' : ''}. Look with: git -C ${dir} status`,
  );
}

/** What a switch is between, and where git keeps its files. */
type Beginning = Pick<SwitchNote, 'from' | 'to' | 'fromCommit' | 'toCommit'> & { gitDir: string };

/** How a switch to the branch begins; one command, because traffic waits for it. */
async function beginning(host: Host, dir: string, branch: string): Promise<Beginning> {
  const asked = ['--absolute-git-dir', 'HEAD', ref(branch), '--symbolic-full-name', 'HEAD'];
  const told = lines(await readSuccessfully(host, dir, ['rev-parse', ...asked]));
  const [gitDir = '', fromCommit = '', toCommit = '', head = ''] = told;
  return { gitDir, from: head.slice('refs/heads/'.length), to: branch, fromCommit, toCommit };
}

/** Puts back a switch that was cut in half; see cut-switch.ts for when this may be done. */
export async function runBack(host: Host, dir: string, note: SwitchNote): Promise<RunResult> {
  const gitDir = (await readSuccessfully(host, dir, ['rev-parse', '--absolute-git-dir'])).trim();
  return await runSwitch(host, dir, { ...note, gitDir }, 'back');
}

/** Runs the script of switch-note.ts; its status says how it went, and the lock stays where the files may be half of each. */
async function runSwitch(
  host: Host,
  dir: string,
  between: Beginning,
  mode: 'switch' | 'move' | 'back',
): Promise<RunResult> {
  const { gitDir, from, to, fromCommit, toCommit } = between;
  const unset = REDIRECTING.flatMap((name) => ['-u', name]);
  return await host.run(
    ['env', ...unset, 'sh', '-c', SWITCH_SCRIPT, 'sh', gitDir, from, to, fromCommit, toCommit, mode],
    { cwd: dir, changesWorld: true, timeoutMs: SWITCH_TIMEOUT_MS, env: ENVIRONMENT },
  );
}

/** Not being able to look is no proof that nothing was changed, once git has been told to switch. */
async function readAfterSwitch(host: Host, dir: string, target: string): Promise<TreeState> {
  try {
    return await readTree(host, dir);
  } catch (error) {
    throw new StepError(
      'CONFIG_TREE_NOT_THE_BRANCH',
      'unknownOutcome',
      `git switch ${target} was run in ${dir}, and what it did cannot be seen: ${messageOf(error)} Nginx was not reloaded.`,
      { cause: error },
    );
  }
}

/** Why a tree must not be switched, and what a person does about it. */
export interface TreeProblem {
  code: string;
  /** How it stands, as the rest of a sentence that begins with "but". */
  why: string;
  /** What to do, with its commands, as a sentence without its full stop; left out where the next switch puts it right. */
  mend?: string;
}

/** The problem as the failure of a step that did nothing; `again` is the command that tries it again. */
export function notSwitchable(
  { code, why, mend = 'The next switch puts it right' }: TreeProblem,
  again = 'send the same event again',
): StepError {
  const sentence = why.charAt(0).toUpperCase() + why.slice(1);
  return new StepError(code, 'unsafe', `${sentence}. Nothing was changed. ${mend}, then: ${again}`);
}

/** What keeps the tree from being switched at all, wherever to; null when nothing does. Reads only. */
export async function treeProblem(host: Host, dir: string, tree: TreeState): Promise<TreeProblem | null> {
  if (tree.locked) return await lockProblem(host, dir);
  const unfinished = await unfinishedProblem(host, dir);
  if (unfinished !== null) return unfinished;
  if (tree.dirty.length > 0) return dirtyProblem(dir, await filesOf(host, dir, tree.dirty));
  if (tree.branch !== null) return null;
  return {
    code: 'CONFIG_TREE_DETACHED',
    why: `${dir} stands on the commit ${tree.head.slice(0, 10)} and on no branch, so there is no branch to return to`,
    mend: `Put it on the branch that has these files: git -C ${dir} switch BRANCH (git -C ${dir} branch --points-at HEAD names it)`,
  };
}

const SHOWN = 10;

/** The first of them, and how many are left out. */
function some(all: readonly string[], separator = ', '): string {
  const rest = all.length - SHOWN;
  return `${all.slice(0, SHOWN).join(separator)}${rest > 0 ? `${separator}and ${rest} more` : ''}`;
}

/** Git names a folder of which it tracks nothing by the folder alone; the file in it is what a person has to find. */
export async function filesOf(host: Host, dir: string, dirty: readonly string[]): Promise<string[]> {
  const named = await Promise.all(
    dirty.map(async (line) => {
      if (!line.startsWith('?? ') || !line.endsWith('/')) return [line];
      const list = ['ls-files', '--others', '--exclude-standard', '--full-name', '--'];
      const found = await read(host, dir, [...list, `:(top,literal)${line.slice(3)}`]);
      const files = lines(found.stdout);
      return found.status === 0 && files.length > 0 ? files.map((file) => `?? ${file}`) : [line];
    }),
  );
  return named.flat();
}

function dirtyProblem(dir: string, dirty: readonly string[]): TreeProblem {
  const path = (line: string) => line.slice(3);
  const untracked = dirty.filter((line) => line.startsWith('?')).map(path);
  const changed = dirty.filter((line) => !line.startsWith('?')).map(path);
  const are = (files: readonly string[]) => (files.length === 1 ? 'is' : 'are');
  const whys = [
    ...(changed.length > 0 ? [`${some(changed)} ${are(changed)} changed and not committed`] : []),
    // Which files Nginx includes is known to Nginx alone, so every stranger counts.
    ...(untracked.length > 0
      ? [`${some(untracked)} ${are(untracked)} on no branch, and an include may take it in with the next reload`]
      : []),
  ];
  const [only] = changed.length === 1 ? changed : [];
  const mends = [
    ...(changed.length > 0
      ? [
          `See what was changed (git -C ${dir} diff HEAD), and commit it on every branch or drop it ` +
            `(git -C ${dir} restore --staged --worktree ${only ?? 'FILE'})`,
        ]
      : []),
    ...(untracked.length > 0
      ? [
          `Remove what is on no branch, commit it on every branch, or, where Nginx never reads it, ` +
            `name it in ${posix.join(dir, '.git/info/exclude')}`,
        ]
      : []),
  ];
  return { code: 'CONFIG_TREE_DIRTY', why: `${dir} is not clean: ${whys.join('; ')}`, mend: mends.join('. ') };
}

/** What git keeps while one of its commands waits for a person; it switches no branch until then, however clean the tree is. */
const UNFINISHED = [
  ['MERGE_HEAD', 'merge'],
  ['rebase-merge/head-name', 'rebase'],
  ['rebase-apply/head-name', 'rebase'],
  ['rebase-apply/applying', 'am'],
  ['CHERRY_PICK_HEAD', 'cherry-pick'],
  ['REVERT_HEAD', 'revert'],
] as const;

async function unfinishedProblem(host: Host, dir: string): Promise<TreeProblem | null> {
  const asked = UNFINISHED.flatMap(([name]) => ['--git-path', name]);
  const paths = lines(await readSuccessfully(host, dir, ['rev-parse', ...asked]));
  const slices = await Promise.all(paths.map((path) => host.readSlice(posix.resolve(dir, path), 0, 0)));
  const [, command] = UNFINISHED[slices.findIndex((slice) => slice !== null)] ?? [];
  if (command === undefined) return null;
  return {
    code: 'CONFIG_TREE_UNFINISHED',
    why: `a git ${command} was begun in ${dir} and not finished, and git switches no branch until it is`,
    mend: `Finish it (git -C ${dir} ${command} --continue) or give it up (git -C ${dir} ${command} --abort)`,
  };
}

/** Who made the lock, when, and whether a git runs that may hold it, as far as this can be seen. */
async function lockProblem(host: Host, dir: string): Promise<TreeProblem> {
  const [lock = posix.join(dir, '.git/index.lock')] = await heldLocks(host, dir);
  const note = await readNote(host, lock);
  if (note !== null) {
    const over = await isOver(host, note);
    return {
      code: over ? 'CONFIG_SWITCH_CUT' : 'CONFIG_TREE_LOCKED',
      why: `flow began to switch ${dir} ${betweenText(note)}, and ${over ? 'was cut off in the middle of it' : `process ${note.pid} is at it`}`,
      ...(over ? {} : { mend: 'Wait until it has ended' }),
    };
  }
  const stat = await host.run(['stat', '-c', '%Y %U', lock]);
  const [seconds, owner] = stat.status === 0 ? stat.stdout.trim().split(' ') : [];
  const made = owner === undefined ? '' : `, made ${ago(Date.now() - Number(seconds) * 1_000)} by ${owner}`;
  const base = { code: 'CONFIG_TREE_LOCKED', why: `${dir} holds a lock of git (${lock}${made})` };
  const running = await gitsIn(host, dir);
  if (running === null) {
    return { ...base, mend: `See whether a git still runs: ps -fC git; if none does: rm ${lock}` };
  }
  if (running.length > 0) {
    return { ...base, why: `${base.why}, and git works there: ${some(running)}`, mend: 'Wait until it has ended' };
  }
  return {
    code: 'CONFIG_TREE_LOCKED',
    why: `${base.why}, and no git can be seen at work there: one was killed`,
    mend: `Make sure that none runs (ps -fC git), then: rm ${lock}, and look at what it left: git -C ${dir} status`,
  };
}

/** Processes of git that work in the folder and may hold a lock; null when they cannot be listed. */
async function gitsIn(host: Host, dir: string): Promise<string[] | null> {
  const listed = await host.run(['pgrep', '-a', '-x', 'git']);
  if (listed.status !== 0 && listed.status !== 1) return null;
  const found: string[] = [];
  for (const line of lines(listed.stdout)) {
    // Readers, ours among them, take no lock.
    if (line.includes(' --no-optional-locks ')) continue;
    const [pid = ''] = line.split(' ', 1);
    const cwd = await host.run(['readlink', `/proc/${pid}/cwd`]);
    // Ended meanwhile, as most of them do: whoever holds the lock for longer than that is still there.
    if (cwd.status !== 0 && (await host.run(['test', '-e', `/proc/${pid}`])).status === 1) continue;
    const elsewhere = cwd.status === 0 && !`${cwd.stdout.trim()}/`.startsWith(`${dir}/`) && !line.includes(dir);
    if (!elsewhere) found.push(`process ${line}`);
  }
  return found;
}

/** What a switch is between, for messages: two branches, or two commits of one. */
export const betweenText = ({ from, to, fromCommit, toCommit }: SwitchNote): string =>
  from === to ? `on ${from}, from ${fromCommit.slice(0, 10)} to ${toCommit.slice(0, 10)}` : `from ${from} to ${to}`;

function ago(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1_000));
  if (seconds < 120) return `${seconds} s ago`;
  if (seconds < 7_200) return `${Math.floor(seconds / 60)} min ago`;
  return `${Math.floor(seconds / 3_600)} h ago`;
}

/**
 * Ignored files that stand where the branch has files of its own. Git would overwrite them without a word, or refuse when the
 * switch is under way. Reads only.
 */
export async function filesInTheWay(host: Host, dir: string, commit: string): Promise<string[]> {
  const names = (text: string) => text.split('\0').filter((name) => name !== '');
  const diff = ['diff', '--name-only', '-z', '--diff-filter=A', '--no-renames', '--no-ext-diff'];
  const added = names(await readSuccessfully(host, dir, [...diff, 'HEAD', commit, '--', ':/']));
  const found: string[] = [];
  // A command line has room for so many names.
  for (let at = 0; at < added.length; at += 500) {
    const paths = added.slice(at, at + 500).map((path) => `:(top,literal)${path}`);
    const list = ['ls-files', '--others', '--ignored', '--exclude-standard', '--full-name', '-z'];
    found.push(...names(await readSuccessfully(host, dir, [...list, '--', ...paths])));
  }
  return found;
}

/**
 * Throws StepError `unsafe` unless the tree may be switched to the branch: clean, no lock, on a branch, the branch
 * known, and nothing in its way; `again` is the command that the refusal names. Answers the tree's state. Reads only.
 */
export async function assertSwitchable(
  host: Host,
  dir: string,
  branch: string,
  again = 'send the same event again',
): Promise<TreeState & { branch: string }> {
  if (!(await branchExists(host, dir, branch))) throw notSwitchable(branchMissing(dir, branch), again);
  const tree = await assertClean(host, dir, again);
  await assertNothingInTheWay(host, dir, { commit: ref(branch), branch }, again);
  return tree;
}

/** Throws StepError `unsafe` unless the tree is clean, unlocked and on a branch. Answers its state. Reads only. */
export async function assertClean(host: Host, dir: string, again: string): Promise<TreeState & { branch: string }> {
  const tree = await readTree(host, dir);
  const problem = await treeProblem(host, dir, tree);
  const { branch } = tree;
  if (problem !== null || branch === null) throw notSwitchable(problem ?? dirtyProblem(dir, []), again);
  return { ...tree, branch };
}

/** Throws StepError `unsafe` when git would overwrite ignored files on the way to the commit of that branch. Reads only. */
export async function assertNothingInTheWay(
  host: Host,
  dir: string,
  { commit, branch }: { commit: string; branch: string },
  again: string,
): Promise<void> {
  const inTheWay = await filesInTheWay(host, dir, commit);
  if (inTheWay.length > 0) throw notSwitchable(overwriteProblem(dir, branch, inTheWay), again);
}

function branchMissing(dir: string, branch: string): TreeProblem {
  return {
    code: 'CONFIG_BRANCH_UNKNOWN',
    why: `${dir} has no branch ${JSON.stringify(branch)}`,
    mend: `Make it again (git -C ${dir} branch ${branch} COMMIT; where it was last: git -C ${dir} reflog)`,
  };
}

function overwriteProblem(dir: string, branch: string, files: readonly string[]): TreeProblem {
  return {
    code: 'CONFIG_FILE_IN_THE_WAY',
    why: `In ${dir}, git ignores ${some(files)}, and the branch ${branch} has a file of that name: switching to it would overwrite what is there`,
    mend: `Move it away, or take it out of the branch: git -C ${dir} show ${branch}:${files[0] ?? ''} shows what the branch has`,
  };
}

/** Git lets a branch be checked out in one folder at a time, also where that folder was deleted since. */
async function inUseProblem(host: Host, dir: string, branch: string): Promise<TreeProblem | null> {
  const found = await readSuccessfully(host, dir, ['for-each-ref', '--format=%(HEAD)%(worktreepath)', ref(branch)]);
  const [line = ''] = lines(found);
  // A star: it is checked out here.
  const path = line.slice(1);
  if (line.startsWith('*') || path === '') return null;
  const isGone = (await host.run(['test', '-d', path])).status === 1;
  return {
    code: 'CONFIG_BRANCH_IN_USE',
    why: `the branch ${branch} of ${dir} is checked out in another folder, ${path}${isGone ? ', which is gone' : ''}: git would refuse to switch to it`,
    mend: isGone
      ? `Let git forget that folder: git -C ${dir} worktree prune`
      : `Free the branch, which changes no file there: git -C ${path} switch --detach`,
  };
}

/** A route as the config names it, with the addresses that its branch has to name. */
export interface NamedRoute {
  servers: readonly string[];
  branch: string;
}

/**
 * Why the branch is not the route it is named for, or null: it is missing, it sends traffic to other servers than those, or
 * files stand in its way, or another folder has it checked out. Reads only.
 */
export async function routeProblem(
  host: Host,
  dir: string,
  route: NamedRoute,
  addresses: Readonly<Record<string, string>>,
): Promise<TreeProblem | null> {
  if (!(await branchExists(host, dir, route.branch))) return branchMissing(dir, route.branch);
  const wrong = await wrongServers(host, dir, route, addresses);
  if (wrong !== null) return wrong;
  const inTheWay = await filesInTheWay(host, dir, ref(route.branch));
  if (inTheWay.length > 0) return overwriteProblem(dir, route.branch, inTheWay);
  return await inUseProblem(host, dir, route.branch);
}

/** As routeProblem, of a branch that exists, and of its servers alone. `addresses`: host:port of every server by name. */
export async function wrongServers(
  host: Host,
  dir: string,
  { servers, branch }: NamedRoute,
  addresses: Readonly<Record<string, string>>,
): Promise<TreeProblem | null> {
  const has = await serversOn(host, dir, branch);
  const names = Object.keys(addresses).filter((name) => has.includes(addresses[name] ?? ''));
  if (names.length === servers.length && servers.every((name) => names.includes(name))) return null;
  const list = (all: readonly string[]) => (all.length === 0 ? 'none of the servers' : all.join(' and '));
  return {
    code: 'CONFIG_ROUTE_WRONG',
    why: `the branch ${branch} of ${dir} should send traffic to ${list(servers)}, but its upstream servers are ${has.join(', ') || 'none'} (${list(names)})`,
    mend: `See how it came to that (git -C ${dir} log -p ${branch}), and put the branch right`,
  };
}

/**
 * The addresses (`host:port`) that the upstream blocks of the branch's *.conf files name, sorted, each once; servers
 * marked `down` are left out. `path` limits it to one file or folder of `dir`.
 */
export async function upstreamServers(host: Host, dir: string, branch: string, path?: string): Promise<string[]> {
  await requireBranches(host, dir, [branch]);
  return await serversOn(host, dir, branch, path);
}

async function serversOn(host: Host, dir: string, branch: string, path?: string): Promise<string[]> {
  const where = path === undefined ? ':(glob)**/*.conf' : `:(literal)${path}`;
  const files = await textsAt(host, dir, ref(branch), [where]);
  return [...new Set([...files.values()].flatMap(upstreamAddresses))].sort();
}

/** As textsAt, of every file that has this word somewhere. */
export async function textsNaming(host: Host, dir: string, commit: string, word: string): Promise<Map<string, string>> {
  const found = await read(host, dir, ['grep', '-l', '-I', '-z', '-F', '--full-name', '-e', word, commit, '--', ':/']);
  if (found.status === 1) return new Map();
  if (found.status !== 0) throw await unreadable(host, dir, found, 'git grep');
  const names = found.stdout.split('\0').filter((name) => name !== '');
  return await textsAt(
    host,
    dir,
    commit,
    names.map((name) => `:(top,literal)${name.slice(commit.length + 1)}`),
  );
}

/** What the files of a commit hold, by their path from the top of the repository; `where`: pathspecs of git. */
async function textsAt(
  host: Host,
  dir: string,
  commit: string,
  where: readonly string[],
): Promise<Map<string, string>> {
  const text = ['--no-color', '--no-column', '--text', '--full-name', '--null', '--line-number', '--extended-regexp'];
  const result = await read(host, dir, ['grep', ...text, '-e', '', commit, '--', ...where]);
  if (result.status !== 0 && result.status !== 1) throw await unreadable(host, dir, result, 'git grep');
  const files = new Map<string, string[]>();
  for (const line of result.stdout.split('\n')) {
    const [name, , ...rest] = line.split('\0');
    if (name === undefined || rest.length === 0) continue;
    const file = name.slice(commit.length + 1);
    const content = files.get(file) ?? [];
    content.push(rest.join('\0'));
    files.set(file, content);
  }
  return new Map([...files].map(([file, content]) => [file, content.join('\n')]));
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
    throw notSwitchable(branchMissing(dir, branch));
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
