import { execFileSync, spawn } from 'node:child_process';
import {
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { LowSync } from 'lowdb';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { StateError } from '../../src/errors.ts';
import { DurableJsonFile } from '../../src/store/durable-file.ts';
import { encode, peek } from '../../src/store/envelope.ts';
import { createStateFolder } from '../../src/store/state-folder.ts';
import { bundleProgram } from './programs/bundle.ts';

interface Data {
  step: string;
  note: string;
}

let dir: string;
let file: string;
const ends: (() => void)[] = [];

beforeEach(() => {
  dir = realpathSync(mkdtempSync(join(tmpdir(), 'flow-durable-')));
  file = join(dir, 'state.json');
});

afterEach(() => {
  for (const end of ends.splice(0)) end();
  rmSync(dir, { recursive: true, force: true });
});

function open(epoch = 1, path = file): DurableJsonFile<Data> {
  return new DurableJsonFile<Data>(path, { epoch });
}

function codeThrownBy(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof StateError) return error.code;
    throw error;
  }
  return 'nothing';
}

const data = (step: string): Data => ({ step, note: 'größer als "ASCII" \u2028 😀' });

/** Two generations, the second one current. */
function twoGenerations(): void {
  const adapter = open();
  adapter.write(data('tested'));
  adapter.write(data('tagged'));
}

describe('a durable file', () => {
  test('works as the adapter of lowdb', () => {
    const db = new LowSync<Data>(open(), data('planned'));
    db.update((now) => {
      now.step = 'tested';
    });
    const again = new LowSync<Data>(open(), data('planned'));
    again.read();
    expect(again.data.step).toBe('tested');
  });

  test('counts generations, keeps the one before, and lets anybody peek without a lock', () => {
    expect(open().read()).toBeNull();
    expect(DurableJsonFile.peek(file)).toBeNull();
    twoGenerations();
    expect(DurableJsonFile.peek(file)).toEqual({ data: data('tagged'), generation: 2, epoch: 1 });
    expect(peek(`${file}.prev`)).toEqual({ data: data('tested'), generation: 1, epoch: 1 });
    const next = open(3);
    expect(next.read()).toEqual(data('tagged'));
    next.write(data('live'));
    expect(next.generation).toBe(3);
    expect(peek(file)).toMatchObject({ generation: 3, epoch: 3 });
    expect(readdirSync(dir).sort()).toEqual(['state.json', 'state.json.prev']);
  });

  test('is readable by its owner only, and replaces the file behind a link and not the link', () => {
    mkdirSync(join(dir, 'real'));
    symlinkSync(join(dir, 'real/state.json'), file);
    writeFileSync(join(dir, 'real/state.json'), encode(4, 1, data('tested')));
    const adapter = open();
    adapter.read();
    adapter.write(data('tagged'));
    expect(peek(join(dir, 'real/state.json'))).toMatchObject({ generation: 5 });
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readdirSync(join(dir, 'real')).sort()).toEqual(['state.json', 'state.json.prev']);
  });

  test('keeps the previous generation also when a crash left both names on one inode', () => {
    twoGenerations();
    // What a crash between the two renames of a commit leaves behind.
    rmSync(`${file}.prev`);
    linkSync(file, `${file}.prev`);
    const adapter = open();
    adapter.read();
    adapter.write(data('live'));
    expect(peek(file)).toMatchObject({ generation: 3 });
    expect(peek(`${file}.prev`)).toMatchObject({ generation: 2 });
    expect(readdirSync(dir).sort()).toEqual(['state.json', 'state.json.prev']);
  });

  test('removes the temporary files of a dead writer, and nothing else', () => {
    writeFileSync(join(dir, '.state.json.123.abcd.tmp'), 'half');
    writeFileSync(join(dir, '.state.json.123.abcd.prev.tmp'), 'half');
    writeFileSync(join(dir, '.other.json.123.abcd.tmp'), 'not ours');
    open();
    expect(readdirSync(dir)).toEqual(['.other.json.123.abcd.tmp']);
  });
});

describe('a file that cannot be trusted', () => {
  test.each([
    ['empty', 'CORRUPT', ''],
    ['zeros', 'CORRUPT', '\0\0\0\0'],
    ['null', 'CORRUPT', 'null'],
    ['of another program', 'FOREIGN', '{"name":"something","version":1}'],
    ['of a newer format', 'FOREIGN', '{"flow":2,"gen":1,"epoch":1,"sha256":"","data":{}}'],
    ['without data', 'CORRUPT', '{"flow":1,"gen":1,"epoch":1,"sha256":""}'],
  ])('is refused and never replaced by defaults: %s', (_what, code, text) => {
    twoGenerations();
    writeFileSync(file, text);
    expect(codeThrownBy(() => open().read())).toBe(code);
    expect(codeThrownBy(() => peek(file))).toBe(code);
    expect(() => peek(file)).toThrow(`${file}.prev`);
    expect(() => peek(file)).toThrow(/Nothing further was started/);
    const before = readFileSync(`${file}.prev`);
    expect(
      codeThrownBy(() => {
        open().write(data('live'));
      }),
    ).toBe(code);
    expect(readFileSync(file, 'utf8')).toBe(text);
    expect(readFileSync(`${file}.prev`)).toEqual(before);
  });

  test('is refused when it is gone and a previous generation is there', () => {
    twoGenerations();
    rmSync(file);
    expect(codeThrownBy(() => open().read())).toBe('MISSING');
    expect(() => peek(file)).toThrow(`cp -p ${file}.prev ${file}`);
  });

  test('is found out under 500 mutations: none is read as something that was never committed', () => {
    twoGenerations();
    const good = readFileSync(file);
    const position = fc.nat(good.length - 1);
    const mutation = fc.oneof(
      fc.tuple(fc.constant('flip' as const), position, fc.nat(7)),
      fc.tuple(fc.constant('cut' as const), position, fc.constant(0)),
      fc.tuple(fc.constant('zero' as const), position, fc.integer({ min: 1, max: 64 })),
      fc.tuple(fc.constant('drop' as const), position, fc.integer({ min: 1, max: 16 })),
      fc.tuple(fc.constant('repeat' as const), position, fc.integer({ min: 1, max: 16 })),
      fc.tuple(fc.constant('digit' as const), position, fc.nat(9)),
    );
    let detected = 0;
    fc.assert(
      fc.property(mutation, ([kind, at, size]) => {
        const bad = mutate(good, kind, at, size);
        writeFileSync(file, bad);
        try {
          expect(peek(file)).toEqual({ data: data('tagged'), generation: 2, epoch: 1 });
        } catch (error) {
          if (!(error instanceof StateError)) throw error;
          detected += 1;
        }
      }),
      { numRuns: 500, seed: 11 },
    );
    expect(detected).toBeGreaterThan(400);
  });
});

function mutate(
  good: Buffer,
  kind: 'flip' | 'cut' | 'zero' | 'drop' | 'repeat' | 'digit',
  at: number,
  size: number,
): Buffer {
  const bad = Buffer.from(good);
  const rest = good.subarray(at);
  switch (kind) {
    case 'flip':
      bad[at] = (bad[at] ?? 0) ^ (1 << size);
      return bad;
    case 'cut':
      return bad.subarray(0, at);
    case 'zero':
      return bad.fill(0, at, Math.min(bad.length, at + size));
    case 'drop':
      return Buffer.concat([good.subarray(0, at), good.subarray(at + size)]);
    case 'repeat':
      return Buffer.concat([good.subarray(0, at), rest.subarray(0, size), rest]);
    case 'digit':
      bad[at] = 0x30 + size;
      return bad;
  }
}

describe('a commit', () => {
  test('is refused to a driver with an older epoch, and to one that did not write the current generation', () => {
    const first = open(1);
    first.write(data('tested'));
    const second = open(2);
    second.read();
    second.write(data('tagged'));
    expect(codeThrownBy(() => open(1).read())).toBe('FENCED');
    expect(
      codeThrownBy(() => {
        first.write(data('live'));
      }),
    ).toBe('FENCED');
    expect(
      codeThrownBy(() => {
        open(2).write(data('live'));
      }),
    ).toBe('FENCED');
    expect(peek(file)).toEqual({ data: data('tagged'), generation: 2, epoch: 2 });
    expect(peek(`${file}.prev`)).toMatchObject({ generation: 1 });
  });

  test('is refused by its guard, and then for ever', () => {
    let calls = 0;
    const adapter = new DurableJsonFile<Data>(file, {
      epoch: 1,
      guard: () => {
        calls += 1;
        // The second look of the second commit, just before the rename.
        if (calls === 5) throw new StateError('FENCED', 'taken over');
      },
    });
    adapter.write(data('tested'));
    expect(
      codeThrownBy(() => {
        adapter.write(data('tagged'));
      }),
    ).toBe('FENCED');
    expect(
      codeThrownBy(() => {
        adapter.write(data('tagged'));
      }),
    ).toBe('FENCED');
    expect(calls).toBe(5);
    expect(peek(file)).toMatchObject({ data: data('tested'), generation: 1 });
    expect(readdirSync(dir).sort()).toEqual(['state.json', 'state.json.prev']);
  });

  test('that failed is never followed by one that succeeds: a new process has to look first', () => {
    const adapter = open();
    adapter.write(data('tested'));
    renameSync(dir, `${dir}-gone`);
    expect(
      codeThrownBy(() => {
        adapter.write(data('tagged'));
      }),
    ).toBe('MISSING');
    renameSync(`${dir}-gone`, dir);
    expect(
      codeThrownBy(() => {
        adapter.write(data('tagged'));
      }),
    ).toBe('MISSING');
    expect(open().read()).toEqual(data('tested'));
  });

  test('on a full disk fails with FULL, leaves the old generation as it was, and works again when there is room', () => {
    const disk = join(dir, 'disk');
    mkdirSync(disk);
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=128k', 'tmpfs', disk], { stdio: 'ignore' });
    } catch {
      // Mounting needs rights that not every machine gives; there is nothing to see without them.
      return;
    }
    ends.push(() => execFileSync('umount', ['-l', disk]));
    const full = join(disk, 'state.json');
    const adapter = open(1, full);
    adapter.write(data('tested'));
    const before = readFileSync(full);
    expect(() => {
      adapter.write({ step: 'tagged', note: 'x'.repeat(200_000) });
    }).toThrow(
      expect.objectContaining({
        code: 'FULL',
        exitCode: 74,
        message: expect.stringContaining(full) as string,
      }) as Error,
    );
    expect(
      codeThrownBy(() => {
        adapter.write(data('tagged'));
      }),
    ).toBe('FULL');
    expect(readFileSync(full)).toEqual(before);
    expect(readdirSync(disk)).toEqual(['state.json']);
    const next = open(1, full);
    next.read();
    next.write(data('tagged'));
    expect(peek(full)).toMatchObject({ generation: 2 });
  });

  test('survives kill -9 at any moment: what was reported is there, whole, and the next process goes on', async () => {
    const state = join(dir, 'state');
    createStateFolder(state);
    const program = await bundleProgram('commit-forever.ts', dir);
    let before = 0;
    for (const patienceMs of [1, 7, 13, 24, 35, 3, 18, 9]) {
      const child = spawn('node', [program, state], { stdio: ['ignore', 'pipe', 'inherit'] });
      let said = '';
      child.stdout.on('data', (chunk: Buffer) => {
        // The first word: it commits from here on. Then it is killed at some moment of some commit.
        if (said === '') setTimeout(() => child.kill('SIGKILL'), patienceMs);
        said += chunk.toString();
      });
      await new Promise((resolve) => child.once('close', resolve));
      const reported = Number(said.trim().split('\n').at(-1));
      const stored = peek<{ count: number }>(join(state, 'releases/r-0001/state.json'));
      expect(stored?.data.count).toBe(stored?.generation);
      expect(stored?.generation).toBeGreaterThanOrEqual(reported);
      expect(stored?.generation).toBeLessThanOrEqual(reported + 1);
      expect(reported).toBeGreaterThan(before);
      before = reported;
    }
  });

  test('takes its bytes to the disk before the name, and the name before it returns', async () => {
    const state = join(dir, 'state');
    createStateFolder(state);
    const trace = join(dir, 'trace');
    const program = await bundleProgram('commit-forever.ts', dir);
    if (!traceable(program, state, trace)) return;
    const calls = readFileSync(trace, 'utf8').split('\n');
    // The last whole commit: between two reports on descriptor 1.
    const reports = calls.flatMap((line, at) => (line.includes(' write(1<') ? [at] : []));
    const commit = calls
      .slice((reports.at(-2) ?? 0) + 1, reports.at(-1))
      .map(kindOfCall)
      .filter(Boolean);
    expect(commit).toEqual(['write', 'sync file', 'keep', 'keep', 'publish', 'sync folder']);
  });
});

/** Runs the program under strace for a few commits; false where strace is missing or not allowed. */
function traceable(program: string, state: string, trace: string): boolean {
  try {
    const calls = 'trace=write,pwrite64,fsync,fdatasync,rename,renameat2,link,linkat';
    execFileSync(
      'sh',
      ['-c', 'strace -f -y -e "$1" -o "$2" node "$3" "$4" | head -n 5', 'sh', calls, trace, program, state],
      {
        stdio: 'ignore',
        timeout: 20_000,
      },
    );
    return existsSync(trace) && readFileSync(trace, 'utf8').includes('fsync(');
  } catch {
    return false;
  }
}

function kindOfCall(line: string): string | undefined {
  if (/ p?write(64)?\(\d+<.*\.tmp>/.test(line)) return 'write';
  if (/ fsync\(\d+<.*\.tmp>/.test(line)) return 'sync file';
  if (/ link(at)?\(/.test(line) || / rename.*state\.json\.prev"/.test(line)) return 'keep';
  if (/ rename.*state\.json"/.test(line)) return 'publish';
  if (/ fsync\(\d+<.*r-0001>/.test(line)) return 'sync folder';
  return undefined;
}

test('a file that cannot be read is an error, not a first start', () => {
  twoGenerations();
  rmSync(file);
  mkdirSync(file);
  expect(codeThrownBy(() => peek(file))).toBe('EISDIR');
});
