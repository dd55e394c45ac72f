/** A real release on a real sandbox, driven by the real command line through as many lives as it takes. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { locate, type Place } from '../../src/release/locate.ts';
import { readLatest } from '../../src/release/read.ts';
import { type Load, startLoad } from '../../src/sandbox/load.ts';
import { createSandbox, type Sandbox } from '../../src/sandbox/world.ts';
import { git } from '../scenarios/stage.ts';
import { begin, type Ended, type Running } from '../scenarios/terminal.ts';

const KILL_AT = join(import.meta.dirname, 'programs/kill-at.mjs');
const SERVERS = ['test', 'app1', 'app2'];
const MOST_LIVES = 120;

export interface Arena {
  sandbox: Sandbox;
  place: Place;
  load: Load;
  /** Starts flow in the project. With a plan, it dies at commits (programs/kill-at.mjs). */
  begin(args: readonly string[], plan?: string): Running;
  /** Plans the next release; returns its version. */
  plan(): Promise<string>;
  /** Resumes and runs until the release has ended; `life` may kill what it is given. Returns the number of lives. */
  carry(life: (running: Running) => void, plan?: string): Promise<number>;
  /** Holds the world against the uninterrupted release: the version everywhere, each publish once, no client disturbed. */
  expectAllLive(version: string): Promise<void>;
  close(): Promise<void>;
}

/** A sandbox whose waits are short, with clients at work. Close it, or processes stay behind. `ssh`: every host is behind ssh. */
export async function arena(config: Record<string, unknown> = {}, { ssh = false } = {}): Promise<Arena> {
  const parent = await mkdtemp(join(tmpdir(), 'flow-torture-'));
  const sandbox = await createSandbox({
    root: join(parent, 'world'),
    startMs: 30,
    soakMs: 200,
    watchMs: 100,
    ssh,
    config: { drain: { watch: '10ms', deadline: '20s' }, verify: { every: '100ms' }, ...config },
  });
  const place = await locate(sandbox.projectDir);
  const load = await startLoad({ url: sandbox.url, ratePerSecond: 40, keepAlive: false, maxSeconds: 7_200 });
  const children = new Set<Running>();
  const killed = () => join(parent, `killed-${readLatest(place.stateDir)?.id ?? 'none'}`);
  let version = 'v1.3.7';
  let before: number[] = [];

  const beginHere = (args: readonly string[], plan?: string): Running => {
    const running =
      plan === undefined
        ? begin(sandbox.projectDir, args)
        : begin(sandbox.projectDir, args, { FLOW_TEST_KILL: plan, FLOW_TEST_KILLED: killed() }, ['--import', KILL_AT]);
    children.add(running);
    void running.ended.finally(() => children.delete(running));
    return running;
  };
  const counts = async () => await Promise.all(SERVERS.map((name) => sandbox.publishCount(name)));

  return {
    sandbox,
    place,
    load,
    begin: beginHere,
    async plan() {
      await sandbox.commitChange(`Torture ${Date.now()}`);
      before = await counts();
      const ended = await beginHere(['start', '--yes']).ended;
      expect(ended.status, ended.err).toBe(0);
      version = readLatest(place.stateDir)?.snapshot.context.version ?? '';
      return version;
    },
    async carry(life, plan) {
      let lives = 0;
      let last: Ended = { status: 0, out: '', err: '' };
      for (
        const commands = [
          ['resume', '--yes'],
          ['run', '--yes'],
        ];
        ;
        commands.reverse()
      ) {
        const document = readLatest(place.stateDir);
        if (document?.endedAt !== null) return lives;
        lives += 1;
        if (lives > MOST_LIVES)
          throw new Error(`${lives} lives were not enough: ${document.snapshot.value}\n${last.err}`);
        const running = beginHere(commands[0] ?? [], plan);
        life(running);
        last = await running.ended;
        const { failure, question } = readLatest(place.stateDir)?.snapshot.context ?? {};
        // Nothing here ends badly by itself: what does is a finding.
        const refused = last.status === 4 && !last.err.includes('at work');
        if (refused || (failure ?? question ?? null) !== null) {
          throw new Error(
            `${(commands[0] ?? []).join(' ')} ended with ${String(last.status)}\n${JSON.stringify({ failure, question })}\n${last.err}`,
          );
        }
      }
    },
    async expectAllLive(wanted) {
      const document = readLatest(place.stateDir);
      expect(document?.snapshot.value).toBe('allLive');
      expect(await counts()).toEqual(before.map((count) => count + 1));
      expect(await Promise.all(['app1', 'app2'].map((name) => sandbox.runningVersion(name)))).toEqual([wanted, wanted]);
      expect(git(join(sandbox.root, 'cil.git'), 'tag', '--list', wanted)).toBe(wanted);
      expect(git(sandbox.nginxDir, 'status', '--porcelain')).toBe('');
      expect(git(sandbox.nginxDir, 'branch', '--show-current')).toBe('master');
      expect(document?.snapshot.context.followUps).toEqual([]);
      const { failed, failures } = load.totals();
      expect(failed, JSON.stringify(failures)).toBe(0);
    },
    async close() {
      for (const { child } of children) child.kill('SIGKILL');
      await load.stop();
      await sandbox.stop();
      await rm(parent, { recursive: true, force: true });
    },
  };
}
