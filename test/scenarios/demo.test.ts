/** Every variant of the demo from end to end, with short windows: what it says, how it ends, and that nothing is left of it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type DemoOptions, runDemo, runDemoStop } from '../../src/cli/demo.ts';
import { sandboxProcesses } from '../../src/sandbox/processes.ts';
import { createSandbox, openSandbox } from '../../src/sandbox/world.ts';
import { ALL } from './terminal.ts';

const FLOW = join(dirname(fileURLToPath(import.meta.url)), '../../dist/flow.js');

let parent = '';
let root = '';
const children: ChildProcess[] = [];
beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), 'flow-shows-'));
  root = join(parent, 'world');
});
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  if (existsSync(join(root, 'sandbox.json'))) await (await openSandbox(root)).stop();
  await rm(parent, { recursive: true, force: true, maxRetries: 5 });
});

async function demo(what: Partial<DemoOptions> = {}): Promise<{ status: number; said: string }> {
  let said = '';
  const out = new Writable({
    write(chunk: Buffer, _encoding, done) {
      said += chunk.toString();
      done();
    },
  });
  const status = await runDemo({
    flow: FLOW,
    badRelease: false,
    crash: false,
    keep: false,
    fast: false,
    root,
    windows: { startMs: 300, soakMs: 1_500, watchMs: 500 },
    out,
    colour: false,
    ...what,
  });
  return { status, said };
}

test('a release that is killed in the middle of a publish goes all the way, and every publish runs once', async () => {
  const { status, said } = await demo({ crash: true });
  expect(status, said).toBe(0);
  expect(said).toContain('UNWATCHED');
  expect(said).toContain('✔ flow was killed while app1 was being published');
  expect(said).toContain('✔ app1 was published exactly once');
  expect(said).toContain('✔ app2 was published exactly once');
  expect(said).toContain('✔ no request failed');
  expect(said).toMatch(/✔ the release has ended {2}allLive/);
  expect(said).not.toContain('✖');
  expect(existsSync(root)).toBe(false);
});

test('a bad release is rolled back by itself, and no client sees an error', async () => {
  const { status, said } = await demo({ badRelease: true, windows: { startMs: 300, watchMs: 500 } });
  expect(status, said).toBe(0);
  expect(said).toContain('Rolled back by itself');
  expect(said).toContain('✔ app1 serves v1.3.7');
  expect(said).toContain('✔ app1 was published exactly twice');
  expect(said).toContain('✔ app2 was published not once');
  expect(said).toContain('✔ no request failed');
  expect(said).toMatch(/✔ the release has ended {2}rolledBack/);
  expect(existsSync(root)).toBe(false);
});

// The demo that is killed shows the same release, and the stopping of one is a test of its own.
if (ALL) {
  test('a measured release is kept running with a change to release by hand, until it is stopped', async () => {
    const { status, said } = await demo({ fast: true, keep: true });
    expect(status, said).toBe(0);
    expect(said).toMatch(/\d s from tagged to allLive; unavoidable \d+\.\d\d s .* times/);
    expect(said).toContain(`flow.js demo --stop ${root}`);
    const sandbox = await openSandbox(root);
    expect((await fetch(`${sandbox.url}/pay/1`, { headers: { connection: 'close' } })).headers.get('x-version')).toBe(
      'v1.3.8',
    );
    expect(await readFile(join(sandbox.projectDir, 'features.md'), 'utf8')).toContain('order number');
    await runDemoStop(root);
    expect(existsSync(root)).toBe(false);
    expect(existsSync(parent)).toBe(true);
    expect(await sandboxProcesses(root)).toEqual([]);
  });
}

test('a demo that does not show what it should ends with 6 and leaves its folder, and no process', async () => {
  // A flow that refuses everything.
  const flow = join(parent, 'flow.mjs');
  await writeFile(flow, 'process.exitCode = 3;\n');
  const { status, said } = await demo({ flow });
  expect(status, said).toBe(6);
  expect(said).toContain('✖ flow start --to v1.3.8 --yes  ended with exit status 3');
  expect(said).toContain(`left for you to look at: ${root}`);
  expect(existsSync(join(root, 'project/flow.yaml'))).toBe(true);
  expect(await sandboxProcesses(root)).toEqual([]);
});

test.each([
  { when: 'while the world is built', line: 'Installing' },
  { when: 'while clients are at work', line: 'Clients are at work' },
])('Ctrl-C $when leaves nothing behind', async ({ line }) => {
  const temporary = join(parent, 'tmp');
  await mkdir(temporary);
  const child = spawn(process.execPath, [FLOW, 'demo'], { env: { ...process.env, TMPDIR: temporary } });
  children.push(child);
  let said = '';
  child.stdout.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  const ended = new Promise<number | null>((resolve) => {
    child.on('close', resolve);
  });
  await expect.poll(() => said, { timeout: 15_000, interval: 20 }).toContain(line);
  const [folder = ''] = await readdir(temporary);
  child.kill('SIGINT');
  expect(await ended, said).toBe(130);
  expect(await readdir(temporary)).toEqual([]);
  expect(await sandboxProcesses(join(temporary, folder, 'world'))).toEqual([]);
});

test('ends everything when nobody reads it any more', async () => {
  const temporary = join(parent, 'tmp');
  await mkdir(temporary);
  const child = spawn(process.execPath, [FLOW, 'demo'], { env: { ...process.env, TMPDIR: temporary } });
  children.push(child);
  const ended = new Promise<number | null>((resolve) => {
    child.on('exit', resolve);
  });
  child.stdout.once('data', () => {
    child.stdout.destroy();
  });
  expect(await ended).toBe(130);
  expect(await readdir(temporary)).toEqual([]);
});

test('stopping removes a sandbox alone, not what lies beside it', async () => {
  const sandbox = await createSandbox({ root, startMs: 50 });
  const beside = join(parent, 'beside');
  await mkdir(beside);
  await runDemoStop(sandbox.root);
  expect(existsSync(root)).toBe(false);
  expect(existsSync(beside)).toBe(true);
  await expect(runDemoStop(beside)).rejects.toMatchObject({ code: 'NO_SANDBOX' });
});

test('refuses to measure a release that is meant to fail', async () => {
  await expect(demo({ fast: true, badRelease: true })).rejects.toMatchObject({ code: 'DEMO_OPTIONS' });
  expect(existsSync(root)).toBe(false);
});
