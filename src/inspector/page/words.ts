/** Numbers and moments as people read them. Pure. */
export const clock = (iso: string): string => {
  const at = new Date(iso);
  return Number.isNaN(at.getTime()) ? '' : at.toTimeString().slice(0, 8);
};

export const minutes = (ms: number): string => {
  const seconds = Math.max(0, Math.ceil(ms / 1_000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
};

export const took = (seconds: number): string =>
  seconds < 60
    ? `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`
    : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;

export const perSecond = (rate: number | null | undefined): string =>
  rate === null || rate === undefined ? '–' : `${rate < 10 ? rate.toFixed(1) : Math.round(rate)}/s`;
