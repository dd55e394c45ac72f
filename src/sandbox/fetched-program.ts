/**
 * Where a program of the sandbox comes from: one that is installed, or a copy of the distribution's package, unpacked into
 * the user's cache folder. Invariant: nothing of the system changes. The package lists are flow's own, the package is
 * unpacked and never installed, no service is registered or started, and the cache entry appears by one rename, so
 * that several processes may look for it at once.
 *
 * Deliberately absent: building from source, and any download that apt does not verify.
 */
import { constants } from 'node:fs';
import { access, chmod, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { delimiter, isAbsolute, join } from 'node:path';
import { codeOf, EXIT, FlowError } from '../errors.ts';
import type { RunResult } from '../hosts/host.ts';
import { localHost } from '../hosts/local.ts';

/** Folders that hold daemons but are often missing from an ordinary user's PATH. */
const SYSTEM_FOLDERS = ['/usr/sbin', '/usr/local/sbin', '/usr/local/bin', '/usr/local/nginx/sbin', '/opt/homebrew/bin'];
const APT_TIMEOUT_MS = 120_000;
const PROBE_TIMEOUT_MS = 10_000;

/** A program that a sandbox needs. */
export interface NeededProgram {
  /** Its file name. */
  name: string;
  /** As people call it. */
  title: string;
  /** The environment variable that names another. */
  variable: string;
  /** The packages that hold it, one after the other; the first that does wins. */
  packages: readonly string[];
  /** Where it lies in a package. */
  paths: readonly string[];
  /** What it is started with to see whether it runs, and whether that showed it. */
  probe: { args: readonly string[]; shows: (result: RunResult) => boolean };
  /** How it is installed, a line for each system. */
  install: readonly string[];
}

export interface FindOptions {
  /** The environment that is looked at: the variable, PATH, XDG_CACHE_HOME, HOME. Default: this process's own. */
  env?: NodeJS.ProcessEnv;
  /** Folders searched after the PATH. */
  systemFolders?: readonly string[];
  /** Told, in one line, about work that takes seconds. */
  onProgress?: (line: string) => void;
}

/**
 * The absolute path of a program that runs: what the variable names, else the PATH, else the cached copy, else a copy
 * fetched with `apt-get download` into the cache (a few seconds, once).
 *
 * Throws FlowError `NAME_UNUSABLE` when the variable names something that does not run, and `NAME_MISSING`, saying
 * what to install, when there is none and it cannot be fetched.
 */
export async function findProgram(needed: NeededProgram, options: FindOptions = {}): Promise<string> {
  const env = options.env ?? process.env;
  const named = set(env[needed.variable]);
  if (named !== undefined) {
    if (isAbsolute(named) && (await runs(needed, named))) return named;
    throw new FlowError(
      `${needed.name.toUpperCase()}_UNUSABLE`,
      EXIT.usage,
      `${needed.variable} is "${named}", which is not the absolute path of ${article(needed)} that runs. Nothing was changed. ` +
        'Correct it, or unset it and let flow look for one.',
    );
  }
  const folders = [...(env.PATH ?? '').split(delimiter), ...(options.systemFolders ?? SYSTEM_FOLDERS)];
  for (const folder of folders) {
    if (!isAbsolute(folder)) continue;
    const candidate = join(folder, needed.name);
    if (await runs(needed, candidate)) return candidate;
  }
  const home = set(env.HOME) ?? homedir();
  const shelf = join(set(env.XDG_CACHE_HOME) ?? join(home, '.cache'), 'flow', needed.name);
  const entry = join(shelf, await systemName());
  const cached = join(entry, needed.name);
  if (await runs(needed, cached)) return cached;
  await fetchInto(needed, shelf, entry, env, options.onProgress ?? (() => undefined));
  return cached;
}

const article = ({ title }: NeededProgram): string => `${/^[AEIOUNs]/.test(title) ? 'an' : 'a'} ${title}`;

/** The value of an environment variable; an empty one counts as not set. */
function set(value: string | undefined): string | undefined {
  return value === '' ? undefined : value;
}

/** True when the file is executable and `-v` succeeds, so all its libraries are there. */
async function runs({ probe }: NeededProgram, program: string): Promise<boolean> {
  try {
    await access(program, constants.X_OK);
  } catch {
    return false;
  }
  return probe.shows(await localHost().run([program, ...probe.args], { timeoutMs: PROBE_TIMEOUT_MS }));
}

/** Distinguishes systems that share a home folder: a binary of one need not run on the other. */
async function systemName(): Promise<string> {
  let release = '';
  try {
    release = await readFile('/etc/os-release', 'utf8');
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
  }
  const field = (name: string) => new RegExp(`^${name}="?([A-Za-z0-9._-]+)"?$`, 'm').exec(release)?.[1];
  return [field('ID') ?? process.platform, field('VERSION_ID') ?? '0', process.arch].join('-');
}

async function fetchInto(
  needed: NeededProgram,
  shelf: string,
  home: string,
  env: NodeJS.ProcessEnv,
  onProgress: (line: string) => void,
): Promise<void> {
  await mkdir(shelf, { recursive: true });
  // On the shelf itself and not in /tmp: a rename is atomic only within one file system.
  const work = await mkdtemp(join(shelf, '.fetching-'));
  try {
    const path = env.PATH ?? '/usr/bin:/bin';
    const apt = await ownApt(work, path);
    onProgress(`Fetching ${needed.title} once with apt-get download; it is unpacked, not installed.`);
    requireSuccess(needed, await apt(['update']), 'apt-get update');
    const tree = join(work, 'tree');
    const program = await unpackFirst(needed, apt, work, tree, path);
    await writeLauncher(needed, tree, program);
    if (!(await runs(needed, join(tree, needed.name)))) {
      await unpackLibraries(needed, apt, work, tree, path);
      await writeLauncher(needed, tree, program);
    }
    if (!(await runs(needed, join(tree, needed.name))))
      throw missing(needed, `the ${needed.title} that apt-get fetched does not run here`);
    await publishTree(needed, tree, home);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

type Apt = (args: readonly string[]) => Promise<RunResult>;

/** apt-get with lists and caches of its own, so that it needs no root and leaves the system's alone. */
async function ownApt(work: string, path: string): Promise<Apt> {
  for (const folder of ['lists/partial', 'cache/archives/partial', 'packages']) {
    await mkdir(join(work, folder), { recursive: true });
  }
  const configFile = join(work, 'apt.conf');
  // The hooks are cleared because container images use them to empty the system's own package cache. `root` turns off
  // the download user, which could not enter this private folder.
  const config = [
    `Dir::State::lists "${join(work, 'lists')}";`,
    `Dir::Cache "${join(work, 'cache')}";`,
    'APT::Sandbox::User "root";',
    'APT::Update::Error-Mode "any";',
    '#clear APT::Update::Pre-Invoke;',
    '#clear APT::Update::Post-Invoke;',
    '#clear APT::Update::Post-Invoke-Success;',
    '#clear DPkg::Post-Invoke;',
  ];
  await writeFile(configFile, `${config.join('\n')}\n`);
  return (args) =>
    localHost().run(['apt-get', `--config-file=${configFile}`, '--quiet', ...args], {
      cwd: join(work, 'packages'),
      env: { PATH: path, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C.UTF-8' },
      timeoutMs: APT_TIMEOUT_MS,
    });
}

/** Unpacks the first package that holds the program into `tree`; answers the program's path relative to it. */
async function unpackFirst(needed: NeededProgram, apt: Apt, work: string, tree: string, path: string): Promise<string> {
  let last: RunResult | undefined;
  for (const name of needed.packages) {
    last = await apt(['download', name]);
    if (last.status !== 0) continue;
    await unpackAll(needed, work, tree, path);
    for (const program of needed.paths) {
      if (await exists(join(tree, program))) return program;
    }
  }
  throw missing(
    needed,
    `apt-get download found no package with ${needed.title} in it${last === undefined ? '' : `: ${lastLine(last)}`}`,
  );
}

/** Adds the libraries the packages ask for, for systems that have none of them installed. */
async function unpackLibraries(
  needed: NeededProgram,
  apt: Apt,
  work: string,
  tree: string,
  path: string,
): Promise<void> {
  const packages = await packageFiles(work);
  const wanted = new Set<string>();
  for (const file of packages) {
    const fields = await localHost().run(['dpkg-deb', '-f', file, 'Depends'], { env: { PATH: path } });
    for (const clause of fields.stdout.split(',')) {
      const name = /^\s*((?:lib|zlib)[a-z0-9.+-]*)/.exec(clause)?.[1];
      // The C library belongs to the system: a second copy of it beside the system's loader does not work.
      if (name !== undefined && name !== 'libc6') wanted.add(name);
    }
  }
  if (wanted.size > 0)
    requireSuccess(needed, await apt(['download', ...wanted]), `apt-get download ${[...wanted].join(' ')}`);
  await unpackAll(needed, work, tree, path);
}

async function unpackAll(needed: NeededProgram, work: string, tree: string, path: string): Promise<void> {
  for (const file of await packageFiles(work)) {
    requireSuccess(
      needed,
      await localHost().run(['dpkg-deb', '-x', file, tree], { env: { PATH: path } }),
      'dpkg-deb -x',
    );
  }
}

async function packageFiles(work: string): Promise<string[]> {
  const folder = join(work, 'packages');
  return (await readdir(folder)).filter((name) => name.endsWith('.deb')).map((name) => join(folder, name));
}

/**
 * The cache entry's program: finds the unpacked libraries, then becomes the real one. Written relative to itself, because
 * the folder is renamed once it is complete.
 */
async function writeLauncher(needed: NeededProgram, tree: string, program: string): Promise<void> {
  const text = `#!/bin/sh
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
for folder in "$here"/usr/lib "$here"/usr/lib/*-linux-* "$here"/lib "$here"/lib/*-linux-*; do
  if [ -d "$folder" ]; then LD_LIBRARY_PATH="$folder\${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"; fi
done
export LD_LIBRARY_PATH
exec "$here/${program}" "$@"
`;
  const file = join(tree, needed.name);
  await writeFile(file, text);
  await chmod(file, 0o755);
}

/** Renames the complete tree into its place; when another process was first, its tree is as good. */
async function publishTree(needed: NeededProgram, tree: string, home: string): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      await rename(tree, home);
      return;
    } catch (error) {
      if (!['ENOTEMPTY', 'EEXIST'].includes(codeOf(error) ?? '')) throw error;
      if (await runs(needed, join(home, needed.name))) return;
      if (attempt > 0)
        throw missing(needed, `${home} holds ${article(needed)} that does not run; delete that folder and try again`);
      // A broken entry (a system upgraded since) is moved aside by rename, so that nobody sees half a folder.
      await rename(home, join(tree, '..', 'replaced')).catch(() => undefined);
    }
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}

function requireSuccess(needed: NeededProgram, result: RunResult, what: string): void {
  if (result.status === 0) return;
  const why = result.notStarted ?? (result.timedOut ? 'it took too long' : lastLine(result));
  throw missing(needed, `${what} failed: ${why}`);
}

function lastLine(result: RunResult): string {
  return `${result.stdout}\n${result.stderr}`.trim().split('\n').at(-1) ?? '';
}

function missing({ name, title, variable, install }: NeededProgram, why: string): FlowError {
  return new FlowError(
    `${name.toUpperCase()}_MISSING`,
    EXIT.problemFound,
    `No ${title} was found, and none could be fetched (${why}). Nothing was installed or changed. Install one, ` +
      `no service needs to run:\n${install.map((line) => `  ${line}\n`).join('')}` +
      `or set ${variable} to the absolute path of ${name === 'sshd' ? 'an sshd' : `an ${name} program`}.`,
  );
}
