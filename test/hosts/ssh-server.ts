/**
 * A real sshd on 127.0.0.1 with keys of its own, for this user, and the ssh_config that leads to it. Where there is no sshd, Debian's
 * is fetched and unpacked, not installed. As root it runs in a mount namespace of its own, where the user that it wants exists.
 */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect, createServer, type AddressInfo } from 'node:net';
import { homedir, tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';

export interface SshServer {
  /** For `ssh -F`: the hosts `one` and `two` are this server; `nobody` is a port at which nobody listens. */
  configFile: string;
  /** Ends every connection, and the server; `start` brings it back at the same port. */
  stop(): Promise<void>;
  start(): Promise<void>;
  /** Ends every connection; new ones are taken. */
  dropConnections(): void;
  close(): Promise<void>;
}

const CACHE = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'flow/sshd');

function sshdProgram(): string {
  for (const path of ['/usr/sbin/sshd', join(CACHE, 'usr/sbin/sshd')]) if (existsSync(path)) return path;
  execFileSync('mkdir', ['-p', CACHE]);
  execFileSync(
    'sh',
    ['-c', 'apt-get download openssh-server libwrap0 && for deb in *.deb; do dpkg -x "$deb" .; done'],
    {
      cwd: CACHE,
      stdio: 'pipe',
    },
  );
  return join(CACHE, 'usr/sbin/sshd');
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function listens(port: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}

export async function startSshServer(): Promise<SshServer> {
  const program = sshdProgram();
  const dir = await mkdtemp(join(tmpdir(), 'flow-sshd-'));
  const [port, nobody] = [await freePort(), await freePort()];
  const keygen = (name: string) =>
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(dir, name)], { stdio: 'pipe' });
  keygen('host');
  keygen('user');
  await copyFile(join(dir, 'user.pub'), join(dir, 'authorized'));
  const lines = [
    `Port ${port}`,
    'ListenAddress 127.0.0.1',
    `HostKey ${join(dir, 'host')}`,
    `AuthorizedKeysFile ${join(dir, 'authorized')}`,
    'PidFile none',
    'UsePAM no',
    'StrictModes no',
    'PasswordAuthentication no',
    'KbdInteractiveAuthentication no',
    'PermitRootLogin yes',
    'MaxStartups 100',
    'MaxSessions 100',
  ];
  await writeFile(join(dir, 'sshd_config'), `${lines.join('\n')}\n`);
  const hostKey = (await readFile(join(dir, 'host.pub'), 'utf8')).trim().split(' ').slice(0, 2).join(' ');
  await writeFile(join(dir, 'known'), `[127.0.0.1]:${port} ${hostKey}\n`);
  const host = (name: string, at: number) => [
    `Host ${name}`,
    '  HostName 127.0.0.1',
    `  Port ${at}`,
    `  User ${userInfo().username}`,
    `  IdentityFile ${join(dir, 'user')}`,
    '  IdentitiesOnly yes',
    `  UserKnownHostsFile ${join(dir, 'known')}`,
    '  GlobalKnownHostsFile /dev/null',
  ];
  const configFile = join(dir, 'ssh_config');
  await writeFile(
    configFile,
    `${[...host('one', port), ...host('two', port), ...host('nobody', nobody)].join('\n')}\n`,
  );

  let child: ChildProcess | null = null;
  const isRoot = process.getuid?.() === 0;
  const libraries = [join(CACHE, 'usr/lib/x86_64-linux-gnu'), join(CACHE, 'lib/x86_64-linux-gnu')].join(':');
  if (isRoot) {
    await writeFile(
      join(dir, 'passwd'),
      `${await readFile('/etc/passwd', 'utf8')}sshd:x:65533:65534::/:/usr/sbin/nologin\n`,
    );
    await mkdir(join(dir, 'run'), { mode: 0o755 });
  }
  const own = `mount --bind ${join(dir, 'passwd')} /etc/passwd && mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec "$@"`;
  const start = async (): Promise<void> => {
    const sshd = [program, '-D', '-e', '-f', join(dir, 'sshd_config')];
    const argv = isRoot ? ['unshare', '--mount', 'sh', '-c', own, 'sh', ...sshd] : sshd;
    let said = '';
    child = spawn(argv[0] ?? '', argv.slice(1), {
      stdio: ['ignore', 'ignore', 'pipe'],
      detached: true,
      env: { ...process.env, LD_LIBRARY_PATH: libraries },
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
    for (let tries = 0; tries < 100; tries += 1) {
      if (await listens(port)) return;
      if (child.exitCode !== null) break;
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
    throw new Error(`sshd did not start: ${said}`);
  };
  /** Every process of this server: the one that listens, and one or two for each connection. */
  const sessions = (): number[] => {
    const root = child?.pid;
    if (root === undefined) return [];
    const rows = execFileSync('ps', ['-eo', 'pid=,ppid=,args='], { encoding: 'utf8' })
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      .map(([pid, parent, ...args]) => ({ pid: Number(pid), parent: Number(parent), args: args.join(' ') }));
    const below = new Set([root]);
    for (let grown = true; grown; ) {
      grown = false;
      for (const { pid, parent, args } of rows) {
        if (below.has(parent) && !below.has(pid) && args.startsWith('sshd:')) {
          below.add(pid);
          grown = true;
        }
      }
    }
    below.delete(root);
    return [...below];
  };
  const dropConnections = (): void => {
    for (const pid of sessions()) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It ended by itself.
      }
    }
  };
  const stop = async (): Promise<void> => {
    dropConnections();
    const ending = child;
    child = null;
    if (ending === null || ending.exitCode !== null || ending.signalCode !== null) return;
    await new Promise<void>((resolve) => {
      ending.once('exit', () => resolve());
      ending.kill('SIGKILL');
    });
  };
  await start();
  return {
    configFile,
    start,
    stop,
    dropConnections,
    async close() {
      await stop();
      await rm(dir, { recursive: true, force: true });
    },
  };
}
