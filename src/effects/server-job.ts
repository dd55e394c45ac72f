/**
 * Publishing one version to one server as a job, and proving that it runs. Used for the test server (R1.2), for every
 * production server (R3.4, R5.1) and for restoring the version before.
 * Running it twice is safe: the job's id is fixed by release, server, step and attempt, so a second call attaches or takes the
 * result; the proof is read-only.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Question } from '../../machines/contract.ts';
import { fill } from '../config/placeholders.ts';
import type { ServerSettings } from '../config/settings.ts';
import { StateError, StepError } from '../errors.ts';
import type { Argv } from '../hosts/host.ts';
import { ensureJob, peekJob } from '../hosts/jobs.ts';
import type { EffectTools } from './effect.ts';
import { placeholderValues } from './placeholder-values.ts';
import { askHealth, askVersion, type VersionAnswer } from './probes.ts';
import type { World } from './world.ts';

const PRINTED_LIMIT = 2_000;
const PROBE_EVERY_MS = 50;

export interface ServerJob {
  release: { id: string };
  step: string;
  attempt: number;
  server: ServerSettings;
  /** The tag or description that the command is told. */
  version: string;
  /** The commit it is built from. */
  commit: string;
  /** Tried again right before the job starts; throws StepError `unsafe` when it must not. Not asked of a job that was started before. */
  assertSafe(): Promise<void>;
  choices: Question['choices'];
}

export interface JobEvidence {
  job: string;
  exitStatus: number;
  seconds: number;
  printed: string;
}

/** The job's id: it names one try of one step on one server, for ever. */
export function jobId(of: Pick<ServerJob, 'release' | 'step' | 'attempt'> & { server: { name: string } }): string {
  return `${of.release.id}/${of.server.name}/${of.step}.${of.attempt}`;
}

/** The command a publish runs, as arguments. */
async function publishCommand(world: World, job: ServerJob): Promise<Argv> {
  const { publish, rollback } = world.config;
  const run = job.step.startsWith('restoring') && rollback.run !== undefined ? rollback.run : publish.run;
  return fill(run, await placeholderValues(world, job.server, { version: job.version, commit: job.commit }));
}

/**
 * Runs the publish to its end, once. Throws StepError PUBLISH_FAILED (rejected) when it exits with another status than 0,
 * PUBLISH_BUSY (unsafe), what `assertSafe` throws, and StateError FENCED when another driver took over.
 */
export async function runServerJob(
  world: World,
  job: ServerJob,
  tools: EffectTools,
): Promise<{ ended: JobEvidence } | { ask: Question }> {
  const id = jobId(job);
  const glance = await peekJob(world.host, world.jobs, id);
  if (glance.state === 'absent' || glance.state === 'claimed') {
    await world.repository.prepareWorktree(world.worktree, job.commit);
    // Last, so that nothing lies between the look and the start.
    await job.assertSafe();
    tools.signal.throwIfAborted();
  } else {
    tools.report({ kind: 'note', text: `the publish ${id} was started before; attaching to it` });
  }
  let printed = '';
  let lastOutputAt = performance.now();
  const watchdog = setInterval(() => {
    const silentMs = performance.now() - lastOutputAt;
    if (silentMs < world.config.publish.silence) return;
    tools.report({
      kind: 'note',
      text: `the publish to ${job.server.name} has printed nothing for ${Math.round(silentMs / 1_000)} s; it goes on. Look at it: ${id}`,
    });
    lastOutputAt = performance.now();
  }, 1_000);
  try {
    // Not bound to the signal: a publish is never cut in half, so the step ends when the job has ended.
    const end = await ensureJob(
      world.host,
      {
        root: world.jobs,
        id,
        lane: job.server.name,
        epoch: world.epoch,
        argv: await publishCommand(world, job),
        cwd: world.worktree,
        stdin: world.config.publish.answer,
      },
      {
        onOutput: (chunk) => {
          lastOutputAt = performance.now();
          const text = chunk.toString('utf8');
          printed = (printed + text).slice(-PRINTED_LIMIT);
          tools.report({ kind: 'output', text });
        },
      },
    );
    switch (end.state) {
      case 'done':
        if (end.status !== 0) {
          throw new StepError(
            'PUBLISH_FAILED',
            'rejected',
            `The publish of ${job.version} to ${job.server.name} ended with exit status ${end.status}. ${job.server.name} receives no traffic, and nobody can say what it runs. ` +
              `Its last line: ${printed.trim().split('\n').at(-1) ?? '(nothing)'}. Mend it and send NEXT to try again, or: flow send ROLLBACK`,
          );
        }
        return { ended: { job: id, exitStatus: end.status, seconds: end.seconds ?? 0, printed: printed.trim() } };
      case 'lost':
        return { ask: await lostQuestion(world, job, id) };
      case 'busy':
        throw new StepError(
          'PUBLISH_BUSY',
          'unsafe',
          `Another job works on ${job.server.name}: ${end.by}. Nothing was started. When it has ended: flow send NEXT`,
        );
      case 'fenced':
        throw new StateError(
          'FENCED',
          `Another driver has taken over; nothing was started on ${job.server.name}. See who: flow status`,
        );
      case 'absent':
        throw new StepError(
          'PUBLISH_ABSENT',
          'unknownOutcome',
          `The job ${id} has vanished from ${world.jobs}. Look at ${job.server.name} before going on: flow status`,
        );
    }
  } finally {
    clearInterval(watchdog);
  }
}

async function lostQuestion(world: World, job: ServerJob, id: string): Promise<Question> {
  const [version, health] = await Promise.all([askVersion(world.host, job.server), askHealth(job.server)]);
  return {
    id: `jobLost.${job.step}.${job.attempt}`,
    kind: 'jobLost',
    text:
      `The publish of ${job.version} to ${job.server.name} (${id}) was interrupted and left no exit status. ` +
      `Now ${version.because}, and its health is ${health.ok ? 'good' : `bad: ${health.because}`}.`,
    choices: job.choices,
  };
}

/**
 * Waits until the server reports what was published and is healthy. Throws StepError VERSION_DIFFERS or UNHEALTHY when it does
 * not within `publish.settle`.
 */
export async function proveRuns(
  world: World,
  server: ServerSettings,
  expected: { what: string; matches(answer: VersionAnswer): boolean },
  tools: EffectTools,
): Promise<{ version: string; health: string; healthySeconds: number }> {
  const startedAt = performance.now();
  for (;;) {
    const [answer, health] = await Promise.all([askVersion(world.host, server), askHealth(server)]);
    if (answer.version !== null && expected.matches(answer) && health.ok) {
      return {
        version: answer.version,
        health: health.because,
        healthySeconds: (performance.now() - startedAt) / 1_000,
      };
    }
    tools.signal.throwIfAborted();
    tools.report({ kind: 'figures', text: `${server.name}: ${answer.because}; health ${health.because}` });
    if (performance.now() - startedAt > world.config.publish.settle) {
      const stands = `Look at ${server.dir} and ${server.log}. Then: flow send NEXT to publish again, or: flow send ROLLBACK`;
      if (answer.version === null || !expected.matches(answer)) {
        throw new StepError(
          'VERSION_DIFFERS',
          'rejected',
          `${server.name} should run ${expected.what}, but ${answer.because}. ${stands}`,
        );
      }
      throw new StepError(
        'UNHEALTHY',
        'rejected',
        `${server.name} runs ${answer.version} but is not healthy: ${health.because}. ${stands}`,
      );
    }
    await delay(PROBE_EVERY_MS);
  }
}
