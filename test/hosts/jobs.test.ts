import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  endJob,
  ensureJob,
  type Job,
  type JobEnd,
  type JobWatch,
  otherJobAtWork,
  peekJob,
  quote,
} from '../../src/hosts/jobs.ts';
import type { Argv } from '../../src/hosts/host.ts';
import { localHost } from '../../src/hosts/local.ts';
import { bundleProgram } from '../store/programs/bundle.ts';

const host = localHost();
let dir: string;
let root: string;
const ends: (() => void)[] = [];

beforeEach(() => {
  dir = realpathSync(mkdtempSync(join(tmpdir(), 'flow-jobs-')));
  root = join(dir, 'jobs');
});

afterEach(() => {
  for (const end of ends.splice(0)) end();
  rmSync(dir, { recursive: true, force: true });
});

function job(argv: Argv, changes: Partial<Job> = {}): Job {
  return { root, id: 'r-0001/app1/publish.1', lane: 'app1', epoch: 1, argv, cwd: dir, stdin: '', ...changes };
}

/** A job that runs a shell script, which first leaves a sign that it began. */
function script(text: string, changes: Partial<Job> = {}): Job {
  return job(['sh', '-c', `: >>"${join(dir, 'begun')}"; ${text}`], changes);
}

async function run(what: Job, watch: Partial<JobWatch> = {}): Promise<{ end: JobEnd; output: string }> {
  const chunks: Buffer[] = [];
  const end = await ensureJob(host, what, { onOutput: (chunk) => void chunks.push(chunk), ...watch });
  return { end, output: Buffer.concat(chunks).toString() };
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 5_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error('waited 5 s in vain');
    await delay(5);
  }
}

/** Ends a process group at the end of the test, whatever became of it. */
function endLater(pid: number): void {
  ends.push(() => {
    try {
      process.kill(-pid, 'SIGKILL');
    } catch {
      // Gone already, as it should be.
    }
  });
}

/** Process id of the supervisor, once the command itself runs. */
async function runnerOf(id: string): Promise<number> {
  const file = join(root, id, 'started');
  await until(() => existsSync(file));
  const pid = Number(readFileSync(file, 'utf8').split(' ')[0]);
  await until(() => existsSync(join(dir, 'begun')));
  endLater(pid);
  return pid;
}

function lines(file: string): number {
  return existsSync(file) ? readFileSync(file, 'utf8').split('\n').length - 1 : 0;
}

describe('a job', () => {
  test('reports status, output of both streams, bytes and seconds', async () => {
    const { end, output } = await run(script('echo one; sleep 0.2; echo two >&2; exit 7'));
    expect(output).toBe('one\ntwo\n');
    expect(end).toMatchObject({ state: 'done', status: 7, outputBytes: 8 });
    expect(end.state === 'done' && end.seconds).toBeGreaterThanOrEqual(0.19);
    expect(end.state === 'done' && end.seconds).toBeLessThan(2);
  });

  test('reads its confirmation from standard input', async () => {
    const publish = 'printf "publish app1? "; read answer; [ "$answer" = y ] && echo published';
    expect(await run(script(publish, { stdin: 'y\n' }))).toMatchObject({
      end: { state: 'done', status: 0 },
      output: 'publish app1? published\n',
    });
  });

  test('runs in its folder with its environment, and with the umask and the signals of whoever started it', async () => {
    mkdirSync(join(dir, "it's here"));
    const { output } = await run(
      script('pwd; echo "$GREETING"; umask; kill -s INT $$; echo "SIGINT is ignored"', {
        cwd: join(dir, "it's here"),
        env: { GREETING: '$(id) `id` "\'\n*' },
      }),
    );
    const umask = execFileSync('sh', ['-c', 'umask']).toString().trim();
    expect(output).toBe(`${dir}/it's here\n$(id) \`id\` "'\n*\n${umask}\n`);
  });

  test('keeps its environment off the disk', async () => {
    await run(script('true', { env: { TOKEN: 'secret-value-of-the-token' } }));
    expect(execFileSync('sh', ['-c', `grep -rl secret-value "${root}" || echo none`]).toString()).toBe('none\n');
  });

  test('does not see names of its own variables changed', async () => {
    const before = process.env;
    process.env = { ...before, ROOT: 'mine', ID: 'mine', dir: 'mine', OP: 'mine' };
    try {
      expect((await run(script('echo $ROOT $ID $dir $OP; env | grep -ci "^fj_\\|^flow_job"'))).output).toBe(
        'mine mine mine mine\n0\n',
      );
    } finally {
      process.env = before;
    }
  });

  test('says 127 for a program that does not exist and 126 for a folder that does not', async () => {
    expect((await run(job(['./no-such-program']))).end).toMatchObject({ state: 'done', status: 127 });
    const elsewhere = job(['true'], { cwd: join(dir, 'nowhere'), id: 'r-0001/app1/publish.2' });
    expect((await run(elsewhere)).end).toMatchObject({ state: 'done', status: 126 });
  });

  test('costs little: start, supervision and the notice of its end', async () => {
    const overheads: number[] = [];
    for (const attempt of [1, 2, 3, 4, 5]) {
      const began = performance.now();
      await run(script('sleep 0.1', { id: `r-0001/app1/publish.${attempt}` }));
      overheads.push(performance.now() - began - 100);
    }
    // The smallest of five, because other processes share this machine.
    expect(Math.min(...overheads)).toBeLessThan(110);
  });

  test('ends although it leaves a daemon behind, and the next one of its lane may start', async () => {
    const pidFile = join(dir, 'daemon.pid');
    const first = await run(script(`sleep 60 & echo $! >${pidFile}; echo published`));
    const daemon = Number(readFileSync(pidFile, 'utf8'));
    ends.push(() => process.kill(daemon, 'SIGKILL'));
    expect(first).toMatchObject({ end: { state: 'done', status: 0 }, output: 'published\n' });
    process.kill(daemon, 0);
    expect((await run(script('echo again', { id: 'r-0001/app1/publish.2' }))).output).toBe('again\n');
  });

  test('hands on 100 MB in pieces of at most 1 MiB, without keeping them', async () => {
    let largest = 0;
    let total = 0;
    const end = await ensureJob(host, script('head -c 100000000 /dev/zero'), {
      onOutput: (chunk) => {
        largest = Math.max(largest, chunk.length);
        total += chunk.length;
      },
    });
    expect(end).toMatchObject({ state: 'done', outputBytes: 100_000_000 });
    expect(total).toBe(100_000_000);
    expect(largest).toBeLessThanOrEqual(1024 * 1024);
  });

  test('keeps bytes that are no text', async () => {
    const chunks: Buffer[] = [];
    await ensureJob(host, script(String.raw`printf '\377\376\000\303'`), {
      onOutput: (chunk) => void chunks.push(chunk),
    });
    expect(Buffer.concat(chunks)).toEqual(Buffer.from([0xff, 0xfe, 0, 0xc3]));
  });
});

describe('hostile values', () => {
  test('reach the program as they are', async () => {
    const values = [
      '',
      ' ',
      "'",
      '"',
      "'\\''",
      '$(touch X)',
      '`touch X`',
      '${HOME}',
      '-n',
      '--',
      '\n',
      'a\nb\n',
      '\\',
      '*',
      ';&|<>',
      'é😀',
      '!!',
      '\t',
      '#',
      '~',
      'A=b',
      '\u007f\u0001',
    ];
    const sub = join(dir, 'empty');
    mkdirSync(sub);
    const { output, end } = await run(job(['printf', '[%s]', ...values], { cwd: sub, stdin: values.join('') }));
    expect(end).toMatchObject({ state: 'done', status: 0 });
    expect(output).toBe(values.map((value) => `[${value}]`).join(''));
    expect(readdirSync(sub)).toEqual([]);
    const copied = await run(job(['cat'], { stdin: values.join('\n'), id: 'r-0001/app1/publish.2' }));
    expect(copied.output).toBe(values.join('\n'));
  });

  test('are one word of the shell when quoted, whatever they hold', () => {
    const text = fc.string({ unit: 'grapheme', maxLength: 30 }).filter((value) => !value.includes('\0'));
    const words = fc.sample(fc.oneof(text, fc.constantFrom("'", "''", '\\', '$x', '\n')), { numRuns: 400, seed: 7 });
    const printed = execFileSync('sh', ['-s'], { input: `printf '%s\\0' ${words.map(quote).join(' ')}` }).toString();
    expect(printed.split('\0').slice(0, -1)).toEqual(words);
  });

  test.each<[string, () => Job]>([
    ['a NUL', () => job(['echo', 'a\0b'])],
    ['an id that leaves the root', () => job(['true'], { id: '../x' })],
    ['an id with a hidden part', () => job(['true'], { id: 'r-0001/.lock' })],
    ['an id with a space', () => job(['true'], { id: 'a b' })],
    ['a lane with a slash', () => job(['true'], { lane: 'a/b' })],
    ['a relative folder', () => job(['true'], { cwd: 'here' })],
    ['an environment variable that is code', () => job(['true'], { env: { 'A;touch X': '1' } })],
    ['a program that is an assignment', () => job(['A=b'])],
    ['epoch 0', () => job(['true'], { epoch: 0 })],
  ])('are refused before anything starts: %s', async (_what, refused) => {
    await expect(run(refused())).rejects.toMatchObject({ code: 'BAD_JOB' });
    expect(existsSync(root)).toBe(false);
  });
});

describe('at most once', () => {
  test('ten concurrent starts run it once, and all take its result', async () => {
    const counter = join(dir, 'runs');
    const once = script(`echo run >>${counter}; sleep 0.1; echo shown; exit 3`);
    const all = await Promise.all(Array.from({ length: 10 }, () => run(once)));
    for (const each of all) expect(each).toMatchObject({ end: { state: 'done', status: 3 }, output: 'shown\n' });
    expect(lines(counter)).toBe(1);
  });

  test('a finished one is not run again; its output and status are shown again', async () => {
    const counter = join(dir, 'runs');
    const once = script(`echo run >>${counter}; echo output; exit 4`);
    const first = await run(once);
    expect(await run(once)).toEqual(first);
    expect(await run(once, { attachOnly: true })).toEqual(first);
    expect(lines(counter)).toBe(1);
  });

  test('an id used for another command is refused', async () => {
    await run(script('echo first'));
    await expect(run(script('echo second'))).rejects.toMatchObject({ code: 'JOB_DIFFERS', kind: 'unsafe' });
  });

  test('a starter that died before the command ran leaves a job that is safe to start', async () => {
    const folder = join(root, 'r-0001/app1/publish.1');
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'cmd'), 'half a comm');
    expect(await peekJob(host, root, 'r-0001/app1/publish.1')).toEqual({ state: 'claimed' });
    expect(await run(script('echo whole'))).toMatchObject({ end: { state: 'done', status: 0 }, output: 'whole\n' });
  });

  test('a process killed while it watches loses nothing: the next one attaches, shows everything and takes the status', async () => {
    const counter = join(dir, 'runs');
    const gate = join(dir, 'gate');
    const once = script(
      `echo run >>${counter}; echo before; until [ -e ${gate} ]; do sleep 0.02; done; echo after; exit 5`,
    );
    const program = await bundleProgram('watch-job.ts', dir);
    const starter: ChildProcess = spawn('node', [program, JSON.stringify(once)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await new Promise((resolve) => starter.stdout?.once('data', resolve));
    const pid = await runnerOf(once.id);
    starter.kill('SIGKILL');
    await new Promise((resolve) => starter.once('close', resolve));
    expect(await peekJob(host, root, once.id)).toEqual({ state: 'running', pid });
    const states: unknown[] = [];
    const attached = run(once, { onState: (state) => void states.push(state) });
    await until(() => states.length > 0);
    writeFileSync(gate, '');
    expect(await attached).toMatchObject({ end: { state: 'done', status: 5 }, output: 'before\nafter\n' });
    expect(states).toEqual([{ state: 'running', pid }]);
    expect(lines(counter)).toBe(1);
  });
});

describe('watching', () => {
  test('shows output while the job runs', async () => {
    const gate = join(dir, 'gate');
    let seen = '';
    const running = ensureJob(host, script(`echo early; until [ -e ${gate} ]; do sleep 0.02; done`), {
      onOutput: (chunk) => void (seen += chunk.toString()),
    });
    await runnerOf('r-0001/app1/publish.1');
    await until(() => seen === 'early\n');
    writeFileSync(gate, '');
    expect(await running).toMatchObject({ state: 'done', status: 0 });
  });

  test('stops when aborted, at once and with the reason; the job goes on', async () => {
    const gate = join(dir, 'gate');
    const controller = new AbortController();
    const waiting = script(`until [ -e ${gate} ]; do sleep 0.02; done; exit 6`);
    const watching = run(waiting, { signal: controller.signal });
    await runnerOf(waiting.id);
    await delay(60);
    const reason = new Error('parked');
    const began = performance.now();
    controller.abort(reason);
    await expect(watching).rejects.toBe(reason);
    expect(performance.now() - began).toBeLessThan(500);
    expect(await peekJob(host, root, waiting.id)).toMatchObject({ state: 'running' });
    writeFileSync(gate, '');
    expect((await run(waiting)).end).toMatchObject({ state: 'done', status: 6 });
  });

  test('only attaching starts nothing', async () => {
    expect((await run(script(`touch ${join(dir, 'ran')}`), { attachOnly: true })).end).toEqual({ state: 'absent' });
    expect(existsSync(join(dir, 'ran'))).toBe(false);
    expect(await peekJob(host, root, 'r-0001/app1/publish.1')).toEqual({ state: 'absent' });
  });

  test('rejects with what the reader of the output throws; the job goes on', async () => {
    const gate = join(dir, 'gate');
    const waiting = script(`echo x; until [ -e ${gate} ]; do sleep 0.02; done`);
    const failure = new Error('reader failed');
    const watching = ensureJob(host, waiting, {
      onOutput: () => {
        throw failure;
      },
    });
    await expect(watching).rejects.toBe(failure);
    await runnerOf(waiting.id);
    writeFileSync(gate, '');
    expect((await run(waiting)).end).toMatchObject({ state: 'done', status: 0 });
  });
});

describe('one at a time', () => {
  test('a second job of a lane is told which one is there, and does not run; another lane is free', async () => {
    const gate = join(dir, 'gate');
    const first = script(`until [ -e ${gate} ]; do sleep 0.02; done`);
    const running = run(first);
    await runnerOf(first.id);
    const second = script(`touch ${join(dir, 'ran')}`, { id: 'r-0001/app1/restore.1' });
    expect((await run(second)).end).toEqual({ state: 'busy', by: first.id });
    expect(await peekJob(host, root, second.id)).toEqual({ state: 'absent' });
    expect((await run(script('true', { id: 'r-0001/app2/publish.1', lane: 'app2' }))).end).toMatchObject({
      state: 'done',
    });
    writeFileSync(gate, '');
    await running;
    expect(existsSync(join(dir, 'ran'))).toBe(false);
    expect((await run(second)).end).toMatchObject({ state: 'done', status: 0 });
  });

  test('a driver with an older epoch starts nothing', async () => {
    await run(script('true', { epoch: 5 }));
    const late = script(`touch ${join(dir, 'ran')}`, { epoch: 4, id: 'r-0001/app1/publish.2' });
    expect((await run(late)).end).toEqual({ state: 'fenced' });
    expect(existsSync(join(dir, 'ran'))).toBe(false);
    expect((await run({ ...late, epoch: 5 })).end).toMatchObject({ state: 'done' });
  });
});

describe('a lost job', () => {
  test('is said to be lost, at once, when its supervisor is killed; while its processes live the lane stays busy', async () => {
    const first = script(`echo begun; echo $$ >${join(dir, 'command')}; exec sleep 60`);
    const watching = run(first);
    const runner = await runnerOf(first.id);
    await until(() => lines(join(dir, 'command')) === 1);
    const command = Number(readFileSync(join(dir, 'command'), 'utf8'));
    process.kill(runner, 'SIGKILL');
    expect(await watching).toEqual({
      end: { state: 'lost', pid: runner, boot: 'same', alive: true },
      output: 'begun\n',
    });
    const next = script('true', { id: 'r-0001/app1/publish.2' });
    expect((await run(next)).end).toEqual({ state: 'busy', by: first.id });
    process.kill(command, 'SIGKILL');
    await until(() => !existsSync(`/proc/${command}/fd/9`));
    expect((await run(first)).end).toEqual({ state: 'lost', pid: runner, boot: 'same', alive: false });
    expect((await run(next)).end).toMatchObject({ state: 'done' });
    expect(await peekJob(host, root, first.id)).toEqual({ state: 'lost', pid: runner });
  });

  test('is ended on request with all that holds its lock, a daemon included, and frees its lane', async () => {
    const first = script(`setsid sleep 61 & setsid sleep 62 & echo $! >${join(dir, 'daemon')}; exec sleep 63`);
    const watching = run(first);
    const runner = await runnerOf(first.id);
    await until(() => lines(join(dir, 'daemon')) === 1);
    process.kill(runner, 'SIGKILL');
    expect((await watching).end).toMatchObject({ state: 'lost', alive: true });
    expect(await endJob(host, root, first.id)).toEqual({ state: 'lost', pid: runner });
    expect((await run(first)).end).toMatchObject({ state: 'lost', alive: false });
    expect((await run(script('true', { id: 'r-0001/app1/publish.2' }))).end).toMatchObject({ state: 'done' });
  });

  test('of an earlier boot is told apart', async () => {
    const first = script('exec sleep 60');
    const watching = run(first);
    const runner = await runnerOf(first.id);
    process.kill(-runner, 'SIGKILL');
    await watching;
    writeFileSync(join(root, first.id, 'boot'), 'another-boot\n');
    expect((await run(first)).end).toEqual({ state: 'lost', pid: runner, boot: 'other', alive: false });
  });

  test('is not made by SIGTERM to the whole group: the status is still recorded', async () => {
    const first = script('exec sleep 60');
    const watching = run(first);
    process.kill(-(await runnerOf(first.id)), 'SIGTERM');
    expect((await watching).end).toMatchObject({ state: 'done', status: 143 });
  });
});

describe('ending a job', () => {
  test('ends its command and what that started, but no daemon, and records the status', async () => {
    const it = script(`setsid sleep 30 & echo $! >${join(dir, 'daemon')}; sleep 31 & while :; do sleep 0.05; done`);
    const watching = run(it);
    await runnerOf(it.id);
    await until(() => lines(join(dir, 'daemon')) === 1);
    const daemon = Number(readFileSync(join(dir, 'daemon'), 'utf8'));
    ends.push(() => process.kill(daemon, 'SIGKILL'));
    expect(await endJob(host, root, it.id)).toMatchObject({ state: 'done', status: 143 });
    expect((await watching).end).toMatchObject({ state: 'done', status: 143 });
    expect(existsSync(`/proc/${daemon}`)).toBe(true);
    expect(await endJob(host, root, it.id)).toMatchObject({ state: 'done', status: 143 });
  });

  test('kills one that does not end when it is asked', async () => {
    const it = script(`trap '' TERM; while :; do sleep 0.05; done`);
    const watching = run(it);
    await runnerOf(it.id);
    expect(await endJob(host, root, it.id)).toMatchObject({ state: 'done', status: 137 });
    expect((await watching).end).toMatchObject({ state: 'done', status: 137 });
  }, 20_000);

  test('of any lane, but the own one, is named while it is at work', async () => {
    expect(await otherJobAtWork(host, root, 'r-0001/app1/publish.1')).toBeNull();
    const it = script('sleep 60', { id: 'r-0001/app2/publish.1', lane: 'app2' });
    const watching = run(it);
    await runnerOf(it.id);
    expect(await otherJobAtWork(host, root, 'r-0001/app1/publish.1')).toBe(it.id);
    expect(await otherJobAtWork(host, root, it.id)).toBeNull();
    await endJob(host, root, it.id);
    await watching;
    expect(await otherJobAtWork(host, root, 'r-0001/app1/publish.1')).toBeNull();
  });

  test('does nothing to one that never was', async () => {
    expect(await endJob(host, root, 'r-0001/app1/publish.9')).toEqual({ state: 'absent' });
  });
});

describe('a full disk', () => {
  /** A small disk of its own, where this machine allows it. */
  function smallDisk(): string | null {
    const folder = join(dir, 'disk');
    mkdirSync(folder);
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k,mode=700', 'tmpfs', folder], { stdio: 'ignore' });
    } catch {
      return null;
    }
    ends.push(() => execFileSync('umount', ['-l', folder]));
    return folder;
  }

  test('is an error before the command runs, and no obstacle to the status of one that fills it', async () => {
    const disk = smallDisk();
    // Mounting needs rights that not every machine gives; there is nothing to see without them.
    if (disk === null) return;
    const filling = script(`cat /dev/zero >${disk}/fill; exit 9`, { root: join(disk, 'jobs') });
    expect((await run(filling)).end).toMatchObject({ state: 'done', status: 9 });
    const second = script(`touch ${join(dir, 'ran')}`, { root: join(disk, 'jobs'), id: 'r-0001/app1/publish.2' });
    await expect(run(second)).rejects.toMatchObject({ code: 'JOB_HOST', kind: 'rejected' });
    expect(existsSync(join(dir, 'ran'))).toBe(false);
    rmSync(join(disk, 'fill'));
    expect((await run(second)).end).toMatchObject({ state: 'done', status: 0 });
  });

  test('or a root that cannot be made is reported at once', async () => {
    writeFileSync(join(dir, 'file'), '');
    chmodSync(join(dir, 'file'), 0o600);
    const impossible = script('true', { root: join(dir, 'file/jobs') });
    await expect(run(impossible)).rejects.toMatchObject({ code: 'JOB_HOST', kind: 'rejected' });
  });
});
