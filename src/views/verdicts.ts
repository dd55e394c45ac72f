/**
 * Why an event passes or not: the verdicts of the guards as text, for a refusal and for `flow why`.
 * They are the very verdicts the chart decides by; nothing is judged here a second time or in other words.
 */
import type { ReleaseContext } from '../../machines/contract.ts';
import type { EventName, Facts, ReleaseEvent } from '../../machines/events.ts';
import { eventsOf, passes, type Verdict, verdictsOn } from '../../machines/guards.ts';
import type { ReleaseDocument } from '../store/document.ts';
import { phaseOf } from './states.ts';
import { eventsInWords } from './status.ts';
import { listText, type Paint, plainLine, table, timeText } from './text.ts';

/** An event that was judged and refused. */
export interface Refusal {
  verdicts: readonly Verdict[];
  /** Why, where no verdict says so. */
  because: string | null;
  rev: number;
  state: string;
}

/** One line for each verdict, refusals first, and under a refusal what would unblock it. */
export function verdictLines(verdicts: readonly Verdict[], paint: Paint): string[] {
  const ordered = [...verdicts.filter(({ ok }) => !ok), ...verdicts.filter(({ ok }) => ok)];
  const rows = ordered.flatMap(({ ok, id, because, opensAt, unblock }) => [
    [
      ok ? { text: paint.icons.ok, paint: paint.green } : { text: paint.icons.bad, paint: paint.red },
      id,
      plainLine(because),
    ],
    ...(ok || opensAt === undefined ? [] : [['', '', `opens by itself at ${timeText(opensAt)}`]]),
    ...(ok || unblock === undefined ? [] : [['', '', `to unblock: ${plainLine(unblock)}`]]),
  ]);
  return table(rows, '  ');
}

/** The text of a refused event, without a line end at its end. */
export function refusalText(refusal: Refusal, document: ReleaseDocument, event: string, paint: Paint): string {
  const { verdicts, because, rev, state } = refusal;
  const lines = [
    `${paint.red(`${paint.icons.bad} ${plainLine(event)} refused`)} at ${state}. Nothing changed (rev ${rev}).`,
    ...(because === null ? [] : [`  ${plainLine(because)}`]),
    ...verdictLines(verdicts, paint),
    ...overrideLines(verdicts, event, paint),
  ];
  const { question } = document.snapshot.context;
  if (question !== null && (event === 'ANSWER' || phaseOf(state, document.snapshot.context) === 'asking')) {
    const choices = question.choices.map(({ choice, does }) => [
      `flow send ANSWER ${plainLine(choice)}`,
      plainLine(does),
    ]);
    lines.push(`  ${paint.dim('Question')}  ${plainLine(question.text)}`, ...table(choices, '    '));
  }
  return paint.finish([...lines, `  ${paint.dim('See')}  flow status`].join('\n'));
}

/** How to override what can be overridden; of no use where something else refuses as well, and then it says so. */
function overrideLines(verdicts: readonly Verdict[], event: string, paint: Paint): string[] {
  const refusing = verdicts.filter(({ ok }) => !ok);
  const forceable = refusing.filter((verdict) => verdict.forceable === true);
  if (forceable.length === 0) return [];
  const firm = refusing.filter((verdict) => verdict.forceable !== true).map(({ id }) => id);
  if (firm.length > 0) return [`  ${paint.dim('No override')}  ${listText(firm)} cannot be overridden`];
  const force = forceable.map(({ id }) => `--force=${id}`).join(' ');
  return [`  ${paint.dim('Override')}  flow send ${plainLine(event)} ${force} --reason "…"   (recorded)`];
}

export interface WhyEvent {
  event: EventName;
  /** Whether it would be accepted now. */
  passes: boolean;
  does: string | null;
  /** Why, where no verdict says so. */
  because: string | null;
  verdicts: Verdict[];
}

export interface WhyView {
  schemaVersion: 1;
  id: string;
  rev: number;
  state: string;
  events: WhyEvent[];
}

export interface WhyInput {
  document: ReleaseDocument;
  /** One event; null for every event that the state takes. */
  event: EventName | null;
  /** What was looked at just now, for NEXT; null when nothing was. */
  facts: Facts | null;
  /** Guards that would be overridden. */
  force?: readonly string[];
}

/** What can be sent now, and what stands in its way. */
export function whyView({ document, event, facts, force = [] }: WhyInput): WhyView {
  const { value: state, context } = document.snapshot;
  const possible = eventsOf(state, context);
  const asked = event === null ? possible : [event];
  return {
    schemaVersion: 1,
    id: document.id,
    rev: document.rev,
    state,
    events: asked.map((name) =>
      possible.includes(name) ? judged(name, state, context, facts, force) : impossible(name, state, context),
    ),
  };
}

function judged(
  name: EventName,
  state: string,
  context: ReleaseContext,
  facts: Facts | null,
  force: readonly string[],
): WhyEvent {
  const does = eventsInWords(state, context)[name] ?? null;
  if (name === 'ANSWER') {
    const choices = context.question?.choices ?? [];
    const because = `${context.question?.text ?? ''} Choose: ${choices.map(({ choice, does: what }) => `${choice} (${what})`).join(', ')}`;
    return { event: name, passes: choices.length > 0, does, because, verdicts: [] };
  }
  const sent = { type: name, ...(facts === null ? {} : { facts }) } as ReleaseEvent;
  const verdicts = verdictsOn(state, context, sent);
  return { event: name, passes: passes(verdicts, force), does, because: null, verdicts };
}

function impossible(name: EventName, state: string, context: ReleaseContext): WhyEvent {
  return { event: name, passes: false, does: null, because: whyImpossible(name, state, context), verdicts: [] };
}

/** Why a state does not take an event at all, and what to send instead. */
export function whyImpossible(event: EventName, state: string, context: ReleaseContext): string {
  const phase = phaseOf(state, context);
  if (phase === 'ended') return `the release has ended (${state})`;
  const possible = eventsOf(state, context);
  const may = possible.length === 0 ? 'nothing can be sent to it now' : `possible now: ${possible.join(', ')}`;
  if (context.rollback !== null && event === 'ROLLBACK') return `the release is being rolled back already; ${may}`;
  if (event === 'ABORT' && possible.includes('ROLLBACK')) {
    return `ABORT gives a release up that has not touched production, and this one has; ${may}. To go back to the old version: flow send ROLLBACK`;
  }
  if (event === 'ROLLBACK' && possible.includes('ABORT')) {
    return `production is untouched, so there is nothing to roll back; ${may}. To give the release up: flow send ABORT`;
  }
  if (phase === 'working') return `${state} is at work; ${may}`;
  if (event === 'ANSWER') return `no question is open at ${state}; ${may}`;
  if (phase === 'asking') return `a question is open at ${state}, and has to be answered first; ${may}`;
  if (event === 'RETEST' && state === 'planned') return `nothing was tested yet; ${may}. To test: flow send NEXT`;
  if (event === 'RETEST' && possible.includes('ABORT')) {
    return `${context.version} is tagged, so what was tested can not change any more; ${may}. To test anew: flow send ABORT, then flow start`;
  }
  return `${event} means nothing at ${state}; ${may}`;
}

/** The text of `flow why`, without a line end at its end. */
export function whyText(view: WhyView, paint: Paint): string {
  const head = `${view.id} at ${paint.bold(view.state)} (rev ${view.rev})`;
  if (view.events.length === 0) return paint.finish(`${head}: nothing can be sent to it now`);
  const blocks = view.events.map(({ event, passes: ok, does, because, verdicts }) => {
    const mark = ok
      ? paint.green(`${paint.icons.ok} ${event} passes`)
      : paint.red(`${paint.icons.bad} ${event} refused`);
    return [
      `${mark}${does === null ? '' : `: ${plainLine(does)}`}`,
      ...(because === null ? [] : [`  ${plainLine(because)}`]),
      ...verdictLines(verdicts, paint),
      ...(ok ? [] : overrideLines(verdicts, event, paint)),
    ].join('\n');
  });
  return paint.finish([head, ...blocks].join('\n\n'));
}
