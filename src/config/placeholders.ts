/**
 * Placeholders in commands and addresses: a closed list, filled once per argument.
 * A filled argument is never split or read again, so that a value with a space, a quote or a brace stays one argument and
 * stays as it is. There is no escape and no shell: `$HOME` or `$(date)` reach the program as these very characters.
 */
import { UsageError } from '../errors.ts';
import type { Argv } from '../hosts/host.ts';

/** Every placeholder there is. What each means: docs/config.md. */
export const PLACEHOLDERS = ['server', 'dir', 'address', 'version', 'tag', 'previous', 'commit'] as const;

export type Placeholder = (typeof PLACEHOLDERS)[number];
export type PlaceholderValues = Readonly<Partial<Record<Placeholder, string>>>;

const IN_BRACES = /\{([A-Za-z]+)\}/g;

/** The names in braces, each once, known or not, in the order in which they stand. */
export function namesInBraces(text: string): string[] {
  return [...new Set([...text.matchAll(IN_BRACES)].map(([, name = '']) => name))];
}

function isPlaceholder(name: string): name is Placeholder {
  return (PLACEHOLDERS as readonly string[]).includes(name);
}

/** `text` with its placeholders replaced. Throws UsageError('PLACEHOLDER') for one that is unknown or has no value here. */
export function fillText(text: string, values: PlaceholderValues): string {
  return text.replace(IN_BRACES, (braced, name: string) => {
    const value = isPlaceholder(name) ? values[name] : undefined;
    if (value !== undefined) return value;
    const known = Object.keys(values).map((key) => `{${key}}`);
    throw new UsageError(
      'PLACEHOLDER',
      `${braced} in "${text}" has no value here; known here: ${known.join(' ') || 'none'}. ` +
        'Nothing was run. Mend flow.yaml, then run `flow config check`.',
    );
  });
}

/** A command with its placeholders replaced: as many arguments as before, whatever the values hold. Throws as `fillText`. */
export function fill(argv: Argv, values: PlaceholderValues): Argv {
  const [program, ...args] = argv;
  return [fillText(program, values), ...args.map((argument) => fillText(argument, values))];
}
