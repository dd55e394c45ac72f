/** How a torture suite tells what it did: the quick form is silent, the full one prints a line. */

/** `npm run torture` runs everything; `npm test` a quick form of it. */
export const FULL = process.env.TORTURE === 'full';

/** How often a full form repeats what it does. TORTURE_ROUNDS says otherwise: so a long suite can be run in parts. */
export const rounds = (full: number): number => Number(process.env.TORTURE_ROUNDS ?? full);

/** A line for the figures of a suite. */
export function report(suite: string, line: string): void {
  if (FULL) process.stdout.write(`torture ${suite.padEnd(14)} ${line}\n`);
}
