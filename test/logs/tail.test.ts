import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { localHost } from '../../src/hosts/local.ts';
import { countTail } from '../../src/logs/tail.ts';

const errors = [/ERROR/];
let folder: string;
let log: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flow-tail-'));
  log = join(folder, 'app.log');
});
afterEach(() => rm(folder, { recursive: true }));

it('counts complete lines and the errors among them', async () => {
  await writeFile(log, 'a\nERROR b\nc\nERROR not complete');
  expect(await countTail(localHost(), log, { errors })).toEqual({ lines: 3, errors: 1 });
  expect(await countTail(localHost(), log, { errors, only: /[ab]/ })).toEqual({ lines: 2, errors: 1 });
});

it('goes back into the file before when the log was rotated not long ago', async () => {
  await writeFile(`${log}.1`, 'ERROR a\nb\n');
  await writeFile(log, 'c\n');
  expect(await countTail(localHost(), log, { errors })).toEqual({ lines: 3, errors: 1 });
});

it('reads no more than the end of a long log', async () => {
  await writeFile(log, `${'ERROR long ago\n'.repeat(200_000)}${'fine\n'.repeat(300_000)}`);
  const { lines, errors: counted } = await countTail(localHost(), log, { errors });
  expect(counted).toBe(0);
  expect(lines).toBeGreaterThan(200_000);
  expect(lines).toBeLessThan(210_000);
});

it('finds nothing in a log that is missing, and rejects one that can not be read', async () => {
  expect(await countTail(localHost(), log, { errors })).toEqual({ lines: 0, errors: 0 });
  await expect(countTail(localHost(), folder, { errors })).rejects.toThrow('is not a file');
});
