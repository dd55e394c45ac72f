/**
 * Freeze windows: when no release may begin to move traffic. Either weekly (`Fri 16:00` to `Mon 08:00`, every week, across
 * the turn of the week) or once (`2026-12-20 18:00` to `2027-01-04 08:00`). Both ends are of one kind. The end is not part of the window.
 * Times without an offset are those of the machine that flow runs on. The clock is an argument: nothing here reads it.
 */
import type { Config } from './schema.ts';

type FreezeWindow = Config['freeze'][number];

type FreezeTime = { kind: 'weekly'; day: number; hour: number; minute: number } | { kind: 'once'; at: Date };

const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];
const WEEKLY = /^([a-z]{3})[a-z]*\s+(\d{1,2}):(\d{2})$/i;
const ONCE = /^(\d{4})-(\d{2})-(\d{2})[ T](\d{2}):(\d{2})(?::(\d{2}))?(Z|[+-]\d{2}:\d{2})?$/;

/** What `from` and `to` may be, as a phrase for messages. */
export const EXPECTED_FREEZE_TIME = 'a weekday with a time ("Fri 16:00") or a date with a time ("2026-12-20 18:00")';

/** Null when `text` is neither form, or names a day or a time that does not exist. */
export function parseFreezeTime(text: string): FreezeTime | null {
  const weekly = WEEKLY.exec(text.trim());
  if (weekly !== null) {
    const [, name = '', hour, minute] = weekly;
    const time = { day: DAYS.indexOf(name.toLowerCase()), hour: Number(hour), minute: Number(minute) };
    return time.day >= 0 && time.hour <= 23 && time.minute <= 59 ? { kind: 'weekly', ...time } : null;
  }
  const once = ONCE.exec(text.trim());
  if (once === null) return null;
  const [, year, month, day, hour, minute, second = '00', offset = ''] = once;
  const stamp = `${year}-${month}-${day}T${hour}:${minute}:${second}`;
  // Dates roll over silently (30 February becomes 2 March): what does not come back unchanged does not exist.
  const inUtc = new Date(`${stamp}Z`);
  if (Number.isNaN(inUtc.getTime()) || !inUtc.toISOString().startsWith(stamp)) return null;
  const at = new Date(`${stamp}${offset}`);
  return Number.isNaN(at.getTime()) ? null : { kind: 'once', at };
}

/** The nearest moment of this weekday and time at or before `now`. */
function lastTime(time: FreezeTime & { kind: 'weekly' }, now: Date): Date {
  const at = (days: number) =>
    new Date(now.getFullYear(), now.getMonth(), now.getDate() - days, time.hour, time.minute);
  const daysAgo = (now.getDay() - time.day + 7) % 7;
  return at(daysAgo) <= now ? at(daysAgo) : at(daysAgo + 7);
}

/** The first moment of this weekday and time after `start`. */
function nextTime(time: FreezeTime & { kind: 'weekly' }, start: Date): Date {
  const at = (days: number) =>
    new Date(start.getFullYear(), start.getMonth(), start.getDate() + days, time.hour, time.minute);
  const days = (time.day - start.getDay() + 7) % 7;
  return at(days) > start ? at(days) : at(days + 7);
}

/** When the window that holds `now` ends; null when `now` is outside of it. */
function endOf(window: FreezeWindow, now: Date): Date | null {
  const from = parseFreezeTime(window.from);
  const to = parseFreezeTime(window.to);
  if (from?.kind === 'weekly' && to?.kind === 'weekly') {
    const end = nextTime(to, lastTime(from, now));
    return now < end ? end : null;
  }
  if (from?.kind === 'once' && to?.kind === 'once') return from.at <= now && now < to.at ? to.at : null;
  // loadConfig has refused such a window; one that can not be understood must not let a release through.
  throw new Error(`a freeze window that can not be read: from "${window.from}" to "${window.to}"`);
}

/** The freeze that holds at `now` (of several, the one that ends last), `until` in ISO 8601 UTC; null when none does. */
export function activeFreeze(freeze: readonly FreezeWindow[], now: Date): { because: string; until: string } | null {
  let active: { because: string; end: Date } | null = null;
  for (const window of freeze) {
    const end = endOf(window, now);
    if (end !== null && (active === null || end > active.end)) active = { because: window.because, end };
  }
  return active === null ? null : { because: active.because, until: active.end.toISOString() };
}
