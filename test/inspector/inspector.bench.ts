/** What the page weighs, how soon it is there, how far behind the release it is, and what an hour of a release costs it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import type { Browser, CDPSession, Page } from 'playwright-core';
import { afterAll, beforeAll, test } from 'vitest';
import { chartOf } from '../../src/inspector/chart.ts';
import { layout } from '../../src/inspector/page/layout.ts';
import type { Message } from '../../src/inspector/wire.ts';
import { Play } from '../machines/documents.ts';
import { stage } from '../scenarios/stage.ts';
import { startChromium } from './chromium.ts';
import { openInspector } from './opened.ts';
import { FILES, PAGE, statusOf, Teller } from './teller.ts';

const OPENINGS = 9;
const HOUR_SECONDS = 3_600;

const say = (what: string, figure: string) => process.stdout.write(`bench  ${what.padEnd(44)} ${figure}\n`);
const median = (values: number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;

const rates = (second: number): Message => ({
  type: 'rates',
  rates: {
    at: new Date(second * 1_000).toISOString(),
    servers: { app1: 50 + (second % 17), app2: 48 + (second % 13) },
    step: `soak: ${second} s`,
    soak: { observedMs: second * 1_000, windowMs: HOUR_SECONDS * 1_000 },
  },
});
const printed = (second: number): Message => ({
  type: 'text',
  source: 'app1 log',
  lines: Array.from(
    { length: 50 },
    (_, line) => `2026-01-01T00:00:00Z INFO POST /pay/${second * 50 + line} 200 1ms v1.3.8`,
  ),
  dropped: 0,
});

/** Runs in the page: every state that is shown, and when. */
const NOTING = `
  window.seen = [];
  const where = document.querySelector('.where');
  new MutationObserver(() => seen.push([where.dataset.state, Date.now()])).observe(where, { attributes: true });
`;

let browser: Browser;
let teller: Teller;
let url: string;
beforeAll(async () => {
  browser = await startChromium();
  teller = new Teller();
  teller.first = [
    { type: 'hello', allowSend: false, project: 'quickpay', host: 'here' },
    statusOf(new Play().until('verifying')),
  ];
  url = await teller.open();
});
afterAll(async () => {
  teller.close();
  await browser.close();
});

async function open(): Promise<{ page: Page; devtools: CDPSession }> {
  const page = await browser.newPage({ viewport: { width: 1366, height: 768 } });
  await page.goto(url);
  await page.waitForSelector('.state.is-active');
  const devtools = await page.context().newCDPSession(page);
  await devtools.send('Performance.enable');
  return { page, devtools };
}
async function metric(devtools: CDPSession, name: string): Promise<number> {
  const { metrics } = await devtools.send('Performance.getMetrics');
  return metrics.find((one) => one.name === name)?.value ?? Number.NaN;
}
async function heapMb(devtools: CDPSession): Promise<number> {
  await devtools.send('HeapProfiler.collectGarbage');
  return (await metric(devtools, 'JSHeapUsedSize')) / 1_048_576;
}

test('the page', () => {
  const weights = FILES.map((name) => gzipSync(readFileSync(join(PAGE, name)), { level: 9 }).length);
  const all = weights.reduce((sum, weight) => sum + weight, 0);
  say('page weight, gzip', `${(all / 1_000).toFixed(1)} kB (allowed: 40)`);
});

test('the first picture', async () => {
  const times: number[] = [];
  for (let opening = 0; opening < OPENINGS; opening += 1) {
    const page = await browser.newPage();
    const startedAt = performance.now();
    await page.goto(url);
    await page.waitForSelector('.state.is-active');
    times.push(performance.now() - startedAt);
    await page.close();
  }
  say('first picture, median of 9 openings', `${median(times).toFixed(0)} ms`);
});

test('a real release, from its commits to the page', async () => {
  const on = await stage();
  try {
    const driver = await on.start();
    const page = await browser.newPage({ viewport: { width: 1366, height: 768 } });
    await page.goto((await openInspector(on)).url);
    await page.waitForSelector('.where');
    await page.evaluate(NOTING);
    await on.walkTo(driver, 'allLive');
    await page.waitForSelector('.where[data-state=allLive]');
    const seen = await page.evaluate<[string, number][]>('seen');
    const lates = on.document().history.flatMap(({ to, at }) => {
      const shown = seen.find(([name, when]) => name === to && when >= Date.parse(at));
      return shown === undefined ? [] : [shown[1] - Date.parse(at)];
    });
    say(`commit to page, median of ${lates.length} transitions`, `${median(lates)} ms (allowed: 200)`);
  } finally {
    await on.close();
  }
});

test('an hour of a release, told as fast as the page reads', async () => {
  const { page, devtools } = await open();
  const before = await heapMb(devtools);
  const startedAt = performance.now();
  for (let second = 0; second < HOUR_SECONDS; second += 1) {
    await teller.tell(rates(second));
    await teller.tell(printed(second));
  }
  await page.waitForFunction(`document.querySelector('.band .step')?.textContent === 'soak: ${HOUR_SECONDS - 1} s'`);
  const seconds = (performance.now() - startedAt) / 1_000;
  say('heap of the page, before and after an hour', `${before.toFixed(1)} → ${(await heapMb(devtools)).toFixed(1)} MB`);
  say('the hour was read in', `${seconds.toFixed(1)} s (${HOUR_SECONDS * 2} messages, ${HOUR_SECONDS * 50} log lines)`);
  await page.close();
});

test('the work of the page while rates tick', async () => {
  const { page, devtools } = await open();
  const from = { task: await metric(devtools, 'TaskDuration'), at: performance.now() };
  for (let second = 0; second < 10; second += 1) {
    await teller.tell(rates(second));
    await teller.tell(printed(second));
    await delay(1_000);
  }
  const busy = (await metric(devtools, 'TaskDuration')) - from.task;
  say(
    'share of a core while rates tick',
    `${((busy * 100_000) / (performance.now() - from.at)).toFixed(1)} % (allowed: 10)`,
  );
  await page.close();
});

test.each([2, 3, 8, 40])('the layout for %i servers', (count) => {
  const chart = chartOf({ servers: Array.from({ length: count }, (_, at) => `app${at + 1}`), cutover: 'exclusive' });
  const unfolded = new Set(chart.lanes.map(({ id }) => id));
  const visited = new Set(chart.nodes.map(({ id }) => id));
  const times = Array.from({ length: 5 }, () => {
    const startedAt = performance.now();
    layout(chart, { width: 940, state: 'planned', unfolded, visited });
    return performance.now() - startedAt;
  });
  say(`layout, ${count} servers, all unfolded`, `${median(times).toFixed(1)} ms (allowed: 300)`);
});
