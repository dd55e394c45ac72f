/** What can go wrong with a world that moved while flow was away, or between the facts and the act. */
import type { FailureRows } from './failure.ts';

export const worldMovedRows = {} as const satisfies FailureRows;
