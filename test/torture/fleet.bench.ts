/** What a release of many servers costs flow itself: time, memory, bytes on the disk, lines to read. The world is simulated. */
import { expect, test } from 'vitest';
import { chartOf } from '../../src/inspector/chart.ts';
import { layout } from '../../src/inspector/page/layout.ts';
import { planOf, planText } from '../../src/views/plan.ts';
import { statusText, statusView } from '../../src/views/status.ts';
import { plainPaint } from '../../src/views/text.ts';
import { Play } from '../machines/documents.ts';
import { fleetOf } from './fleet.ts';
import { live } from './simulation/life.ts';

const say = (what: string, figure: string) => process.stdout.write(`bench  ${what.padEnd(44)} ${figure}\n`);
const ROUNDS = 5;
const median = (values: number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;

test.each([
  [50, 10],
  [100, 10],
  [200, 10],
  [200, 5],
  [200, 20],
  [200, 40],
])('a release of %i servers in %i waves', async (servers, waves) => {
  const topology = fleetOf(servers, waves);
  const times: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const startedAt = performance.now();
    const { end } = await live({ seed: 1, trouble: 0, topology });
    times.push(performance.now() - startedAt);
    expect(end).toBe('allLive');
  }
  const heap = process.memoryUsage().heapUsed / 1e6;
  say(
    `release of ${servers} servers in ${waves + 1} waves`,
    `${median(times).toFixed(0)} ms (median of ${ROUNDS}), heap ${heap.toFixed(0)} MB`,
  );
});

test('what is shown and stored of 200 servers in 11 waves', () => {
  const play = new Play({ topology: fleetOf(200, 10) }).until('wave6Drained', 400);
  const { document } = play;
  const lines = (text: string): number => text.split('\n').length;
  const startedAt = performance.now();
  const status = statusText(statusView({ document, driver: null, live: null, now: play.now }), plainPaint);
  const took = performance.now() - startedAt;
  say('flow status of 200 servers', `${lines(status)} lines, ${took.toFixed(1)} ms`);
  say('the plan of a wave of 20', `${lines(planText(planOf(document, 'NEXT'), plainPaint))} lines`);
  say('what is stored at the sixth wave', `${(JSON.stringify(document).length / 1e3).toFixed(0)} kB`);
  const chart = chartOf(fleetOf(200, 10));
  const laid = performance.now();
  layout(chart, { width: 940, state: 'wave6Drained', unfolded: new Set(), visited: new Set() });
  say('layout of its chart, folded', `${(performance.now() - laid).toFixed(1)} ms (allowed: 300)`);
});
