/** The words of a step that failed in git: git/ knows what went wrong, only the step knows which command helps. */
import { StepError } from '../errors.ts';

/**
 * Waits for `work`; a StepError goes on with the way out added, a sentence with a command. Everything else is thrown as it is.
 * `untouched`: nothing of the step itself was begun, whatever git tried, so that the chart may believe what it believed before.
 */
export async function withWayOut<T>(
  work: Promise<T>,
  wayOut: string | ((error: StepError) => string),
  options: { untouched?: boolean } = {},
): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof StepError)) throw error;
    const kind = options.untouched === true ? 'unsafe' : error.kind;
    const then = typeof wayOut === 'string' ? wayOut : wayOut(error);
    throw new StepError(error.code, kind, `${error.message} ${then}`, { cause: error });
  }
}

const MOST_NAMED = 10;

/** Things by name for a message; of many, the first ones and how many there are. */
export function listOf(things: readonly string[]): string {
  const named = things.slice(0, MOST_NAMED).join('; ');
  return things.length > MOST_NAMED ? `${named}; and ${things.length - MOST_NAMED} more` : named;
}
