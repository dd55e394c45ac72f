/**
 * When things go wrong, as a table and as tests. Each row says what an operator will find: what flow does, what is printed, which
 * command to run next, and how the world stands. The same row is printed in docs/failures.md and held against a real sandbox.
 */
import { get } from 'node:http';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { SandboxOptions } from '../../src/sandbox/world.ts';
import { OVER_SSH, stage, type Stage } from '../scenarios/stage.ts';
import { ALL, type Ended } from '../scenarios/terminal.ts';

export interface FailureRow {
  /** What is wrong in the world, as the operator would say it. */
  situation: string;
  /** What flow does about it. */
  does: string;
  /** A part of what is printed, letter by letter; the Nginx folder is /opt/nginx, the project /opt/quickpay. */
  sees: string;
  /** The command that the message names, letter by letter. */
  run: string;
  /** Exit status of the command that met the trouble. */
  exit: number;
  /** Where the release rests afterwards; null where none was begun. */
  rests: string | null;
  /** The servers that answer clients through Nginx afterwards; none where Nginx does not run. */
  serving: readonly string[];
  /** What each application server answers when it is asked directly; null when it does not answer. */
  versions: Readonly<Record<string, string | null>>;
  /** Why clients may see errors; left out where they may see none. Only where what they see is the failure itself. */
  clientsMayFail?: string;
  /** Run by `npm run failures` alone, because a row much like it is run by `npm test` as well. */
  thorough?: boolean;
}

export type FailureRows = Readonly<Record<string, FailureRow>>;

export interface FailureTest {
  /** What the stage is built with, beyond the ordinary. */
  stage?: Partial<SandboxOptions>;
  /** Run by `npm test` with every host behind ssh as well; `npm run failures` does so with each row. */
  alsoOverSsh?: boolean;
  /** Brings the trouble about, and returns how the command ended that met it. */
  trouble: (on: Stage) => Promise<Ended>;
  /** After the row was held against the world: shows that the command the message named works. */
  mended?: (on: Stage) => Promise<void>;
}

const CLIENTS_PER_SECOND = 40;
const ASKED = 16;

/** One test for each row; a row without a test, or a test without a row, does not compile. */
export function failures<Rows extends FailureRows>(
  group: string,
  rows: Rows,
  tests: Record<keyof Rows & string, FailureTest>,
): void {
  let on: Stage | undefined;
  afterEach(async () => {
    await on?.close();
    on = undefined;
  });
  describe(group, () => {
    for (const name of Object.keys(rows) as (keyof Rows & string)[]) {
      const row: FailureRow | undefined = rows[name];
      if (row === undefined || (row.thorough === true && !ALL)) continue;
      const { trouble, mended, alsoOverSsh = false, ...options } = tests[name];
      const perform = async (over: Partial<SandboxOptions>) => {
        on = await stage({ ...options.stage, ...over });
        await on.load({ ratePerSecond: CLIENTS_PER_SECOND });
        const ended = await trouble(on);
        await expectAsTold(on, row, ended);
        await on.leave();
        await mended?.(on);
        const totals = await on.calm();
        if (row.clientsMayFail === undefined) expect(totals.failed, JSON.stringify(totals.failures)).toBe(0);
        else
          process.stdout.write(
            `${row.situation}: ${totals.failed} of ${totals.requests} requests failed: ${row.clientsMayFail}\n`,
          );
      };
      test(`${row.situation}: ${row.does}`, () => perform({}), 90_000);
      if (alsoOverSsh && !OVER_SSH)
        test(`over ssh, ${row.situation}: ${row.does}`, () => perform({ ssh: true }), 90_000);
    }
  });
}

/**
 * As `failures`, for words that are refused and change nothing: all of them on one stage, which `prepare` brings to where the
 * rows say that it rests. `mended` leaves that stage as it was before the trouble.
 */
export function refusals<Rows extends FailureRows>(
  group: string,
  rows: Rows,
  setting: { stage?: Partial<SandboxOptions>; prepare: (on: Stage) => Promise<void> },
  tests: Record<keyof Rows & string, Omit<FailureTest, 'stage'> | FailureTest['trouble']>,
): void {
  describe(group, () => {
    let on: Stage | undefined;
    beforeAll(async () => {
      on = await stage(setting.stage);
      await on.load({ ratePerSecond: CLIENTS_PER_SECOND });
      await setting.prepare(on);
    }, 90_000);
    afterAll(async () => {
      const totals = await on?.calm();
      await on?.close();
      expect(totals?.failed, JSON.stringify(totals?.failures)).toBe(0);
    });
    for (const name of Object.keys(rows) as (keyof Rows & string)[]) {
      const row: FailureRow | undefined = rows[name];
      if (row === undefined) continue;
      test(`${row.situation}: ${row.does}`, async () => {
        if (on === undefined) throw new Error('the stage was not built');
        const rev = on.latest()?.rev;
        const given = tests[name];
        const { trouble, mended } = typeof given === 'function' ? { trouble: given, mended: undefined } : given;
        await expectAsTold(on, row, await trouble(on));
        expect(on.latest()?.rev).toBe(rev);
        await mended?.(on);
      }, 30_000);
    }
  });
}

async function expectAsTold(on: Stage, row: FailureRow, ended: Ended): Promise<void> {
  const said = plain(asInTheRunbook(on, `${ended.err}\n${ended.out}`));
  expect(said).toContain(row.sees);
  expect(said).toContain(row.run);
  expect(ended.status, said).toBe(row.exit);
  expect(on.latest()?.snapshot.value ?? null).toBe(row.rests);
  expect(await answering(on.sandbox.url)).toEqual([...row.serving].sort());
  const versions = await Promise.all(
    Object.keys(row.versions).map(async (name) => [name, await on.sandbox.runningVersion(name)] as const),
  );
  expect(Object.fromEntries(versions)).toEqual(row.versions);
}

/** The folders of the sandbox under the names that operators know them by. */
const asInTheRunbook = (on: Stage, text: string): string =>
  text
    .replaceAll(on.sandbox.nginxDir, '/opt/nginx')
    .replaceAll(on.sandbox.projectDir, '/opt/quickpay')
    // Where every host is behind ssh, the proxy is called by its name.
    .replaceAll(/ on (?:proxy|build)\b/g, ' on this machine')
    .replaceAll('proxy:/opt/nginx', '/opt/nginx');

/** Lines as they were meant, whatever the width they were wrapped to. */
const plain = (text: string): string => text.replaceAll(/\s+/g, ' ');

/** Who answers clients through the proxy: each request on a connection of its own. Empty where nobody listens. */
export async function answering(url: string): Promise<string[]> {
  const names = new Set<string>();
  for (let asked = 0; asked < ASKED; asked++) {
    names.add(
      await new Promise<string>((resolve) => {
        get(url, { agent: false, headers: { connection: 'close' } }, (response) => {
          response.resume();
          resolve(String(response.headers['x-server'] ?? `status ${response.statusCode}`));
        }).on('error', (error) => {
          resolve(error.message);
        });
      }),
    );
  }
  return [...names].filter((name) => !name.includes('ECONNREFUSED')).sort();
}
