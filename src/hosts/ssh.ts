/**
 * A machine behind ssh as a host: the user's own OpenSSH, with the user's own configuration, agent and jump hosts. Nothing is
 * installed there; it needs sh, env, cat, head, tail and stat, and for jobs what jobs.ts says.
 *
 * Invariants: what crosses is words, never a shell line put together from values; a connection that fails is told apart from a
 * program that fails, whatever its exit status; nothing is asked of a person (BatchMode), and no key is trusted that is not known;
 * what changes the world is given to the host once, and what only reads is asked again when the connection broke.
 */
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { execa } from 'execa';
import pLimit from 'p-limit';
import { UsageError } from '../errors.ts';
import {
  type Argv,
  type Connection,
  type FileSlice,
  type Host,
  HostUnreachableError,
  type RunOptions,
  type RunResult,
} from './host.ts';
import { type Call, type CallEnd, CHANNEL_SCRIPT, type Channel, channelOf } from './channel.ts';
import { quote } from './jobs.ts';

export interface SshOptions {
  /** Another configuration than the user's own. */
  configFile?: string;
  /** How long a connection may take to be made. */
  connectTimeoutMs?: number;
}

const OUTPUT_LIMIT_BYTES = 10_000_000;
const FILE_LIMIT_BYTES = 16_000_000;
const DEFAULT_TIMEOUT_MS = 30_000;
/** For so long a connection is kept for the next command of flow. */
const KEEP_SECONDS = 60;
/** Calls at the same time. An sshd takes ten sessions on one connection; a second flow and a person may want some as well. */
const SESSIONS = 4;
/** For so long without a connection a host counts as out of reach, but no longer than one may take to be made. */
const PATIENCE_MS = 4_000;
/** For so long a call is tried again on a host that can be connected to, and breaks off each time. */
const LONGEST_PATIENCE_MS = 30_000;
const RETRY_MS = 250;
const ABSENT = 44;

/** A destination that ssh takes for a host and for nothing else: an alias of ssh_config, a host name or an address, a user before it. */
export const DESTINATION = /^(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9_][A-Za-z0-9_.-]*$/;

/**
 * What every channel's shell knows before its first call. A program that takes too long is ended there as well, where the host can.
 * A file's identity, size and bytes are those of one and the same file, whatever is renamed meanwhile.
 */
const PREAMBLE = `flow_run() {
  flow_dir=$1 flow_seconds=$2; shift 2
  [ -z "$flow_dir" ] || cd -- "$flow_dir" || exit 126
  if command -v timeout >/dev/null; then exec timeout -k 2 "$flow_seconds" env -- "$@"; fi
  exec env -- "$@"
}
flow_gone() {
  # A link to itself, or a folder that may not be entered, hides a file, and does not mean that there is none.
  [ ! -L "$1" ] || readlink -f -- "$1" >/dev/null || { echo "$1 leads to itself" >&2; exit 1; }
  flow_above=$1
  while [ "$flow_above" != "\${flow_above%/*}" ]; do
    flow_above=\${flow_above%/*}
    [ ! -d "$flow_above" ] || [ -x "$flow_above" ] || { echo "$flow_above may not be entered" >&2; exit 1; }
  done
  exit ${ABSENT}
}
flow_there() {
  flow_look=$1; shift
  [ -e "$1" ] || flow_gone "$1"
  if ( "$flow_look" "$@" ); then exit 0; fi
  # What a process ended, or a rotation took away, in this very moment is gone, and was read by nobody.
  [ -e "$1" ] || flow_gone "$1"
  exit 1
}
flow_read() {
  exec head -c ${FILE_LIMIT_BYTES + 1} -- "$1"
}
flow_slice() {
  [ -f "$1" ] || { echo "$1 is not a file" >&2; exit 1; }
  exec 3<"$1" || exit 1
  stat -L -c '%d:%i %s' /proc/self/fd/3 || exit 1
  [ "$3" -eq 0 ] || tail -c "+$(($2 + 1))" <&3 | head -c "$3"
}
${CHANNEL_SCRIPT}`;

/**
 * The host that ssh knows by this name (an alias of ssh_config, a host name, or user@host). Throws UsageError BAD_HOST for a name
 * that could be taken for something else. Connects when it is first needed; a connection that was lost is made again.
 */
export function sshHost(destination: string, { configFile, connectTimeoutMs = 10_000 }: SshOptions = {}): Host {
  if (!DESTINATION.test(destination)) {
    throw new UsageError(
      'BAD_HOST',
      `${JSON.stringify(destination)} is not a host that ssh can be given safely. Name it in ~/.ssh/config, and use that name; see: flow config check`,
    );
  }
  const own = createHash('sha256')
    .update(configFile ?? '')
    .digest('hex')
    .slice(0, 8);
  const options = [
    ...sshArguments({ connectTimeoutMs, ...(configFile === undefined ? {} : { configFile }) }),
    ...named({
      ControlMaster: 'auto',
      // Of each configuration its own: one name may mean two machines.
      ControlPath: join(controlFolder(), `${own}-%C`),
      ControlPersist: String(KEEP_SECONDS),
    }),
  ];
  const session = pLimit(SESSIONS);
  const idle: Channel[] = [];
  /** The first channel makes the connection: the others wait for it, or each would make one of its own. */
  let connecting: Promise<Channel> | null = null;
  /** When a connection was last seen to work. */
  let lastReached = -Infinity;

  async function open(): Promise<Channel> {
    const child = execa('ssh', [...options, '--', destination, 'exec sh'], {
      reject: false,
      buffer: false,
      stdin: 'pipe',
      // Ctrl-C at the terminal is a signal to the foreground group: it would end the connection that all calls share.
      detached: true,
      cleanup: false,
    });
    const channel = channelOf(child);
    const timeoutMs = connectTimeoutMs + 5_000;
    const hello = await channel.run({ text: PREAMBLE, mark: newMark(), timeoutMs, limitBytes: OUTPUT_LIMIT_BYTES });
    if (hello.end === 'status' && hello.status === 0) {
      lastReached = performance.now();
      return channel;
    }
    channel.close();
    if (hello.end === 'broke') throw new NotConnected(hello.because);
    throw new NotConnected(hello.end === 'timedOut' ? 'no answer in time' : 'its shell did not answer as a shell does');
  }

  async function connected(): Promise<Channel> {
    for (let channel = idle.pop(); channel !== undefined; channel = idle.pop()) if (channel.isUsable) return channel;
    if (connecting === null) {
      const first = open();
      connecting = first;
      try {
        return await first;
      } catch (error) {
        if (connecting === first) connecting = null;
        throw error;
      }
    }
    await connecting;
    return await open();
  }

  /** A channel that answers now: what is written to one that has died unnoticed leaves it unknown whether it was carried out. */
  async function answering(): Promise<Channel> {
    const asked = { text: ':\n', timeoutMs: connectTimeoutMs, limitBytes: OUTPUT_LIMIT_BYTES };
    for (;;) {
      const isNew = idle.length === 0;
      const channel = await connected();
      if (isNew || (await channel.run({ ...asked, mark: newMark() })).end === 'status') return channel;
    }
  }

  /** `isGiven`: the call was written to a shell there, so that it may have been carried out. */
  async function once(call: Omit<Call, 'mark'>, mayAgain: boolean): Promise<{ end: CallEnd; isGiven: boolean }> {
    let over = connecting;
    try {
      const channel = await (mayAgain ? connected() : answering());
      over = connecting;
      const end = await channel.run({ ...call, mark: newMark() });
      if (channel.isUsable) idle.push(channel);
      // Who finds the connection broken makes the next one, unless another has begun to.
      if (end.end === 'broke' && connecting === over) connecting = null;
      return { end, isGiven: true };
    } catch (error) {
      if (!(error instanceof NotConnected)) throw error;
      if (connecting === over) connecting = null;
      return { end: { end: 'broke', because: error.message }, isGiven: false };
    }
  }

  async function call(given: Omit<Call, 'mark'>, mayAgain: boolean): Promise<CallEnd> {
    const began = performance.now();
    const patience = Math.min(PATIENCE_MS, connectTimeoutMs);
    for (;;) {
      const { end, isGiven } = await session(async () => await once(given, mayAgain));
      if (end.end !== 'broke') return end;
      const now = performance.now();
      const isOver = now > Math.max(began, lastReached) + patience || now > began + LONGEST_PATIENCE_MS;
      if ((isGiven && !mayAgain) || given.signal?.aborted === true || isOver) return end;
      await delay(RETRY_MS);
    }
  }

  async function read(name: string, ...words: string[]): Promise<Buffer | null> {
    const text = `( flow_there ${name} ${words.map(quote).join(' ')} ) </dev/null\n`;
    const end = await call({ text, timeoutMs: DEFAULT_TIMEOUT_MS, limitBytes: FILE_LIMIT_BYTES * 2 }, true);
    if (end.end === 'broke') throw new HostUnreachableError({ name: destination }, brokeOff(end.because));
    if (end.end !== 'status') throw new HostUnreachableError({ name: destination }, 'no answer in time');
    if (end.status === 0) return end.stdout;
    if (end.status === ABSENT) return null;
    throw new Error(`${destination}: ${end.stderr.toString('utf8').trim()}`);
  }

  return {
    name: destination,
    async run(argv: Argv, given: RunOptions = {}): Promise<RunResult> {
      const { timeoutMs = DEFAULT_TIMEOUT_MS, input = '', signal } = given;
      const env = Object.entries(given.env ?? {}).map(([name, value]) => `${name}=${value}`);
      // A second more than here, where it is decided.
      const seconds = String(Math.ceil(timeoutMs / 1_000) + 1);
      const words = [given.cwd ?? '', seconds, ...env, ...argv].map(quote).join(' ');
      const text = `( flow_run ${words} ) ${inputText(input)}`;
      const end = await call(
        { text, timeoutMs, limitBytes: OUTPUT_LIMIT_BYTES * 2, ...(signal === undefined ? {} : { signal }) },
        given.changesWorld !== true,
      );
      if (end.end === 'broke') {
        const unreachable = brokeOff(end.because);
        return { status: null, stdout: '', stderr: '', timedOut: false, unreachable };
      }
      const base = {
        stdout: end.stdout.subarray(0, OUTPUT_LIMIT_BYTES).toString('utf8'),
        stderr: end.stderr.subarray(0, OUTPUT_LIMIT_BYTES).toString('utf8'),
        timedOut: end.end === 'timedOut',
      };
      if (end.end !== 'status') return { status: null, ...base };
      const { status } = end;
      // env's own words for a program that is not there, or may not be run.
      return status === 126 || status === 127
        ? { status, ...base, notStarted: `${destination}: ${base.stderr.trim()}` }
        : { status, ...base };
    },
    async connect(name: string, port: number, signal: AbortSignal): Promise<Connection> {
      // The shared connection is made first: several at once would each make one of their own.
      const reached = await call(
        { text: ':\n', timeoutMs: connectTimeoutMs, limitBytes: OUTPUT_LIMIT_BYTES, signal },
        true,
      );
      signal.throwIfAborted();
      if (reached.end !== 'status')
        throw new HostUnreachableError(
          { name: destination },
          reached.end === 'broke' ? brokeOff(reached.because) : 'no answer in time',
        );
      const target = `${name.includes(':') ? `[${name}]` : name}:${port}`;
      const child = execa('ssh', [...options, '-W', target, '--', destination], {
        reject: false,
        buffer: false,
        stdin: 'pipe',
        detached: true,
        cleanup: true,
      });
      let said = '';
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        said = `${said}${text}`.slice(-1_000);
      });
      return {
        stream: child.duplex(),
        async ended() {
          const { exitCode } = await child;
          if (exitCode === 0) return { because: 'it was closed without an answer', isOfHost: null };
          // ssh ends with 255 for the port as for itself. Over a shared connection it does not say why a port could not be opened.
          if (!/forwarding (?:request )?failed|open failed/i.test(said))
            return { because: brokeOff(said.trim()), isOfHost: true };
          const why = `${destination} could not connect to ${target}: refused, or its sshd forwards nothing (AllowTcpForwarding)`;
          return { because: why, isOfHost: false };
        },
        close: () => {
          child.kill('SIGTERM');
        },
      };
    },
    async readFile(path: string): Promise<Buffer | null> {
      const bytes = await read('flow_read', path);
      if (bytes !== null && bytes.length > FILE_LIMIT_BYTES)
        throw new Error(`${destination}: ${path} is larger than ${FILE_LIMIT_BYTES} bytes`);
      return bytes;
    },
    async readSlice(path: string, offset: number, maxBytes: number): Promise<FileSlice | null> {
      const answer = await read('flow_slice', path, String(offset), String(maxBytes));
      if (answer === null) return null;
      const end = answer.indexOf(10);
      const [id = '', size = ''] = answer.subarray(0, end).toString('latin1').split(' ');
      return { id, size: Number(size), bytes: answer.subarray(end + 1) };
    },
  };
}

/** The connection could not be made; the message says why, as ssh does. */
class NotConnected extends Error {}

const newMark = (): string => `flow-${randomBytes(12).toString('hex')}`;

/** The standard input of a call: what the shell reads of its own must not reach it. */
function inputText(input: string): string {
  if (input === '') return '</dev/null\n';
  if (input.includes('\0'))
    throw new UsageError('BAD_INPUT', 'what a program on another host reads can hold no NUL character');
  const end = newMark();
  return `<<'${end}'\n${input}${input.endsWith('\n') ? '' : '\n'}${end}\n`;
}

const named = (options: Record<string, string>): string[] =>
  Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`]);

/** How ssh is called, the host excepted: nothing is asked of a person, no new key is trusted, nothing is forwarded. */
function sshArguments({ configFile, connectTimeoutMs = 10_000 }: SshOptions): string[] {
  return [
    ...(configFile === undefined ? [] : ['-F', configFile]),
    ...named({
      BatchMode: 'yes',
      StrictHostKeyChecking: 'yes',
      ConnectTimeout: String(Math.max(1, Math.ceil(connectTimeoutMs / 1_000))),
      ServerAliveInterval: '5',
      ServerAliveCountMax: '3',
      ClearAllForwardings: 'yes',
      ForwardAgent: 'no',
      ForwardX11: 'no',
      PermitLocalCommand: 'no',
      RequestTTY: 'no',
      LogLevel: 'ERROR',
    }),
  ];
}

/** The same as one line of a shell, for a program that calls ssh by itself (git). */
export const sshCommandLine = (options: SshOptions): string => ['ssh', ...sshArguments(options)].map(quote).join(' ');

const brokeOff = (said: string): string =>
  said === '' ? 'the connection broke off' : said.replaceAll(/\s*\n\s*/g, '; ');

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
