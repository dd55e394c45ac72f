/**
 * The logs of several servers followed side by side: lines and errors per second, and whether they could be read at all.
 * "Quiet" is not "unreadable": a log that cannot be followed has no rate, and says why.
 */
import type { Rates } from '../../machines/contract.ts';
import { serverSettings } from '../config/settings.ts';
import { createLogFollower, type LogPosition } from '../logs/follow.ts';
import type { World } from './world.ts';

export interface ServerLog {
  lines: number;
  errors: number;
  samples: string[];
  problem: string | null;
  /** Lines may be missing: the rest of a file that was rotated away or emptied could not be found. */
  gap: boolean;
}

export interface LogWatch {
  /** Reads what has come since the last call, for every server. */
  poll(): Promise<Record<string, ServerLog>>;
  /** All that was counted since the watch began. */
  totals(): Record<string, ServerLog>;
  /** Lines per second over a time, from the totals; null where the log could not be read. */
  rates(elapsedMs: number): Rates;
  /** Where the reading stands, to go on after a crash. */
  positions(): Record<string, LogPosition>;
}

const SAMPLES = 5;

/** Follows the logs of these servers from their end, or from where an earlier watch stood. */
export function watchLogs(world: World, servers: readonly string[], from: Record<string, LogPosition> = {}): LogWatch {
  const errors = world.config.verify.errors.map((pattern) => new RegExp(pattern));
  const followers = servers.map((server) => {
    const settings = serverSettings(world.config, server);
    const log = createLogFollower(world.on(settings), settings.log, { errors, from: from[server] ?? 'end' });
    return { server, log };
  });
  const totals: Record<string, ServerLog> = Object.fromEntries(
    servers.map((server) => [server, { lines: 0, errors: 0, samples: [], problem: null, gap: false }]),
  );
  return {
    async poll() {
      const readings = await Promise.all(
        followers.map(async ({ server, log }) => {
          const { lines, errors, samples, problem, gap } = await log.poll();
          return [server, { lines, errors, samples, problem, gap }] as const;
        }),
      );
      for (const [server, reading] of readings) {
        const total = totals[server];
        if (total === undefined) continue;
        total.lines += reading.lines;
        total.errors += reading.errors;
        total.problem = reading.problem;
        total.gap ||= reading.gap;
        total.samples = [...total.samples, ...reading.samples].slice(0, SAMPLES);
      }
      return Object.fromEntries(readings);
    },
    totals: () => totals,
    rates: (elapsedMs) =>
      Object.fromEntries(
        servers.map((server) => {
          const total = totals[server];
          const unknown = total?.problem !== null || elapsedMs <= 0;
          return [server, unknown ? null : Math.round((total.lines / elapsedMs) * 10_000) / 10];
        }),
      ),
    positions: () => Object.fromEntries(followers.map(({ server, log }) => [server, log.position()])),
  };
}
