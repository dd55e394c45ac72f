/** The command that a failed step names: one that the state in which it rests then accepts. */
import { triedAgainWith } from '../../machines/guards.ts';
import type { World } from './world.ts';

/** The command that tries a step again. */
export function tryAgain({ topology }: Pick<World, 'topology'>, step: string): string {
  return `flow send ${triedAgainWith(step, topology)}`;
}

/** What a switch is for, as the history of the proxy's files names it. */
export const purposeOf = ({ versions, release }: World, step: string): string =>
  `${versions.version} (${release}, ${step})`;
