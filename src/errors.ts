/**
 * The error classes of flow, and the exit code each one ends the process with.
 *
 * Few on purpose: the caller decides by class and `code`, never by the text. A message says what failed, in what
 * state the world now is, and which command to run next. Only `main.ts` turns an error into an exit status.
 */

/** Exit statuses, one meaning each (README.md lists them for people). */
export const EXIT = {
  ok: 0,
  defect: 1,
  usage: 2,
  noRelease: 3,
  refused: 4,
  locked: 5,
  stepFailed: 6,
  rolledBack: 7,
  problemFound: 8,
  stateNotWritten: 74,
  interrupted: 130,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** An expected ending: printed as its message, without a stack. */
export class FlowError extends Error {
  readonly code: string;
  readonly exitCode: ExitCode;
  constructor(code: string, exitCode: ExitCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
    this.exitCode = exitCode;
  }
}

/** The command line or flow.yaml is wrong; nothing was touched. */
export class UsageError extends FlowError {
  constructor(code: string, message: string, options?: ErrorOptions) {
    super(code, EXIT.usage, message, options);
  }
}

/**
 * A step could not do its work. `kind` says what is known of the world:
 * - `rejected`: it was tried and did not happen, or was undone;
 * - `unsafe`: the safety condition did not hold any more, so nothing was tried;
 * - `timedOut`: not proven within its deadline;
 * - `unreachable`: the host or program could not be asked;
 * - `unknownOutcome`: it may or may not have happened.
 */
export class StepError extends FlowError {
  readonly kind: 'rejected' | 'unsafe' | 'timedOut' | 'unreachable' | 'unknownOutcome';
  constructor(code: string, kind: StepError['kind'], message: string, options?: ErrorOptions) {
    super(code, EXIT.stepFailed, message, options);
    this.kind = kind;
  }
}

/** The state on disk could not be written or can not be trusted; nothing further was started. */
export class StateError extends FlowError {
  constructor(code: string, message: string, options?: ErrorOptions) {
    super(code, EXIT.stateNotWritten, message, options);
  }
}

/** Another driver holds the lock. */
export class LockHeldError extends FlowError {
  constructor(message: string, options?: ErrorOptions) {
    super('LOCK_HELD', EXIT.locked, message, options);
  }
}

/** The text of anything that was thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** The `code` of anything that was thrown (a FlowError's, or the system's `ENOENT` and its like). */
export function codeOf(thrown: unknown): string | undefined {
  return typeof thrown === 'object' && thrown !== null && 'code' in thrown && typeof thrown.code === 'string'
    ? thrown.code
    : undefined;
}
