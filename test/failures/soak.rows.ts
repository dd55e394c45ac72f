/** What can go wrong with the soak and the final watch (runbook R4.2, R5.2). */
import type { FailureRows } from './failure.ts';

export const soakRows = {} as const satisfies FailureRows;
