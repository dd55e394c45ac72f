import { mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { localHost } from '../../src/hosts/local.ts';

const host = localHost();
let dir: string;

beforeEach(() => {
  dir = realpathSync(mkdtempSync(join(tmpdir(), 'flow-local-')));
});

afterEach(() => {
  rmSync(dir, { recursive: true, force: true });
});

test('runs a program with its folder, input and environment, and tells its status', async () => {
  const result = await host.run(['sh', '-c', 'pwd; cat; echo "$X" >&2; exit 3'], {
    cwd: dir,
    input: 'in\n',
    env: { X: 'y' },
  });
  expect(result).toEqual({ status: 3, stdout: `${dir}\nin\n`, stderr: 'y\n', timedOut: false });
});

test('passes values as arguments, never through a shell', async () => {
  expect((await host.run(['printf', '%s', '$(id); *'])).stdout).toBe('$(id); *');
});

test('says that a program could not be started, and why', async () => {
  expect(await host.run(['no-such-program-here'])).toMatchObject({
    status: null,
    notStarted: 'no-such-program-here: ENOENT',
  });
});

test('ends a program that takes too long, or that is no longer wanted', async () => {
  expect(await host.run(['sleep', '20'], { timeoutMs: 50 })).toMatchObject({ status: null, timedOut: true });
  const stopped = await host.run(['sleep', '20'], { signal: AbortSignal.timeout(50) });
  expect(stopped).toMatchObject({ status: null, timedOut: false });
  expect(stopped.notStarted).toBeUndefined();
});

test('gives a program that changes the world a session of its own', async () => {
  const session = async (changesWorld: boolean) =>
    (await host.run(['sh', '-c', 'ps -o sid= -p $$; echo $$'], { changesWorld })).stdout.trim().split(/\s+/);
  const [own, pid] = await session(true);
  expect(own).toBe(pid);
  const [shared, other] = await session(false);
  expect(shared).not.toBe(other);
});

test('reads whole files and parts of them as bytes, /proc too, and null for what is not there', async () => {
  const file = join(dir, 'log');
  writeFileSync(file, Buffer.from([1, 2, 3, 0xff]));
  expect(await host.readFile(file)).toEqual(Buffer.from([1, 2, 3, 0xff]));
  expect(String(await host.readFile('/proc/self/stat'))).toContain('(');
  expect(await host.readFile(join(dir, 'none'))).toBeNull();
  expect(await host.readSlice(file, 1, 2)).toMatchObject({ size: 4, bytes: Buffer.from([2, 3]) });
  expect(await host.readSlice(file, 9, 2)).toMatchObject({ size: 4, bytes: Buffer.alloc(0) });
  expect(await host.readSlice(join(dir, 'none'), 0, 1)).toBeNull();
  await expect(host.readFile(dir)).rejects.toMatchObject({ code: 'EISDIR' });
});
