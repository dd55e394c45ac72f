/**
 * Routes without a branch for each: one file of `server` lines that the upstream block includes. flow writes it and commits it on
 * the branch that the tree is on, so that the history of the traffic is in git, with the release that moved it.
 *
 * Invariants: the commit exists before the tree shows it, and differs from the one before in that file alone; the tree is clean
 * before and after, and moves as it does between branches (switch-note.ts), so that one cut in half is told from a person's edit;
 * a commit of somebody else is never taken off the branch. Of what Nginx refuses, or does not load, no commit stays on the branch.
 *
 * Hooks of the repository that git runs for a commit do not run for this one; those for a checkout do.
 */
import { posix } from 'node:path';
import type { IncludeConfig } from '../config/schema.ts';
import { StepError } from '../errors.ts';
import { type Host, requireReached } from '../hosts/host.ts';
import {
  assertClean,
  assertNothingInTheWay,
  moveTree,
  notSwitchable,
  readSuccessfully,
  readTree,
  textsNaming,
  type TreeProblem,
  treeProblem,
} from './config-repository.ts';
import { mendCutSwitch } from './cut-switch.ts';
import type { FilesOfRoute, PlanOptions, Route, RouteFiles, RouteObservation, RouteProblems } from './route-files.ts';
import { observed, problemSentence, sameSet, toldAs, untouched } from './route-files.ts';
import { fileText, serverLines } from './include-file.ts';
import { upstreamAddresses, upstreamIncludes, upstreamServerLines } from './upstream.ts';

export class IncludeRoute implements RouteFiles {
  readonly routes: readonly Route[] = [];
  readonly #host: Host;
  readonly #dir: string;
  readonly #include: IncludeConfig;
  readonly #addresses: Readonly<Record<string, string>>;

  constructor(host: Host, dir: string, include: IncludeConfig, addresses: Readonly<Record<string, string>>) {
    this.#host = host;
    this.#dir = dir;
    this.#include = include;
    this.#addresses = addresses;
  }

  hasRoute(servers: readonly string[]): boolean {
    return servers.length > 0 && servers.every((server) => this.#addresses[server] !== undefined);
  }

  byHand(servers: readonly string[]): string {
    const lines = serverLines(this.#include, servers, this.#addresses).join(' ');
    return `write "${lines}" into ${this.#path} and commit it (git -C ${this.#dir} commit ${this.#include.file})`;
  }

  get #path(): string {
    return posix.join(this.#dir, this.#include.file);
  }

  async observe(): Promise<RouteObservation> {
    const dir = this.#dir;
    return await observed(async () => {
      const tree = await readTree(this.#host, dir);
      const { branch } = tree;
      const problem = await treeProblem(this.#host, dir, tree);
      if (problem !== null) return { servers: null, branch, ...toldAs(problem) };
      const read = await this.#read(tree.head);
      return 'why' in read ? { servers: null, branch, ...toldAs(read) } : { servers: read.servers, branch };
    });
  }

  async problems(): Promise<RouteProblems> {
    const read = await this.#read('HEAD');
    if ('why' in read) return { wrong: [problemSentence(read)], differ: [] };
    const found = linesOf(read.text);
    const meant = linesOf(fileText(this.#include, read.servers, this.#addresses));
    const removed = found.filter((line) => !meant.includes(line)).map((line) => `-${line}`);
    const added = meant.filter((line) => !found.includes(line)).map((line) => `+${line}`);
    if (removed.length === 0 && added.length === 0) return { wrong: [], differ: [] };
    return {
      wrong: [],
      differ: [
        `${this.#path} says something else of ${read.servers.join(' and ')} than nginx.include in flow.yaml: ${[...removed, ...added].join('; ')}`,
      ],
    };
  }

  /** Whom the file of a commit sends traffic to, or why that cannot be said or relied on. */
  async #read(commit: string): Promise<{ servers: string[]; text: string } | TreeProblem> {
    const { file } = this.#include;
    const host = this.#host;
    const dir = this.#dir;
    const problem = (code: string, why: string, mend: string): TreeProblem => ({ code, why, mend });
    const names = Object.keys(this.#addresses);
    const [listed] = (await readSuccessfully(host, dir, ['ls-tree', '--full-name', commit, '--', `./${file}`])).split(
      '\n',
    );
    const [mode, , , path] = /^(\d+) (\w+) (\w+)\t(.*)$/s.exec(listed ?? '')?.slice(1) ?? [];
    if (mode === undefined || path === undefined) {
      const lines = fileText(this.#include, names, this.#addresses).trimEnd().split('\n').slice(1).join(' ');
      return problem(
        'CONFIG_INCLUDE_MISSING',
        `${dir} has no file ${file} in its last commit, which flow.yaml names under nginx.include`,
        `Put this into it: ${lines} Include it in the upstream block in place of the server lines there, and commit both`,
      );
    }
    if (!mode.startsWith('100')) {
      return problem(
        'CONFIG_INCLUDE_NO_FILE',
        `${this.#path} is no plain file`,
        'Put a file in its place, and commit it',
      );
    }
    const text = await readSuccessfully(host, dir, ['cat-file', 'blob', `${commit}:./${file}`]);
    const has = upstreamAddresses(text);
    const servers = names.filter((name) => has.includes(this.#addresses[name] ?? ''));
    const foreign = has.filter((address) => !Object.values(this.#addresses).includes(address));
    if (foreign.length > 0 || servers.length === 0) {
      return problem(
        'CONFIG_ROUTE_WRONG',
        `${this.#path} sends traffic to ${foreign.length > 0 ? `${foreign.join(' and ')}, which flow.yaml does not name` : 'no server'}`,
        `See how it came to that (git -C ${dir} log -p ${file}), put it right, and commit it`,
      );
    }
    const elsewhere = await this.#elsewhere(commit, path);
    return elsewhere ?? { servers, text };
  }

  /** Whether an upstream block includes the file, and none names one of the servers by itself; null when all is well. */
  async #elsewhere(commit: string, path: string): Promise<TreeProblem | null> {
    const { file } = this.#include;
    const host = this.#host;
    const dir = this.#dir;
    const texts = await textsNaming(host, dir, commit, 'upstream');
    texts.delete(path);
    const includesIt = (text: string) => upstreamIncludes(text).some((pattern) => mayMean(pattern, this.#path));
    if (![...texts.values()].some(includesIt)) {
      return {
        code: 'CONFIG_INCLUDE_UNUSED',
        why: `no upstream block in ${dir} includes ${file}, so what stands there changes nothing`,
        mend: `Write "include ${this.#path};" into the upstream block in place of its server lines, and commit it`,
      };
    }
    const own = Object.entries(this.#addresses);
    for (const [name, text] of texts) {
      // A note or an old copy beside them is no configuration.
      if (!name.endsWith('.conf') && !includesIt(text)) continue;
      const named = own.filter(([, address]) => upstreamAddresses(text).includes(address)).map(([server]) => server);
      if (named.length === 0) continue;
      return {
        code: 'CONFIG_ROUTE_WRONG',
        why: `${posix.join(dir, name)} names ${named.join(' and ')} in an upstream block as well, where flow could not take ${named.length === 1 ? 'it' : 'them'} out`,
        mend: `Leave those lines to ${file}, and commit that`,
      };
    }
    return null;
  }

  async plan(
    servers: readonly string[],
    { believed, again, purpose = 'flow', tell }: PlanOptions,
  ): Promise<{ to: FilesOfRoute; back: FilesOfRoute }> {
    const host = this.#host;
    const dir = this.#dir;
    const { file } = this.#include;
    if (!this.hasRoute(servers)) {
      throw new StepError(
        'ROUTE_UNKNOWN',
        'unsafe',
        `No route sends traffic to exactly ${servers.join(', ') || 'no server'}. Nothing was changed.`,
      );
    }
    const mended = await mendCutSwitch(host, dir);
    if (mended !== null) tell(mended);
    const { branch, head } = await untouched(() => assertClean(host, dir, again));
    const read = await untouched(() => this.#read(head));
    if ('why' in read) throw notSwitchable(read, again);
    const commit = await untouched(() => this.#record(head, servers, purpose));
    await untouched(() => assertNothingInTheWay(host, dir, { commit, branch }, again));
    // A run that was cut in the middle of a switch may have left the tree on the very route that Nginx refuses now.
    const isAsBelieved = believed === undefined || sameSet(believed, read.servers);
    const before = isAsBelieved ? head : await untouched(() => this.#record(head, believed, `${purpose}, taken back`));
    const filesOf = (target: string, who: readonly string[]): FilesOfRoute => ({
      servers: who,
      branch,
      name: `commit ${target.slice(0, 10)}`,
      called: `the route to ${who.join(' and ')} (${file})`,
      correct: `Correct it in ${dir} and commit it there, on ${branch}`,
      enter: async () => {
        if (target === commit)
          tell(
            `${file}: ${serverLines(this.#include, who, this.#addresses).join(' ')} (commit ${commit.slice(0, 10)})`,
          );
        const now = (await readSuccessfully(host, dir, ['rev-parse', '--verify', 'HEAD'])).trim();
        // Only what flow itself has put there is left again; anything else was committed by somebody since.
        const from = [head, commit, before].includes(now) ? now : head;
        return (await moveTree(host, dir, { branch, from, to: target })).head;
      },
    });
    return { to: filesOf(commit, servers), back: filesOf(before, believed ?? read.servers) };
  }

  /** The commit on top of another one whose file sends traffic to these servers; that one itself where it does already. Changes nothing else. */
  async #record(on: string, servers: readonly string[], purpose: string): Promise<string> {
    const message = `${purpose}: traffic to ${servers.join(' and ')}`;
    const result = await this.#host.run(['sh', '-c', RECORD_SCRIPT, 'sh', on, this.#include.file, message], {
      cwd: this.#dir,
      input: fileText(this.#include, servers, this.#addresses),
      env: { LC_ALL: 'C' },
    });
    requireReached(this.#host, result);
    if (result.status === 0) return result.stdout.trim();
    throw new StepError(
      'CONFIG_COMMIT_FAILED',
      'unsafe',
      `Git could not write the commit for ${this.#path}: ${result.notStarted ?? (result.stderr.trim() || `status ${String(result.status)}`)}. ` +
        `Nothing was changed. Look with: git -C ${this.#dir} status`,
    );
  }
}

/**
 * `sh -c SCRIPT sh COMMIT FILE MESSAGE`, the text of the file on standard input: prints the commit. It writes objects of git, which
 * no branch and no tree shows yet, and an index of its own.
 */
const RECORD_SCRIPT = `
unset GIT_DIR GIT_WORK_TREE GIT_OBJECT_DIRECTORY GIT_NAMESPACE
index=$(git rev-parse --absolute-git-dir)/flow-record.$$ || exit 70
trap 'rm -f "$index" "$index.lock"' EXIT
GIT_INDEX_FILE=$index
export GIT_INDEX_FILE
path=$(git rev-parse --show-prefix)$2
git read-tree "$1" && blob=$(git hash-object -w --stdin) || exit 71
mode=$(git ls-files --stage --full-name -- ":(top,literal)$path")
mode=\${mode%% *}
git update-index --add --cacheinfo "\${mode:-100644},$blob,$path" && tree=$(git write-tree) || exit 71
if [ "$tree" = "$(git rev-parse --verify "$1^{tree}")" ]; then printf '%s\n' "$1"; exit 0; fi
if ! git var GIT_COMMITTER_IDENT >/dev/null 2>&1; then
  # Whoever never made a commit on this host has no name for git.
  GIT_AUTHOR_NAME=flow GIT_COMMITTER_NAME=flow GIT_AUTHOR_EMAIL=flow@localhost GIT_COMMITTER_EMAIL=flow@localhost
  export GIT_AUTHOR_NAME GIT_COMMITTER_NAME GIT_AUTHOR_EMAIL GIT_COMMITTER_EMAIL
fi
printf '%s\n' "$3" | git commit-tree "$tree" -p "$1" || exit 71
`;

/** The server lines of a text, made comparable. */
const linesOf = (text: string): string[] =>
  upstreamServerLines(text).map(([address = '', ...parameters]) => ['server', address, ...parameters.sort()].join(' '));

/**
 * Whether an include may mean the file: relative ones are so to the folder of nginx.conf, which is known to Nginx alone, so that the
 * end of the path decides. Nginx's patterns are those of a shell, and `*` does not reach over a slash.
 */
function mayMean(pattern: string, path: string): boolean {
  const parts = posix
    .normalize(pattern)
    .split(/([*?])/)
    .map((part) => {
      if (part === '*') return '[^/]*';
      return part === '?' ? '[^/]' : part.replaceAll(/[$()+.[\\\]^{|}]/g, String.raw`\$&`);
    });
  return new RegExp(`${pattern.startsWith('/') ? '^' : '/'}${parts.join('')}$`).test(path);
}
