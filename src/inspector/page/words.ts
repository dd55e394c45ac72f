/** Numbers and moments as people read them. Pure. */
export const clock = (iso: string): string => {
  const at = new Date(iso);
  return Number.isNaN(at.getTime()) ? '' : at.toTimeString().slice(0, 8);
};

/** With the day, where that is not today. */
export const moment = (iso: string, now = new Date()): string => {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return iso;
  return at.toDateString() === now.toDateString() ? clock(iso) : `${at.toDateString().slice(0, -5)} ${clock(iso)}`;
};

export const minutes = (ms: number): string => {
  const seconds = Math.max(0, Math.ceil(ms / 1_000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
};

export const took = (seconds: number): string =>
  seconds < 60
    ? `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`
    : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;

/** `app1 publishingApp1.1` of the job `r-0001/app1/publishingApp1.1`. */
export const shortSource = (source: string): string => source.split('/').slice(-2).join(' ');

/** A line as it can be read: without the colours of a terminal, and with a number for what reorders or hides text. */
export const visible = (line: string): string =>
  line
    .replaceAll(/(?:\u001b\[|\u009b)[0-?]*[ -/]*[@-~]/g, '')
    .replaceAll(/[\p{Cc}\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu, (character) =>
      character === '\t' ? character : `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`,
    );

export const perSecond = (rate: number | null | undefined): string =>
  rate === null || rate === undefined ? '–' : `${rate < 10 ? rate.toFixed(1) : Math.round(rate)}/s`;
