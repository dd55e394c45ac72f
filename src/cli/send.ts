/**
 * `flow send EVENT`: judged by the guards, shown with the exact commands, confirmed, and carried out until the release rests. When
 * another flow drives, the event is handed to it, and this one follows along.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { OPERATOR_EVENTS, type ReleaseEvent } from '../../machines/events.ts';
import { FORCEABLE, GUARD_IDS, type GuardId } from '../../machines/guards.ts';
import { EXIT, type ExitCode, FlowError, messageOf, UsageError } from '../errors.ts';
import { listChanges } from '../release/changes.ts';
import { type Request, staleText } from '../release/drive.ts';
import type { Decision } from '../release/engine.ts';
import { handOver } from '../release/hand-over.ts';
import { judge } from '../release/judge.ts';
import type { Place } from '../release/locate.ts';
import { readLatest, readLiveDriver } from '../release/read.ts';
import { thisSender } from '../release/sender.ts';
import type { ReleaseDocument } from '../store/document.ts';
import { readProgress, writeProgress } from '../store/release-file.ts';
import { nearest } from '../views/nearest.ts';
import { planOf, planText } from '../views/plan.ts';
import { phaseOf } from '../views/states.ts';
import { plainLine } from '../views/text.ts';
import { refusalText } from '../views/verdicts.ts';
import { confirm, edit } from './ask.ts';
import { onLeaving, pastTheLock, showResult, withDriver } from './driving.ts';
import { follower } from './follow.ts';
import { inspectBeside } from './inspect/processes.ts';
import { terminal } from './terminal.ts';

/** For so long a driver that let go of us may take to end. */
const GOING_MS = 500;
const GOING_EVERY_MS = 25;
/** The checkpoint that keeps what was written in the editor. */
const SECTION = 'changelog-section';

export interface SendOptions {
  yes?: boolean;
  force?: string[];
  reason?: string;
  expect?: number;
  notes?: string;
  choice?: string;
  question?: string;
  json?: boolean;
  /** Waits for whoever drives instead of giving up. */
  wait?: boolean;
  /** Starts an inspector beside it. */
  inspect?: boolean;
  /** Who sends in its stead, for the history. */
  via?: 'inspector';
}

export async function send(place: Place, word: string, options: SendOptions): Promise<ExitCode> {
  const type = eventName(word);
  const document = readLatest(place.stateDir);
  if (document?.endedAt !== null) {
    if (type !== 'NEXT') throw noRelease(document, type);
    if (options.inspect === true) await inspectBeside(place);
    return await (await import('./start.ts')).start(place, options);
  }
  checkForce(options);
  const event = eventOf(type, document, options);
  const by = thisSender(options.via ?? 'command line');
  if (options.expect !== undefined && options.expect !== document.rev) {
    return refused(place, stale(document, options.expect), document, type);
  }
  const [decision] = await judge(place, document, [event]);
  if (decision?.accepted === false) return refused(place, decision, document, type);
  process.stderr.write(`${planText(planOf(document, type, options.choice), terminal().errPaint)}\n`);
  await confirm(
    `Send ${type}${options.choice === undefined ? '' : ` ${options.choice}`} (revision ${document.rev})?`,
    options.yes === true,
  );
  const withNotes =
    type === 'NEXT' && document.snapshot.value === 'tested'
      ? { ...event, notes: await notes(place, document, options) }
      : event;
  // What was shown is what is meant: of two people who send NEXT at once, the second does not carry out the step after it. A
  // ROLLBACK is meant whatever happened meanwhile, and an ANSWER names its question.
  const isBound = type !== 'ROLLBACK' && type !== 'ANSWER' && options.wait !== true;
  const request: Request = { event: withNotes, by, expect: options.expect ?? (isBound ? document.rev : null) };
  if (options.inspect === true) await inspectBeside(place);
  return await deliver(place, document, request, options);
}

/** Hands the request to whoever drives, or becomes the driver; tries again while one is just coming or going. */
export async function deliver(
  place: Place,
  document: ReleaseDocument,
  request: Request,
  { json = false, wait = false }: Pick<SendOptions, 'json' | 'wait'>,
): Promise<ExitCode> {
  return await pastTheLock(
    wait,
    async () =>
      (await throughDriver(place, document, request, json)) ?? (await asDriver(place, document, request, json)),
  );
}

async function asDriver(place: Place, document: ReleaseDocument, request: Request, json: boolean): Promise<ExitCode> {
  return await withDriver(
    place,
    readLatest(place.stateDir) ?? document,
    `sending ${request.event.type}`,
    async (driver) => {
      const decision = await driver.decide(request);
      if (!decision.accepted) return refused(place, decision, driver.engine.document, request.event.type);
      await driver.drive();
      return null;
    },
    json,
  );
}

/** Null where nobody drives, or whoever did was gone before it had decided. */
async function throughDriver(
  place: Place,
  document: ReleaseDocument,
  request: Request,
  json: boolean,
): Promise<ExitCode | null> {
  if (readLiveDriver(place.stateDir) === null) return null;
  const { type } = request.event;
  const shown = follower();
  const left = new AbortController();
  const leaving = onLeaving(
    () => {
      left.abort();
    },
    () => process.exit(EXIT.interrupted),
  );
  let decision: Decision | null;
  try {
    decision = await handOver(
      place.stateDir,
      { ...request, by: { ...request.by, via: request.by.via === 'inspector' ? 'inspector' : 'second terminal' } },
      (told) => {
        shown.tell(told);
      },
      left.signal,
    );
  } finally {
    leaving.forget();
    shown.stop();
  }
  if (left.signal.aborted) {
    process.stderr.write(
      decision?.accepted === true
        ? `No longer following. ${type} was taken, and goes on in the terminal that drives the release: flow status\n`
        : `Left before ${type} was answered. Whether it was taken, and where the release stands: flow status\n`,
    );
    return EXIT.interrupted;
  }
  if (decision === null) return null;
  const after = readLatest(place.stateDir) ?? document;
  if (!decision.accepted) return refused(place, decision, after, type);
  return phaseOf(after.snapshot.value, after.snapshot.context) === 'working'
    ? await driverGone(place, after, type)
    : showResult(place, json);
}

/** The driver we followed ended in the middle of a step: it was parked, or killed. */
async function driverGone(place: Place, { snapshot }: ReleaseDocument, type: string): Promise<ExitCode> {
  for (let waited = 0; waited < GOING_MS && readLiveDriver(place.stateDir) !== null; ) {
    await delay(GOING_EVERY_MS);
    waited += GOING_EVERY_MS;
  }
  const next = readLiveDriver(place.stateDir);
  process.stderr.write(
    next === null
      ? `The flow that drove the release has gone, at ${snapshot.value}. ${type} was taken and is on record; nobody goes on with it now. Go on with: flow resume\n`
      : `The flow that drove the release has gone, at ${snapshot.value}. ${next.who} (process ${next.pid}) goes on with it: flow status --watch\n`,
  );
  return EXIT.interrupted;
}

/** Says why an event was refused, and what would unblock it. */
export function refused(place: Place, decision: Decision, document: ReleaseDocument, type: string): ExitCode {
  const isUnwatched =
    phaseOf(decision.state, document.snapshot.context) === 'working' && readLiveDriver(place.stateDir) === null;
  const verdicts = decision.verdicts.map((verdict) =>
    isUnwatched && verdict.id === 'stepAtRest'
      ? { ...verdict, because: `${verdict.because}, and nobody drives it`, unblock: 'flow resume' }
      : verdict,
  );
  process.stderr.write(`${refusalText({ ...decision, verdicts }, document, type, terminal().errPaint)}\n`);
  return EXIT.refused;
}

/** The refusal of an event that was meant for another revision than the one there is. */
function stale({ rev, snapshot }: ReleaseDocument, expected: number): Decision {
  return { accepted: false, verdicts: [], because: staleText(rev, expected), rev, state: snapshot.value };
}

export function noRelease(document: ReleaseDocument | null, type: string | null = null): FlowError {
  const { value, context } = document?.snapshot ?? { value: null, context: null };
  const last = context === null ? '' : ` The last one, ${context.version}, ended as ${value}.`;
  const plan =
    type === 'ROLLBACK' && value === 'allLive'
      ? 'To go back to what ran before it: flow rollback'
      : 'Plan one: flow start';
  return new FlowError('NO_RELEASE', EXIT.noRelease, `No release is running.${last} Nothing was changed. ${plan}`);
}

/** Throws UsageError for an override without a reason, of a guard that does not exist, or of one that has no override. */
export function checkForce({ force = [], reason }: Pick<SendOptions, 'force' | 'reason'>): void {
  for (const id of force) {
    if (FORCEABLE.includes(id as GuardId)) continue;
    const near = nearest(id, FORCEABLE);
    const may = `Guards with an override: ${FORCEABLE.join(', ')}. Nothing was changed. What stands in the way now: flow why NEXT`;
    throw GUARD_IDS.includes(id as GuardId)
      ? new UsageError('NO_OVERRIDE', `${id} cannot be overridden: it protects customers or the record. ${may}`)
      : new UsageError(
          'UNKNOWN_GUARD',
          `There is no guard "${id}".${near === null ? '' : ` Did you mean ${near}?`} ${may}`,
        );
  }
  if (force.length > 0 && reason === undefined) {
    throw new UsageError(
      'NO_REASON',
      `An override needs its reason, which is recorded: --force=${force.join(',')} --reason "…". Nothing was changed.`,
    );
  }
}

/** The event a word means. Throws UsageError with the nearest one. */
export function eventName(word: string): (typeof OPERATOR_EVENTS)[number] {
  const name = word.toUpperCase();
  const found = OPERATOR_EVENTS.find((event) => event === name);
  if (found !== undefined) return found;
  const near = nearest(name, OPERATOR_EVENTS);
  throw new UsageError(
    'UNKNOWN_EVENT',
    `There is no event "${word}".${near === null ? '' : ` Did you mean ${near}?`} Events: ${OPERATOR_EVENTS.join(', ')}. Nothing was changed. What can be sent now: flow why`,
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
  if (question !== null && options.choice === undefined) {
    const choices = question.choices.map(({ choice, does }) => `\n  flow send ANSWER ${choice}   ${plainLine(does)}`);
    throw new UsageError(
      'NO_CHOICE',
      `An answer needs its choice. Nothing was changed. ${plainLine(question.text)} Choose:${choices.join('')}`,
    );
  }
  return { type, question: options.question ?? question?.id ?? '', choice: options.choice ?? '', ...common };
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
  const { list, previousTag, changelog } = await listChanges(place, document);
  if (options.yes === true || !terminal().interactive) return list;
  const since = `The changes since ${previousTag ?? 'the beginning'}, for the section of ${document.snapshot.context.version} in ${changelog}.`;
  const written = writtenBefore(place, document);
  const hints =
    written === null
      ? [since]
      : [
          `What was written before, when nothing could be tagged. ${since}`,
          ...(written === list ? [] : list.split('\n')),
        ];
  const text = edit(written ?? list, hints);
  // Whatever becomes of this NEXT: nobody has to write it a second time.
  writeProgress(place.stateDir, document.id, SECTION, { text });
  return text;
}

/** The section as a person has left it before; null where none was written. */
function writtenBefore(place: Place, { id }: ReleaseDocument): string | null {
  const kept = readProgress(place.stateDir, id, SECTION) as { text?: unknown } | null;
  return typeof kept?.text === 'string' ? kept.text : null;
}
