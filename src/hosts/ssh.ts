/**
 * A machine behind ssh as a host: the user's own OpenSSH, with the user's own configuration, agent and jump hosts. Nothing is
 * installed there; it needs sh, env, cat, head, tail and stat, and for jobs what jobs.ts says.
 *
 * Invariants: what crosses is words, never a shell line put together from values; a connection that fails is told apart from a
 * program that fails, whatever its exit status; nothing is asked of a person (BatchMode), and no key is trusted that is not known.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { UsageError } from '../errors.ts';
import { type Argv, type FileSlice, type Host, HostUnreachableError, type RunOptions, type RunResult } from './host.ts';
import { quote } from './jobs.ts';

export interface SshOptions {
  /** Another configuration than the user's own; for tests and the sandbox. */
  configFile?: string;
  /** How long a connection may take to be made, in seconds. */
  connectSeconds?: number;
}

const OUTPUT_LIMIT_BYTES = 10_000_000;
const FILE_LIMIT_BYTES = 16_000_000;
const DEFAULT_TIMEOUT_MS = 30_000;
/** For so long a connection is kept for the next command. */
const KEEP_SECONDS = 60;
const DESTINATION = /^(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9_][A-Za-z0-9_.-]*$/;
const ABSENT = 44;
const SSH_FAILED = 255;

/**
 * Runs a program where it is wanted and says with which status it ended, on a line that only this call knows: ssh itself ends
 * with 255 for every trouble of its own, and so may a program.
 */
const RUN = `mark=$1 dir=$2; shift 2
if [ -z "$dir" ] || cd -- "$dir"; then env -- "$@"; status=$?; else status=126; fi
printf '\\n%s:%d\\n' "$mark" "$status" >&2`;
const READ = `[ -e "$1" ] || exit ${ABSENT}
exec head -c ${FILE_LIMIT_BYTES + 1} -- "$1"`;
/** Identity, size and bytes of one and the same file, whatever is renamed meanwhile. */
const SLICE = `[ -e "$1" ] || exit ${ABSENT}
[ -f "$1" ] || { echo "$1 is not a file" >&2; exit 1; }
exec 3<"$1" || exit 1
stat -L -c '%d:%i %s' /proc/self/fd/3 || exit 1
[ "$3" -eq 0 ] || tail -c "+$(($2 + 1))" <&3 | head -c "$3"`;

/**
 * The host that ssh knows by this name (an alias of ssh_config, a host name, or user@host). Throws UsageError BAD_HOST for a name
 * that could be taken for something else. Connects when it is first needed; a connection that was lost is made again.
 */
export function sshHost(destination: string, { configFile, connectSeconds = 10 }: SshOptions = {}): Host {
  if (!DESTINATION.test(destination)) {
    throw new UsageError(
      'BAD_HOST',
      `${JSON.stringify(destination)} is not a host that ssh can be given safely. Name it in ~/.ssh/config, and use that name; see: flow config check`,
    );
  }
  const options = [
    ...(configFile === undefined ? [] : ['-F', configFile]),
    ...Object.entries({
      BatchMode: 'yes',
      StrictHostKeyChecking: 'yes',
      ConnectTimeout: String(connectSeconds),
      ServerAliveInterval: '5',
      ServerAliveCountMax: '3',
      ControlMaster: 'auto',
      ControlPath: join(controlFolder(), '%C'),
      ControlPersist: String(KEEP_SECONDS),
      ClearAllForwardings: 'yes',
      ForwardAgent: 'no',
      ForwardX11: 'no',
      PermitLocalCommand: 'no',
      RequestTTY: 'no',
      LogLevel: 'ERROR',
    }).flatMap(([name, value]) => ['-o', `${name}=${value}`]),
  ];

  async function call(script: string, words: readonly string[], given: RunOptions) {
    // The login shell there sees nothing but quoted words.
    const command = ['exec', 'sh', '-c', quote(script), 'flow', ...words.map(quote)].join(' ');
    return await execa('ssh', [...options, '--', destination, command], {
      reject: false,
      stripFinalNewline: false,
      encoding: 'buffer',
      maxBuffer: OUTPUT_LIMIT_BYTES * 2,
      timeout: given.timeoutMs ?? DEFAULT_TIMEOUT_MS,
      forceKillAfterDelay: 2_000,
      input: given.input ?? '',
      detached: given.changesWorld ?? false,
      cleanup: !(given.changesWorld ?? false),
      ...(given.signal === undefined ? {} : { cancelSignal: given.signal }),
    });
  }

  async function read(script: string, words: readonly string[]): Promise<Buffer | null> {
    const result = await call(script, words, {});
    if (result.exitCode === 0) return Buffer.from(result.stdout);
    if (result.exitCode === ABSENT) return null;
    const said = Buffer.from(result.stderr).toString('utf8').trim();
    const because = `${destination}: ${said === '' ? 'the connection broke off' : said}`;
    // None of the scripts ends with 255: that is ssh's own, and so is an end by a signal or by the limit of time.
    if (result.exitCode === undefined || result.exitCode === SSH_FAILED) throw new HostUnreachableError(because);
    throw new Error(because);
  }

  return {
    name: destination,
    async run(argv: Argv, given: RunOptions = {}): Promise<RunResult> {
      const mark = `flow-${randomBytes(12).toString('hex')}`;
      const env = Object.entries(given.env ?? {}).map(([name, value]) => `${name}=${value}`);
      const result = await call(RUN, [mark, given.cwd ?? '', ...env, ...argv], given);
      const stderr = Buffer.from(result.stderr).toString('utf8');
      const end = new RegExp(`\\n${mark}:(\\d+)\\n`).exec(stderr);
      const base = {
        stdout: Buffer.from(result.stdout).toString('utf8').slice(0, OUTPUT_LIMIT_BYTES),
        stderr: end === null ? stderr : stderr.slice(0, end.index),
        timedOut: result.timedOut,
      };
      if (end !== null) {
        const status = Number(end[1]);
        // env's own words for a program that is not there, or may not be run.
        return status === 126 || status === 127
          ? { status, ...base, notStarted: `${destination}: ${base.stderr.trim()}` }
          : { status, ...base };
      }
      if (result.timedOut || result.isCanceled) return { status: null, ...base };
      const said = base.stderr.trim();
      return {
        status: null,
        ...base,
        unreachable: `${destination}: ${said === '' ? 'the connection broke off' : said}`,
      };
    },
    async readFile(path: string): Promise<Buffer | null> {
      const bytes = await read(READ, [path]);
      if (bytes !== null && bytes.length > FILE_LIMIT_BYTES)
        throw new Error(`${destination}: ${path} is larger than ${FILE_LIMIT_BYTES} bytes`);
      return bytes;
    },
    async readSlice(path: string, offset: number, maxBytes: number): Promise<FileSlice | null> {
      const answer = await read(SLICE, [path, String(offset), String(maxBytes)]);
      if (answer === null) return null;
      const end = answer.indexOf(10);
      const [id = '', size = ''] = answer.subarray(0, end).toString('latin1').split(' ');
      return { id, size: Number(size), bytes: answer.subarray(end + 1) };
    },
  };
}

/** Where connections are kept: a short path, because a socket's name may hold 104 bytes, in a folder of the user's own. */
function controlFolder(): string {
  const uid = process.getuid?.() ?? 0;
  const dir = join(process.env.XDG_RUNTIME_DIR ?? tmpdir(), `flow-ssh-${uid}`);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const stat = statSync(dir);
  if (stat.uid !== uid || (stat.mode & 0o077) !== 0) {
    throw new UsageError(
      'UNSAFE_FOLDER',
      `${dir} belongs to, or is open to, others: connections are not kept there. Remove it.`,
    );
  }
  return dir;
}
