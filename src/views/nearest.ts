/**
 * "Did you mean …?" for every word a person types: config keys, placeholders, commands, events.
 */
import { closest, distance } from 'fastest-levenshtein';

/**
 * The known word nearest to `word`, or null when none is near enough to be what was meant:
 * at most one edit for every three letters. Case is ignored; an exact match in another case is always near.
 */
export function nearest(word: string, known: readonly string[]): string | null {
  if (known.length === 0) return null;
  const lower = word.toLowerCase();
  const candidates = known.map((name) => name.toLowerCase());
  const found = closest(lower, candidates);
  if (distance(lower, found) > Math.max(lower.length, found.length) / 3) return null;
  return known[candidates.indexOf(found)] ?? null;
}
