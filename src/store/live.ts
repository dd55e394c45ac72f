/** Reads the figures of the moment that a driver leaves beside the state. Light: `flow status` starts here. */
import { readFileSync } from 'node:fs';
import { releasePaths } from './state-folder.ts';

/** What the last figures said; null when there are none, or they cannot be read: they are never worth an error. */
export function readLiveFigures(dir: string, id: string): { step: string; text: string; at: string } | null {
  try {
    const value = JSON.parse(readFileSync(releasePaths(dir, id).live, 'utf8')) as Record<string, unknown>;
    const { step, text, at } = value;
    return typeof step === 'string' && typeof text === 'string' && typeof at === 'string' ? { step, text, at } : null;
  } catch {
    return null;
  }
}
