/**
 * The machines of a sandbox, each behind an sshd of its own on 127.0.0.1, with keys of its own: the user's own ssh is neither
 * read nor changed. As root each is in a mount namespace of its own, in which the folders of the other machines are empty, so that
 * what is looked for on the wrong machine is not found.
 */
import { access, copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { EXIT, FlowError } from '../errors.ts';
import { quote } from '../hosts/jobs.ts';
import { localHost } from '../hosts/local.ts';
import { isSshd, signal, sandboxProcesses } from './processes.ts';

const WAIT_MS = 5_000;

/** One machine: the port of its sshd, and the folders that are not on it. */
export interface SshMachine {
  port: number;
  hides: string[];
}

/** The machines of one sandbox. Every name is one that `ssh -F configFile` knows. */
export interface SshHosts {
  readonly configFile: string;
  /** Starts the sshd of a machine. */
  start(name: string): Promise<void>;
  /** Ends the sshd of a machine and every connection to it; what runs there goes on. */
  stop(name: string): Promise<void>;
  /** Ends every connection to a machine; new ones are taken. */
  dropConnections(name: string): Promise<void>;
  /** What a command is to begin with so that it finds the folders of no machine but its own; empty where that cannot be had. */
  alone(): Promise<string[]>;
}

export function sshHostsAt(root: string, sshd: string, machines: Readonly<Record<string, SshMachine>>): SshHosts {
  const folder = join(root, 'ssh');
  const machine = (name: string): SshMachine => {
    const found = machines[name];
    if (found === undefined)
      throw new FlowError('NO_SUCH_MACHINE', EXIT.usage, `The sandbox has no machine "${name}" behind ssh.`);
    return found;
  };
  const dropConnections = async (name: string): Promise<void> => {
    for (const { pid, isListener } of await sshdsOf(root, name)) if (!isListener) signal(pid, 'SIGKILL');
  };
  return {
    configFile: join(folder, 'ssh_config'),
    async start(name) {
      const { port, hides } = machine(name);
      const argv = await startCommand(join(folder, name), sshd, hides);
      const result = await localHost().run(argv, { changesWorld: true, cwd: folder });
      const until = performance.now() + WAIT_MS;
      while (!(await listens(port))) {
        if (result.status !== 0 || performance.now() > until) {
          const why = `${result.stderr}${await readFile(join(folder, name, 'log'), 'utf8').catch(() => '')}`.trim();
          throw new FlowError('SANDBOX_FAILED', EXIT.problemFound, `The sshd of ${name} did not start: ${why}`);
        }
        await sleep(20);
      }
    },
    dropConnections,
    async alone() {
      if (!(await canHide())) return [];
      const folders = ['nginx', 'nginx2', 'nginx3', 'preview', 'servers', 'build'].map((name) => join(root, name));
      const covered = await covering(folders);
      return ['unshare', '--mount', 'sh', '-c', [...covered, 'exec "$@"'].join(' && '), 'sh'];
    },
    async stop(name) {
      const { port } = machine(name);
      // All at once: without the one that listens, the others could not be told from any other sshd.
      for (const { pid } of await sshdsOf(root, name)) signal(pid, 'SIGKILL');
      while (await listens(port)) await sleep(10);
    },
  };
}

/** The sshd of a machine, and those of its connections. */
async function sshdsOf(root: string, name: string): Promise<{ pid: number; isListener: boolean }[]> {
  const all = await sandboxProcesses(root);
  const listeners = new Set(all.filter((one) => isSshd(one, join(root, 'ssh', name))).map(({ pid }) => pid));
  const own = new Set(listeners);
  for (let before = -1; before !== own.size; ) {
    before = own.size;
    for (const { pid, parent, argv } of all) if (own.has(parent) && argv[0]?.startsWith('sshd') === true) own.add(pid);
  }
  return [...own]
    .sort((a, b) => Number(listeners.has(b)) - Number(listeners.has(a)))
    .map((pid) => ({ pid, isListener: listeners.has(pid) }));
}

/**
 * Writes the keys and settings of all machines, and one ssh_config that leads to each by its name. `nowhere` is a name at whose port
 * nobody listens.
 */
export async function writeSshHosts(root: string, machines: Readonly<Record<string, SshMachine>>): Promise<void> {
  const folder = join(root, 'ssh');
  await mkdir(folder, { mode: 0o700 });
  await keygen(join(folder, 'user'));
  await copyFile(join(folder, 'user.pub'), join(folder, 'authorized'));
  const known: string[] = [];
  for (const [name, { port }] of Object.entries(machines)) {
    const dir = join(folder, name);
    await mkdir(dir, { mode: 0o700 });
    await keygen(join(dir, 'host'));
    const [type = '', key = ''] = (await readFile(join(dir, 'host.pub'), 'utf8')).split(' ');
    known.push(`[127.0.0.1]:${port} ${type} ${key}`);
    const settings = [
      `Port ${port}`,
      'ListenAddress 127.0.0.1',
      `HostKey ${join(dir, 'host')}`,
      `AuthorizedKeysFile ${join(folder, 'authorized')}`,
      `PidFile ${join(dir, 'pid')}`,
      'UsePAM no',
      'StrictModes no',
      'PasswordAuthentication no',
      'KbdInteractiveAuthentication no',
      'PermitRootLogin yes',
      // A sandbox is used by many at once, on a machine that may be busy.
      'MaxStartups 100',
      'LoginGraceTime 30',
    ];
    await writeFile(join(dir, 'sshd_config'), lines(settings));
  }
  await writeFile(join(folder, 'known_hosts'), lines(known));
  const entries = Object.entries(machines).map(([name, { port }]): [string, number] => [name, port]);
  const config = [...entries, ['nowhere', 1] as const].flatMap(([name, port]) => [
    `Host ${name}`,
    '  HostName 127.0.0.1',
    `  Port ${port}`,
    `  User ${userInfo().username}`,
    `  IdentityFile ${join(folder, 'user')}`,
    '  IdentitiesOnly yes',
    `  UserKnownHostsFile ${join(folder, 'known_hosts')}`,
    '  GlobalKnownHostsFile /dev/null',
  ]);
  await writeFile(join(folder, 'ssh_config'), lines(config));
}

const lines = (all: readonly string[]): string => all.map((line) => `${line}\n`).join('');

async function keygen(file: string): Promise<void> {
  const made = await localHost().run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', file]);
  if (made.status === 0) return;
  const why = made.notStarted ?? made.stderr.trim();
  throw new FlowError(
    'SSH_MISSING',
    EXIT.problemFound,
    `A key for the sandbox could not be made (${why}). Nothing was started. Install OpenSSH's client: sudo apt-get install openssh-client`,
  );
}

/**
 * sshd as an ordinary user needs nothing. As root it wants a user of its own and a folder in /run: it gets both in its own mount
 * namespace, where the other machines' folders are covered as well.
 */
async function startCommand(dir: string, sshd: string, hides: readonly string[]): Promise<[string, ...string[]]> {
  const start: [string, ...string[]] = [sshd, '-f', join(dir, 'sshd_config'), '-E', join(dir, 'log')];
  if (!(await canHide())) return start;
  const passwd = await readFile('/etc/passwd', 'utf8');
  const own = /^sshd:/m.test(passwd) ? '' : 'sshd:x:65533:65534::/:/usr/sbin/nologin\n';
  await writeFile(join(dir, 'passwd'), `${passwd}${own}`);
  const script = [
    `mount --bind ${quote(join(dir, 'passwd'))} /etc/passwd`,
    'mount -t tmpfs none /run',
    'mkdir -m 755 /run/sshd',
    ...(await covering(hides)),
    'exec "$@"',
  ].join(' && ');
  return ['unshare', '--mount', 'sh', '-c', script, 'sh', ...start];
}

/** Whether folders can be hidden from a process: root can, unless it is in a container that forbids it. */
async function canHide(): Promise<boolean> {
  return process.getuid?.() === 0 && (await localHost().run(['unshare', '--mount', 'true'])).status === 0;
}

/** Covers the folders that are there with empty ones, in the namespace of the shell that runs it. */
async function covering(folders: readonly string[]): Promise<string[]> {
  const there = await Promise.all(folders.map(async (folder) => ((await exists(folder)) ? [folder] : [])));
  return there.flat().map((folder) => `mount -t tmpfs none ${quote(folder)}`);
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}

async function listens(port: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => {
      resolve(false);
    });
  });
}
