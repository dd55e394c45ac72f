/** What can go wrong with the git repository that holds the configuration of Nginx (runbook R3.1). */
import type { FailureRows } from './failure.ts';

export const configRepositoryRows = {} as const satisfies FailureRows;
