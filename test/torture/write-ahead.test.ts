/**
 * A whole release under strace: every command that changes the world is executed only after the state that names it is durable (its
 * rename, and the fsync of its folder).
 */
import { execFileSync, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { readLatest } from '../../src/release/read.ts';
import { FLOW } from '../scenarios/terminal.ts';
import { type Arena, arena } from './release.ts';
import { report } from './report.ts';

let on: Arena | undefined;
afterEach(async () => {
  await on?.close();
  on = undefined;
});

/** Commands that change the world, and the states in which they may be executed. */
const CHANGES: readonly { command: RegExp; states: RegExp }[] = [
  { command: /"\.\/publish\.sh", "test"/, states: /^testing$/ },
  { command: /"\.\/publish\.sh", "app1"/, states: /^publishingApp1$/ },
  { command: /"\.\/publish\.sh", "app2"/, states: /^publishingApp2$/ },
  { command: /"-s", "reload"/, states: /^(drainingApp1|goingLiveApp1|goingAllLive)$/ },
  {
    command: /"git".*"switch"/,
    states: /^(drainingApp1|goingLiveApp1|goingAllLive|testing|tagging|publishingApp[12])$/,
  },
  { command: /"git".*"push"/, states: /^tagging$/ },
  { command: /"git".*"update-ref"/, states: /^(testing|tagging|mergingBack)$/ },
  { command: /"git".*"merge"/, states: /^(testing|tagging|mergingBack)$/ },
  { command: /"git".*"commit"/, states: /^tagging$/ },
];

const traces = (): boolean => {
  try {
    execFileSync('strace', ['-f', '-o', '/dev/null', 'true'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
};

test.runIf(traces())(
  'executes nothing that changes the world before the state that names it is durable',
  async () => {
    on = await arena();
    const version = await on.plan();
    const trace = join(on.sandbox.root, 'trace');
    const calls = 'trace=execve,fsync,rename,renameat,renameat2';
    const options = ['-f', '-I', '2', '-y', '-s', '300', '-e', calls, '-o', trace];
    const strace = spawn('strace', [...options, process.execPath, FLOW, 'run', '--yes'], {
      cwd: on.sandbox.projectDir,
      stdio: 'ignore',
    });
    const { stateDir } = on.place;
    await expect.poll(() => readLatest(stateDir)?.endedAt ?? null, { timeout: 120_000, interval: 200 }).not.toBeNull();
    // What it lets go of in the middle of a fork may hang for ever: flow is to have ended first.
    const hasEnded = () => {
      const pids = readFileSync(`/proc/${strace.pid}/task/${strace.pid}/children`, 'utf8').trim().split(' ');
      return pids.every((pid) => pid === '' || /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8')));
    };
    await expect.poll(hasEnded, { timeout: 30_000, interval: 50 }).toBe(true);
    // It would wait for the servers that were started; told to end, it lets go of them.
    const detached = new Promise((resolve) => strace.once('close', resolve));
    strace.kill('SIGTERM');
    const kill = setTimeout(() => strace.kill('SIGKILL'), 10_000);
    await detached;
    clearTimeout(kill);
    await on.expectAllLive(version);

    const states = new Map((readLatest(on.place.stateDir)?.history ?? []).map(({ rev, to }) => [rev, to]));
    // Planned before the trace began.
    let durable = 1;
    let published = 1;
    let audited = 0;
    const violations: string[] = [];
    for (const line of readFileSync(trace, 'utf8').split('\n')) {
      if (/ rename[^(]*\(.*releases\/r-\d+\/state\.json"?\)?\s*= 0/.test(line)) published += 1;
      else if (/ fsync\(\d+<[^>]*releases\/r-\d+>\)\s*= 0/.test(line)) durable = published;
      else if (line.includes(' execve(') && !line.includes('= -1')) {
        const change = CHANGES.find(({ command }) => command.test(line));
        if (change === undefined) continue;
        audited += 1;
        const state = states.get(durable) ?? '';
        if (!change.states.test(state)) violations.push(`at ${state} (revision ${durable}): ${line.slice(0, 300)}`);
      }
    }
    expect(violations).toEqual([]);
    expect(durable).toBe(states.size);
    expect(audited).toBeGreaterThan(12);
    report('write-ahead', `${audited} commands that change the world, ${durable} commits: 0 violations`);
  },
  180_000,
);
