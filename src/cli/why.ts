/** `flow why [EVENT]`: the verdicts on it, from the same guards that would refuse it. */
import { eventsOf } from '../../machines/guards.ts';
import type { ReleaseEvent } from '../../machines/events.ts';
import { EXIT, type ExitCode } from '../errors.ts';
import { judge } from '../release/judge.ts';
import type { Place } from '../release/locate.ts';
import { readLatest } from '../release/read.ts';
import { whyText, whyView } from '../views/verdicts.ts';
import { eventName, noRelease } from './send.ts';
import { terminal } from './terminal.ts';

export async function why(place: Place, word: string | undefined, options: { json?: boolean }): Promise<ExitCode> {
  const document = readLatest(place.stateDir);
  if (document?.endedAt !== null) throw noRelease(document);
  const { value, context } = document.snapshot;
  const names = word === undefined ? eventsOf(value, context) : [eventName(word)];
  const events = names.map((type): ReleaseEvent => {
    if (type !== 'ANSWER') return { type };
    return { type, question: context.question?.id ?? '', choice: context.question?.choices[0]?.choice ?? '' };
  });
  const decisions = await judge(place, document, events);
  const view = whyView(
    document,
    names
      .map((event, index) => ({ event, decision: decisions[index] }))
      .flatMap(({ event, decision }) => (decision === undefined ? [] : [{ event, decision }])),
  );
  process.stdout.write(`${options.json === true ? JSON.stringify(view) : whyText(view, terminal().outPaint)}\n`);
  return word !== undefined && decisions[0]?.accepted === false ? EXIT.refused : EXIT.ok;
}
