/** What can go wrong with people: what they send, when, and from where. */
import type { FailureRows } from './failure.ts';

export const personRows = {} as const satisfies FailureRows;
