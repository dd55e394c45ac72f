/** The order that everything rests on: compute → commit → perform, one effect at a time, events first. */
import { describe, expect, test } from 'vitest';
import type { ReleaseEvent } from '../../machines/events.ts';
import { Engine, firstDocument } from '../../src/release/engine.ts';
import { redactor } from '../../src/release/secrets.ts';
import type { EffectTools, Effects } from '../../src/effects/effect.ts';
import { StateError, StepError } from '../../src/errors.ts';
import type { ReleaseDocument } from '../../src/store/document.ts';
import type { ReleaseFile } from '../../src/store/release-file.ts';
import { TOPOLOGY, trueFacts } from '../machines/walk.ts';

const BY = { user: 'u', host: 'h', via: 'test' };
const clock = { now: () => new Date('2026-01-01T00:00:00Z') };
const input = {
  id: 'r-0001',
  kind: 'rollback' as const,
  version: 'v2',
  topology: TOPOLOGY,
  before: { app1: 'v1', app2: 'v1' },
  restore: 'auto' as const,
  onBad: 'rollback' as const,
};

/** A release at `tagged`, in a file that lives in memory and can be made to fail. */
function fileOf(): ReleaseFile<ReleaseDocument> & { commits: string[]; failAt: number } {
  let data = firstDocument(input, { project: 'p', by: BY, config: { file: 'f', hash: 'h', pinned: {} } }, clock);
  const commits: string[] = [];
  return {
    failAt: Number.POSITIVE_INFINITY,
    commits,
    get data() {
      return data;
    },
    get generation() {
      return commits.length;
    },
    commit(next) {
      if (commits.length >= this.failAt) throw new StateError('FULL', 'the disk is full');
      // What is not JSON would be lost on a real disk.
      data = JSON.parse(JSON.stringify(next)) as ReleaseDocument;
      commits.push(next.snapshot.value);
    },
  };
}

const next = (engine: Engine): ReleaseEvent => ({ type: 'NEXT', facts: trueFacts(engine.context) });
const refuse = (): Promise<never> => Promise.reject(new StepError('NO', 'rejected', 'not in this test'));

/** Effects of which only one does something. */
function effects(only: Partial<Effects>): Effects {
  const none: Effects = {
    runTests: refuse,
    tag: refuse,
    undoTagging: refuse,
    drain: refuse,
    publish: refuse,
    publishWave: refuse,
    preview: refuse,
    goLive: refuse,
    soak: refuse,
    moveTraffic: refuse,
    mergeBack: refuse,
  };
  return { ...none, ...only };
}

describe('the engine', () => {
  test('has a state on disk before its effect starts', async () => {
    const file = fileOf();
    const engine = new Engine({ file, clock });
    const seen: string[] = [];
    engine.send(next(engine), BY);
    expect(file.commits).toEqual(['drainingApp1']);
    await engine.drive(
      effects({
        drain: () => {
          seen.push(file.data.snapshot.value);
          return refuse();
        },
      }),
    );
    expect(seen).toEqual(['drainingApp1']);
    expect(file.commits).toEqual(['drainingApp1', 'tagged']);
    expect(engine.context.failure).toMatchObject({ code: 'NO', kind: 'rejected' });
  });

  test('performs nothing and follows nothing after a failed commit', async () => {
    const file = fileOf();
    file.failAt = 0;
    const engine = new Engine({ file, clock });
    expect(() => engine.send(next(engine), BY)).toThrow(StateError);
    expect(engine.state).toBe('tagged');
    let performed = 0;
    const counting = effects({
      drain: () => {
        performed += 1;
        return refuse();
      },
    });
    await engine.drive(counting);
    expect(performed).toBe(0);

    file.failAt = 1;
    const second = new Engine({ file, clock });
    second.send(next(second), BY);
    await expect(second.drive(counting)).rejects.toThrow(StateError);
    expect(performed).toBe(1);
    expect(file.data.snapshot.value).toBe('drainingApp1');
  });

  test('performs an interrupted effect again, with the input that was stored', async () => {
    const file = fileOf();
    const first = new Engine({ file, clock });
    first.send(next(first), BY);
    const stored = JSON.stringify(file.data.snapshot);
    const second = new Engine({ file, clock });
    expect(second.isWorking).toBe(true);
    const inputs: unknown[] = [];
    await second.drive(
      effects({
        drain: (given) => {
          inputs.push(given);
          return refuse();
        },
      }),
    );
    expect(inputs).toHaveLength(1);
    expect(inputs[0]).toMatchObject({ step: 'drainingApp1', attempt: 1, servers: ['app1'], to: ['app2'] });
    expect(stored).toContain('"attempt":1');
  });

  test('decides an event before it performs a pending effect', async () => {
    const file = fileOf();
    const first = new Engine({ file, clock });
    first.send(next(first), BY);
    const second = new Engine({ file, clock });
    second.send({ type: 'ROLLBACK' }, BY);
    const order: string[] = [];
    await second.drive(
      effects({
        drain: () => {
          order.push('drain');
          return refuse();
        },
        moveTraffic: () => {
          order.push('moveTraffic');
          return refuse();
        },
      }),
    );
    expect(order).toEqual(['moveTraffic']);
    expect(second.state).toBe('stuck');
  });

  test('lets an aborted effect settle before the next one is performed', async () => {
    const file = fileOf();
    const engine = new Engine({ file, clock });
    engine.send(next(engine), BY);
    const order: string[] = [];
    const driving = engine.drive(
      effects({
        drain: (_input, { signal }: EffectTools) =>
          new Promise((_resolve, reject) => {
            order.push('drain starts');
            signal.addEventListener('abort', () => {
              setTimeout(() => {
                order.push('drain has settled');
                reject(new Error('aborted'));
              }, 20);
            });
          }),
        moveTraffic: () => {
          order.push('moveTraffic starts');
          return refuse();
        },
      }),
    );
    await expect.poll(() => order).toEqual(['drain starts']);
    expect(engine.send({ type: 'ROLLBACK' }, BY).accepted).toBe(true);
    expect(file.data.snapshot.value).toBe('movingBack');
    await driving;
    expect(order).toEqual(['drain starts', 'drain has settled', 'moveTraffic starts']);
  });

  test('parks without storing what an aborted effect threw', async () => {
    const file = fileOf();
    const engine = new Engine({ file, clock });
    engine.send(next(engine), BY);
    const driving = engine.drive(
      effects({
        drain: (_input, { signal }: EffectTools) =>
          new Promise((_resolve, reject) => {
            signal.addEventListener('abort', () => {
              reject(new Error('aborted'));
            });
          }),
      }),
    );
    await Promise.resolve();
    await engine.park();
    await driving;
    expect(file.commits).toEqual(['drainingApp1']);
    expect(new Engine({ file, clock }).isWorking).toBe(true);
  });

  test('refuses events that pretend to be the end of an effect', () => {
    const engine = new Engine({ file: fileOf(), clock });
    engine.send(next(engine), BY);
    const forged = { type: 'xstate.done.actor.drainingApp1', output: { outcome: 'done' } } as unknown as ReleaseEvent;
    expect(engine.send(forged, BY).accepted).toBe(false);
    expect(engine.state).toBe('drainingApp1');
  });

  test('refuses a snapshot of another version of the chart, and says what to do', () => {
    const file = fileOf();
    file.commit({ ...file.data, machine: 'flow-release/0/exclusive/app1,app2' });
    expect(() => new Engine({ file, clock })).toThrow(/Finish it with the flow that started it/);
  });

  test('stores and shows nothing of a secret that an effect reports or fails with', async () => {
    const file = fileOf();
    const shown: string[] = [];
    const redact = redactor({ secrets: ['TOKEN'], notify: [] }, { TOKEN: 's3cr3t-token' });
    const engine = new Engine({ file, clock, redact, onProgress: (_step, { text }) => shown.push(text) });
    engine.send(next(engine), BY);
    await engine.drive(
      effects({
        drain: (_input, tools) => {
          tools.report({ kind: 'output', text: 'login with s3cr3t-token' });
          return Promise.reject(new StepError('NO', 'rejected', 'login with s3cr3t-token failed'));
        },
        moveTraffic: refuse,
      }),
    );
    expect(shown).toEqual(['login with [TOKEN]']);
    expect(JSON.stringify(file.data)).toContain('login with [TOKEN] failed');
    expect(JSON.stringify(file.data)).not.toContain('s3cr3t');
  });
});
