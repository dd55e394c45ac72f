/**
 * `flow inspect`: the page that shows the release, from a process of its own, so that it works before, during and after `send`,
 * and nothing that happens to it can touch the release. Where there is no desktop it says how to get to it instead of opening it.
 */
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { codeOf, EXIT, type ExitCode, FlowError, messageOf } from '../errors.ts';
import { type Inspector, type InspectorOptions, startInspector } from '../inspector/server.ts';
import type { NextPicture } from '../inspector/wire.ts';
import { type Bystander, standBy } from '../release/observe.ts';
import type { Place } from '../release/locate.ts';
import { readLatest } from '../release/read.ts';
import { createStateFolder } from '../store/state-folder.ts';
import { addressLines, hasDesktop, openInBrowser } from './inspect/address.ts';
import { sendAsCommand } from './inspect/processes.ts';
import { describeInspector, readInspector, type Running, urlOf } from './inspect/running.ts';

export interface InspectOptions {
  /** Whether NEXT and ROLLBACK may be sent from the page. */
  allowSend?: boolean;
  /** False: the address is printed, and no browser is started. */
  open?: boolean;
  port?: number;
  json?: boolean;
  /** Ends by itself some time after the release has, when nobody looks any more: for one that `send --inspect` has started. */
  besideSend?: boolean;
}

const LEFT_ALONE_MS = 60_000;
const LOOK_EVERY_MS = 500;

export async function inspect(place: Place, options: InspectOptions): Promise<ExitCode> {
  createStateFolder(place.stateDir);
  const { allowSend = false } = options;
  const known = readInspector(place.stateDir);
  if (known?.isLive === true && options.port === undefined && known.allowSend === allowSend) {
    await show(urlOf(known), known.port, options, [`An inspector runs already: process ${known.pid}.`]);
    return EXIT.ok;
  }
  const inspector = await start(place, options, known);
  const { port, token } = inspector;
  describeInspector(place.stateDir, { port, token, allowSend });
  const may = allowSend ? ['NEXT and ROLLBACK can be sent from the page.'] : [];
  await show(urlOf({ port, token }), port, options, [
    ...may,
    'Ctrl-C ends the inspector. The release does not notice.',
  ]);
  await untilEnded(inspector, options);
  await inspector.close();
  return EXIT.ok;
}

/** Where the one before has ended, as that one: a page that is still open goes on by itself then. */
async function start(
  place: Place,
  { allowSend = false, port }: InspectOptions,
  known: (Running & { isLive: boolean }) | null,
): Promise<Inspector> {
  // A token that may only look never becomes one that may send, nor the other way round.
  const before = known?.isLive === false && known.allowSend === allowSend ? known : null;
  const common: Omit<InspectorOptions, 'port' | 'token'> = {
    stateDir: place.stateDir,
    project: projectOf(place),
    host: hostname(),
    allowSend,
    now: () => new Date(),
    pageDir: join(dirname(fileURLToPath(import.meta.url)), 'inspector'),
    observe: (current) => {
      const bystander = standBy(place, current);
      return { ...bystander, next: async () => pictureOf(await bystander.next()) };
    },
    send: async (request) => await sendAsCommand(place, request),
  };
  const token = before?.token ?? randomBytes(32).toString('base64url');
  const wanted = port ?? before?.port ?? 0;
  try {
    return await startInspector({ ...common, port: wanted, token });
  } catch (error) {
    if (port === undefined && wanted !== 0 && codeOf(error) === 'EADDRINUSE')
      return await startInspector({ ...common, port: 0, token: randomBytes(32).toString('base64url') });
    throw new FlowError(
      'NOT_LISTENING',
      EXIT.usage,
      `The inspector cannot listen on 127.0.0.1:${wanted}: ${messageOf(error)}. The release is not touched by this. Without --port it takes a free one: flow inspect`,
      { cause: error },
    );
  }
}

/** A state that is damaged is for the page to tell. */
function projectOf(place: Place): string {
  try {
    return readLatest(place.stateDir)?.project ?? basename(place.projectDir);
  } catch {
    return basename(place.projectDir);
  }
}

function pictureOf({ rev, events, plan, health }: Awaited<ReturnType<Bystander['next']>>): NextPicture {
  const commands = Object.entries(plan).map(([event, steps]) => [
    event,
    steps.map(({ where, command, why }) => ({ on: where, command, does: why })),
  ]);
  return {
    rev,
    at: new Date().toISOString(),
    events,
    plan: Object.fromEntries(commands) as NextPicture['plan'],
    health,
  };
}

async function show(url: string, port: number, options: InspectOptions, more: string[]): Promise<void> {
  if (options.json === true) {
    process.stdout.write(`${JSON.stringify({ schemaVersion: 1, url, port, allowSend: options.allowSend ?? false })}\n`);
    return;
  }
  process.stdout.write(`${[...addressLines(url, port), ...more].join('\n')}\n`);
  if (options.open !== false && hasDesktop()) await openInBrowser(url);
}

/** Until Ctrl-C; beside a send, also when the release has ended and nobody looks any more. */
async function untilEnded(inspector: Inspector, { besideSend = false }: InspectOptions): Promise<void> {
  const over = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      over.abort();
    });
  }
  // Whoever read the address may be gone; the page is what matters.
  process.stdout.on('error', () => undefined);
  let aloneMs = 0;
  while (!over.signal.aborted) {
    await delay(LOOK_EVERY_MS, undefined, { signal: over.signal }).catch(() => undefined);
    const isAlone = inspector.session.document?.endedAt !== null && inspector.session.watchers === 0;
    aloneMs = isAlone ? aloneMs + LOOK_EVERY_MS : 0;
    if (besideSend && aloneMs >= LEFT_ALONE_MS) return;
  }
}
