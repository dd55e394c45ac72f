/** What the tests of interruptions share: where the release stands, waiting for it, and going on with it. */
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import { readLiveDriver } from '../../src/release/read.ts';
import type { Stage } from '../scenarios/stage.ts';

const PATIENCE_MS = 20_000;

export const stateOn = (on: Stage): string => on.document().snapshot.value;
export const isDriven = (on: Stage): boolean => readLiveDriver(on.place.stateDir) !== null;

export async function until(what: string, holds: () => boolean): Promise<void> {
  const end = performance.now() + PATIENCE_MS;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`waited in vain until ${what}`);
    await delay(5);
  }
}

/** `flow resume` leads there, with that exit status. */
export async function resumed(on: Stage, milestone: string, status: number): Promise<void> {
  const ended = await on.flow('resume', '--yes');
  expect([ended.status, stateOn(on)], ended.err).toEqual([status, milestone]);
}

/** How often each server was published. */
export const published = (on: Stage) =>
  Promise.all(['test', 'app1', 'app2'].map((name) => on.sandbox.publishCount(name)));
