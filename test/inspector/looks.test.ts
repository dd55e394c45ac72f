/** How the page looks and is used in states that a real release comes to seldom: told what it shows, in a real Chromium. */
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Message } from '../../src/inspector/wire.ts';
import { asks, Play, soakBad } from '../machines/documents.ts';
import { startChromium } from './chromium.ts';
import { nextOf, statusOf, Teller } from './teller.ts';

const REASON = `The publish of v1.3.8 to app1 ended with exit status 3. ${'Its last words: a long story. '.repeat(40)}`;
const hello: Message = { type: 'hello', allowSend: true, project: 'quickpay', host: 'here' };
const printed = (...lines: string[]): Message => ({ type: 'text', source: 'app1 log', lines, dropped: 0 });
const manyLines = (count: number): string[] => Array.from({ length: count }, (_, index) => `line ${index}`);
/** The states that differ most in what they show. */
const SCENES: Record<string, () => Play> = {
  resting: () => new Play().until('app1Live'),
  working: () => new Play().until('verifying'),
  asking: () =>
    new Play().until('drainingApp1').end(asks('drainOverdue', 'app1 has 2 workers left.', 'wait', 'revert')),
  failed: () => new Play().until('publishingApp1').fail('rejected', REASON),
  'a wave': () =>
    new Play({
      topology: {
        servers: ['app1', 'app2', 'app3', 'app4', 'app5', 'app6', 'app7', 'app8'],
        cutover: 'rolling',
        waves: [['app1'], ['app2', 'app3', 'app4'], ['app5', 'app6', 'app7'], ['app8']],
      },
    }).until('wave2Published', 200),
  'going back': () => new Play().until('verifying').end(soakBad('7 errors on app1')),
};

let browser: Browser;
let teller: Teller;
let page: Page;
beforeAll(async () => {
  browser = await startChromium();
}, 300_000);
afterAll(async () => {
  await browser.close();
});
beforeEach(async () => {
  teller = new Teller();
  page = await browser.newPage({ viewport: { width: 1366, height: 768 } });
});
afterEach(async () => {
  await page.close();
  teller.close();
});
async function open(play: Play, ...more: Message[]): Promise<void> {
  teller.first = [hello, statusOf(play), nextOf(play), ...more];
  await page.goto(await teller.open());
  await page.waitForSelector('.state.is-active');
}

/** Runs in the page: every text whose contrast with what lies under it is below 4.5, and how many were looked at. */
const CONTRAST = `(() => {
  const numbers = (colour) => (colour.match(/[\\d.]+/g) ?? []).map(Number);
  const light = (colour) => {
    const [r, g, b] = colour.map((part) => (part <= 10 ? part / 3294.6 : ((part / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const under = (element) => {
    for (let at = element; at !== null; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.5) return colour.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const low = [];
  let looked = 0;
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = texts.nextNode(); text !== null; text = texts.nextNode()) {
    const element = text.parentElement;
    if (text.textContent.trim() === '' || element.closest('.heard, title, noscript, :disabled, option') !== null) continue;
    if (element.getClientRects().length === 0) continue;
    const isDrawn = element.closest('svg') !== null;
    const shape = element.classList.contains('time') ? null : element.closest('.state')?.querySelector('rect, path');
    const filled = shape == null ? 'none' : getComputedStyle(shape).fill;
    const ground = filled === 'none' ? under(element) : numbers(filled);
    let shown = 1;
    for (let at = element; at !== null; at = at.parentElement) shown *= Number(getComputedStyle(at).opacity);
    const ink = numbers(getComputedStyle(element)[isDrawn ? 'fill' : 'color']).slice(0, 3);
    const mixed = ink.map((part, index) => part * shown + ground[index] * (1 - shown));
    const [a, b] = [light(mixed), light(ground)].sort((one, other) => other - one);
    looked += 1;
    if ((a + 0.05) / (b + 0.05) < 4.5) low.push(text.textContent.slice(0, 40));
  }
  return { low, looked };
})()`;
/** Runs in the page: what has no name for a screen reader among all that can be reached with the keyboard. */
const NAMELESS = `[...document.querySelectorAll('button, input, select, [tabindex="0"]')]
  .filter((element) => !element.ariaLabel && !element.textContent.trim() && !element.labels?.length)
  .map((element) => element.outerHTML.slice(0, 80))`;
/** Runs in the page: whether an element stands whole in the window, with nothing over it. */
const inSight = (selector: string): string => `(() => {
  const element = document.querySelector(${JSON.stringify(selector)});
  if (element === null) return 'missing';
  const { left, top, width, height } = element.getBoundingClientRect();
  const over = document.elementFromPoint(left + width / 2, top + height / 2);
  return over !== null && element.contains(over) ? 'in sight' : 'covered';
})()`;

describe.each(Object.keys(SCENES))('a release that is %s', (name) => {
  test('is readable in both schemes, named for screen readers, and can be rolled back without scrolling', async () => {
    const play = (SCENES[name] ?? (() => new Play()))();
    await open(play, printed(...manyLines(500)));
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme });
      const { low, looked } = await page.evaluate<{ low: string[]; looked: number }>(CONTRAST);
      expect(low, colorScheme).toEqual([]);
      expect(looked).toBeGreaterThan(50);
    }
    expect(await page.evaluate(NAMELESS)).toEqual([]);
    expect(await page.evaluate(inSight('.state.is-active'))).toBe('in sight');
    if (name !== 'going back') expect(await page.evaluate(inSight('.act.rollback'))).toBe('in sight');
    if (['resting', 'failed', 'a wave'].includes(name))
      expect(await page.evaluate(inSight('.act.next'))).toBe('in sight');
    expect(await page.locator('text=the page is loading').count()).toBe(0);
  });
});

describe('the page', () => {
  test('keeps long names and messages inside of every window', async () => {
    const long = 'v9.9.9-a.very.long.name.of.a.prerelease.that.goes.on+build.998877665544332211';
    const play = new Play({ version: long }).until('publishingApp1').fail('rejected', 'x'.repeat(3_000));
    await open(play, printed('y'.repeat(2_000)), { type: 'problem', message: 'z'.repeat(3_000) });
    for (const [width, height] of [
      [1366, 768],
      [1920, 1080],
      [800, 900],
    ] as const) {
      await page.setViewportSize({ width, height });
      expect(await page.evaluate('document.documentElement.scrollWidth'), `${width}`).toBeLessThanOrEqual(width);
      const wide = `[...document.querySelectorAll('.panel > .body')].filter((one) => one.scrollWidth > one.clientWidth + 1).length`;
      expect(await page.evaluate(wide), `${width}`).toBe(0);
    }
  });

  test('shows the open question where the system chooses the colours, and holds still where motion is not wanted', async () => {
    await open((SCENES.asking ?? (() => new Play()))());
    const moving = 'document.getAnimations().filter(({ playState }) => playState === "running").length';
    await page.emulateMedia({ forcedColors: 'active' });
    const [shape, text] = await page.evaluate<string[]>(
      `['path', 'text'].map((part) => getComputedStyle(document.querySelector('.state.is-active ' + part)).fill)`,
    );
    expect(shape).not.toBe(text);
    const working = (SCENES.working ?? (() => new Play()))();
    await teller.tell(statusOf(working));
    await page.waitForSelector('.where[data-state=verifying]');
    expect(await page.evaluate(moving)).toBeGreaterThan(0);
    await page.emulateMedia({ reducedMotion: 'reduce' });
    expect(await page.evaluate(moving)).toBe(0);
  });

  test('leaves whoever reads the output where they are, and shows foreign characters instead of obeying them', async () => {
    await open(new Play().until('app1Live'), printed(...manyLines(300)));
    const output = page.locator('.output pre');
    const top = async () => await page.evaluate<number>(`document.querySelector('.output pre').scrollTop`);
    expect(await top()).toBeGreaterThan(1_000);
    await page.evaluate(`document.querySelector('.output pre').scrollTop = 100`);
    await page.evaluate('new Promise((shown) => requestAnimationFrame(() => requestAnimationFrame(shown)))');
    await teller.tell(printed('\u001b[31mred\u001b[0m \u202eback', 'the last line'));
    await expect.poll(async () => await output.textContent()).toContain('red \\x202eback\nthe last line');
    expect(await top()).toBe(100);
    await page.keyboard.press('/');
    await page.keyboard.type('LAST');
    await expect.poll(async () => (await output.textContent())?.trim()).toBe('the last line');
  });

  test('marks one server unhealthy and not another whose name it begins with', async () => {
    const play = new Play().until('tagged');
    teller.first = [
      hello,
      statusOf(play),
      nextOf(play, ({ servers }) => {
        servers.app2 = { version: 'v1.3.7', healthy: false, because: 'app1 says that app2 is gone' };
      }),
    ];
    await page.goto(await teller.open());
    await page.waitForSelector('.next .blocked');
    expect(await page.locator('[data-server=app2] strong').textContent()).toContain('unhealthy');
    expect(await page.locator('[data-server=app1] strong').count()).toBe(0);
  });
});
