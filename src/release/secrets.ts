/**
 * Secrets are taken out before anything is stored or shown: of what effects report, see or fail with, and of what a bystander reads.
 * A secret is the value of an environment variable that flow.yaml names (`secrets`, and the addresses of webhooks).
 *
 * What this does not cover: a secret in another form than it has in the environment (encoded, cut in two by the end of a chunk of
 * output), and a job's own output file, which only its user can read.
 */
import type { Config } from '../config/schema.ts';

/** Shorter values stand in too many innocent words. */
const SHORTEST_CHARACTERS = 6;

/** Takes secrets out of any plain value. Returns the same value where there is none. */
export type Redact = <Value>(value: Value) => Value;

/** `env` is the environment the secrets come from. */
export function redactor(config: Pick<Config, 'secrets' | 'notify'>, env: NodeJS.ProcessEnv): Redact {
  const names = [...config.secrets, ...config.notify.map(({ webhook }) => webhook.env)];
  const secrets = names
    .map((name) => ({ name, value: env[name] ?? '' }))
    .filter(({ value }) => value.length >= SHORTEST_CHARACTERS)
    // The longest first: one may be a part of another.
    .sort((a, b) => b.value.length - a.value.length);
  if (secrets.length === 0) return (value) => value;
  const text = (from: string): string =>
    secrets.reduce((left, { name, value }) => left.replaceAll(value, `[${name}]`), from);
  const any = (value: unknown): unknown => {
    if (typeof value === 'string') return text(value);
    if (Array.isArray(value)) return value.map(any);
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, any(inner)]));
  };
  return <Value>(value: Value) => any(value) as Value;
}
