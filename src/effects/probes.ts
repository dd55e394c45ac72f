/**
 * Questions to servers, read-only: which version, healthy or not, does a check pass. They never throw for what a server
 * answers: an answer that cannot be had is an answer too, with its reason.
 */
import type { CheckResult } from '../../machines/contract.ts';
import { fill, fillText } from '../config/placeholders.ts';
import type { Check, HttpCheck } from '../config/schema.ts';
import type { ServerSettings } from '../config/settings.ts';
import { messageOf } from '../errors.ts';
import { type Argv, type Host, whyNoAnswer } from '../hosts/host.ts';
import { getFrom, type HttpAnswer } from '../hosts/http.ts';
import type { World } from './world.ts';

const VERSION = /\bv?\d+\.\d+\.\d+[^\s(),;"']*/;
const BUILD = /\bbuild[:\s]+([0-9a-f]{7,40})\b/i;
const COMMIT = /\b(?=[0-9a-f]*[0-9])[0-9a-f]{7,40}\b/;
const ANSWER_LIMIT_BYTES = 65_536;
const PROBE_TIMEOUT_MS = 5_000;

export interface VersionAnswer {
  version: string | null;
  /** The commit it was built from, as far as it is printed. */
  commit: string | null;
  because: string;
}

/** The first version and commit that a text names. */
export function parseVersion(text: string): { version: string | null; commit: string | null } {
  return { version: VERSION.exec(text)?.[0] ?? null, commit: BUILD.exec(text)?.[1] ?? COMMIT.exec(text)?.[0] ?? null };
}

/** What a server says it runs. Where both a command and an address are configured, they have to agree. */
export async function askVersion(world: Pick<World, 'on'>, server: ServerSettings): Promise<VersionAnswer> {
  const { run, http, cwd } = server.version;
  const answers: VersionAnswer[] = await Promise.all([
    ...(run === undefined ? [] : [printedVersion(world.on(server), server.name, run as unknown as Argv, cwd)]),
    ...(http === undefined ? [] : [servedVersion(world, server, http)]),
  ]);
  const [first, second] = answers;
  if (first === undefined) return { version: null, commit: null, because: `${server.name} has no version probe` };
  if (second === undefined || first.version === null) return first;
  if (second.version === null) return second;
  if (second.version === first.version) return first;
  return {
    version: null,
    commit: null,
    because: `${server.name}: the installed program is ${first.version}, but the running one is ${second.version}`,
  };
}

async function printedVersion(host: Host, name: string, argv: Argv, cwd: string | undefined): Promise<VersionAnswer> {
  const result = await host.run(argv, { timeoutMs: PROBE_TIMEOUT_MS, ...(cwd === undefined ? {} : { cwd }) });
  const parsed = parseVersion(`${result.stdout}\n${result.stderr}`);
  // Before the first tag ever, a build knows its commit alone.
  const what = parsed.version ?? parsed.commit;
  if (result.status === 0 && what !== null) return { ...parsed, because: `${name} runs ${what}` };
  const silent = result.status === 0 ? ', no version printed' : '';
  return { version: null, commit: null, because: `${name}: ${argv[0]}: ${whyNoAnswer(result)}${silent}` };
}

async function servedVersion(
  world: Pick<World, 'on'>,
  { name, from: on }: ServerSettings,
  url: string,
): Promise<VersionAnswer> {
  try {
    const { text } = await get(world, { url, on, timeoutMs: PROBE_TIMEOUT_MS });
    const parsed = parseVersion(text);
    return {
      ...parsed,
      because:
        parsed.version === null && parsed.commit === null
          ? `${name}: ${url} names no version`
          : `${name} runs ${parsed.version ?? parsed.commit ?? ''}`,
    };
  } catch (error) {
    return { version: null, commit: null, because: `${name}: ${url}: ${reason(error)}` };
  }
}

/** Whether a server is healthy. */
export async function askHealth(
  world: Pick<World, 'on'>,
  { name, health, from }: ServerSettings,
): Promise<CheckResult> {
  return await httpCheck(world, `${name} health`, health.http, { ...health, on: health.on ?? from });
}

/** Runs a check; placeholders were those of the closed list. */
export async function runCheck(
  world: Pick<World, 'on'>,
  check: Check,
  values: Record<string, string> = {},
): Promise<CheckResult> {
  if ('http' in check) {
    const { contains } = check;
    const filled = contains === undefined ? check : { ...check, contains: fillText(contains, values) };
    return await httpCheck(world, check.name ?? check.http, fillText(check.http, values), filled);
  }
  const argv = fill(check.run, values);
  const name = check.name ?? argv.join(' ');
  const result = await world.on(check).run(argv, {
    timeoutMs: check.timeout,
    ...(check.cwd === undefined ? {} : { cwd: check.cwd }),
  });
  if (result.status === 0) return { name, ok: true, because: 'exit status 0' };
  const said = result.stderr.trim().split('\n').at(-1) ?? '';
  const why = result.timedOut ? `no end within ${check.timeout} ms` : whyNoAnswer(result);
  return { name, ok: false, because: said === '' ? why : `${why}: ${said.slice(0, 200)}` };
}

async function httpCheck(
  world: Pick<World, 'on'>,
  name: string,
  url: string,
  check: Pick<HttpCheck, 'status' | 'contains' | 'timeout' | 'within' | 'on'>,
): Promise<CheckResult> {
  const startedAt = performance.now();
  try {
    const { status, text } = await get(world, { url, on: check.on, timeoutMs: check.timeout });
    const tookMs = Math.round(performance.now() - startedAt);
    if (status !== check.status)
      return { name, ok: false, because: `${url} answered ${status}, expected ${check.status}` };
    if (check.contains !== undefined && !text.includes(check.contains))
      return { name, ok: false, because: `${url} does not contain "${check.contains}"` };
    if (check.within !== undefined && tookMs > check.within)
      return { name, ok: false, because: `${url} answered ${status} after ${tookMs} ms, allowed ${check.within} ms` };
    return { name, ok: true, because: `${status}` };
  } catch (error) {
    const late = error instanceof DOMException && error.name === 'TimeoutError';
    const why = late ? ` gave no answer within ${check.timeout} ms` : `: ${reason(error)}`;
    return { name, ok: false, because: `${url}${why}` };
  }
}

async function get(
  world: Pick<World, 'on'>,
  { url, on, timeoutMs }: { url: string; on: string | undefined; timeoutMs: number },
): Promise<HttpAnswer> {
  if (on !== undefined) return await getFrom(world.on({ on }), url, { timeoutMs, limitBytes: ANSWER_LIMIT_BYTES });
  // A connection of its own: a pooled one could still lead to the process that is being replaced.
  const response = await fetch(url, {
    signal: AbortSignal.timeout(timeoutMs),
    redirect: 'manual',
    headers: { connection: 'close' },
  });
  let text = '';
  const decoder = new TextDecoder();
  for await (const chunk of response.body ?? []) {
    text += decoder.decode(chunk as Uint8Array, { stream: true });
    if (text.length > ANSWER_LIMIT_BYTES) break;
  }
  return { status: response.status, text };
}

function reason(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return messageOf(cause);
}
