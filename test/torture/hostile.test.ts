/** Hostile input: nothing of it becomes a command, an option, an escape sequence on the terminal, or a lost line. */
import { execFileSync } from 'node:child_process';
import { appendFileSync, copyFileSync, existsSync, renameSync, truncateSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { fill } from '../../src/config/placeholders.ts';
import { quote } from '../../src/hosts/jobs.ts';
import { localHost } from '../../src/hosts/local.ts';
import { createLogFollower } from '../../src/logs/follow.ts';
import { openRepository } from '../../src/git/repository.ts';
import { plainLine } from '../../src/views/text.ts';
import { git } from '../scenarios/stage.ts';
import { FULL, report } from './report.ts';
import { drawn } from './simulation/effects.ts';

const SEED = 20_261_123;
const INPUTS = FULL ? 10_000 : 1_500;

let dir = '';
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flow-hostile-'));
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

const CORPUS = [
  '$(touch canary)',
  '`touch canary`',
  '; touch canary;',
  '| touch canary',
  '&& touch canary',
  "'; touch canary; '",
  '"; touch canary; "',
  '--upload-pack=touch canary',
  '--exec=touch canary',
  '-c core.pager=touch canary',
  '--output=canary',
  '-f',
  '--',
  '../../canary',
  'a;touch${IFS}canary',
  '\u001b]0;owned\u0007',
  '\u001b[2J\u001b[H',
  '\u009b31m',
  '\u202egnp.exe',
  '{version}{server}',
  '%s%s%n',
  '\\',
  '*',
  '~',
  '!!',
];

const SPECIAL = Array.from('\'"`$;|&<>(){}[]*?!#~\\ \t\n-=%^');

/** Strings as no one would choose them: shell, git, terminal and Unicode at their worst. */
const hostile = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(...CORPUS) },
  { weight: 2, arbitrary: fc.string({ unit: 'binary', maxLength: 60 }) },
  { weight: 2, arbitrary: fc.string({ unit: fc.constantFrom(...SPECIAL), maxLength: 40 }) },
  {
    weight: 2,
    arbitrary: fc.tuple(fc.constantFrom(...CORPUS), fc.string({ maxLength: 20 })).map((parts) => parts.join('')),
  },
);
const inputs = (): string[] => fc.sample(hostile, { numRuns: INPUTS, seed: SEED });

test('a shell takes every quoted value for one word, and runs nothing of it', () => {
  const values = inputs().map((text) => text.replaceAll('\0', ''));
  for (let at = 0; at < values.length; at += 250) {
    const some = values.slice(at, at + 250);
    const script = some.map((value) => `printf '%s\\0' ${quote(value)}\n`).join('');
    const printed = execFileSync('sh', ['-s'], { cwd: dir, input: script, encoding: 'utf8' }).split('\0').slice(0, -1);
    // What is no valid text comes back as the replacement character, as it was sent.
    expect(printed).toEqual(some.map((value) => Buffer.from(value).toString()));
  }
  expect(existsSync(join(dir, 'canary'))).toBe(false);
  report('hostile', `${values.length} values through a shell: one word each, 0 canary files`);
});

test('a placeholder stays in its argument, and is never filled again', () => {
  for (const value of inputs()) {
    const filled = fill(['./publish.sh', '{server}', '--tag={version}'], { server: value, version: value });
    expect(filled).toEqual(['./publish.sh', value, `--tag=${value}`]);
  }
});

test('no line on the terminal holds a control character or turns the writing round', () => {
  for (const value of inputs()) {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what is looked for
    expect(plainLine(value)).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/);
  }
});

test('git takes every name for a ref, never for an option', async () => {
  git(dir, 'init', '--quiet', '--initial-branch=master', '.');
  git(
    dir,
    '-c',
    'user.name=x',
    '-c',
    'user.email=x@example.com',
    'commit',
    '--quiet',
    '--allow-empty',
    '-m',
    '$(touch canary)',
  );
  const repository = openRepository(dir);
  let refused = 0;
  for (const value of [...CORPUS, ...inputs().slice(0, FULL ? 400 : 40)]) {
    try {
      await repository.resolve(`refs/heads/${value}`);
      await repository.tagCommit(value);
    } catch {
      refused += 1;
    }
  }
  expect(existsSync(join(dir, 'canary'))).toBe(false);
  expect(git(dir, 'for-each-ref', '--format=%(refname)')).toBe('refs/heads/master');
  report('hostile', `git: names refused ${refused}, 0 canary files`);
});

test('no line of a log is lost or counted twice over rotations and resumes', async () => {
  const rounds = FULL ? 300 : 30;
  let written = 0;
  for (let round = 0; round < rounds; round++) {
    const log = join(dir, `app-${round}.log`);
    writeFileSync(log, '');
    let follower = createLogFollower(localHost(), log, { errors: [/ERROR/], from: 'end' });
    await follower.poll();
    let lines = 0;
    let errors = 0;
    let [seenLines, seenErrors] = [0, 0];
    const look = async () => {
      const reading = await follower.poll();
      seenLines += reading.lines;
      seenErrors += reading.errors;
    };
    const append = (step: number, most: number) => {
      const count = 1 + Math.floor(drawn(SEED, 'lines', round, step, most) * most);
      for (let line = 0; line < count; line++) {
        const isError = drawn(SEED, 'error', round, step, most, line) < 0.1;
        appendFileSync(log, `${isError ? 'ERROR' : 'INFO'} \u001b[31m${line}\0 ${'x'.repeat(line * 7)}\n`);
        lines += 1;
        if (isError) errors += 1;
      }
    };
    for (let step = 0; step < 12; step++) {
      append(step, 30);
      const what = Math.floor(drawn(SEED, 'what', round, step) * 4);
      if (what > 0) await look();
      if (what === 2) {
        // A log is rotated in one way or the other, and not twice between two looks: a soak looks four times a second.
        append(step, 20);
        if (round % 2 === 0) {
          renameSync(log, `${log}.1`);
          writeFileSync(log, '');
        } else {
          // As logrotate does it; what is written between its copy and its truncation is lost to everybody.
          copyFileSync(log, `${log}.1`);
          truncateSync(log);
        }
        await look();
      } else if (what === 3) {
        follower = createLogFollower(localHost(), log, { errors: [/ERROR/], from: follower.position() });
        await look();
      }
    }
    await look();
    await look();
    expect([seenLines, seenErrors], `round ${round}`).toEqual([lines, errors]);
    written += lines;
  }
  report('hostile', `logs: ${written} lines over ${rounds} rounds of rotations and resumes, 0 lost, 0 twice`);
}, 120_000);

test('a line of 100 MB without an end costs no memory', async () => {
  const log = join(dir, 'huge.log');
  writeFileSync(log, 'INFO first\n');
  const follower = createLogFollower(localHost(), log, { errors: [/ERROR/], from: 'end' });
  await follower.poll();
  const block = Buffer.alloc(1_000_000, 'x');
  const before = process.memoryUsage.rss();
  let most = 0;
  for (let mb = 0; mb < 100; mb++) {
    appendFileSync(log, block);
    if (mb % 10 === 9) await follower.poll();
    most = Math.max(most, process.memoryUsage.rss() - before);
  }
  appendFileSync(log, '\nERROR after it\n');
  let errors = 0;
  for (let look = 0; look < 3; look++) errors += (await follower.poll()).errors;
  expect(errors).toBe(1);
  expect(most / 1_048_576).toBeLessThan(200);
  report('hostile', `a line of 100 MB: ${Math.round(most / 1_048_576)} MiB of memory`);
}, 60_000);
