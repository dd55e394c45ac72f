/** The page in a real Chromium, beside a real release. */
import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { git, stage, type Stage } from '../scenarios/stage.ts';
import { startChromium } from './chromium.ts';
import { openInspector, type Opened } from './opened.ts';

/** Where pictures are kept when somebody wants to look at them. */
const PICTURES = process.env.PICTURES;

let browser: Browser;
let on: Stage;
beforeAll(async () => {
  browser = await startChromium();
}, 300_000);
afterAll(async () => {
  await browser.close();
});
beforeEach(async () => {
  on = await stage({ soakMs: 1_500 });
});
afterEach(async () => {
  await on.close();
});

async function openPage({ url }: Opened, size = { width: 1366, height: 768 }): Promise<Page> {
  const page = await browser.newPage({ viewport: size });
  page.on('pageerror', (error) => {
    throw error;
  });
  await page.goto(url);
  await page.waitForSelector('.where');
  return page;
}
const state = async (page: Page) => await page.locator('.where').getAttribute('data-state');
const picture = async (page: Page, name: string) => {
  if (PICTURES === undefined) return;
  const wall = await browser.newPage({ viewport: { width: 1920, height: 1080 } });
  const { host, token } = await page.evaluate<{ host: string; token: string }>(
    `({ host: location.host, token: sessionStorage.getItem('flow-token') })`,
  );
  await page.screenshot({ path: `${PICTURES}/${name}-1366.png` });
  await page.setViewportSize({ width: 1920, height: 1080 });
  await page.screenshot({ path: `${PICTURES}/${name}-1920.png` });
  await page.setViewportSize({ width: 1366, height: 768 });
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.screenshot({ path: `${PICTURES}/${name}-dark.png` });
  await page.emulateMedia({ colorScheme: 'light' });
  await wall.goto(`http://${host}/?wall#token=${token}`);
  await wall.waitForSelector('.where');
  await wall.screenshot({ path: `${PICTURES}/${name}-wall.png` });
  await wall.close();
};

/** Runs in the page: every state that is shown, and when, on the clock of this machine. */
const NOTING = `
  window.seen = [];
  const where = document.querySelector('.where');
  new MutationObserver(() => seen.push([where.dataset.state, Date.now()])).observe(where, { attributes: true });
`;

describe('the page', () => {
  test('follows every transition of a release within a fifth of a second, and shows what each server serves', async () => {
    await on.load({ ratePerSecond: 60 });
    const driver = await on.start();
    const opened = await openInspector(on);
    const page = await openPage(opened);
    expect(page.url()).not.toContain(opened.token);
    await page.evaluate(NOTING);
    await picture(page, 'resting');
    const switching = on.walkTo(driver, 'app1Drained');
    await expect.poll(() => state(page), { timeout: 20_000 }).toBe('drainingApp1');
    await picture(page, 'draining');
    await switching;
    await expect.poll(() => state(page)).toBe('app1Drained');
    await expect.poll(async () => await page.locator('[data-server=app1] .traffic').textContent()).toContain('drained');
    await on.walkTo(driver, 'app1Live');
    const soaking = on.walkTo(driver, 'verified');
    await page.waitForSelector('.soak .left');
    await picture(page, 'soaking');
    await soaking;
    await on.walkTo(driver, 'allLive');
    await expect.poll(() => state(page)).toBe('allLive');
    await picture(page, 'done');
    const seen = await page.evaluate<[string, number][]>('seen');
    const lates = on.document().history.flatMap(({ to, at }) => {
      const shown = seen.find(([name, when]) => name === to && when >= Date.parse(at));
      return shown === undefined ? [] : [shown[1] - Date.parse(at)];
    });
    const median = lates.sort((a, b) => a - b)[Math.floor(lates.length / 2)] ?? Number.POSITIVE_INFINITY;
    process.stdout.write(
      `inspector: ${lates.length} transitions on the page, ${median} ms after their commit (median)\n`,
    );
    expect(lates.length).toBeGreaterThanOrEqual(on.document().history.length - 3);
    expect(median).toBeLessThan(200);
    // Nothing is asked of anybody else, and the outline says the same as the picture.
    expect(await page.locator('[aria-current=step]').textContent()).toContain('allLive');
  }, 90_000);

  test('steps back through the release, and is right again after a kill and a restart', async () => {
    const driver = await on.start();
    await on.walkTo(driver, 'app1Drained');
    await on.leave();
    const opened = await openInspector(on);
    const page = await openPage(opened);
    await page.waitForSelector('.next .passes');
    await page.keyboard.press('?');
    await page.waitForSelector('dialog[open]');
    await page.keyboard.press('Escape');
    await page.waitForSelector('dialog[open]', { state: 'detached' });
    await page.keyboard.press('4');
    expect(await page.evaluate('document.activeElement.id')).toBe('history');
    await page.keyboard.press('ArrowLeft');
    await page.waitForSelector('.band.replay');
    expect(await state(page)).toBe('drainingApp1');
    await page.keyboard.press('Home');
    await expect.poll(() => state(page)).toBe('planned');
    await page.keyboard.press('Escape');
    await expect.poll(() => state(page)).toBe('app1Drained');
    await opened.kill();
    await page.waitForSelector('.no-data', { timeout: 15_000 });
    expect(await page.locator('.no-data').textContent()).toMatch(/NO DATA SINCE \d\d:\d\d:\d\d/);
    // A sender that is killed in the middle of its step, while nobody looks.
    const sending = on.begin('send', 'NEXT', '--yes');
    await expect.poll(() => on.document().snapshot.value, { timeout: 15_000 }).toBe('publishingApp1');
    sending.child.kill('SIGKILL');
    await sending.ended;
    await openInspector(on);
    await expect.poll(() => state(page), { timeout: 10_000 }).toBe('publishingApp1');
    await page.waitForSelector('.band.unwatched');
    await picture(page, 'unwatched');
    for (let times = 0; times < 3; times += 1) {
      await page.reload();
      await page.waitForSelector('.where');
      expect(await state(page)).toBe('publishingApp1');
    }
    expect((await on.flow('resume', '--yes')).status).toBe(0);
    await expect.poll(() => state(page), { timeout: 10_000 }).toBe('app1Published');
  }, 90_000);

  test('sends NEXT and ROLLBACK where that is allowed, after it has shown the commands', async () => {
    const driver = await on.start();
    await on.walkTo(driver, 'tagged');
    await on.leave();
    const page = await openPage(await openInspector(on, '--allow-send'));
    await page.getByRole('button', { name: 'NEXT …' }).click();
    await expect.poll(async () => await page.locator('dialog .plan').textContent()).toContain('git switch yun-app2');
    await page.locator('dialog input').fill('from the wall');
    await picture(page, 'confirm');
    await page.getByRole('button', { name: 'Send NEXT' }).click();
    await expect.poll(() => state(page), { timeout: 20_000 }).toBe('app1Drained');
    await on.sandbox.publishKnobs({ EXIT_WITH: 3 });
    await page.getByRole('button', { name: 'NEXT …' }).click();
    await page.getByRole('button', { name: 'Send NEXT' }).click();
    await expect.poll(async () => await page.locator('.went-wrong').textContent()).toContain('exit status 3');
    expect(await page.locator('[data-state=publishingApp1]').getAttribute('data-mark')).toBe('failed');
    await picture(page, 'failed');
    await on.sandbox.publishKnobs(null);
    await page.getByRole('button', { name: 'ROLLBACK …' }).click();
    await page.getByRole('button', { name: 'Send ROLLBACK' }).click();
    await expect.poll(() => state(page), { timeout: 20_000 }).toBe('rolledBack');
    await picture(page, 'rolled-back');
    const sent = on.document().history.filter(({ by }) => by?.via === 'inspector');
    expect(sent.map(({ event, reason }) => [event, reason])).toEqual([
      ['NEXT', 'from the wall'],
      ['NEXT', null],
      ['ROLLBACK', null],
    ]);
  }, 90_000);

  test('shows what stands in the way, has no way to send where it only shows, and never takes what a log says for a part of itself', async () => {
    const driver = await on.start();
    await on.walkTo(driver, 'tested');
    const page = await openPage(await openInspector(on));
    await page.waitForSelector('.next .passes');
    expect(await page.getByRole('button', { name: 'NEXT …' }).count()).toBe(0);
    expect(await page.locator('.copy').first().textContent()).toContain('flow send NEXT');
    const log = join(on.sandbox.root, 'servers/app1/logs/quickpay.log');
    await appendFile(log, '<img src=x onerror="document.title=1"><script>document.title=2</script>\n');
    await page.getByRole('button', { name: 'app1 log' }).click();
    await expect.poll(async () => await page.locator('.output pre').textContent()).toContain('<script>');
    expect(await page.title()).toBe('tested · quickpay v1.3.8 · flow');
    git(on.sandbox.projectDir, 'branch', '--force', 'testing', 'develop~1');
    await page.waitForSelector('.next .blocked', { timeout: 10_000 });
    expect(await page.locator('.verdicts .no').first().textContent()).toContain('testingUnmoved');
    await picture(page, 'blocked');
  }, 90_000);
});
