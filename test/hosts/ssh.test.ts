/** A host behind a real sshd. */
import { appendFile, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Host } from '../../src/hosts/host.ts';
import { ensureJob, peekJob } from '../../src/hosts/jobs.ts';
import { sshHost } from '../../src/hosts/ssh.ts';
import { freePorts } from '../../src/sandbox/ports.ts';
import { type SshHosts, sshHostsAt, writeSshHosts } from '../../src/sandbox/ssh-hosts.ts';
import { findSshd } from '../../src/sandbox/sshd-binary.ts';

let server: SshHosts;
let host: Host;
let root: string;
let dir: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'flow-sshd-'));
  const [port = 0] = await freePorts(1);
  const machines = { one: { port, hides: [] } };
  await writeSshHosts(root, machines);
  server = sshHostsAt(root, await findSshd(), machines);
  await server.start('one');
  host = sshHost('one', { configFile: server.configFile, connectTimeoutMs: 3_000 });
}, 120_000);
afterAll(async () => {
  await server.stop('one');
  await rm(root, { recursive: true, force: true });
});
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flow-ssh-'));
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

describe('a program on a host behind ssh', () => {
  test('gets its words, its folder, its environment and its input as they are, and says how it ended', async () => {
    const words = [
      'a b',
      "it's",
      '$(touch canary)',
      '`id`',
      '-n',
      '--',
      '',
      'new\nline',
      '"; exit 3; "',
      '*',
      '\\',
      '~',
    ];
    const said = await host.run(
      ['sh', '-c', 'printf "%s|" "$@"; pwd; printf "%s" "$MARK"; cat; exit 7', 'sh', ...words],
      {
        cwd: dir,
        env: { MARK: "a 'b' $c" },
        input: 'given\n',
      },
    );
    expect(said).toEqual({
      status: 7,
      stdout: `${words.map((word) => `${word}|`).join('')}${dir}\na 'b' $cgiven\n`,
      stderr: '',
      timedOut: false,
    });
    expect(existsSync(join(dir, 'canary'))).toBe(false);
  });

  test('gets any words as they are', async () => {
    const word = fc
      .string({ unit: 'binary', maxLength: 40 })
      .filter((text) => !text.includes('\0') && Buffer.from(text).toString() === text);
    await fc.assert(
      fc.asyncProperty(fc.array(word, { minLength: 1, maxLength: 12 }), async (words) => {
        const { stdout } = await host.run(['printf', '%s\\0', ...words]);
        expect(stdout.split('\0').slice(0, -1)).toEqual(words);
      }),
      { numRuns: 25 },
    );
  }, 60_000);

  test('that ends with 255 has failed; a host that is not there is something else', async () => {
    expect(await host.run(['sh', '-c', 'echo no >&2; exit 255'])).toMatchObject({ status: 255, stderr: 'no\n' });
    const nobody = sshHost('nowhere', { configFile: server.configFile, connectTimeoutMs: 1_000 });
    const unreachable = await nobody.run(['true']);
    expect([unreachable.status, unreachable.unreachable]).toEqual([null, expect.stringContaining('refused')]);
    await expect(nobody.readFile('/etc/hostname')).rejects.toThrow('refused');
  });

  test('that is not there, or whose folder is not, was not started', async () => {
    expect((await host.run(['no-such-program'])).notStarted).toContain('no-such-program');
    expect((await host.run(['true'], { cwd: join(dir, 'missing') })).notStarted).toContain('missing');
  });

  test('that takes too long is ended, and says so', async () => {
    expect(await host.run(['sleep', '20'], { timeoutMs: 400 })).toMatchObject({ status: null, timedOut: true });
  });
});

describe('a file on a host behind ssh', () => {
  test('is read whole and in slices, byte by byte, and known again when it was replaced', async () => {
    const bytes = Buffer.from(Array.from({ length: 5_000 }, (_, index) => index % 256));
    const path = join(dir, "it's a file\n");
    await writeFile(path, bytes);
    expect(await host.readFile(path)).toEqual(bytes);
    const slice = await host.readSlice(path, 4_000, 500);
    expect([slice?.size, slice?.bytes]).toEqual([5_000, bytes.subarray(4_000, 4_500)]);
    expect((await host.readSlice(path, 5_000, 500))?.bytes).toEqual(Buffer.alloc(0));
    expect((await host.readSlice(path, 0, 0))?.bytes).toEqual(Buffer.alloc(0));
    await appendFile(path, 'more');
    expect((await host.readSlice(path, 5_000, 500))?.bytes.toString()).toBe('more');
    await writeFile(`${path}.new`, bytes);
    await rename(`${path}.new`, path);
    expect((await host.readSlice(path, 0, 1))?.id).not.toBe(slice?.id);
    expect((await host.readFile('/proc/self/stat'))?.length).toBeGreaterThan(10);
  });

  test('of a process that ends while it is read is missing, and no error', async () => {
    for (let round = 0; round < 40; round++) {
      const { stdout } = await host.run(['sh', '-c', 'sleep 0.02 >/dev/null 2>&1 & echo $!']);
      const path = `/proc/${stdout.trim()}/cmdline`;
      while (((await host.readFile(path))?.length ?? 0) > 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
  });

  test('that is missing is no error; a folder is one', async () => {
    expect([await host.readFile(join(dir, 'none')), await host.readSlice(join(dir, 'none'), 0, 10)]).toEqual([
      null,
      null,
    ]);
    await expect(host.readSlice(dir, 0, 10)).rejects.toThrow('is not a file');
  });
});

describe('a job on a host behind ssh', () => {
  const job = (root: string, script: string) => ({
    id: 'r-0001/app1/publishingApp1.1',
    root,
    lane: 'app1',
    epoch: 1,
    argv: ['sh', '-c', script] as const,
    cwd: dir,
    stdin: 'y\n',
  });

  test('runs once and to its end while every connection is cut again and again', async () => {
    const root = join(dir, 'jobs');
    let output = '';
    const cutting = setInterval(() => void server.dropConnections('one'), 700);
    try {
      const script = 'echo begun >> count; for i in 1 2 3 4 5 6 7 8; do echo "tick $i"; sleep 0.4; done; exit 3';
      const end = await ensureJob(host, job(root, script), {
        onOutput: (chunk) => {
          output += chunk.toString();
          return Promise.resolve();
        },
      });
      expect(end).toMatchObject({ state: 'done', status: 3 });
    } finally {
      clearInterval(cutting);
    }
    expect(await readFile(join(dir, 'count'), 'utf8')).toBe('begun\n');
    expect(output.match(/tick \d/g)).toHaveLength(8);
  }, 60_000);

  test('goes on while the server is away, and is attached to when it is back', async () => {
    const root = join(dir, 'jobs');
    const ending = ensureJob(host, job(root, 'echo begun >> count; sleep 2; echo done'), {
      onOutput: () => Promise.resolve(),
    });
    await expect.poll(() => existsSync(join(dir, 'count')), { timeout: 10_000 }).toBe(true);
    await server.stop('one');
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    await server.start('one');
    expect(await ending).toMatchObject({ state: 'done', status: 0 });
    expect(await peekJob(host, root, 'r-0001/app1/publishingApp1.1')).toMatchObject({ state: 'done', status: 0 });
    expect(await readFile(join(dir, 'count'), 'utf8')).toBe('begun\n');
  }, 60_000);
});

describe('the connection of a host behind ssh', () => {
  test('may break between two calls, and is made again; what changes the world is then done once', async () => {
    const file = join(dir, 'done');
    for (let round = 0; round < 5; round++) {
      await server.dropConnections('one');
      const said = await host.run(['sh', '-c', `echo done >> '${file}'`], { changesWorld: true });
      expect(said.unreachable ?? said.status).toBe(0);
    }
    expect(await readFile(file, 'utf8')).toBe('done\n'.repeat(5));
  });

  test('may break in the middle of a call that changes the world: then nobody can say, and it is not done again', async () => {
    const file = join(dir, 'done');
    const doing = host.run(['sh', '-c', `echo done >> '${file}'; sleep 3`], { changesWorld: true });
    await expect.poll(() => existsSync(file)).toBe(true);
    await server.dropConnections('one');
    expect(await doing).toMatchObject({ status: null, unreachable: expect.any(String) as string });
    expect(await readFile(file, 'utf8')).toBe('done\n');
  });

  test('carries many calls at once, each with its own answer', async () => {
    const answers = await Promise.all(
      Array.from(
        { length: 60 },
        async (_, index) => await host.run(['sh', '-c', `echo out ${index}; echo err ${index} >&2; exit ${index}`]),
      ),
    );
    for (const [index, { status, stdout, stderr }] of answers.entries())
      expect([status, stdout, stderr]).toEqual([index, `out ${index}\n`, `err ${index}\n`]);
  });

  test('takes what a program prints for nothing else, though it looks like the end of a call, and megabytes of it', async () => {
    const said = await host.run(['sh', '-c', 'printf "\\nflow-000000000000000000000000:0\\n"; exit 4']);
    expect([said.status, said.stdout]).toEqual([4, '\nflow-000000000000000000000000:0\n']);
    const much = await host.run(['sh', '-c', 'head -c 9000000 /dev/zero | tr "\\0" x']);
    expect([much.status, much.stdout.length]).toEqual([0, 9_000_000]);
  });
});

describe('a name that ssh could take for something else', () => {
  test.each([
    '-oProxyCommand=touch canary',
    '',
    'a b',
    'host;id',
    '-v',
    'user@-v',
    '$(id)',
    'a@b@c',
    'host\n-v',
    '[::1]',
  ])('%j is refused before anything is run', (name) => {
    expect(() => sshHost(name)).toThrow('not a host that ssh can be given safely');
  });
});
