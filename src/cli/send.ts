/**
 * `flow send EVENT`: judged by the guards, shown with the exact commands, confirmed, and carried out until the release rests. When
 * another flow drives, the event is handed to it, and this one follows along.
 */
import { readFileSync } from 'node:fs';
import { OPERATOR_EVENTS, type ReleaseEvent } from '../../machines/events.ts';
import { EXIT, type ExitCode, FlowError, LockHeldError, messageOf, UsageError } from '../errors.ts';
import { listChanges } from '../release/changes.ts';
import type { Request } from '../release/drive.ts';
import type { Decision } from '../release/engine.ts';
import { handOver } from '../release/hand-over.ts';
import { judge } from '../release/judge.ts';
import type { Place } from '../release/locate.ts';
import { readLatest, readLiveDriver } from '../release/read.ts';
import { thisSender } from '../release/sender.ts';
import type { ReleaseDocument } from '../store/document.ts';
import { nearest } from '../views/nearest.ts';
import { planOf, planText } from '../views/plan.ts';
import { refusalText } from '../views/verdicts.ts';
import { confirm, edit } from './ask.ts';
import { showResult, withDriver } from './driving.ts';
import { follower } from './follow.ts';
import { terminal } from './terminal.ts';

export interface SendOptions {
  yes?: boolean;
  force?: string[];
  reason?: string;
  expect?: number;
  notes?: string;
  choice?: string;
  question?: string;
  json?: boolean;
}

export async function send(place: Place, word: string, options: SendOptions): Promise<ExitCode> {
  const type = eventName(word);
  if ((options.force?.length ?? 0) > 0 && options.reason === undefined) {
    throw new UsageError('NO_REASON', 'An override needs its reason: --force=GUARD --reason "…". Nothing was changed.');
  }
  const document = readLatest(place.stateDir);
  if (document?.endedAt !== null) {
    if (type !== 'NEXT') throw noRelease(document);
    return await (await import('./start.ts')).start(place, options);
  }
  const event = eventOf(type, document, options);
  const by = thisSender('command line');
  const driven = readLiveDriver(place.stateDir) !== null;
  if (!driven) {
    const [decision] = await judge(place, document, [event]);
    if (decision?.accepted === false) return refused(decision, document, type);
  }
  process.stderr.write(`${planText(planOf(document, type, options.choice), terminal().errPaint)}\n`);
  await confirm(
    `Send ${type}${options.choice === undefined ? '' : ` ${options.choice}`} (revision ${document.rev})?`,
    options.yes === true,
  );
  const withNotes =
    type === 'NEXT' && document.snapshot.value === 'tested'
      ? { ...event, notes: await notes(place, document, options) }
      : event;
  // The prompt names the revision it shows, so that an answer given to an old picture is refused. Without a prompt nobody
  // looked at one, and a driver at work moves it all the time.
  const request: Request = {
    event: withNotes,
    by,
    expect: options.expect ?? (options.yes === true || driven ? null : document.rev),
  };
  return await deliver(place, document, request, options.json === true);
}

/** Hands the request to whoever drives, or becomes the driver; retries while a driver is just coming or going. */
export async function deliver(
  place: Place,
  document: ReleaseDocument,
  request: Request,
  json: boolean,
): Promise<ExitCode> {
  for (let attempt = 0; ; attempt++) {
    const handed = await throughDriver(place, request);
    if (handed !== null) {
      if (!handed.accepted) return refused(handed, readLatest(place.stateDir) ?? document, request.event.type);
      return showResult(place, json);
    }
    try {
      return await withDriver(
        place,
        readLatest(place.stateDir) ?? document,
        `sending ${request.event.type}`,
        async (driver) => {
          const decision = await driver.decide(request);
          if (!decision.accepted) return refused(decision, driver.engine.document, request.event.type);
          await driver.drive();
          return showResult(place, json);
        },
      );
    } catch (error) {
      if (!(error instanceof LockHeldError) || attempt >= 4) throw error;
    }
  }
}

async function throughDriver(place: Place, request: Request): Promise<Decision | null> {
  if (readLiveDriver(place.stateDir) === null) return null;
  const shown = follower();
  const leaving = new AbortController();
  const leave = () => {
    process.stderr.write('No longer following. The release goes on in the terminal that drives it: flow status\n');
    leaving.abort();
  };
  process.once('SIGINT', leave);
  try {
    return await handOver(
      place.stateDir,
      { ...request, by: { ...request.by, via: 'second terminal' } },
      (told) => {
        shown.tell(told);
      },
      leaving.signal,
    );
  } finally {
    process.off('SIGINT', leave);
    shown.stop();
  }
}

/** Says why an event was refused, and what would unblock it. */
export function refused(decision: Decision, document: ReleaseDocument, type: string): ExitCode {
  process.stderr.write(`${refusalText(decision, document, type, terminal().errPaint)}\n`);
  return EXIT.refused;
}

export function noRelease(document: ReleaseDocument | null): FlowError {
  const last =
    document === null
      ? ''
      : ` The last one, ${document.snapshot.context.version}, ended as ${document.snapshot.value}.`;
  return new FlowError('NO_RELEASE', EXIT.noRelease, `No release is running.${last} Plan one: flow start`);
}

/** The event a word means. Throws UsageError with the nearest one. */
export function eventName(word: string): (typeof OPERATOR_EVENTS)[number] {
  const name = word.toUpperCase();
  const found = OPERATOR_EVENTS.find((event) => event === name);
  if (found !== undefined) return found;
  const near = nearest(name, OPERATOR_EVENTS);
  throw new UsageError(
    'UNKNOWN_EVENT',
    `There is no event "${word}".${near === null ? '' : ` Did you mean ${near}?`} Events: ${OPERATOR_EVENTS.join(', ')}. Nothing was changed.`,
  );
}

function eventOf(
  type: (typeof OPERATOR_EVENTS)[number],
  document: ReleaseDocument,
  options: SendOptions,
): ReleaseEvent {
  const common = {
    ...(options.force === undefined ? {} : { force: options.force }),
    ...(options.reason === undefined ? {} : { reason: options.reason }),
  };
  if (type !== 'ANSWER') return { type, ...common };
  const { question } = document.snapshot.context;
  if (options.choice === undefined) {
    const choices = question?.choices.map(({ choice }) => choice).join(', ');
    throw new UsageError(
      'NO_CHOICE',
      `An answer needs its choice: flow send ANSWER CHOICE.${choices === undefined ? '' : ` Choices: ${choices}.`} Nothing was changed.`,
    );
  }
  return { type, question: options.question ?? question?.id ?? '', choice: options.choice, ...common };
}

/** The ChangeLog section: from the file, from the editor, or the generated list where nobody can be asked. */
async function notes(place: Place, document: ReleaseDocument, options: SendOptions): Promise<string> {
  if (options.notes !== undefined) {
    try {
      return readFileSync(options.notes, 'utf8').trim();
    } catch (error) {
      throw new UsageError('NO_NOTES', `The notes cannot be read: ${messageOf(error)}. Nothing was changed.`);
    }
  }
  const { subjects, previousTag, changelog } = await listChanges(place, document);
  const list = subjects.map((subject) => `* ${subject}`).join('\n');
  if (options.yes === true || !terminal().interactive) return list;
  const edited = edit(
    list,
    `The changes since ${previousTag ?? 'the beginning'}, for the section of ${document.snapshot.context.version} in ${changelog}.`,
  );
  return edited === '' ? list : edited;
}
