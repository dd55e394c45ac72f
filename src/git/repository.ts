/**
 * The project's repository: what flow reads of it, and the few ways it is changed (R1.2, R2, R5.3).
 *
 * Invariants: refs move only all together and only from the values they were seen at; a push is atomic and names each
 * ref; the operator's tree is touched by `mergeIntoCurrent` alone. Commits are named by object id or full ref name,
 * branches and tags by their names, which are made full here, so that none becomes an option or another thing.
 */
import { realpath } from 'node:fs/promises';
import { resolve } from 'node:path';
import semver from 'semver';
import { EXIT, FlowError, messageOf, StepError } from '../errors.ts';
import { fullRef, gitOutput, objectId, printable, revision, runGit, said } from './command.ts';
import * as worktree from './worktree.ts';

/** A tag and the commit it names (an annotated tag's commit, not the tag object). */
export interface Tag {
  name: string;
  oid: string;
}

/** One ref to move. A null `from`: it must not exist. A null `to`: it is deleted. */
export interface RefMove {
  ref: string;
  from: string | null;
  to: string | null;
}

/** The repository that `dir` belongs to; nothing is read yet. */
export function openRepository(dir: string): Repository {
  return new Repository(dir);
}

export class Repository {
  readonly dir: string;

  constructor(dir: string) {
    this.dir = resolve(dir);
  }

  /**
   * The git directory that all worktrees share; absolute, without links.
   * Throws FlowError `NOT_A_REPOSITORY` (exit 2) when `dir` is in none.
   */
  async commonDir(): Promise<string> {
    const asked = await runGit(this.dir, ['rev-parse', '--git-common-dir']);
    if (asked.status === 0) return realpath(resolve(this.dir, asked.stdout.replace(/\n$/, '')));
    throw new FlowError(
      'NOT_A_REPOSITORY',
      EXIT.usage,
      `${this.dir} is not in a git repository (${said(asked)}). Nothing was changed. ` +
        `Run flow in the project's folder, or name it as git.dir in flow.yaml.`,
    );
  }

  /** The commit of an object id, `HEAD` or a full ref name; null when there is none. */
  async resolve(ref: string): Promise<string | null> {
    const commit = `${revision(ref)}^{commit}`;
    const asked = await runGit(this.dir, ['rev-parse', '--verify', '--quiet', '--end-of-options', commit]);
    return asked.status === 0 ? asked.stdout.trim() : null;
  }

  /** The commit of a local branch; null when there is none. */
  branchCommit(branch: string): Promise<string | null> {
    return isRefPart(branch) ? this.resolve(`refs/heads/${branch}`) : Promise.resolve(null);
  }

  /** The commit of a local tag; null when there is none. */
  tagCommit(name: string): Promise<string | null> {
    return isRefPart(name) ? this.resolve(`refs/tags/${name}`) : Promise.resolve(null);
  }

  /** The branch checked out in `dir`; null when HEAD is detached. */
  async currentBranch(): Promise<string | null> {
    const asked = await runGit(this.dir, ['symbolic-ref', '--quiet', 'HEAD']);
    const name = asked.stdout.trim();
    return asked.status === 0 && name.startsWith('refs/heads/') ? name.slice('refs/heads/'.length) : null;
  }

  /** What is changed or untracked in `dir`'s tree, as `git status --porcelain` prints it; empty when clean. */
  async status(): Promise<string[]> {
    // The branch line is there so that git says something: simple-git waits another 50 ms for a command that prints nothing.
    const args = [
      '--no-optional-locks',
      'status',
      '--porcelain=v1',
      '-z',
      '--branch',
      '--no-renames',
      '--untracked-files=normal',
    ];
    return entries(await gitOutput(this.dir, args)).filter((entry) => !entry.startsWith('## '));
  }

  /** The folders in which that branch is checked out. A ref that moves there leaves their files behind. */
  async worktreesOn(branch: string): Promise<string[]> {
    const listed = await gitOutput(this.dir, ['worktree', 'list', '--porcelain']);
    return listed.split('\n\n').flatMap((block) => {
      const lines = block.split('\n');
      const path = lines.find((line) => line.startsWith('worktree '))?.slice('worktree '.length);
      const gone = lines.some((line) => line.startsWith('prunable'));
      return path !== undefined && !gone && lines.includes(`branch refs/heads/${branch}`) ? [path] : [];
    });
  }

  /** A file of a commit, and whether it may be executed; null when there is none at that path. */
  async fileAt(commit: string, path: string): Promise<{ executable: boolean } | null> {
    const args = ['ls-tree', '-z', '--format=%(objectmode)', '--end-of-options', revision(commit), path];
    const asked = await runGit(this.dir, args);
    const [mode = ''] = asked.stdout.split('\0');
    return asked.status === 0 && /^(?:100|120)/.test(mode) ? { executable: mode !== '100644' } : null;
  }

  /** Throws StepError `unsafe`, with the commands to run, when git does not know who commits here. Reads only. */
  async requireIdentity(): Promise<void> {
    await worktree.requireIdentity(this.dir);
  }

  /** True when `a` is `b` or one of its ancestors. */
  async isAncestor(a: string, b: string): Promise<boolean> {
    const [first, asked] = await Promise.all([
      this.resolve(a),
      // Not --is-ancestor, which says nothing: simple-git waits another 50 ms for a command that prints nothing.
      runGit(this.dir, ['merge-base', '--end-of-options', revision(a), revision(b)]),
    ]);
    if (asked.status > 1) throw failed(this.dir, 'merge-base', said(asked));
    return asked.status === 0 && asked.stdout.trim() === first;
  }

  /** The files in which two commits differ. */
  async changedFiles(a: string, b: string): Promise<string[]> {
    const args = ['diff-tree', '-r', '--name-only', '-z', '--no-renames', '--end-of-options', revision(a), revision(b)];
    return entries(await gitOutput(this.dir, [...args, '--']));
  }

  /**
   * The last release before or at one of the commits (R2.2): of the tags they contain, the one with the highest version (`v1.3.7`
   * or `1.3.7`); pre-releases do not count. Null when there is none.
   */
  async latestReleaseTag(ofCommits: readonly string[]): Promise<Tag | null> {
    const format = '--format=%(refname:lstrip=2)%00%(objectname)%00%(*objectname)';
    const lists = await Promise.all(
      ofCommits.map((commit) =>
        gitOutput(this.dir, ['for-each-ref', `--merged=${revision(commit)}`, format, 'refs/tags']),
      ),
    );
    const tags = lists
      .join('\n')
      .split('\n')
      .flatMap((line) => {
        const [name = '', oid = '', peeled = ''] = line.split('\0');
        const version = releaseVersion(name);
        return version === null ? [] : [{ name, oid: peeled === '' ? oid : peeled, version }];
      });
    // Of two names for one version, the runbook's form with a "v" first.
    tags.sort((a, b) => semver.rcompare(a.version, b.version) || b.name.length - a.name.length);
    const [latest] = tags;
    return latest === undefined ? null : { name: latest.name, oid: latest.oid };
  }

  /** True when the history here is cut short (`git clone --depth`): what was released before may lie beyond the cut. */
  async isShallow(): Promise<boolean> {
    return (await gitOutput(this.dir, ['rev-parse', '--is-shallow-repository'])).trim() === 'true';
  }

  /**
   * Of the release tags that another repository has, those that are missing here and not older than the newest here that the
   * commit contains: without them the last release, and what came since, cannot be known.
   */
  async missingReleaseTags(theirs: readonly Tag[], ofCommit: string): Promise<string[]> {
    const latest = releaseVersion((await this.latestReleaseTag([ofCommit]))?.name ?? '');
    const newer = theirs.filter(({ name }) => {
      const version = releaseVersion(name);
      return version !== null && (latest === null || semver.gt(version, latest));
    });
    const known = await Promise.all(newer.map(({ name }) => this.tagCommit(name)));
    return newer.flatMap(({ name }, index) => (known[index] === null ? [name] : []));
  }

  /**
   * The commits in `to` that are not in `from`, newest first, merges left out, as `abc1234 Subject`; with `files`, those that
   * touch one of them.
   */
  async commitsBetween(from: string, to: string, files: readonly string[] = []): Promise<string[]> {
    const args = [
      'log',
      '-z',
      '--no-merges',
      '--no-color',
      '--no-show-signature',
      '--encoding=UTF-8',
      '--format=%h %s',
    ];
    const range = ['--end-of-options', revision(to), `^${revision(from)}`, '--', ...files];
    return entries(await gitOutput(this.dir, ['--literal-pathspecs', ...args, ...range])).map(subjectText);
  }

  /**
   * The first lines of the commits in `to` that are not in the tag, newest first, merges left out (R2.2), free of
   * what a terminal would obey, and none longer than 300 characters. A null tag: all of them.
   */
  async subjects(fromTag: string | null, to: string): Promise<string[]> {
    const since = fromTag === null ? [] : [`^${fullRef(`refs/tags/${fromTag}`)}`];
    const args = ['log', '-z', '--no-merges', '--no-color', '--no-show-signature', '--encoding=UTF-8', '--format=%s'];
    const logged = await gitOutput(this.dir, [...args, '--end-of-options', revision(to), ...since, '--']);
    return entries(logged).flatMap((subject) => subjectText(subject) || []);
  }

  /**
   * Brings the remote's branches to `refs/remotes/REMOTE/*`; moves nothing else and imports no tags. Twice is safe.
   * Throws StepError `unreachable`.
   */
  async fetch(remote: string): Promise<void> {
    await this.#requireRemote(remote);
    const branches = `+refs/heads/*:refs/remotes/${remote}/*`;
    const args = ['fetch', '--quiet', '--no-tags', '--no-recurse-submodules', '--no-write-fetch-head'];
    const fetched = await runGit(this.dir, [...args, '--end-of-options', remote, branches]);
    if (fetched.status !== 0) throw unreachable(remote, said(fetched));
  }

  /**
   * All branches and tags of the remote with their commits, asked now; nothing is brought here. Throws StepError `unreachable`.
   */
  async remoteRefs(remote: string): Promise<{ branches: Map<string, string>; tags: Tag[] }> {
    const refs = await this.#listRemote(remote, ['refs/heads/*', 'refs/tags/*']);
    const named = (prefix: string): [name: string, oid: string][] =>
      [...refs].flatMap(([ref, oid]) => (ref.startsWith(prefix) ? [[ref.slice(prefix.length), oid]] : []));
    return {
      branches: new Map(named('refs/heads/')),
      tags: named('refs/tags/').flatMap(([name, oid]) =>
        name.endsWith('^{}') ? [] : [{ name, oid: refs.get(`refs/tags/${name}^{}`) ?? oid }],
      ),
    };
  }

  async #listRemote(
    remote: string,
    patterns: readonly string[],
    asked: 'fetched from' | 'pushed to' = 'fetched from',
  ): Promise<Map<string, string>> {
    await this.#requireRemote(remote);
    // A remote may be pushed to at another address than it is fetched from.
    const address = asked === 'pushed to' ? await this.#pushAddress(remote) : remote;
    const listed = await runGit(this.dir, ['ls-remote', '--quiet', '--end-of-options', address, ...patterns]);
    if (listed.status !== 0) throw unreachable(remote, said(listed));
    // A pattern matches the end of a name too; the caller asks the map for the whole name.
    const rows = listed.stdout.split('\n').flatMap((line): [string, string][] => {
      const [oid, ref] = line.split('\t');
      return oid !== undefined && ref !== undefined ? [[ref, oid]] : [];
    });
    return new Map(rows);
  }

  async #pushAddress(remote: string): Promise<string> {
    const [address = remote] = (await gitOutput(this.dir, ['remote', 'get-url', '--push', remote])).split('\n');
    return address;
  }

  async #requireRemote(remote: string): Promise<void> {
    const known = isRefPart(remote)
      ? await runGit(this.dir, ['config', '--get-all', `remote.${remote}.url`])
      : { status: 1 };
    if (known.status === 0) return;
    throw new StepError(
      'REMOTE_UNKNOWN',
      'unsafe',
      `The project has no remote ${JSON.stringify(remote)}. Nothing was sent or fetched. ` +
        `See which there are: git -C ${this.dir} remote -v, and correct git.remote in flow.yaml.`,
    );
  }

  /**
   * Moves several refs, all or none, each only from the value it was seen at. Safe to do twice: where all have arrived
   * already, nothing is done.
   *
   * Throws StepError `unsafe` (nothing moved), naming the refs that are somewhere else than expected, or `rejected`
   * when git refuses. Does not touch files: see `worktreesOn`.
   */
  async moveRefs(moves: readonly RefMove[]): Promise<void> {
    const before = await this.#valuesOf(moves);
    if (moves.every(({ ref, to }) => before.get(ref) === to)) return;
    const input = moves.map(refCommand).join('');
    const args = ['update-ref', '-m', 'flow', '--stdin', '-z'];
    const updated = await runGit(this.dir, args, { input });
    if (updated.status === 0) return;
    const now = await this.#valuesOf(moves);
    const strayed = moves.filter(({ ref, from }) => now.get(ref) !== from);
    if (strayed.length === 0) throw failed(this.dir, 'update-ref', said(updated));
    const named = strayed.map(
      ({ ref, from }) => `${ref} is ${shortOid(now.get(ref) ?? null)} and was expected to be ${shortOid(from)}`,
    );
    throw new StepError(
      'REF_MOVED',
      'unsafe',
      `Someone moved what flow was about to move: ${named.join('; ')}. No ref was changed. ` +
        `Look at it: git -C ${this.dir} log --oneline --all -10`,
    );
  }

  async #valuesOf(moves: readonly RefMove[]): Promise<Map<string, string | null>> {
    const values = new Map<string, string | null>();
    for (const { ref } of moves) {
      const asked = await runGit(this.dir, ['rev-parse', '--verify', '--quiet', '--end-of-options', fullRef(ref)]);
      values.set(ref, asked.status === 0 ? asked.stdout.trim() : null);
    }
    return values;
  }

  /**
   * Pushes exactly these refs, all or none (R2.4). Safe to do twice: where the remote has them all, nothing is sent.
   *
   * Throws StepError: `rejected` (the remote or a hook refused, with its words; nothing arrived), `unreachable` (the
   * remote could not be asked before anything was sent), `unknownOutcome` (the connection broke or git was ended, and
   * whether it arrived could not be asked afterwards, or it may arrive yet).
   */
  async pushAtomic(remote: string, refs: readonly { ref: string; oid: string }[]): Promise<void> {
    if (await this.#hasArrived(remote, refs)) return;
    const specs = refs.map(({ ref, oid }) => `${objectId(oid)}:${fullRef(ref)}`);
    const args = ['push', '--atomic', '--porcelain', '--no-follow-tags', '--no-recurse-submodules'];
    let pushed: { status: number | null; why: string };
    try {
      const result = await runGit(this.dir, [...args, '--end-of-options', remote, ...specs]);
      pushed = { status: result.status, why: said(result) };
    } catch (error) {
      // Ended from outside, or by us after a long silence: the other side may still be at work on what it was sent.
      pushed = { status: null, why: messageOf(error) };
    }
    if (pushed.status === 0) return;
    // Whatever git makes of it, the remote alone knows: a connection that broke after the refs had moved reads like a
    // refusal, and the atomic push leaves all of them there or none.
    let arrived: boolean;
    try {
      arrived = await this.#hasArrived(remote, refs);
    } catch (error) {
      throw outcomeUnknown(`${remote} can not be asked what arrived`, error);
    }
    if (arrived) return;
    if (pushed.status === null) throw outcomeUnknown(`${remote} has nothing of it yet, but may still be taking it`);
    throw new StepError(
      'PUSH_REJECTED',
      'rejected',
      `The push to ${remote} was refused, and nothing of it arrived: ${pushed.why}`,
    );

    function outcomeUnknown(state: string, cause?: unknown): StepError {
      return new StepError(
        'PUSH_OUTCOME_UNKNOWN',
        'unknownOutcome',
        `The push to ${remote} broke off, and ${state}. What was said: ${pushed.why}`,
        { cause },
      );
    }
  }

  /**
   * Brings a commit, and a tag that names it, into the repository in a folder of another host (`at.host`; null for this one) as
   * refs/flow/COMMIT; nothing is checked out there. `at.ssh` is the command that reaches it. Twice is safe: what is there already is not
   * sent. Throws StepError `rejected` when it is no repository or refuses, `unreachable` when git could not be run.
   */
  async bringTo(
    at: { host: string | null; dir: string; ssh: string },
    commit: string,
    tag: string | null,
  ): Promise<void> {
    const oid = objectId(commit);
    const tags = tag === null ? [] : [fullRef(`refs/tags/${tag}`)];
    const address = at.host === null ? at.dir : `${at.host}:${at.dir}`;
    const specs = [`${oid}:refs/flow/${oid}`, ...tags.map((ref) => `${ref}:${ref}`)];
    const args = ['-c', `core.sshCommand=${at.ssh}`, 'push', '--quiet', '--no-verify', '--no-recurse-submodules'];
    const pushed = await runGit(this.dir, [...args, '--end-of-options', address, ...specs]);
    if (pushed.status === 0) return;
    throw new StepError(
      'COMMIT_NOT_BROUGHT',
      'rejected',
      `${oid.slice(0, 10)} could not be brought to ${address}: ${said(pushed)} It has to be a clone of this repository`,
    );
  }

  async #hasArrived(remote: string, refs: readonly { ref: string; oid: string }[]): Promise<boolean> {
    const there = await this.#listRemote(
      remote,
      refs.map(({ ref }) => fullRef(ref)),
      'pushed to',
    );
    return refs.every(({ ref, oid }) => there.get(ref) === oid);
  }

  /** Brings a worktree of flow's own to a commit; see worktree.ts. Twice is safe. */
  async prepareWorktree(path: string, oid: string): Promise<void> {
    await worktree.prepareWorktree(await this.#place(path), oid);
  }

  /** Merges in a worktree of flow's own; see worktree.ts. Twice is safe, and no ref moves. */
  async mergeInWorktree(path: string, merge: worktree.Merge): Promise<string> {
    return worktree.mergeInWorktree(await this.#place(path), merge);
  }

  /** Commits one file in a worktree of flow's own; see worktree.ts. Twice is safe, and no ref moves. */
  commitFile(path: string, file: string, content: string, message: string): Promise<string> {
    return worktree.commitFile(resolve(path), file, content, message);
  }

  async #place(path: string): Promise<worktree.WorktreePlace> {
    return { dir: this.dir, commonDir: await this.commonDir(), path: resolve(path) };
  }

  /**
   * Merges a commit into the branch checked out in `dir`, the operator's tree (R5.3), by fast-forward where that is
   * possible; answers the commit the branch is at then. Safe to do twice: what is contained already is not merged.
   *
   * Throws StepError: `unsafe` (nothing was touched) when tracked files are changed or a merge is under way;
   * `rejected` (the merge undone) on a conflict.
   */
  async mergeIntoCurrent(merge: Omit<worktree.Merge, 'into'>): Promise<string> {
    const oid = merge.from;
    const head = await this.resolve('HEAD');
    if (head !== null && (await this.isAncestor(objectId(oid), head))) return head;
    const changed = (await this.status()).filter((line) => !line.startsWith('??'));
    const merging = await runGit(this.dir, ['rev-parse', '--verify', '--quiet', 'MERGE_HEAD']);
    if (changed.length > 0 || merging.status === 0) {
      throw new StepError(
        'TREE_DIRTY',
        'unsafe',
        `${this.dir} is not clean (${changed.slice(0, 10).join(', ') || 'a merge is under way'}), so nothing was ` +
          `merged into it. Commit or stash that.`,
      );
    }
    await worktree.requireIdentity(this.dir);
    const top = (await gitOutput(this.dir, ['rev-parse', '--show-toplevel'])).replace(/\n$/, '');
    await worktree.mergeHere(top, ['--ff'], merge);
    const merged = await this.resolve('HEAD');
    if (merged === null) throw failed(this.dir, 'rev-parse', 'HEAD names no commit');
    return merged;
  }
}

/** One line of `git update-ref --stdin -z`; the whole input is one transaction. */
function refCommand({ ref, from, to }: RefMove): string {
  const name = fullRef(ref);
  if (from === to) return `verify ${name}\0${from === null ? '' : objectId(from)}\0`;
  if (to === null) return `delete ${name}\0${objectId(from ?? '')}\0`;
  return from === null ? `create ${name}\0${objectId(to)}\0` : `update ${name}\0${objectId(to)}\0${objectId(from)}\0`;
}

/** The version of a release tag (`v1.3.7`, `1.3.7`); null for any other name, pre-releases included. */
function releaseVersion(name: string): string | null {
  const version = semver.valid(name.replace(/^v/, ''));
  return version !== null && semver.prerelease(version) === null ? version : null;
}

/** True when the name can be the end of a ref; others name nothing. */
function isRefPart(name: string): boolean {
  try {
    fullRef(`refs/heads/${name}`);
    return name !== '' && !name.startsWith('-');
  } catch {
    return false;
  }
}

function shortOid(oid: string | null): string {
  return oid === null ? 'missing' : oid.slice(0, 12);
}

/** A commit's subject as one line to be read: some are a whole mail, or end in a terminal's sequences. */
function subjectText(subject: string): string {
  const text = printable(subject).trim();
  const start = /^.{300}(?=.)/su.exec(text)?.[0];
  return start === undefined ? text : `${start} …`;
}

function entries(text: string): string[] {
  return text.split('\0').filter((entry) => entry !== '');
}

function unreachable(remote: string, why: string): StepError {
  return new StepError(
    'REMOTE_UNREACHABLE',
    'unreachable',
    `The remote ${remote} could not be asked: ${why} Nothing was sent. ` +
      `Check the connection and your access: git ls-remote ${remote}`,
  );
}

function failed(dir: string, what: string, why: string): StepError {
  return new StepError('GIT_FAILED', 'rejected', `git ${what} failed in ${dir}: ${why} See: git -C ${dir} status`);
}
