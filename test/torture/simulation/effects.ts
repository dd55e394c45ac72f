/**
 * The effects of the simulation: they do to the simulated world, moment by moment, what the real ones do to the real one, and ask
 * for the same conditions before they act. How each try of a step ends is drawn from the seed, and is the same in every life.
 */
import type { Choice, EffectInput, PublishEvidence, ServerResult, SwitchEvidence } from '../../../machines/contract.ts';
import { sameServers } from '../../../machines/topology.ts';
import type { EffectTools, Effects } from '../../../src/effects/effect.ts';
import { StepError } from '../../../src/errors.ts';
import type { Moments, SimulatedWorld } from './world.ts';

/** A number from 0 to 1 that depends on nothing but the seed and the words. */
export function drawn(seed: number, ...words: (string | number)[]): number {
  let hash = (2_166_136_261 ^ seed) >>> 0;
  for (const char of words.join('\u0000')) {
    hash ^= char.codePointAt(0) ?? 0;
    hash = Math.imul(hash, 16_777_619) >>> 0;
  }
  hash ^= hash >>> 15;
  hash = Math.imul(hash, 2_246_822_507) >>> 0;
  hash ^= hash >>> 13;
  return (hash >>> 0) / 4_294_967_296;
}

export interface Fate {
  seed: number;
  /** Share of the tries that do not end well, from 0 to 1. */
  trouble: number;
}

interface Try {
  step: string;
  attempt: number;
}

const rates = {};
const choices = (...names: string[]): Choice[] => names.map((choice) => ({ choice, does: '' }));
const soakEvidence = {
  observedSeconds: 1,
  checksRun: 1,
  checksFailed: 0,
  errorsSeen: 0,
  rates,
  errorsPerSecond: 0,
  oldErrorsPerSecond: 0,
  samples: [],
  proxy: null,
  note: '',
};

export function simulatedEffects(world: SimulatedWorld, fate: Fate, moments: Moments): Effects {
  /** Which of the ends of this try it is; the first is the good one. */
  const endOf = <End extends string>({ step, attempt }: Try, what: string, good: End, ...bad: End[]): End => {
    // After some tries everything ends well, so that every walk ends.
    const chance = attempt > 3 ? 0 : fate.trouble;
    if (bad.length === 0 || drawn(fate.seed, step, attempt, what) >= chance) return good;
    return bad[Math.floor(drawn(fate.seed, step, attempt, what, 'which') * bad.length)] ?? good;
  };
  const pass = (input: Try, name: string, tools: EffectTools): void => {
    tools.signal.throwIfAborted();
    moments.pass(`${input.step}.${input.attempt} ${name}`);
    tools.signal.throwIfAborted();
  };

  /** Tree, test, reload, proof; and back where it fails, as the proxy does it. */
  function switchTo(
    input: Try & { to: readonly string[]; from: readonly string[] },
    tools: EffectTools,
  ): SwitchEvidence {
    const { to, from } = input;
    pass(input, 'before the switch', tools);
    world.tree = [...to];
    // From here on the abort is not heeded before the tree and the workers agree again.
    moments.pass(`${input.step}.${input.attempt} tree switched`);
    const end = endOf(input, 'switch', 'live', 'refused', 'late', 'unwatched');
    if (end === 'refused' || end === 'late') {
      world.tree = [...from];
      moments.pass(`${input.step}.${input.attempt} tree back`);
      throw new StepError('NGINX', end === 'refused' ? 'rejected' : 'timedOut', end);
    }
    const evidence = world.reload();
    moments.pass(`${input.step}.${input.attempt} reloaded`);
    if (end === 'unwatched') throw new StepError('RELOAD_UNOBSERVED', 'unknownOutcome', end);
    return evidence;
  }

  function drained(input: Try, switched: SwitchEvidence, lost: readonly string[], tools: EffectTools) {
    pass(input, 'while draining', tools);
    const overdue = lost.length > 0 && endOf(input, 'drain', 'drained', 'overdue') === 'overdue';
    if (!overdue) world.drained();
    const left = world.left(switched);
    return {
      switched,
      drainedAfterSeconds: left === 0 ? 1 : null,
      workersLeft: left,
      ratesBefore: rates,
      ratesAfter: rates,
      judgedBy: '',
      checks: [],
    };
  }

  /** The job's own end; a try that is in the world's ledger is attached to, not run again. */
  function job(
    input: Try & { release: { id: string } },
    server: string,
    version: string,
    waived: boolean,
    assertSafe: () => void,
    tools: EffectTools,
  ): number {
    const id = `${input.release.id}/${server}/${input.step}.${input.attempt}`;
    if (!world.jobs.has(id)) {
      assertSafe();
      pass(input, 'before the job', tools);
    }
    const end = endOf(input, `job${server}`, 'done', 'failedBefore', 'failedAfter');
    const was = server === 'test' ? world.testServer : (world.servers[server]?.version ?? null);
    const becomes = end === 'failedBefore' ? was : end === 'failedAfter' ? null : version;
    world.run(id, server, version, { status: end === 'done' ? 0 : 1, becomes }, waived);
    pass(input, 'job running', tools);
    return world.run(id, server, version, { status: 0, becomes }, waived).status;
  }

  const assertOutOfRotation = (input: EffectInput<'publish'>) => {
    const { switched, serving, server, drainWaived } = input;
    const safe =
      switched !== null &&
      !serving.includes(server) &&
      world.stands(switched) &&
      sameServers(world.workers.route, serving) &&
      (drainWaived || world.left(switched) === 0);
    if (!safe) throw new StepError('IN_ROTATION', 'unsafe', 'not out of rotation');
  };
  /** One server, as the real effect does it; `of` tells the draws of several apart. */
  const publishOne = (input: EffectInput<'publish'>, of: string, tools: EffectTools): PublishEvidence | 'lost' => {
    const { server, version } = input;
    if (input.mode === 'run') {
      const assertSafe = () => {
        assertOutOfRotation(input);
      };
      const status = job(input, server, version, input.drainWaived, assertSafe, tools);
      if (endOf(input, `seen${of}`, 'watched', 'lost') === 'lost') return 'lost';
      if (status !== 0) throw new StepError('PUBLISH_FAILED', 'rejected', 'publish');
    }
    if (input.mode === 'end') throw new StepError('PUBLISH_ENDED', 'rejected', 'ended');
    if (world.servers[server]?.version !== version) throw new StepError('VERSION_DIFFERS', 'rejected', 'publish');
    return {
      server,
      version,
      exitStatus: 0,
      seconds: 1,
      healthySeconds: 0,
      health: '200',
      job: `${input.step}.${input.attempt}`,
      printed: '',
    };
  };
  const move = (input: EffectInput<'moveTraffic'>, tools: EffectTools) => ({
    outcome: 'done' as const,
    evidence: { switched: switchTo(input, tools), secondsUntilMoved: 1 },
  });
  const act =
    <Input extends Try, Output>(effect: (input: Input, tools: EffectTools) => Output) =>
    // A turn of the event loop, as every real effect takes.
    async (input: Input, tools: EffectTools): Promise<Output> => {
      await Promise.resolve();
      return effect(input, tools);
    };

  return {
    runTests: act((input: EffectInput<'runTests'>, tools) => {
      world.testing = 'tested';
      pass(input, 'merged', tools);
      if (input.mode === 'run' && job(input, 'test', 'tested', false, () => undefined, tools) !== 0)
        throw new StepError('PUBLISH_FAILED', 'rejected', 'test');
      if (input.mode === 'end') throw new StepError('PUBLISH_ENDED', 'rejected', 'test');
      if (world.testServer !== 'tested') throw new StepError('VERSION_DIFFERS', 'rejected', 'test');
      const evidence = {
        commit: 'tested',
        merged: true,
        version: 'v2',
        checks: [],
        interruptedSeconds: 0,
        publishSeconds: 0,
      };
      return { outcome: 'done', evidence };
    }),
    tag: act((input: EffectInput<'tag'>, tools) => {
      const { version } = input.release;
      pass(input, 'before the refs', tools);
      world.tags.add(version);
      pass(input, 'refs moved', tools);
      const end = endOf(input, 'push', 'pushed', 'refused', 'unknown');
      if (end === 'refused' && !world.pushed.has(version)) {
        world.tags.delete(version);
        throw new StepError('PUSH_FAILED', 'rejected', 'push');
      }
      world.pushed.add(version);
      pass(input, 'pushed', tools);
      if (end === 'unknown') throw new StepError('PUSH_UNKNOWN', 'unknownOutcome', 'push');
      return {
        outcome: 'done',
        evidence: { previousTag: 'v1', tag: version, commit: 'tagged', changes: 1, pushedTo: 'cil' },
      };
    }),
    undoTagging: act((input: EffectInput<'undoTagging'>, tools) => {
      pass(input, 'before', tools);
      if (!world.pushed.has(input.release.version)) world.tags.delete(input.release.version);
      pass(input, 'after', tools);
      return { outcome: 'done', evidence: { undone: [], kept: [] } };
    }),
    drain: act((input: EffectInput<'drain'>, tools) => {
      const { servers } = input;
      const switched =
        input.switched !== null && world.stands(input.switched) ? input.switched : switchTo(input, tools);
      const evidence = drained(input, switched, servers, tools);
      if (evidence.drainedAfterSeconds !== null) return { outcome: 'done', evidence };
      const question = {
        id: `drainOverdue.${input.step}.${input.attempt}`,
        kind: 'drainOverdue' as const,
        text: '',
        choices: choices('wait', 'proceed', ...(input.canRevert ? ['revert'] : [])),
      };
      return { outcome: 'ask', evidence, question };
    }),
    publish: act((input: EffectInput<'publish'>, tools) => {
      const ended = publishOne(input, '', tools);
      if (ended !== 'lost') return { outcome: 'done', evidence: ended };
      const restoring = input.step.startsWith('restoring');
      const names = ['worked', 'again', ...(restoring ? [] : ['rollback'])];
      const id = `jobLost.${input.step}.${input.attempt}`;
      return { outcome: 'ask', question: { id, kind: 'jobLost', text: '', choices: choices(...names) } };
    }),
    publishWave: act((input: EffectInput<'publishWave'>, tools) => {
      const { servers, ...rest } = input;
      const results: ServerResult[] = [];
      for (const one of servers) {
        const { server } = one;
        const isStarted = world.jobs.has(`${input.release.id}/${server}/${input.step}.${input.attempt}`);
        if (results.some(({ outcome }) => outcome !== 'done') && !isStarted) {
          results.push({ server, outcome: 'held', message: '' });
          continue;
        }
        try {
          const ended = publishOne({ ...rest, ...one }, server, tools);
          results.push(
            ended === 'lost' ? { server, outcome: 'lost', message: '' } : { server, outcome: 'done', evidence: ended },
          );
        } catch (error) {
          if (!(error instanceof StepError) || tools.signal.aborted) throw error;
          if (error.kind === 'unsafe' && results.every(({ outcome }) => outcome === 'held')) throw error;
          results.push({ server, outcome: error.kind === 'unsafe' ? 'held' : 'failed', message: error.message });
        }
      }
      const isDone = results.every(({ outcome }) => outcome === 'done');
      return { outcome: isDone ? 'done' : 'partial', evidence: { results } };
    }),
    preview: act((input: EffectInput<'preview'>, tools) => {
      pass(input, 'looking', tools);
      if (endOf(input, 'preview', 'passes', 'fails') === 'fails')
        throw new StepError('PREVIEW_FAILED', 'rejected', 'preview');
      return { outcome: 'done', evidence: { previewed: input.servers, through: null, checks: [] } };
    }),
    goLive: act((input: EffectInput<'goLive'>, tools) => {
      const switched = switchTo(input, tools);
      return { outcome: 'done', evidence: drained(input, switched, input.lost, tools) };
    }),
    soak: act((input: EffectInput<'soak'>, tools) => {
      pass(input, 'watching', tools);
      const end = endOf(input, 'soak', 'good', 'bad', 'ask');
      if (end === 'good') return { outcome: 'good', evidence: soakEvidence };
      if (end === 'bad') return { outcome: 'bad', evidence: soakEvidence, because: 'errors' };
      return { outcome: 'ask', evidence: soakEvidence, because: 'nothing was seen' };
    }),
    moveTraffic: act(move),
    mergeBack: act((input: EffectInput<'mergeBack'>, tools) => {
      pass(input, 'merging', tools);
      return { outcome: 'done', evidence: { commit: 'merged', followUp: null } };
    }),
  };
}
