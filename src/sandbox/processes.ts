/**
 * The processes of a sandbox, found by what the kernel says of them and ended only then. A number in a pid file is
 * never enough: it may have passed to an innocent process. A sandbox's process is recognised by its command line or
 * its working folder, which lie under the sandbox's own root.
 */
import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { codeOf } from '../errors.ts';

const GRACE_MS = 3_000;
/** The folders of a sandbox that may hold an Nginx. */
const NGINX_FOLDERS = ['nginx', 'nginx2', 'nginx3', 'preview'];

export interface RunningProcess {
  pid: number;
  parent: number;
  argv: string[];
  /** Working folder; empty when it may not be read. */
  cwd: string;
}

/** What runs under this number, or null: nothing, or only the remains of a process that has ended (a zombie). */
export async function processOf(pid: number): Promise<RunningProcess | null> {
  try {
    const [stat, cmdline] = await Promise.all([
      readFile(`/proc/${pid}/stat`, 'latin1'),
      readFile(`/proc/${pid}/cmdline`, 'utf8'),
    ]);
    const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (state === 'Z' || cmdline === '') return null;
    const cwd = await readlink(`/proc/${pid}/cwd`).catch(() => '');
    return { pid, parent: Number(parent), argv: cmdline.split('\0').filter((word) => word !== ''), cwd };
  } catch (error) {
    if (['ENOENT', 'ESRCH', 'EACCES'].includes(codeOf(error) ?? '')) return null;
    throw error;
  }
}

/** Every process that belongs to the sandbox at `root`: servers, Nginx, runs of publish.sh and what those started. */
export async function sandboxProcesses(root: string): Promise<RunningProcess[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const all = (await Promise.all(pids.map(processOf))).filter((one) => one !== null);
  const own = new Set(
    all.filter(
      (one) => isServer(one, root) || isNginx(one, root) || isPublish(one, root) || isSshd(one, join(root, 'ssh')),
    ),
  );
  // What a publish.sh started (a sleep, a pipe) has nothing of the root in it, but a parent that has.
  for (let before = -1; before !== own.size; ) {
    before = own.size;
    const parents = new Set([...own].map((one) => one.pid));
    for (const one of all) if (parents.has(one.parent)) own.add(one);
  }
  return [...own].filter((one) => one.pid !== process.pid);
}

/** With its arguments, so that an editor open on the program is not taken for the program. */
export function isServer(one: RunningProcess, root: string): boolean {
  const named = one.argv.some((word) => word.startsWith(`${root}/servers/`) && /\/quickpay(\.cjs)?$/.test(word));
  return named && (one.argv.includes('--port') || one.argv.includes('-wait'));
}

/** An Nginx master names its prefix; a worker names nothing, but stands in the folder its master was started in. */
export function isNginx(one: RunningProcess, root: string): boolean {
  const title = one.argv[0] ?? '';
  const prefixes = NGINX_FOLDERS.map((folder) => join(root, folder));
  if (title.startsWith('nginx: master process'))
    return prefixes.some((prefix) => `${one.argv.join(' ')} `.includes(` -p ${prefix} `));
  return title.startsWith('nginx: worker process') && prefixes.includes(one.cwd);
}

/** The sshd that listens for a machine whose settings lie in or under the folder; its title holds its command line. */
export function isSshd(one: RunningProcess, folder: string): boolean {
  const line = one.argv.join(' ');
  return /(?:^|\/)sshd\b/.test(one.argv[0] ?? '') && line.includes(` -f ${folder}/`);
}

function isPublish(one: RunningProcess, root: string): boolean {
  return one.argv.some((word) => /(^|\/)publish\.sh$/.test(word)) && `${one.cwd}/`.startsWith(`${root}/`);
}

/** Ends all processes of the sandbox: SIGTERM, and SIGKILL for what is left after some seconds. */
export async function endSandboxProcesses(root: string): Promise<void> {
  const startedAt = Date.now();
  const told = new Set<number>();
  for (;;) {
    const left = await sandboxProcesses(root);
    if (left.length === 0) return;
    const insist = Date.now() - startedAt > GRACE_MS;
    for (const { pid } of left) {
      if (told.has(pid) && !insist) continue;
      told.add(pid);
      signal(pid, insist ? 'SIGKILL' : 'SIGTERM');
    }
    await sleep(20);
  }
}

/** Signals a process that may have ended meanwhile. */
export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if (codeOf(error) !== 'ESRCH') throw error;
  }
}
