/** What can go wrong with the project's git repository (runbook R1, R2, R5.3). */
import type { FailureRows } from './failure.ts';

export const gitRows = {} as const satisfies FailureRows;
