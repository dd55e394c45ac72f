/** Reads the figures of the moment that a driver leaves beside the state. Light: `flow status` starts here. */
import { readFileSync } from 'node:fs';
import { releasePaths } from './state-folder.ts';

export interface LiveFigures {
  step: string;
  text: string;
  /** ISO time. */
  at: string;
  /** How far a soak has come; null outside of one. */
  soak: { observedMs: number; windowMs: number } | null;
}

/** What the last figures said; null when there are none, or they cannot be read: they are never worth an error. */
export function readLiveFigures(dir: string, id: string): LiveFigures | null {
  try {
    const value = JSON.parse(readFileSync(releasePaths(dir, id).live, 'utf8')) as Record<string, unknown>;
    const { step, text, at, soak } = value;
    if (typeof step !== 'string' || typeof text !== 'string' || typeof at !== 'string') return null;
    return { step, text, at, soak: soakOf(soak) };
  } catch {
    return null;
  }
}

function soakOf(value: unknown): LiveFigures['soak'] {
  if (typeof value !== 'object' || value === null) return null;
  const { observedMs, windowMs } = value as Record<string, unknown>;
  return typeof observedMs === 'number' && typeof windowMs === 'number' ? { observedMs, windowMs } : null;
}
