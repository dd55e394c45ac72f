/**
 * Runs git through simple-git: the only file that imports it. Answers exit status and output; decides nothing by text.
 *
 * Invariants: never interactive (no terminal prompt, no editor); nothing that the environment says of another
 * repository reaches git (flow may run inside a hook); Ctrl-C at the terminal does not reach git, as it gets a session
 * of its own; names that come from outside stand after `--end-of-options` or `--` or are full ref names, and
 * simple-git's own guards against dangerous options stay on.
 */
import { dirname } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { GitPluginError, simpleGit } from 'simple-git';
import { messageOf, StepError } from '../errors.ts';

export interface GitResult {
  status: number;
  stdout: string;
  stderr: string;
}

export interface GitRunOptions {
  /** Standard input. */
  input?: string;
  /** git must find its repository in `dir` itself: without one there it fails, instead of working on one further up. */
  hereOnly?: boolean;
}

/** git says something at least this often while it works over a network; otherwise it hangs. */
const SILENCE_LIMIT_MS = 120_000;

/** What an operator may set for git that flow must not take away: identity, transport, configuration, certificates. */
const KEPT =
  /^GIT_(?:SSH|SSH_COMMAND|SSH_VARIANT|ASKPASS|AUTHOR_.*|COMMITTER_.*|CONFIG_(?:GLOBAL|SYSTEM|NOSYSTEM)|SSL_.*|HTTP_.*|CEILING_DIRECTORIES|TRACE.*)$/;
/** Programs that would wait for a person, or a folder that simple-git takes for git's. */
const DROPPED = new Set(['EDITOR', 'VISUAL', 'PAGER', 'PREFIX']);

function environment(): Record<string, string> {
  const kept: Record<string, string> = {};
  for (const [name, value] of Object.entries(process.env)) {
    if (value === undefined || DROPPED.has(name)) continue;
    if (!name.toUpperCase().startsWith('GIT_') || KEPT.test(name)) kept[name] = value;
  }
  return { ...kept, LC_ALL: 'C', GIT_TERMINAL_PROMPT: '0', GIT_EDITOR: 'true', GIT_MERGE_AUTOEDIT: 'no' };
}

/**
 * Runs git in a folder and answers how it ended; its exit status is no error here.
 * Throws StepError `unreachable` when git could not be run, or went silent for two minutes and was ended.
 */
export async function runGit(dir: string, args: readonly string[], options: GitRunOptions = {}): Promise<GitResult> {
  const env = { ...environment(), ...(options.hereOnly === true ? { GIT_CEILING_DIRECTORIES: dirname(dir) } : {}) };
  const ended: { result?: GitResult } = {};
  try {
    const git = simpleGit({
      baseDir: dir,
      // A session of its own, where the system has setsid; elsewhere there is no way to give simple-git's child one.
      binary: process.platform === 'linux' ? ['setsid', 'git'] : 'git',
      // Guarded variables have to be named to reach git; these are the operator's own and ours.
      allowEnvironment: Object.keys(env).filter((name) => name.startsWith('GIT_') || name === 'SSH_ASKPASS'),
      unsafe: {
        allowUnsafeEditor: true,
        allowUnsafeSshCommand: true,
        allowUnsafeAskPass: true,
        allowUnsafeConfigPaths: true,
      },
      timeout: { block: SILENCE_LIMIT_MS },
      ...(options.input === undefined ? {} : { input: () => options.input }),
      // Called for every command with what simple-git makes of it; what this answers is thrown, and a status is not.
      errors: (error, { exitCode, stdOut, stdErr }) => {
        if (error instanceof GitPluginError) return error;
        const stderr = Buffer.concat(stdErr).toString('utf8');
        // Not a status: the program could not be started (negative) or was ended by a signal (null). 127 is setsid's
        // when there is no git.
        if (!Number.isInteger(exitCode) || exitCode < 0 || exitCode === 127) {
          return error ?? new Error(`it was ended from outside ${stderr}`);
        }
        ended.result = { status: exitCode, stdout: Buffer.concat(stdOut).toString('utf8'), stderr };
        return undefined;
      },
    });
    await git.env(env).raw([...args]);
  } catch (error) {
    throw notRun(dir, args, messageOf(error), error);
  }
  const { result } = ended;
  if (result === undefined) throw notRun(dir, args, 'it did not end', undefined);
  return result;
}

function notRun(dir: string, args: readonly string[], why: string, cause: unknown): StepError {
  return new StepError(
    'GIT_NOT_RUN',
    'unreachable',
    `git ${commandOf(args)} could not be run in ${dir}: ${why.trim()}. ` +
      `Check that the folder exists and git is installed.`,
    { cause },
  );
}

function commandOf(args: readonly string[]): string {
  return args.find((word) => !word.startsWith('-')) ?? '';
}

/** Runs git, and throws StepError `rejected` with git's own words when its status is not 0. Answers standard output. */
export async function gitOutput(dir: string, args: readonly string[], options: GitRunOptions = {}): Promise<string> {
  const result = await runGit(dir, args, options);
  if (result.status === 0) return result.stdout;
  throw new StepError(
    'GIT_FAILED',
    'rejected',
    `git ${commandOf(args)} failed in ${dir} with status ${result.status}: ${said(result)} ` +
      `See: git -C ${dir} status`,
  );
}

/** What git said, as one sentence that is safe to print. */
export function said(result: GitResult): string {
  const text = `${result.stderr.trim()}\n${result.stdout.trim()}`.trim();
  const line = printable(text.replaceAll(/\s*[\r\n]+\s*/g, ' | ')).slice(0, 2_000);
  return /[.!?]$/.test(line) ? line : `${line === '' ? 'it said nothing' : line}.`;
}

/**
 * Without what a terminal would obey and without marks that reorder or hide text: it comes from commits, hooks and remotes.
 * Joiners inside words and signs stay.
 */
export function printable(text: string): string {
  return stripVTControlCharacters(text).replaceAll(/[\p{Cc}\p{Zl}\p{Zp}]|(?![\u200c\u200d])\p{Cf}/gu, (character) =>
    character === '\t' ? ' ' : '',
  );
}

/**
 * A commit as git is asked for it: an object id, `HEAD`, or a full ref name. Short names are refused, because git
 * resolves them by rules of its own (a tag before a branch). Throws Error: it is the caller's mistake.
 */
export function revision(name: string): string {
  if (name === 'HEAD' || OBJECT_ID.test(name) || isFullRef(name)) return name;
  throw new Error(`${JSON.stringify(name)} is neither an object id nor a full ref name`);
}

/** An object id. Throws Error otherwise: it is the caller's mistake. */
export function objectId(oid: string): string {
  if (OBJECT_ID.test(oid)) return oid;
  throw new Error(`${JSON.stringify(oid)} is not an object id`);
}

/** A ref name such as `refs/heads/master`, free of what git forbids. Throws Error otherwise: the caller's mistake. */
export function fullRef(name: string): string {
  if (isFullRef(name)) return name;
  throw new Error(`${JSON.stringify(name)} is not a full ref name`);
}

const OBJECT_ID = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/;

function isFullRef(name: string): boolean {
  return /^refs\/[^/]/.test(name) && !/[\p{Cc} ~^:?*[\\]|\.\.|@\{|\/\/|\/\.|\.lock(?:\/|$)|[/.]$/u.test(name);
}
