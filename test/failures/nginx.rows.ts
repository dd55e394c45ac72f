/** What can go wrong with Nginx (runbook R3.2, R4.1, R5.2). */
import type { FailureRows } from './failure.ts';

export const nginxRows = {} as const satisfies FailureRows;
