/**
 * A real Nginx under a temporary prefix that is a git repository with the runbook's three branches, and two backends
 * that say their name. Small on purpose: the sandbox has a whole world, these tests need the proxy alone.
 */
import { chmod, mkdir, mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { StepError } from '../../src/errors.ts';
import type { ProxyConfig } from '../../src/nginx/proxy.ts';
import { localHost } from '../../src/hosts/local.ts';
import { findNginx } from '../../src/sandbox/nginx-binary.ts';
import { freePorts } from '../../src/sandbox/ports.ts';

export const host = localHost();

export interface Prefix {
  dir: string;
  port: number;
  /** host:port of app1 and app2. */
  addresses: { app1: string; app2: string };
  config: ProxyConfig;
  git(...args: string[]): Promise<string>;
  run(...argv: [string, ...string[]]): Promise<string>;
  /** The text of a fresh answer: the name of the server that gave it. */
  ask(path?: string): Promise<string>;
  masterPid(): Promise<number>;
  /** Commits `change` of conf/nginx.conf on that branch, and comes back to the branch before. */
  edit(branch: string, change: (conf: string) => string): Promise<void>;
  /** Stops Nginx and the backends, removes the folder. */
  remove(): Promise<void>;
}

export async function createPrefix(): Promise<Prefix> {
  const dir = await realpath(await mkdtemp(join(tmpdir(), 'flow-prefix-')));
  const [port = 0] = await freePorts(1);
  const backends = [await backend('app1'), await backend('app2')] as const;
  const addresses = { app1: backends[0].address, app2: backends[1].address };
  const program = await findNginx();
  for (const folder of ['conf', 'sbin', 'logs', 'temp']) await mkdir(join(dir, folder));
  await writeFile(join(dir, '.gitignore'), 'logs/\ntemp/\n');
  await writeFile(join(dir, 'sbin/nginx'), `#!/bin/sh\nexec '${program}' -p '${dir}' -c conf/nginx.conf "$@"\n`);
  await chmod(join(dir, 'sbin/nginx'), 0o755);

  const run = async (...argv: [string, ...string[]]) => {
    const result = await host.run(argv, { cwd: dir });
    if (result.status !== 0) throw new Error(`${argv.join(' ')}: ${result.stderr}${result.notStarted ?? ''}`);
    return result.stdout;
  };
  const git = (...args: string[]) => run('git', ...args);
  const conf = (servers: string[]) => `worker_processes 2;
pid logs/nginx.pid;
error_log logs/error.log;
events { worker_connections 64; }
http {
  access_log off;
  client_body_temp_path temp/body; proxy_temp_path temp/proxy; fastcgi_temp_path temp/fastcgi;
  uwsgi_temp_path temp/uwsgi; scgi_temp_path temp/scgi;
  upstream quickpay {
${servers.map((address) => `    server ${address};`).join('\n')}
  }
  server {
    listen 127.0.0.1:${port};
    location / { proxy_pass http://quickpay; }
  }
}
`;
  await git('init', '--quiet', '--initial-branch=master');
  await git('config', 'user.name', 'Operator');
  await git('config', 'user.email', 'operator@example.com');
  await writeFile(join(dir, 'conf/nginx.conf'), conf([addresses.app1, addresses.app2]));
  await git('add', '--all');
  await git('commit', '--quiet', '--message=All servers');
  for (const name of ['app1', 'app2'] as const) {
    await git('switch', '--quiet', '--create', `yun-${name}`, 'master');
    await writeFile(join(dir, 'conf/nginx.conf'), conf([addresses[name]]));
    await git('commit', '--quiet', '--all', `--message=Only ${name}`);
  }
  await git('switch', '--quiet', 'master');

  const masterPid = async () => Number(await readFile(join(dir, 'logs/nginx.pid'), 'utf8'));
  return {
    dir,
    port,
    addresses,
    config: {
      dir,
      test: ['sbin/nginx', '-t'],
      reload: ['sbin/nginx', '-s', 'reload'],
      pidFile: 'logs/nginx.pid',
      errorLog: 'logs/error.log',
      accessLog: 'logs/access.log',
    },
    git,
    run,
    ask: async (path = '/') => {
      const response = await fetch(`http://127.0.0.1:${port}${path}`, { headers: { connection: 'close' } });
      return response.text();
    },
    masterPid,
    edit: async (branch, change) => {
      const before = (await git('symbolic-ref', '--short', 'HEAD')).trim();
      await git('switch', '--quiet', branch);
      const file = join(dir, 'conf/nginx.conf');
      await writeFile(file, change(await readFile(file, 'utf8')));
      await git('commit', '--quiet', '--all', '--message=Edited');
      await git('switch', '--quiet', before);
    },
    remove: async () => {
      await host.run([join(dir, 'sbin/nginx'), '-s', 'stop'], { cwd: dir });
      for (const { server } of backends) {
        server.closeAllConnections();
        server.close();
      }
      await rm(dir, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/** Starts the prefix's Nginx and waits until it answers. */
export async function start(prefix: Prefix): Promise<void> {
  await prefix.run(join(prefix.dir, 'sbin/nginx'));
  await until(async () => (await prefix.ask()) !== '');
}

/** Waits until `condition` holds; an error counts as not yet. */
export async function until(condition: () => Promise<boolean>, withinMs = 5_000): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (!(await condition().catch(() => false))) {
    if (performance.now() > deadline) throw new Error(`not within ${withinMs} ms: ${condition.toString()}`);
    await sleep(10);
  }
}

/** Answers its name, after `?ms=N` milliseconds. */
async function backend(name: string): Promise<{ server: Server; address: string }> {
  const server = createServer((request, response) => {
    const ms = Number(new URL(request.url ?? '/', 'http://localhost').searchParams.get('ms') ?? 0);
    setTimeout(() => response.end(name), ms);
  });
  const [port = 0] = await freePorts(1);
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  return { server, address: `127.0.0.1:${port}` };
}

/** The StepError that the work fails with. */
export async function failure(work: Promise<unknown>): Promise<StepError> {
  const thrown = await work.then(
    () => null,
    (error: unknown) => error,
  );
  if (!(thrown instanceof StepError)) throw new Error(`it did not fail as a step does: ${String(thrown)}`);
  return thrown;
}
