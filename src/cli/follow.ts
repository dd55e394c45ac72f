/**
 * Shows what a driver does, on the error stream: a line per transition, what a publish prints, and one line of live figures that is
 * redrawn. Where nothing can be redrawn (no terminal, CI): timestamped lines, and a heartbeat each minute.
 */
import { createLogUpdate } from 'log-update';
import type { Told } from '../release/drive.ts';
import { plainLine } from '../views/text.ts';
import { terminal } from './terminal.ts';

const HEARTBEAT_MS = 60_000;
const LINE_LIMIT = 2_000;

export interface Follower {
  tell(told: Told): void;
  stop(): void;
}

const clock = (): string => new Date().toTimeString().slice(0, 8);

export function follower(): Follower {
  const { redraws, errPaint: paint } = terminal();
  const live = redraws ? createLogUpdate(process.stderr) : null;
  let figures = '';
  let saidAt = Date.now();
  let partial = '';

  const line = (text: string): void => {
    live?.clear();
    process.stderr.write(`${paint.dim(clock())} ${text}\n`);
    saidAt = Date.now();
    if (figures !== '') live?.(figures);
  };
  const output = (text: string): void => {
    const lines = (partial + text).split('\n');
    partial = (lines.pop() ?? '').slice(-LINE_LIMIT);
    for (const one of lines) line(`${paint.dim('│')} ${plainLine(one.slice(0, LINE_LIMIT))}`);
  };
  const heartbeat = setInterval(() => {
    if (live === null && figures !== '' && Date.now() - saidAt >= HEARTBEAT_MS) line(figures);
  }, 1_000);
  heartbeat.unref();

  return {
    tell(told) {
      if (told.kind === 'progress') {
        const { kind, text } = told.progress;
        if (kind === 'output') output(text);
        else if (kind === 'note') line(`${paint.icons.active} ${told.step}  ${plainLine(text)}`);
        else {
          figures = `${paint.icons.active} ${told.step}  ${plainLine(text)}`;
          live?.(figures);
        }
      } else if (told.kind === 'committed') {
        if (partial !== '') output('\n');
        figures = '';
        live?.clear();
        const { entry } = told;
        const bad = entry.event === 'failed';
        const icon = bad
          ? paint.red(paint.icons.bad)
          : entry.event === 'done'
            ? paint.green(paint.icons.ok)
            : paint.icons.active;
        const seconds = entry.seconds === null ? '' : paint.dim(` ${entry.seconds.toFixed(1)} s`);
        const what =
          entry.by === null
            ? `${entry.from ?? ''} → ${entry.to}`
            : `${entry.event} by ${plainLine(entry.by.user)}: ${entry.from ?? ''} → ${entry.to}`;
        line(`${icon} ${paint.bold(what)}${seconds}${entry.note === null ? '' : `  ${plainLine(entry.note)}`}`);
      }
    },
    stop() {
      clearInterval(heartbeat);
      live?.clear();
    },
  };
}
