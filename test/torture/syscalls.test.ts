/**
 * The kernel's side of disk.test.ts: strace makes each system call of real commits fail, or kills the process at it. Whatever it is,
 * nothing is committed after a failure, the release is found whole, no acknowledged commit is lost, and it goes on.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { peek } from '../../src/store/envelope.ts';
import { createStateFolder, releasePaths } from '../../src/store/state-folder.ts';
import { bundleProgram } from '../store/programs/bundle.ts';
import { FULL, report } from './report.ts';

const COMMITS = FULL ? 4 : 1;
const FAULTS = FULL ? (['EIO', 'ENOSPC', 'SIGKILL'] as const) : (['EIO'] as const);
const CALLS = 'openat,write,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat';
/** Descriptions and left-overs: when they can not be written or removed, the driver goes on. */
const BEST_EFFORT = /driver\.json|^unlink/;

interface Call {
  name: string;
  /** It is the so-manieth of its name in the process. */
  nth: number;
  line: string;
}

let base = '';
beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'flow-syscalls-'));
});
afterEach(async () => {
  await rm(base, { recursive: true, force: true });
});

const traces = spawnSync('strace', ['-o', '/dev/null', 'true'], { stdio: 'ignore' }).status === 0;

/** Runs the program that commits under strace; returns how it ended, what it acknowledged last, and its calls into the folder. */
function commit(program: string, state: string, inject: readonly string[] = []) {
  const trace = join(base, 'trace');
  const strace = ['-f', '-qq', '-y', '-s', '300', '-o', trace, '-e', `trace=${CALLS}`, ...inject];
  const { status, signal, stdout, stderr } = spawnSync(
    'strace',
    [...strace, process.execPath, program, state, String(COMMITS)],
    { encoding: 'utf8', timeout: 30_000 },
  );
  const counted = new Map<string, number>();
  const calls: Call[] = [];
  let main = '';
  for (const text of readFileSync(trace, 'utf8').split('\n')) {
    const [, pid = '', line = '', name = ''] = /^(\d+)\s+((\w+)\(.*)$/.exec(text) ?? [];
    if (pid === '') continue;
    // The first to call is the main thread; the store works in it alone.
    if (main === '') main = pid;
    if (pid !== main) continue;
    const nth = (counted.get(name) ?? 0) + 1;
    counted.set(name, nth);
    if (line.includes(state)) calls.push({ name, nth, line });
  }
  return { status: signal ?? status, calls, acknowledged: Number(stdout.trim().split('\n').at(-1) ?? 0), stderr };
}

test.runIf(traces)(
  'a failure, or the end, at each system call of the store loses nothing that was acknowledged, and it goes on',
  async () => {
    const program = await bundleProgram('commit-forever.ts', base);
    let folders = 0;
    const fresh = () => {
      folders += 1;
      const state = join(base, `state-${folders}`);
      mkdirSync(state, { mode: 0o700 });
      createStateFolder(state);
      return state;
    };
    const countIn = (state: string) => peek<{ count: number }>(releasePaths(state, 'r-0001').state)?.data.count ?? 0;
    const model = commit(program, fresh());
    expect(model.status, model.stderr).toBe(0);
    expect(model.acknowledged).toBe(COMMITS + 1);
    for (const name of ['openat', 'write', 'fsync', 'link', 'rename'])
      expect(model.calls.some((call) => call.name.startsWith(name))).toBe(true);

    for (const fault of FAULTS) {
      const ends = { stopped: 0, wentOn: 0 };
      for (const { name, nth, line } of model.calls.filter((call) => FULL || call.name === 'fsync')) {
        const state = fresh();
        const what = fault === 'SIGKILL' ? 'signal=SIGKILL' : `error=${fault}`;
        const faulty = commit(program, state, ['-e', `inject=${name}:${what}:when=${nth}`]);
        const at = `${fault} at ${name} ${nth}: ${line}\n${faulty.stderr}`;
        const hit = faulty.calls.findIndex((call) => call.name === name && call.nth === nth);
        if (fault !== 'SIGKILL') expect(faulty.calls[hit]?.line, at).toContain('(INJECTED)');
        if (faulty.status === 0) {
          expect(BEST_EFFORT.test(line), at).toBe(true);
          ends.wentOn += 1;
        } else {
          if (fault !== 'SIGKILL') expect(faulty.stderr, at).toContain(fault);
          const later = faulty.calls.slice(hit + 1).filter((call) => /^rename.*state\.json"?.*= 0/.test(call.line));
          expect(later, at).toEqual([]);
          ends.stopped += 1;
        }
        const found = countIn(state);
        // A commit that nobody was told of may be there, or not; of the first one nobody is ever told.
        expect(found, at).toBeGreaterThanOrEqual(faulty.acknowledged);
        expect(found, at).toBeLessThanOrEqual(Math.max(faulty.acknowledged, 1) + 1);
        const resumed = commit(program, state);
        expect(resumed.status, `${at}\n${resumed.stderr}`).toBe(0);
        expect(countIn(state), at).toBe(Math.max(found, 1) + COMMITS);
      }
      report(
        'syscalls',
        `${fault} at each of ${model.calls.length} system calls of the store: ${ends.stopped} stopped, ${ends.wentOn} best effort and went on; all resumed, 0 commits lost or twice`,
      );
    }
  },
  900_000,
);
