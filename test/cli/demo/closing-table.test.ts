import { describe, expect, test } from 'vitest';
import { closingTable, requestsPerSecond, unavoidableSeconds } from '../../../src/cli/demo/closing-table.ts';
import type { LoadTotals } from '../../../src/sandbox/load.ts';
import { Play, soakBad } from '../../machines/documents.ts';

const none: LoadTotals = {
  requests: 0,
  ok: 0,
  failed: 0,
  status5xx: 0,
  resets: 0,
  otherErrors: 0,
  inFlight: 0,
  notSent: 0,
  seconds: 0,
  byServer: {},
  byVersion: {},
  failures: [],
};
const close: LoadTotals = { ...none, requests: 3_000, failed: 7, status5xx: 5, otherErrors: 2, seconds: 20.04 };
const keepAlive: LoadTotals = { ...none, requests: 2_000, resets: 3, notSent: 4, seconds: 20 };
const { context } = new Play().until('allLive').document.snapshot;

/** The cells of the row that begins with this name. */
function row(lines: string[], name: string): string[] {
  const line = lines.find((one) => one.trim().startsWith(name)) ?? '';
  return line
    .trim()
    .slice(name.length)
    .trim()
    .split(/\s{2,}/);
}

describe('unavoidable seconds', () => {
  test('are the publishes of every server and the drains that a publish waits for', () => {
    // Eight seconds for each of two publishes, one and a half for each of two drains.
    expect(unavoidableSeconds(context)).toEqual({ publishes: 16, drains: 3, total: 19 });
  });

  test('are none before production', () => {
    expect(unavoidableSeconds(new Play().until('tagged').document.snapshot.context).total).toBe(0);
  });

  test('count what a rollback had to publish again', () => {
    const play = new Play().until('verifying').end(soakBad('errors'));
    while (play.state !== 'rolledBack') play.end();
    const { publishes } = unavoidableSeconds(play.document.snapshot.context);
    expect(publishes).toBe(16);
  });
});

describe('the closing table', () => {
  test('shows both kinds of clients apart', () => {
    const lines = closingTable({ close, keepAlive }, 40, context);
    expect(row(lines, 'requests (GET and POST)')).toEqual(['3000', '2000']);
    expect(row(lines, 'seconds')).toEqual(['20.0', '20.0']);
    expect(row(lines, 'failed')).toEqual(['7', '0']);
    expect(row(lines, 'of these 5xx')).toEqual(['5', '0']);
    expect(row(lines, 'resets of idle connections')).toEqual(['0', '3']);
    expect(row(lines, 'requests due but not sent by the client')).toEqual(['0', '4']);
  });

  test('shows the whole and the share that no tool could avoid', () => {
    const lines = closingTable({ close, keepAlive }, 40, context);
    expect(row(lines, 'The whole')).toEqual(['40.0 s']);
    expect(row(lines, 'publish commands in production')).toEqual(['16.0 s']);
    expect(row(lines, 'drains: requests in flight')).toEqual(['3.0 s']);
    expect(row(lines, 'both together, which no tool could avoid')).toEqual(['19.0 s', '48 %']);
    expect(lines.join('\n')).not.toContain('moved back');
  });

  test('says how fast the traffic moved back, where it did', () => {
    const play = new Play().until('verifying').end(soakBad('errors'));
    while (play.state !== 'rolledBack') play.end();
    const lines = closingTable({ close, keepAlive }, 40, play.document.snapshot.context);
    expect(row(lines, 'traffic moved back in')).toEqual(['0.5 s']);
  });

  test('adds the rates of clients that ran for different times', () => {
    expect(
      requestsPerSecond({
        close: { ...none, requests: 300, seconds: 2 },
        keepAlive: { ...none, requests: 400, seconds: 4 },
      }),
    ).toBe(250);
    expect(requestsPerSecond({ close: none, keepAlive: none })).toBe(0);
  });
});
