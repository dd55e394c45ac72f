/**
 * A world of its own to release in: a project with the runbook's branches and tags and a remote, running servers, and
 * a real Nginx whose folder is a git repository with a branch per route. `flow demo` and the tests use it.
 *
 * Invariants: everything lies under one root folder; every process it starts can be recognised by that root
 * (processes.ts), so a sandbox whose creator was killed can be stopped by anyone who opens its folder; only loopback
 * ports are used. Linux only: it needs /proc.
 */
import { access, appendFile, chmod, mkdir, readdir, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { get } from 'node:http';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'yaml';
import { parseConfig } from '../config/load.ts';
import { previewRouteOf, type Route, routesOf, wavesFrom } from '../config/settings.ts';
import { codeOf, EXIT, FlowError } from '../errors.ts';
import type { Argv, RunResult } from '../hosts/host.ts';
import { localHost } from '../hosts/local.ts';
import { findNginx } from './nginx-binary.ts';
import { freePorts } from './ports.ts';
import { endSandboxProcesses, isNginx, isServer, processOf, signal } from './processes.ts';
import { launcherText, type Misbehaviour, programText } from './program.ts';
import { knobsText, type PublishKnobs, publishScriptText } from './publish-script.ts';
import { type SshHosts, sshHostsAt, type SshMachine, writeSshHosts } from './ssh-hosts.ts';
import { findSshd } from './sshd-binary.ts';

const DESCRIPTION_FILE = 'sandbox.json';
const PREVIEW = 'preview';
/** The file of server lines, where the upstream block includes one. */
const SERVERS_FILE = 'quickpay.servers';
const INCLUDE = { include: { file: `conf/${SERVERS_FILE}`, parameters: 'max_fails=1 fail_timeout=10s' } };
const OPERATOR = 'Operator';
const OPERATOR_EMAIL = 'operator@example.com';

export interface SandboxOptions {
  /** Folder to build in; made if missing, refused if it has something in it. */
  root: string;
  /** Milliseconds a server takes to start. Default 1000. */
  startMs?: number;
  /** Default `quickpay`. */
  projectName?: string;
  /** Application servers behind the proxy. Default app1 and app2. */
  servers?: readonly string[];
  /** `verify.soak` of flow.yaml, in milliseconds. Default 6000. */
  soakMs?: number;
  /** `watch.soak` of flow.yaml, in milliseconds. Default 3000. */
  watchMs?: number;
  /** Laid over the contents of flow.yaml, object by object. */
  config?: Record<string, unknown>;
  /** How many proxies there are, all on the same route. Default 1. */
  proxies?: number;
  /** Routes without a branch for each: the upstream block includes a file that flow writes. */
  include?: boolean;
  /** Whether there is a pre-release proxy, which leads to the first wave alone and is checked before customers reach it. */
  preview?: boolean;
  /** The proxy, every server, and a machine that publishes, each behind an sshd of its own; flow.yaml says which is on which. */
  ssh?: boolean;
  /** An nginx program. Default: what findNginx answers. */
  nginx?: string;
  /** Told, in one line each, what is being done. */
  onProgress?: (line: string) => void;
}

export interface SandboxServer {
  dir: string;
  port: number;
  log: string;
  /** host:port */
  address: string;
}

interface Description {
  projectName: string;
  nginxPort: number;
  /** Of the second and every further proxy. */
  furtherPorts?: number[];
  /** Of the pre-release proxy; left out where there is none. */
  previewPort?: number;
  startMs: number;
  /** By name: the test server first, then the application servers in their order. */
  servers: Record<string, SandboxServer>;
  /** The machines behind ssh, and the sshd they run; left out where everything is on this machine. */
  ssh?: { sshd: string; machines: Record<string, SshMachine> };
}

/** A sandbox that was made, here or by another process. */
export interface Sandbox {
  readonly root: string;
  /** The operator's clone, on `develop`; its remote is `cil`. */
  readonly projectDir: string;
  /** The Nginx prefix, a git repository. */
  readonly nginxDir: string;
  /** Where clients go. */
  readonly url: string;
  /** The same with those of the further proxies. */
  readonly urls: readonly string[];
  /** The Nginx prefixes, the first one first. */
  readonly nginxDirs: readonly string[];
  /** By name; `test` is the test server. */
  readonly servers: Readonly<Record<string, SandboxServer>>;
  /** The machines behind ssh: `proxy`, `build`, and each server under its own name. Null where there are none. */
  readonly ssh: SshHosts | null;
  /** The server of that name. Throws FlowError `NO_SUCH_SERVER`. */
  server(name: string): SandboxServer;
  /** The version a running server reports, asked directly (`v1.3.7`), or null when it does not answer. */
  runningVersion(name: string): Promise<string | null>;
  /** How often a confirmed publish.sh has run for this server since the sandbox was made. */
  publishCount(name: string): Promise<number>;
  /** The process of a server, or null when none runs. */
  serverPid(name: string): Promise<number | null>;
  /** The process of the Nginx master (of the first one, unless its folder is named), or null when none runs. */
  nginxPid(dir?: string): Promise<number | null>;
  /** Commits one more change to `develop` and pushes it, so that there is something to release. */
  commitChange(subject: string): Promise<void>;
  /** Commits trouble to `develop`, so that the next version carries it; null takes it out again. */
  misbehaveNext(trouble: Misbehaviour | null): Promise<void>;
  /** Tells a running server to misbehave from now on, over what its version carries; null ends it. */
  misbehaveServer(name: string, trouble: Misbehaviour | null): Promise<void>;
  /** Makes the next runs of publish.sh misbehave, for all servers or one; null ends it. */
  publishKnobs(knobs: PublishKnobs | null, server?: string): Promise<void>;
  /** Starts Nginx again after it was ended. */
  startNginx(): Promise<void>;
  /** What there is and where, for people: one fact a line. */
  describe(): string;
  /** Ends every process of the sandbox. Safe to repeat. */
  stop(): Promise<void>;
  /** Stops it and removes its folder. */
  destroy(): Promise<void>;
}

/**
 * Builds a sandbox and starts its processes; all servers run v1.3.7. Takes a few seconds.
 * Throws FlowError: `SANDBOX_EXISTS`, `SANDBOX_UNSUPPORTED`, `SANDBOX_FAILED`, and those of findNginx. When it fails, no
 * process is left; the folder stays for a look.
 */
export async function createSandbox(options: SandboxOptions): Promise<Sandbox> {
  await requireProc();
  await mkdir(options.root, { recursive: true });
  // The real path: Nginx and publish.sh resolve links, and processes are recognised by it.
  const root = await realpath(options.root);
  if ((await readdir(root)).length > 0) {
    throw new FlowError(
      'SANDBOX_EXISTS',
      EXIT.usage,
      `${root} is not empty, so no sandbox was made in it. Nothing was changed. Name an empty or a new folder.`,
    );
  }
  const progress = options.onProgress ?? (() => undefined);
  const nginx = options.nginx ?? (await findNginx({ onProgress: progress }));
  const names = ['test', ...(options.servers ?? ['app1', 'app2'])];
  const furtherProxies = Array.from({ length: (options.proxies ?? 1) - 1 }, (_, index) => `proxy${index + 2}`);
  const machineNames = options.ssh === true ? ['proxy', 'build', ...names, ...furtherProxies] : [];
  const [nginxPort = 0, previewPort = 0, ...ports] = await freePorts(
    2 + names.length + machineNames.length + furtherProxies.length,
  );
  const servers: Record<string, SandboxServer> = {};
  for (const [at, name] of names.entries()) {
    const dir = join(root, 'servers', name);
    const port = ports[at] ?? 0;
    servers[name] = { dir, port, log: join(dir, 'logs/quickpay.log'), address: `127.0.0.1:${port}` };
  }
  const projectName = options.projectName ?? 'quickpay';
  const description: Description = { projectName, nginxPort, startMs: options.startMs ?? 1_000, servers };
  if (furtherProxies.length > 0) description.furtherPorts = ports.slice(names.length + machineNames.length);
  if (options.preview === true) description.previewPort = previewPort;
  if (options.ssh === true) {
    const machines = machinesOf(root, machineNames, names, ports.slice(names.length));
    description.ssh = { sshd: await findSshd({ onProgress: progress }), machines };
  }
  // Before the first process: whoever opens the folder must be able to end what we start.
  await writeFile(join(root, DESCRIPTION_FILE), `${JSON.stringify(description, null, 2)}\n`);
  const sandbox = sandboxAt(root, description);
  try {
    progress('Writing the project with its history, and its remote.');
    const config = flowYaml(sandbox, description, options);
    await buildProject(sandbox, description, config);
    progress('Installing v1.3.7 on every server, and starting Nginx.');
    await Promise.all([
      installFirstVersion(sandbox),
      Promise.all(
        [nginxPort, ...(description.furtherPorts ?? [])].map((port, index) =>
          buildNginx(
            sandbox,
            nginx,
            options.include === true ? 'include' : routesIn(config, names.slice(1)),
            port,
            sandbox.nginxDirs[index] ?? '',
          ),
        ),
      ).then(() => sandbox.startNginx()),
      options.preview === true ? buildPreview(sandbox, nginx, config, previewPort) : null,
      buildMachines(sandbox, description.ssh?.machines ?? {}),
    ]);
    for (const name of machineNames) await sandbox.ssh?.start(name);
  } catch (error) {
    await sandbox.stop();
    throw error;
  }
  return sandbox;
}

/** The sandbox that was made in this folder, whether its processes run or not. Throws FlowError `NO_SANDBOX`. */
export async function openSandbox(root: string): Promise<Sandbox> {
  await requireProc();
  try {
    const real = await realpath(root);
    const text = await readFile(join(real, DESCRIPTION_FILE), 'utf8');
    return sandboxAt(real, JSON.parse(text) as Description);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
    const path = resolve(root);
    throw new FlowError('NO_SANDBOX', EXIT.usage, `There is no sandbox in ${path}. Nothing was changed.`);
  }
}

async function requireProc(): Promise<void> {
  try {
    await access('/proc/self/cmdline');
  } catch {
    throw new FlowError(
      'SANDBOX_UNSUPPORTED',
      EXIT.problemFound,
      'The sandbox needs Linux: it recognises its processes through /proc, which is not here. Nothing was started. ' +
        'Run it in a Linux container, for instance docker run -it node:20-bookworm.',
    );
  }
}

function sandboxAt(root: string, description: Description): Sandbox {
  const projectDir = join(root, 'project');
  const nginxDir = join(root, 'nginx');
  const furtherPorts = description.furtherPorts ?? [];
  const urls = [description.nginxPort, ...furtherPorts].map((port) => `http://127.0.0.1:${port}`);
  const [url = ''] = urls;
  const nginxDirs = [nginxDir, ...furtherPorts.map((_, index) => `${nginxDir}${index + 2}`)];
  const { servers } = description;
  const ssh = description.ssh === undefined ? null : sshHostsAt(root, description.ssh.sshd, description.ssh.machines);

  const server = (name: string): SandboxServer => {
    const found = servers[name];
    if (found !== undefined) return found;
    const known = Object.keys(servers).join(', ');
    throw new FlowError('NO_SUCH_SERVER', EXIT.usage, `The sandbox has no server "${name}"; it has ${known}.`);
  };
  const pidFrom = async (file: string) => {
    const text = await readFile(file, 'utf8').catch(() => '');
    return /^\d+\s*$/.test(text) ? processOf(Number(text)) : null;
  };
  const serverPid = async (name: string) => {
    const found = await pidFrom(join(server(name).dir, 'quickpay.pid'));
    return found !== null && isServer(found, root) ? found.pid : null;
  };
  const nginxPid = async (dir = nginxDir) => {
    const found = await pidFrom(join(dir, 'logs/nginx.pid'));
    return found !== null && isNginx(found, root) ? found.pid : null;
  };
  const commitToDevelop = async (subject: string) => {
    await git(projectDir, 'commit', '--quiet', '-m', subject);
    await git(projectDir, 'push', '--quiet', 'cil', 'develop');
  };
  const requireDevelop = async () => {
    const branch = (await git(projectDir, 'rev-parse', '--abbrev-ref', 'HEAD')).trim();
    if (branch !== 'develop') throw failed(`${projectDir} is on ${branch}, and changes are committed on develop.`);
  };

  const sandbox: Sandbox = {
    root,
    projectDir,
    nginxDir,
    nginxDirs,
    ssh,
    url,
    urls,
    servers,
    server,
    serverPid,
    nginxPid,
    runningVersion: async (name) => {
      const answer = await ask(`http://${server(name).address}/version`);
      return answer === null ? null : (/\bv\S+/.exec(answer.body)?.[0] ?? null);
    },
    publishCount: async (name) => {
      const text = await readFile(join(server(name).dir, 'publishes.log'), 'utf8').catch(() => '');
      return text.split('\n').filter((line) => line !== '').length;
    },
    commitChange: async (subject) => {
      await requireDevelop();
      await appendFile(join(projectDir, 'features.md'), `- ${subject}\n`);
      await git(projectDir, 'add', 'features.md');
      await commitToDevelop(subject);
    },
    misbehaveNext: async (trouble) => {
      await requireDevelop();
      const file = join(projectDir, 'misbehave.json');
      if (trouble === null) await rm(file, { force: true });
      else await writeFile(file, `${JSON.stringify(trouble, null, 2)}\n`);
      await git(projectDir, 'add', '--all', 'misbehave.json');
      await commitToDevelop(trouble === null ? 'Mend the ledger client' : 'Rework the ledger client');
    },
    misbehaveServer: async (name, trouble) => {
      const { dir, address } = server(name);
      const wanted = JSON.stringify(trouble ?? {});
      await writeFile(join(dir, 'misbehave.json'), `${wanted}\n`);
      const pid = await serverPid(name);
      if (pid === null) return;
      signal(pid, 'SIGHUP');
      // Until the server says that it has read it; one that answers nothing any more is as told, too.
      for (let attempt = 0; attempt < 100; attempt++) {
        const answer = await ask(`http://${address}/health`);
        if (answer === null || answer.headers['x-misbehave'] === wanted) return;
        await sleep(10);
      }
    },
    publishKnobs: async (knobs, name) => {
      const file = join(name === undefined ? root : server(name).dir, 'publish-knobs.sh');
      if (knobs === null) await rm(file, { force: true });
      else await writeFile(file, knobsText(knobs));
    },
    startNginx: async () => {
      for (const dir of nginxDirs) {
        if ((await nginxPid(dir)) !== null) continue;
        for (const folder of ['logs', 'temp']) await mkdir(join(dir, folder), { recursive: true });
        requireSuccess(await localHost().run(['sbin/nginx'], { cwd: dir, changesWorld: true }), 'sbin/nginx');
      }
    },
    describe: () => {
      const rows = [
        ['clients', url],
        ['project', projectDir],
        ['remote', `cil = ${join(root, 'cil.git')}`],
        ['proxy', nginxDir],
        ...Object.entries(servers).map(([name, { dir, address }]) => [name, `${address}  ${dir}`]),
      ];
      const width = Math.max(...rows.map(([label = '']) => label.length));
      return rows.map(([label = '', value = '']) => `${label.padEnd(width)}  ${value}`).join('\n');
    },
    stop: () => endSandboxProcesses(root),
    destroy: async () => {
      await endSandboxProcesses(root);
      await rm(root, { recursive: true, force: true, maxRetries: 5 });
    },
  };
  return sandbox;
}

// ── the project ──────────────────────────────────────────────────────────────────────────────────────────────────

const RELEASED = [
  { version: 'v1.3.6', changes: ['Show the fee before the customer confirms', 'Retry the ledger once on a timeout'] },
  { version: 'v1.3.7', changes: ['Refuse codes older than two minutes', 'Log the order id with every payment'] },
] as const;
const UNRELEASED = [
  'Accept refunds of part of an order',
  'Round amounts in cents, never in floats',
  'Answer duplicate notifications with the first result',
  'Close idle ledger connections after a minute',
] as const;

async function buildProject(sandbox: Sandbox, description: Description, flowYamlText: string): Promise<void> {
  const { root, projectDir } = sandbox;
  const bare = join(root, 'cil.git');
  await git(root, 'init', '--quiet', '--bare', '--initial-branch=master', bare);
  await git(root, 'init', '--quiet', '--initial-branch=master', projectDir);
  await settle(projectDir);
  await git(projectDir, 'remote', 'add', 'cil', bare);

  const table = Object.entries(description.servers).map(([name, { dir, port }]) => `${name}\t${dir}\t${port}\n`);
  const executable = ['quickpay', 'publish.sh'];
  const files: Record<string, string> = {
    'README.md': `# ${description.projectName}\n\nScan a code, pay. Published with \`./publish.sh SERVER\`.\n`,
    'features.md': '# Features\n\n- Scan to pay\n',
    'ChangeLog.md': '# ChangeLog\n\n## v1.3.5\n\n* Scan to pay\n',
    'servers.conf': table.join(''),
    'settings.json': `${JSON.stringify({ startMs: description.startMs })}\n`,
    quickpay: launcherText(process.execPath),
    'quickpay.cjs': programText(),
    'publish.sh': publishScriptText(),
    'flow.yaml': flowYamlText,
  };
  for (const [name, text] of Object.entries(files)) await writeFile(join(projectDir, name), text);
  for (const name of executable) await chmod(join(projectDir, name), 0o755);
  await git(projectDir, 'add', '--all');
  await git(projectDir, 'commit', '--quiet', '-m', 'Scan to pay');
  await git(projectDir, 'tag', 'v1.3.5');
  await git(projectDir, 'branch', 'testing');
  await git(projectDir, 'switch', '--quiet', '-c', 'develop');

  const change = async (subject: string) => {
    await appendFile(join(projectDir, 'features.md'), `- ${subject}\n`);
    await git(projectDir, 'commit', '--quiet', '-a', '-m', subject);
  };
  for (const { version, changes } of RELEASED) {
    // As the runbook has it: develop into testing, testing into master, the list of changes, the tag, and back.
    for (const subject of changes) await change(subject);
    await git(projectDir, 'switch', '--quiet', 'testing');
    await git(projectDir, 'merge', '--quiet', '--no-ff', '-m', "Merge branch 'develop' into testing", 'develop');
    await git(projectDir, 'switch', '--quiet', 'master');
    await git(projectDir, 'merge', '--quiet', '--no-ff', '-m', "Merge branch 'testing'", 'testing');
    const log = await readFile(join(projectDir, 'ChangeLog.md'), 'utf8');
    const section = `# ChangeLog\n\n## ${version}\n\n${changes.map((subject) => `* ${subject}\n`).join('')}`;
    await writeFile(join(projectDir, 'ChangeLog.md'), log.replace('# ChangeLog\n', section));
    await git(projectDir, 'commit', '--quiet', '-a', '-m', `ChangeLog of ${version}`);
    await git(projectDir, 'tag', version);
    await git(projectDir, 'switch', '--quiet', 'develop');
    await git(projectDir, 'merge', '--quiet', '-m', "Merge branch 'master' into develop", 'master');
  }
  for (const subject of UNRELEASED) await change(subject);
  await git(projectDir, 'push', '--quiet', '--set-upstream', '--tags', 'cil', 'master', 'testing', 'develop');
}

/** Publishes v1.3.7 on all servers at once, from a clone of its own: the operator's tree stays as it is. */
async function installFirstVersion(sandbox: Sandbox): Promise<void> {
  const clone = join(sandbox.root, 'first-install');
  await git(sandbox.root, 'clone', '--quiet', '--branch', 'v1.3.7', 'cil.git', clone);
  await Promise.all(
    Object.entries(sandbox.servers).map(async ([name, { dir }]) => {
      await mkdir(dir, { recursive: true });
      const options = { cwd: clone, input: 'y\n', changesWorld: true };
      requireSuccess(await localHost().run(['./publish.sh', name], options), `./publish.sh ${name}`);
      // The first installation is no release: the count starts with the first one after it.
      await rm(join(dir, 'publishes.log'));
    }),
  );
  await rm(clone, { recursive: true, force: true });
}

// ── the machines ─────────────────────────────────────────────────────────────────────────────────────────────────

/** What every machine does not have: the operator's project and its remote, the proxy, and what the other servers have. */
function machinesOf(
  root: string,
  names: readonly string[],
  serverNames: readonly string[],
  ports: readonly number[],
): Record<string, SshMachine> {
  const here = ['project', 'cil.git'].map((folder) => join(root, folder));
  const proxies = ['nginx', 'nginx2', 'nginx3', PREVIEW].map((folder) => join(root, folder));
  const servers = serverNames.map((name) => join(root, 'servers', name));
  return Object.fromEntries(
    names.map((name, at): [string, SshMachine] => {
      const others = servers.filter((folder) => folder !== join(root, 'servers', name));
      // The machine that publishes reaches every server, as publish.sh does.
      const hides =
        name === 'build'
          ? [...here, ...proxies]
          : /^proxy\d*$/.test(name)
            ? [...here, ...servers, ...proxies.filter((folder) => !isOfProxy(folder, name))]
            : [...here, ...proxies, ...others];
      return [name, { port: ports[at] ?? 0, hides }];
    }),
  );
}

/** `proxy` has the first Nginx and the pre-release one, `proxy2` the second, and so on. */
const isOfProxy = (folder: string, name: string): boolean => {
  const own = name === 'proxy' ? ['nginx', PREVIEW] : [name.replace('proxy', 'nginx')];
  return own.some((one) => folder.endsWith(`/${one}`));
};

const DEPLOY = `#!/bin/sh
# Publishes a commit that was brought here: ./deploy.sh SERVER COMMIT
set -eu
cd "$(dirname "$0")"
git checkout --quiet --detach "$2"
exec ./publish.sh "$1"
`;

/** Keys and settings of every machine, and on the one that publishes a clone of the project. */
async function buildMachines({ root }: Sandbox, machines: Readonly<Record<string, SshMachine>>): Promise<void> {
  if (Object.keys(machines).length === 0) return;
  await writeSshHosts(root, machines);
  const build = join(root, 'build');
  await git(root, 'clone', '--quiet', '--branch', 'master', 'cil.git', build);
  await settle(build);
  await writeFile(join(build, 'deploy.sh'), DEPLOY);
  await chmod(join(build, 'deploy.sh'), 0o755);
}

function onMachines(sandbox: Sandbox, servers: readonly string[]): Record<string, unknown> {
  if (sandbox.ssh === null) return {};
  const further = sandbox.nginxDirs.slice(1);
  return {
    ssh: { config: sandbox.ssh.configFile, connect: '5s' },
    servers: Object.fromEntries(servers.map((name) => [name, { on: name }])),
    test: { on: 'test' },
    nginx: {
      on: 'proxy',
      ...(further.length === 0 ? {} : { also: further.map((dir, index) => ({ dir, on: `proxy${index + 2}` })) }),
    },
    publish: { on: 'build', dir: join(sandbox.root, 'build'), run: './deploy.sh {server} {commit}' },
  };
}

function flowYaml(sandbox: Sandbox, description: Description, options: SandboxOptions): string {
  const entry = ({ address, dir, log }: SandboxServer) => ({ address, dir, log });
  const { test, ...applications } = description.servers;
  const further = sandbox.nginxDirs.slice(1);
  const base = {
    version: 1,
    project: description.projectName,
    servers: Object.fromEntries(Object.entries(applications).map(([name, server]) => [name, entry(server)])),
    test: test === undefined ? {} : entry(test),
    publish: { run: './publish.sh {server}', settle: '10s' },
    probes: {
      version: { run: '{dir}/quickpay -version', http: 'http://{address}/version' },
      health: { http: 'http://{address}/health' },
    },
    nginx: {
      dir: sandbox.nginxDir,
      ...(further.length === 0 ? {} : { also: further.map((dir) => ({ dir })) }),
      ...(options.include === true ? INCLUDE : {}),
    },
    drain: { deadline: '30s', watch: '1s' },
    verify: {
      soak: `${options.soakMs ?? 6_000}ms`,
      waveSoak: `${Math.min(2_000, options.soakMs ?? 6_000)}ms`,
      every: '500ms',
      checks: [{ name: 'a payment goes through', http: `${sandbox.url}/pay/check` }],
    },
    watch: { soak: `${options.watchMs ?? 3_000}ms` },
    ...(description.previewPort === undefined ? {} : { preview: previewOf(sandbox, description.previewPort, options) }),
  };
  const head = '# How this project is released. Windows are short, because this world is a sandbox.\n';
  const placed = overlay(base, onMachines(sandbox, Object.keys(applications)));
  return head + stringify(overlay(placed, options.config ?? {}));
}

function previewOf({ root, ssh }: Sandbox, port: number, { include }: SandboxOptions): Record<string, unknown> {
  const url = `http://127.0.0.1:${port}`;
  return {
    nginx: { dir: join(root, PREVIEW), ...(ssh === null ? {} : { on: 'proxy' }), ...(include === true ? INCLUDE : {}) },
    checks: [
      { name: 'the new version answers', http: `${url}/version`, contains: '{version}' },
      { name: 'a payment goes through', http: `${url}/pay/check` },
    ],
  };
}

function overlay(base: Record<string, unknown>, over: Record<string, unknown>): Record<string, unknown> {
  const result = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const under = result[key];
    result[key] = isRecord(under) && isRecord(value) ? overlay(under, value) : value;
  }
  return result;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

// ── the proxy ────────────────────────────────────────────────────────────────────────────────────────────────────

/** The routes that a release of this flow.yaml needs, under the names they have by themselves: a branch each. */
function routesIn(flowYamlText: string, names: readonly string[]): Route[] {
  const parsed = parseConfig(flowYamlText);
  // A config that is meant to be wrong is tried on the runbook's branches.
  if (!('config' in parsed)) return names.map((name) => ({ servers: [name], branch: `yun-${name}` }));
  const { routes: _, ...nginx } = parsed.config.nginx;
  return routesOf({ ...parsed.config, nginx });
}

async function buildNginx(
  sandbox: Sandbox,
  nginx: string,
  routes: readonly Route[] | 'include',
  port: number,
  nginxDir: string,
): Promise<void> {
  const names = Object.keys(sandbox.servers).filter((name) => name !== 'test');
  await git(sandbox.root, 'init', '--quiet', '--initial-branch=master', nginxDir);
  await settle(nginxDir);
  for (const folder of ['conf', 'sbin', 'logs', 'temp']) await mkdir(join(nginxDir, folder), { recursive: true });
  await writeFile(join(nginxDir, '.gitignore'), 'logs/\ntemp/\n');
  await writeFile(join(nginxDir, 'conf/nginx.conf'), nginxConf(port));
  await writeFile(join(nginxDir, 'sbin/nginx'), await nginxLauncher(nginx));
  await chmod(join(nginxDir, 'sbin/nginx'), 0o755);
  const upstream = (block: readonly string[]) =>
    writeFile(
      join(nginxDir, 'conf/upstream.conf'),
      `upstream quickpay {\n${block.map((line) => `    ${line}\n`).join('')}    keepalive 16;\n}\n`,
    );
  const linesOf = (servers: readonly string[]) =>
    servers.map((name) => `server ${sandbox.server(name).address};  # ${name}`);
  if (routes === 'include') {
    const lines = names.map((name) => `server ${sandbox.server(name).address} ${INCLUDE.include.parameters};\n`);
    await writeFile(join(nginxDir, 'conf', SERVERS_FILE), lines.join(''));
    await upstream([`include ${SERVERS_FILE};`]);
  } else await upstream(linesOf(names));
  await git(nginxDir, 'add', '--all');
  await git(nginxDir, 'commit', '--quiet', '-m', 'All servers');
  for (const { servers, branch } of routes === 'include' ? [] : routes) {
    if (branch === 'master') continue;
    await git(nginxDir, 'switch', '--quiet', '-c', branch, 'master');
    await upstream(linesOf(servers));
    await git(nginxDir, 'commit', '--quiet', '-a', '-m', `Only ${servers.join(', ')}`);
  }
  await git(nginxDir, 'switch', '--quiet', 'master');
}

/** The Nginx that leads to the first wave alone; no customer knows its port. */
async function buildPreview(sandbox: Sandbox, nginx: string, flowYamlText: string, port: number): Promise<void> {
  const parsed = parseConfig(flowYamlText);
  if (!('config' in parsed)) throw failed('A config that is meant to be wrong has no pre-release proxy.');
  const [canary = { servers: [] }] = wavesFrom(parsed.config);
  const route = previewRouteOf(parsed.config, canary.servers);
  const dir = join(sandbox.root, PREVIEW);
  const routes =
    parsed.config.preview?.nginx?.include === undefined ? [route].filter((one) => one !== null) : 'include';
  await buildNginx(sandbox, nginx, routes, port, dir);
  requireSuccess(await localHost().run(['sbin/nginx'], { cwd: dir, changesWorld: true }), 'sbin/nginx');
}

function nginxConf(port: number): string {
  // Workers of a root master would run as nobody, who cannot enter a private temporary folder.
  const user = process.getuid?.() === 0 ? 'user root root;\n' : '';
  return `${user}worker_processes 2;
pid logs/nginx.pid;
error_log logs/error.log notice;

events {
    worker_connections 2048;
}

http {
    log_format by_server '$time_iso8601 $remote_addr "$request" $status $body_bytes_sent $request_time '
                         'upstream=$upstream_addr status=$upstream_status time=$upstream_response_time';
    access_log logs/access.log by_server;

    client_body_temp_path temp/body;
    proxy_temp_path temp/proxy;
    fastcgi_temp_path temp/fastcgi;
    uwsgi_temp_path temp/uwsgi;
    scgi_temp_path temp/scgi;

    include upstream.conf;

    map $http_upgrade $connection_upgrade {
        default upgrade;
        ''      '';
    }

    server {
        listen 127.0.0.1:${port} backlog=1024;
        location / {
            proxy_pass http://quickpay;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header Host $host;
        }
    }
}
`;
}

/** The text of sbin/nginx: the machine's Nginx, tied to this prefix, so that the runbook's commands work as written. */
async function nginxLauncher(nginx: string): Promise<string> {
  const shown = await localHost().run([nginx, '-v']);
  const [, major = 0, minor = 0, patch = 0] = (/nginx\/(\d+)\.(\d+)\.(\d+)/.exec(shown.stderr) ?? []).map(Number);
  // -e came with 1.19.5; without it an older Nginx tries the system's error log first, and goes on.
  const knowsErrorLog = major * 1_000_000 + minor * 1_000 + patch >= 1_019_005;
  return `#!/bin/sh
prefix=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)
exec '${nginx.replaceAll("'", "'\\''")}' -p "$prefix" -c conf/nginx.conf ${knowsErrorLog ? '-e logs/error.log ' : ''}"$@"
`;
}

// ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** What a repository needs so that the operator's own git settings (signing, hooks, line ends) do not reach into it. */
async function settle(repository: string): Promise<void> {
  const settings = {
    'user.name': OPERATOR,
    'user.email': OPERATOR_EMAIL,
    'commit.gpgSign': 'false',
    'tag.gpgSign': 'false',
    'core.autocrlf': 'false',
    'advice.detachedHead': 'false',
  };
  for (const [name, value] of Object.entries(settings)) await git(repository, 'config', name, value);
}

async function git(cwd: string, ...args: string[]): Promise<string> {
  // A git hook that runs us names its own repository in the environment; that must not win over `cwd`.
  const strangers = ['GIT_DIR', 'GIT_WORK_TREE', 'GIT_INDEX_FILE'].filter((name) => process.env[name] !== undefined);
  const argv: Argv =
    strangers.length === 0 ? ['git', ...args] : ['env', ...strangers.flatMap((name) => ['-u', name]), 'git', ...args];
  const result = await localHost().run(argv, { cwd, changesWorld: true });
  requireSuccess(result, `git ${args.join(' ')}`);
  return result.stdout;
}

function requireSuccess(result: RunResult, what: string): void {
  if (result.status === 0) return;
  const said = `${result.stdout}\n${result.stderr}`.trim().split('\n').slice(-5).join('\n');
  throw failed(`${what} failed: ${result.notStarted ?? (result.timedOut ? 'it took too long' : said)}`);
}

function failed(why: string): FlowError {
  return new FlowError('SANDBOX_FAILED', EXIT.problemFound, `The sandbox is not as it should be. ${why}`);
}

interface Answer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: string;
}

/** Asks over a connection of its own, which does not outlive the question; null when nobody answers within a second. */
function ask(url: string): Promise<Answer | null> {
  return new Promise((resolveAnswer) => {
    const request = get(url, { agent: false, timeout: 1_000 }, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        body += chunk;
      });
      response.on('end', () => resolveAnswer({ status: response.statusCode ?? 0, headers: response.headers, body }));
      response.on('error', () => resolveAnswer(null));
    });
    request.on('timeout', () => request.destroy());
    request.on('error', () => resolveAnswer(null));
  });
}
