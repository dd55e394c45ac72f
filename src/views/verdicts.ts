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
  if (event === 'ANSWER' && question !== null) {
    lines.push(`  ${paint.dim('Choices')}  ${listText(question.choices.map(({ choice }) => plainLine(choice)))}`);
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
      possible.includes(name) ? judged(name, state, context, facts, force) : impossible(name, state, context, possible),
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

function impossible(name: EventName, state: string, context: ReleaseContext, possible: readonly EventName[]): WhyEvent {
  const phase = phaseOf(state, context);
  const may = possible.length === 0 ? 'nothing can be sent to it now' : `possible now: ${possible.join(', ')}`;
  const because =
    phase === 'ended'
      ? `the release has ended (${state})`
      : phase === 'working'
        ? `${state} is at work; ${may}`
        : `${name} means nothing at ${state}; ${may}`;
  return { event: name, passes: false, does: null, because, verdicts: [] };
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
