/** `flow status`: where the release stands. Reads only what is stored; starts fast, so that it can be asked all the time. */
import { setTimeout as delay } from 'node:timers/promises';
import { EXIT, type ExitCode } from '../errors.ts';
import type { Place } from '../release/locate.ts';
import { readLatest, readLiveDriver } from '../release/read.ts';
import { readLiveFigures } from '../store/live.ts';
import { statusText, statusView } from '../views/status.ts';
import { terminal } from './terminal.ts';

const WATCH_EVERY_MS = 500;

export async function status(place: Place, options: { json?: boolean; watch?: boolean }): Promise<ExitCode> {
  const look = () => {
    const document = readLatest(place.stateDir);
    const live = document === null ? null : readLiveFigures(place.stateDir, document.id);
    return statusView({ document, driver: readLiveDriver(place.stateDir), live, now: new Date() });
  };
  const text = () => (options.json === true ? JSON.stringify(look()) : statusText(look(), terminal().outPaint));
  if (options.watch !== true) {
    process.stdout.write(`${text()}\n`);
    return EXIT.ok;
  }
  // Nobody reads any more: there is nothing left to show it for.
  process.stdout.on('error', () => process.exit(EXIT.ok));
  if (!process.stdout.isTTY) {
    let last = '';
    for (;;) {
      const now = text();
      if (now !== last) process.stdout.write(`${now}\n`);
      last = now;
      await delay(WATCH_EVERY_MS);
    }
  }
  const { default: logUpdate } = await import('log-update');
  for (;;) {
    logUpdate(text());
    await delay(WATCH_EVERY_MS);
  }
}
