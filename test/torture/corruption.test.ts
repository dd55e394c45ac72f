/** A state file that was damaged, truncated, replaced or mixed up: always noticed, nothing started, and the way back is named. */
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { afterEach, expect, test } from 'vitest';
import { StateError } from '../../src/errors.ts';
import { readLatest } from '../../src/release/read.ts';
import { releasePaths } from '../../src/store/state-folder.ts';
import { stage, type Stage } from '../scenarios/stage.ts';
import { FULL, report } from './report.ts';
import { drawn } from './simulation/effects.ts';

const SEED = Number(process.env.TORTURE_SEED ?? 20_261_123);
const MUTATIONS = FULL ? 5_000 : 400;
const COMMANDS = FULL ? 40 : 3;

let on: Stage | undefined;
afterEach(async () => {
  await on?.close();
  on = undefined;
});

/** One of the ways in which disks, editors and copies spoil a file. */
function mutated(bytes: Buffer, seed: number): Buffer {
  const at = Math.floor(drawn(seed, 'at') * bytes.length);
  const length = 1 + Math.floor(drawn(seed, 'length') * 64);
  const copy = Buffer.from(bytes);
  switch (Math.floor(drawn(seed, 'kind') * 8)) {
    case 0:
      copy[at] = (copy[at] ?? 0) ^ (1 << Math.floor(drawn(seed, 'bit') * 8));
      return copy;
    case 1:
      return copy.subarray(0, at);
    case 2:
      return copy.fill(0, at, Math.min(copy.length, at + length));
    case 3:
      return Buffer.concat([copy.subarray(0, at), copy.subarray(Math.min(copy.length, at + length))]);
    case 4:
      return Buffer.concat([copy.subarray(0, at), copy.subarray(at, at + length), copy.subarray(at)]);
    case 5:
      return Buffer.concat([copy, copy.subarray(at)]);
    case 6:
      return Buffer.from(
        copy
          .toString('latin1')
          .replace(/"(old|new|unknown)"/, '"new"')
          .replace('"rev":', '"rev":1'),
        'latin1',
      );
    default:
      copy[at] = Math.floor(drawn(seed, 'byte') * 256);
      return copy;
  }
}

test('a damaged state file is noticed, starts nothing, and names the generation before it', async () => {
  on = await stage();
  await on.walkTo(await on.start(), 'app1Drained');
  await on.leave();
  const { stateDir } = on.place;
  const { state } = releasePaths(stateDir, on.document().id);
  const good = readFileSync(state);
  const data = JSON.stringify(on.document());
  let harmless = 0;
  let noticed = 0;
  for (let seed = SEED; seed < SEED + MUTATIONS; seed++) {
    writeFileSync(state, mutated(good, seed));
    try {
      // What reads as it was committed is not damaged.
      expect(JSON.stringify(readLatest(stateDir)), `seed ${seed}`).toBe(data);
      harmless += 1;
    } catch (error) {
      if (!(error instanceof StateError)) throw error;
      noticed += 1;
    }
  }
  expect(noticed).toBeGreaterThan(MUTATIONS * 0.8);
  for (let seed = SEED, ran = 0; ran < COMMANDS; seed++) {
    const bytes = mutated(good, seed);
    writeFileSync(state, bytes);
    try {
      readLatest(stateDir);
      continue;
    } catch {
      ran += 1;
    }
    const command =
      [
        ['send', 'NEXT', '--yes'],
        ['resume', '--yes'],
        ['run', '--yes'],
      ][ran % 3] ?? [];
    const ended = await on.flow(...command);
    expect([ended.status, ended.err]).toEqual([74, expect.stringContaining(`cp -p ${state}.prev ${state}`)]);
    expect(readFileSync(state).equals(bytes)).toBe(true);
    expect(await on.sandbox.publishCount('app1')).toBe(0);
  }
  // The command it named.
  copyFileSync(`${state}.prev`, state);
  const resumed = await on.flow('resume', '--yes');
  expect([resumed.status, on.document().snapshot.value], resumed.err).toEqual([0, 'app1Drained']);
  report(
    'corruption',
    `seed ${SEED}: ${MUTATIONS} mutations, ${noticed} noticed, ${harmless} harmless, 0 undetected; ${COMMANDS} commands, 0 jobs started`,
  );
}, 300_000);
