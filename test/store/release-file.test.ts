import { existsSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { peek } from '../../src/store/envelope.ts';
import { acquireLock, type Lock } from '../../src/store/lock.ts';
import {
  createReleaseFile,
  openReleaseFile,
  readProgress,
  writeLive,
  writeProgress,
} from '../../src/store/release-file.ts';
import { readLiveFigures } from '../../src/store/live.ts';
import { createStateFolder, releasePaths } from '../../src/store/state-folder.ts';

interface Data {
  state: string;
}

let base: string;
let dir: string;
let lock: Lock;

beforeEach(() => {
  base = realpathSync(mkdtempSync(join(tmpdir(), 'flow-release-')));
  dir = join(base, 'flow');
  createStateFolder(dir);
  lock = acquireLock(dir, { who: 'alice', doing: 'testing' });
});

afterEach(() => {
  lock.release();
  rmSync(base, { recursive: true, force: true });
});

describe('a release file', () => {
  test('holds what was committed last, for this process, the next one, and anybody who looks', () => {
    const file = createReleaseFile<Data>(dir, 'r-0001', lock, { state: 'planned' });
    expect([file.data, file.generation]).toEqual([{ state: 'planned' }, 1]);
    file.commit({ state: 'testing' });
    expect([file.data, file.generation]).toEqual([{ state: 'testing' }, 2]);
    lock.release();
    lock = acquireLock(dir, { who: 'bob', doing: 'testing' });
    const again = openReleaseFile<Data>(dir, 'r-0001', lock);
    expect([again.data, again.generation]).toEqual([{ state: 'testing' }, 2]);
    again.commit({ state: 'tested' });
    expect(peek(releasePaths(dir, 'r-0001').state)).toEqual({ data: { state: 'tested' }, generation: 3, epoch: 2 });
  });

  test('is not made twice, and not opened when there is none', () => {
    createReleaseFile<Data>(dir, 'r-0001', lock, { state: 'planned' });
    expect(() => createReleaseFile<Data>(dir, 'r-0001', lock, { state: 'other' })).toThrow(
      expect.objectContaining({ code: 'EXISTS' }) as Error,
    );
    expect(openReleaseFile<Data>(dir, 'r-0001', lock).data).toEqual({ state: 'planned' });
    expect(() => openReleaseFile<Data>(dir, 'r-0002', lock)).toThrow(
      expect.objectContaining({ code: 'MISSING' }) as Error,
    );
  });

  test('keeps memory at the last commit when the lock was lost, and commits nothing from then on', () => {
    const file = createReleaseFile<Data>(dir, 'r-0001', lock, { state: 'planned' });
    writeFileSync(join(dir, 'epoch'), '99\n');
    expect(() => {
      file.commit({ state: 'testing' });
    }).toThrow(expect.objectContaining({ code: 'FENCED' }) as Error);
    expect(file.data).toEqual({ state: 'planned' });
    writeFileSync(join(dir, 'epoch'), `${lock.epoch}\n`);
    expect(() => {
      file.commit({ state: 'testing' });
    }).toThrow(expect.objectContaining({ code: 'FENCED' }) as Error);
    expect(peek(releasePaths(dir, 'r-0001').state)).toMatchObject({ generation: 1 });
  });

  test('is not made by a driver that was deposed', () => {
    writeFileSync(join(dir, 'epoch'), '99\n');
    expect(() => createReleaseFile<Data>(dir, 'r-0001', lock, { state: 'planned' })).toThrow(
      expect.objectContaining({ code: 'FENCED' }) as Error,
    );
    expect(existsSync(releasePaths(dir, 'r-0001').folder)).toBe(false);
  });
});

describe('a checkpoint', () => {
  test('is read back by name, and replaced', () => {
    createReleaseFile<Data>(dir, 'r-0001', lock, { state: 'planned' });
    expect(readProgress(dir, 'r-0001', 'verifying.1')).toBeNull();
    writeProgress(dir, 'r-0001', 'verifying.1', { observedMs: 10 });
    writeProgress(dir, 'r-0001', 'verifying.1', { observedMs: 20 });
    writeProgress(dir, 'r-0001', 'verifying.2', { observedMs: 1 });
    expect(readProgress(dir, 'r-0001', 'verifying.1')).toEqual({ observedMs: 20 });
  });

  test('that is damaged counts as none: the soak is observed again', () => {
    createReleaseFile<Data>(dir, 'r-0001', lock, { state: 'planned' });
    writeProgress(dir, 'r-0001', 'verifying.1', { observedMs: 100 });
    const file = join(releasePaths(dir, 'r-0001').progress, 'verifying.1.json');
    writeFileSync(file, readFileSync(file, 'utf8').replace('100', '900'));
    expect(readProgress(dir, 'r-0001', 'verifying.1')).toBeNull();
  });

  test.each(['', 'a/b', '../state', 'a b'])('is refused under the name %j', (name) => {
    expect(() => {
      writeProgress(dir, 'r-0001', name, {});
    }).toThrow(TypeError);
  });

  test('that cannot be written is a StateError', () => {
    writeFileSync(join(dir, 'releases'), 'in the way');
    expect(() => {
      writeProgress(dir, 'r-0001', 'x', {});
    }).toThrow(expect.objectContaining({ code: 'ENOTDIR' }) as Error);
  });
});

describe('live figures', () => {
  const soak = { observedMs: 1_000, windowMs: 60_000 };
  const figures = (text: string) => ({ step: 'verifying', text, at: '2024-05-01T10:00:00.000Z', soak });

  test('are read by others as they were last written', () => {
    createReleaseFile<Data>(dir, 'r-0001', lock, { state: 'planned' });
    expect(readLiveFigures(dir, 'r-0001')).toBeNull();
    expect(writeLive(dir, 'r-0001', figures('a'))).toBe(true);
    expect(writeLive(dir, 'r-0001', figures('b'))).toBe(true);
    expect(readLiveFigures(dir, 'r-0001')).toEqual(figures('b'));
    writeLive(dir, 'r-0001', { ...figures('c'), soak: 'soon' });
    expect(readLiveFigures(dir, 'r-0001')).toEqual({ ...figures('c'), soak: null });
  });

  test('never harm the driver: too large, nowhere to write, or not JSON', () => {
    expect(writeLive(dir, 'r-0001', figures('a'))).toBe(false);
    createReleaseFile<Data>(dir, 'r-0001', lock, { state: 'planned' });
    writeLive(dir, 'r-0001', figures('a'));
    expect(writeLive(dir, 'r-0001', 'x'.repeat(70_000))).toBe(false);
    expect(writeLive(dir, 'r-0001', 1n)).toBe(false);
    expect(readLiveFigures(dir, 'r-0001')).toEqual(figures('a'));
    writeFileSync(releasePaths(dir, 'r-0001').live, '{"half');
    expect(readLiveFigures(dir, 'r-0001')).toBeNull();
  });
});
