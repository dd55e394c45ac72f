/** The machines that commands, files and jobs are on: whether each can be reached, has what flow calls there, and has room. */
import type { World } from '../../effects/world.ts';
import type { Host } from '../../hosts/host.ts';
import { proxiesOf, serverSettings, testServerSettings } from '../../config/settings.ts';
import type { Config } from '../../config/schema.ts';
import { publishPlace } from '../../effects/server-job.ts';
import { type Finding, look } from './finding.ts';
import { megabytes } from './senders.ts';

/** What a host is there for: the programs that flow calls for it beside sh, and the folders that have to have room. */
interface Duty {
  /** As ssh knows it; undefined for this machine. */
  on: string | undefined;
  programs: readonly string[];
  folders: readonly string[];
}

const READING = ['cat', 'head', 'tail', 'stat'];
const JOBS = ['flock', 'setsid', 'sync', 'mkdir', 'mv', 'cat', 'env', 'sed', 'cut', 'grep'];
const PROXY = [...READING, 'git', 'flock', 'sync', 'mv', 'rm', 'readlink'];
const NEEDED_BYTES = 100_000_000;
/** Clocks decide nothing; but times of different logs are easier to compare where they agree. */
const CLOCKS_AGREE_S = 5;

export async function lookAtHosts(world: World): Promise<Finding[]> {
  const duties = dutiesOf(world);
  const hosts = [...new Set(duties.map(({ on }) => on))];
  const findings = await Promise.all(
    hosts.map(async (on) => {
      const own = duties.filter((duty) => duty.on === on);
      const programs = [...new Set(own.flatMap((duty) => duty.programs))];
      const folders = [...new Set(own.flatMap((duty) => duty.folders))];
      return await lookAtHost(world.config, world.on({ on }), programs, folders);
    }),
  );
  return findings.flat();
}

function dutiesOf(world: World): Duty[] {
  const { config } = world;
  const servers = [
    ...Object.keys(config.servers).map((name) => serverSettings(config, name)),
    testServerSettings(config),
  ];
  const publishing = servers.map((server) => ({ server, place: publishPlace(world, server) }));
  return [
    { on: undefined, programs: ['git', 'setsid'], folders: [] },
    ...proxiesOf(config).map(({ on, dir }) => ({ on, programs: PROXY, folders: [dir] })),
    ...servers.map(({ on, dir }) => ({ on, programs: READING, folders: on === undefined ? [] : [dir] })),
    ...[...config.preflight, ...config.drain.checks, ...config.verify.checks, ...(config.preview?.checks ?? [])].map(
      ({ on }) => ({ on, programs: [], folders: [] }),
    ),
    ...servers.map(({ health }) => ({ on: health.on, programs: [], folders: [] })),
    ...publishing.map(({ place: { destination, isOwnTree, jobs } }) => ({
      on: destination ?? undefined,
      programs: isOwnTree ? JOBS : [...JOBS, 'git'],
      folders: [jobs],
    })),
  ];
}

/** What a person tries to see why a host cannot be reached: as flow does it, and with all that ssh has to say. */
const reaching = ({ ssh }: Config, name: string): string =>
  `ssh -v -o BatchMode=yes -o StrictHostKeyChecking=yes ${ssh.config === undefined ? '' : `-F ${ssh.config} `}${name} true`;

async function lookAtHost(
  config: Config,
  host: Host,
  programs: readonly string[],
  folders: readonly string[],
): Promise<Finding[]> {
  const { name } = host;
  const reached = await look(name, 'reached', async () => {
    const startedAt = performance.now();
    const { status, stdout, notStarted, unreachable, stderr } = await host.run(['sh', '-c', 'id -un; date +%s']);
    const ms = Math.round(performance.now() - startedAt);
    if (status !== 0) {
      return { verdict: 'bad', because: unreachable ?? notStarted ?? stderr.trim(), mend: reaching(config, name) };
    }
    const [user = '', seconds = ''] = stdout.split('\n');
    const ahead = Number(seconds) - Math.floor(Date.now() / 1_000);
    const as = `as ${user}, in ${ms} ms`;
    return Math.abs(ahead) > CLOCKS_AGREE_S
      ? { verdict: 'told', because: `${as}; its clock is ${Math.abs(ahead)} s ${ahead > 0 ? 'ahead' : 'behind'}` }
      : { verdict: 'ok', because: as };
  });
  if (reached.verdict === 'bad') return [reached];
  return [
    reached,
    await look(name, 'programs', async () => {
      const script = 'for name; do command -v "$name" >/dev/null || echo "$name"; done';
      const missing = (await host.run(['sh', '-c', script, 'flow', ...programs])).stdout.split('\n').filter(Boolean);
      return missing.length === 0
        ? { verdict: 'ok', because: programs.join(', ') }
        : { verdict: 'bad', because: `missing: ${missing.join(', ')}`, mend: `install them on ${name}` };
    }),
    ...(await Promise.all(
      folders.map(async (folder) => await look(name, 'room', async () => await roomFor(host, folder))),
    )),
  ];
}

/** Where the folder is not there yet, the nearest above it has to have the room. */
const ROOM = 'at=$1; while [ ! -e "$at" ]; do at=$(dirname -- "$at"); done; df -Pk -- "$at"';

async function roomFor(host: Host, folder: string): Promise<Omit<Finding, 'about' | 'what'>> {
  const { status, stdout, stderr } = await host.run(['sh', '-c', ROOM, 'flow', folder], { env: { LC_ALL: 'C' } });
  const free = Number(/\s(\d+)\s+\d+%/.exec(stdout)?.[1]) * 1_024;
  if (status !== 0 || Number.isNaN(free))
    return { verdict: 'told', because: `${folder}: nobody can say how much is free (${stderr.trim()})` };
  return free < NEEDED_BYTES
    ? { verdict: 'bad', because: `${folder}: only ${megabytes(free)} are free`, mend: `make room: df -h ${folder}` }
    : { verdict: 'ok', because: `${folder}: ${megabytes(free)} are free` };
}
