/**
 * What an effect is: one step's work, given plain data and returning plain data. An effect *ensures* a result, so running it
 * again is safe, and it asserts its safety condition again immediately before it acts, because the world may have moved.
 */
import type { EffectInput, EffectName, EffectOutput } from '../../machines/contract.ts';

/** Something to show while a step works. `figures` replaces the figures shown before; the others are lines. */
export interface Progress {
  kind: 'note' | 'output' | 'figures';
  text: string;
  /** How far a soak has come, for whoever draws it. */
  soak?: { observedMs: number; windowMs: number };
}

export interface EffectTools {
  /** Aborted when the release has moved on without this effect; it should end soon, and its result is dropped. */
  signal: AbortSignal;
  report(progress: Progress): void;
}

/** Every effect; a forgotten one does not compile. */
export type Effects = {
  [Name in EffectName]: (input: EffectInput<Name>, tools: EffectTools) => Promise<EffectOutput<Name>>;
};
