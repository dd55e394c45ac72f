/** `flow why [EVENT]`: the verdicts on it, from the same guards that would refuse it. */
import { EXIT, type ExitCode } from '../errors.ts';
import { lookNow } from '../release/judge.ts';
import type { Place } from '../release/locate.ts';
import { readLatest } from '../release/read.ts';
import { whyText, whyView } from '../views/verdicts.ts';
import { eventName, noRelease } from './send.ts';
import { terminal } from './terminal.ts';

export async function why(place: Place, word: string | undefined, options: { json?: boolean }): Promise<ExitCode> {
  const event = word === undefined ? null : eventName(word);
  const document = readLatest(place.stateDir);
  if (document?.endedAt !== null) throw noRelease(document);
  const facts = await lookNow(place, document);
  const view = whyView({ document, event, facts });
  process.stdout.write(`${options.json === true ? JSON.stringify(view) : whyText(view, terminal().outPaint)}\n`);
  return event !== null && view.events[0]?.passes === false ? EXIT.refused : EXIT.ok;
}
