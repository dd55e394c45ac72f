/** What was thrown, as the exit status; the message of an expected ending was written for people. */
import { EXIT, type ExitCode, FlowError, messageOf } from '../errors.ts';

export function ending(error: unknown): ExitCode {
  if (error instanceof FlowError) {
    process.stderr.write(`flow: ${error.message}\n`);
    return error.exitCode;
  }
  process.stderr.write(
    `flow: a defect in flow: ${error instanceof Error ? (error.stack ?? error.message) : messageOf(error)}\n` +
      'The release is as it was last stored. See: flow status\n',
  );
  return EXIT.defect;
}
