import { chmodSync, mkdirSync, mkdtempSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import {
  createStateFolder,
  latestReleaseId,
  listReleaseIds,
  nextReleaseId,
  refuseFileSystem,
  releasePaths,
} from '../../src/store/state-folder.ts';

let base: string;
let dir: string;

beforeEach(() => {
  base = realpathSync(mkdtempSync(join(tmpdir(), 'flow-folder-')));
  dir = join(base, 'deep/flow');
});

afterEach(() => {
  rmSync(base, { recursive: true, force: true });
});

function release(id: string, name = 'state.json'): void {
  mkdirSync(join(dir, 'releases', id), { recursive: true });
  writeFileSync(join(dir, 'releases', id, name), '');
}

test('lists releases by number, and only those', () => {
  expect(listReleaseIds(dir)).toEqual([]);
  expect(latestReleaseId(dir)).toBeNull();
  expect(nextReleaseId(dir)).toBe('r-0001');
  for (const id of ['r-0002', 'r-10000', 'r-0010', 'r-9999', 'notes', 'r-1', '.r-0003']) release(id);
  mkdirSync(join(dir, 'releases/r-0007'));
  expect(listReleaseIds(dir)).toEqual(['r-0002', 'r-0010', 'r-9999', 'r-10000']);
  expect(latestReleaseId(dir)).toBe('r-10000');
  expect(nextReleaseId(dir)).toBe('r-10001');
});

test('lists a release whose current state is gone, so that reading it fails aloud', () => {
  release('r-0001');
  release('r-0002', 'state.json.prev');
  expect(latestReleaseId(dir)).toBe('r-0002');
});

test('never gives an id again that has jobs or a folder', () => {
  mkdirSync(join(dir, 'jobs/r-0004/app1'), { recursive: true });
  expect(nextReleaseId(dir)).toBe('r-0005');
  mkdirSync(join(dir, 'releases/r-0006'), { recursive: true });
  expect(nextReleaseId(dir)).toBe('r-0007');
});

test.each(['', '..', 'r-0001/../x', 'r-1', 'R-0001'])('refuses %j as an id', (id) => {
  expect(() => releasePaths(dir, id)).toThrow(expect.objectContaining({ code: 'BAD_ID' }) as Error);
});

test('makes the folder for its owner alone, and accepts it the next time', () => {
  createStateFolder(dir);
  createStateFolder(dir);
  expect(statSync(dir).mode & 0o777).toBe(0o700);
});

test('refuses a folder that others can write into', () => {
  mkdirSync(dir, { recursive: true });
  chmodSync(dir, 0o777);
  expect(() => {
    createStateFolder(dir);
  }).toThrow(expect.objectContaining({ code: 'UNSAFE_FOLDER' }) as Error);
});

test('reports a place where no folder can be made', () => {
  writeFileSync(join(base, 'file'), '');
  expect(() => {
    createStateFolder(join(base, 'file/flow'));
  }).toThrow(expect.objectContaining({ code: 'ENOTDIR' }) as Error);
});

test('refuses network file systems by name, also where their number is given as a negative one', () => {
  for (const [type, name] of [
    [0x6969, 'NFS'],
    [0xff534d42, 'CIFS'],
    [0xff534d42 | 0, 'CIFS'],
    [0x65735546, 'FUSE'],
    [0x01021997, '9p'],
  ] as const) {
    expect(() => {
      refuseFileSystem('/x', type);
    }).toThrow(
      expect.objectContaining({ code: 'NETWORK_FS', message: expect.stringContaining(name) as string }) as Error,
    );
  }
  refuseFileSystem('/x', 0xef53);
});
