/** A disk that fails, fills up or takes the process with it, at every system call with which the store writes during a release. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { readLatest } from '../../src/release/read.ts';
import { begin } from '../scenarios/terminal.ts';
import { type Arena, arena } from './release.ts';
import { FULL, report } from './report.ts';

const FAULT_AT = join(import.meta.dirname, 'programs/fault-at.mjs');
const MOST_LIVES = 2_000;

let on: Arena | undefined;
afterEach(async () => {
  await on?.close();
  on = undefined;
});

test.each(FULL ? ['EIO', 'ENOSPC', 'SIGKILL'] : ['ENOSPC'])(
  '%s at every call of the store: nothing further is started, and the release ends as if nothing had been',
  async (fault) => {
    on = await arena();
    const { sandbox, place } = on;
    const version = await on.plan();
    const memory = join(sandbox.root, `faults-${fault}`);
    // The quick form meets the faults of the first commits, and then lets the disk be.
    const until = FULL ? Number.POSITIVE_INFINITY : 3;
    let faults = 0;
    for (let life = 0; readLatest(place.stateDir)?.endedAt === null; life++) {
      if (life > MOST_LIVES) throw new Error('it does not end');
      const command = life % 2 === 0 ? 'resume' : 'run';
      const env = { FLOW_TEST_FAULT: fault, FLOW_TEST_STATE: place.stateDir, FLOW_TEST_FAULTS: memory };
      const before = readLatest(place.stateDir)?.rev ?? 0;
      const faulty = before < until;
      const ended = await begin(
        sandbox.projectDir,
        [command, '--yes'],
        faulty ? env : {},
        faulty ? ['--import', FAULT_AT] : [],
      ).ended;
      if (ended.status === 74) {
        expect(ended.err).toContain(place.stateDir);
        expect(ended.err).toMatch(/[Nn]othing (?:further )?was started/);
      }
      if (ended.status === 74 || ended.status === null) faults += 1;
      else expect([0, 4]).toContain(ended.status);
    }
    await on.expectAllLive(version);
    const met = readFileSync(memory, 'utf8').trim().split('\n');
    expect(met.length).toBeGreaterThan(FULL ? 150 : 10);
    // Every call of a commit was met: the temporary file, its bytes, its fsync, the generation before, the rename, the folder.
    for (const call of ['open', 'write', 'fsync', 'link', 'rename'])
      expect(met.some((line) => line.includes(` ${call} `))).toBe(true);
    report(
      'disk',
      `${fault} at ${met.length} calls of the store (${faults} lives ended by it): allLive, each job once, 0 failed requests`,
    );
  },
  3_600_000,
);
