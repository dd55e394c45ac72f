/**
 * The seam between flow and a machine: every command, file and process that flow looks at or changes is reached
 * through a `Host`. This machine is one kind of host (local.ts), a machine behind ssh the other (ssh.ts).
 * Nothing here is specific to Nginx, git or servers, and nothing outside this folder starts a program.
 */

import type { Duplex } from 'node:stream';
import { StepError } from '../errors.ts';

/** A program and its arguments. Never a shell line: values travel as arguments. */
export type Argv = readonly [string, ...string[]];

export interface RunOptions {
  /** Folder the program runs in; absolute. */
  cwd?: string;
  /** Standard input; empty when left out. */
  input?: string;
  /** Added to the environment. */
  env?: Record<string, string>;
  /** After so many milliseconds the program is ended (SIGTERM, then SIGKILL) and the result says so. Default 30 000. */
  timeoutMs?: number;
  /** Ends the program when aborted. */
  signal?: AbortSignal;
  /** True for a program that changes the world: it gets a session of its own, so that Ctrl-C at the terminal does not reach it. */
  changesWorld?: boolean;
}

export interface RunResult {
  /** Exit status; null when it did not exit by itself. */
  status: number | null;
  stdout: string;
  stderr: string;
  timedOut: boolean;
  /** Why the program could not be started at all (ENOENT, EACCES …). */
  notStarted?: string;
  /** Why the host could not be asked, or did not answer to the end: nobody can say whether the program ran. */
  unreachable?: string;
}

export interface FileSlice {
  /** Identity of the file: changes when the file is replaced (rotation). */
  id: string;
  /** Size in bytes when it was read. */
  size: number;
  bytes: Buffer;
}

/** A connection that a host makes. */
export interface Connection {
  stream: Duplex;
  /**
   * Why its stream has ended. `isOfHost`: the way to the host broke, which says nothing of the port; null where it may have been
   * the one or the other.
   */
  ended(): Promise<{ because: string; isOfHost: boolean | null }>;
  close(): void;
}

export interface Host {
  readonly name: string;
  /** Runs a program to its end. Never rejects because of the program's exit status. Output is cut at 10 MB per stream. */
  run(argv: Argv, options?: RunOptions): Promise<RunResult>;
  /** The whole file (at most 16 MB), or null when it does not exist. Works for /proc. Rejects when it may not be read. */
  readFile(path: string): Promise<Buffer | null>;
  /** At most `maxBytes` from `offset`, or null when there is none. Rejects when it may not be read, or is no file. */
  readSlice(path: string, offset: number, maxBytes: number): Promise<FileSlice | null>;
  /** A connection from this host to that port. Where it cannot be made, its stream ends; rejects when the host cannot be reached. */
  connect(name: string, port: number, signal: AbortSignal): Promise<Connection>;
}

/** The host did not answer: nothing is known of what was asked. Thrown by `readFile`, `readSlice` and `requireReached`. */
export class HostUnreachableError extends StepError {
  constructor(host: Pick<Host, 'name'>, why: string) {
    super(
      'HOST_UNREACHABLE',
      'unreachable',
      `${host.name} cannot be reached (${why}). Nothing further was started there, and what runs there goes on. ` +
        `See whether it can be: ssh ${host.name} true, or everything at once: flow doctor. Then the same command again`,
    );
  }
}

/** The result of a program on a host that was reached. Throws HostUnreachableError where nobody can say whether it ran. */
export function requireReached(host: Pick<Host, 'name'>, result: RunResult): RunResult {
  if (result.unreachable !== undefined) throw new HostUnreachableError(host, result.unreachable);
  return result;
}

/** Why a program gave no answer that counts, in a few words; its exit status where it has one. */
export function whyNoAnswer({ status, notStarted, unreachable, timedOut }: RunResult): string {
  return unreachable ?? notStarted ?? (timedOut ? 'no answer in time' : `exit status ${status ?? 'none'}`);
}
