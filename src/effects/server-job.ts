/**
 * Publishing one version to one server as a job, and proving that it runs. Used for the test server (R1.2), for every
 * production server (R3.4, R5.1) and for restoring the version before.
 * Running it twice is safe: the job's id is fixed by release, server, step and attempt, so a second call attaches or takes the
 * result; the proof is read-only.
 */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { JobMode, Question } from '../../machines/contract.ts';
import { fill, fillText } from '../config/placeholders.ts';
import type { ServerSettings } from '../config/settings.ts';
import { StateError, StepError } from '../errors.ts';
import { type Argv, type Host, requireReached } from '../hosts/host.ts';
import { endJob, ensureJob, type Job, type JobEnd, otherJobAtWork, peekJob } from '../hosts/jobs.ts';
import type { EffectTools } from './effect.ts';
import { type JobOutput, jobOutput } from './job-output.ts';
import { placeholderValues } from './placeholder-values.ts';
import { askHealth, askVersion, type VersionAnswer } from './probes.ts';
import { withWayOut } from './way-out.ts';
import type { World } from './world.ts';

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
  /** `run`: start it or attach to it; `end`: end it, or the one that is in its way. */
  mode: Exclude<JobMode, 'probe'>;
  /** The choices when it was lost. */
  choices: Question['choices'];
  /** How the world stands when it failed, and what to do next; each a sentence. `next` is empty where a question says it. */
  stands: string;
  next: string;
  /** The command that tries it again. */
  again: string;
  /** The tree stands at the commit already, for all jobs of one step: it is neither waited for nor prepared again. */
  isTreeReady?: boolean;
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

/** Where the publish to a server runs. */
export interface PublishPlace {
  host: Host;
  /** Folder of the jobs on that host. */
  jobs: string;
  /** Folder that the command runs in. */
  cwd: string;
  /** Whether that is flow's own tree, which is brought to the released commit first; elsewhere the commit is brought, and the command checks it out. */
  isOwnTree: boolean;
  /** The host as ssh knows it; null for the machine flow runs on. */
  destination: string | null;
}

/** Beside the folder of the command, because it has to outlive a reboot, and be known to a second control machine as well. */
const JOBS_ELSEWHERE = '.flow/jobs';

export function publishPlace(
  world: World,
  server: Pick<ServerSettings, 'name' | 'dir' | 'address' | 'on'>,
): PublishPlace {
  const { on, dir } = world.config.publish;
  if (on === undefined || dir === undefined)
    return { host: world.host, jobs: world.jobs, cwd: world.worktree, isOwnTree: true, destination: null };
  const destination = on === '{on}' ? server.on : on;
  const host = world.on({ on: destination });
  const cwd = fillText(dir, { server: server.name, dir: server.dir, address: server.address });
  return { host, jobs: join(cwd, JOBS_ELSEWHERE), cwd, isOwnTree: false, destination: destination ?? null };
}

/** The command a publish runs, as arguments. */
async function publishCommand(world: World, job: ServerJob): Promise<Argv> {
  const { publish, rollback } = world.config;
  const run = job.step.startsWith('restoring') && rollback.run !== undefined ? rollback.run : publish.run;
  return fill(run, await placeholderValues(world, job.server, { version: job.version, commit: job.commit }));
}

/**
 * Runs the publish to its end, once. While another job works in flow's tree it is waited for, because the tree is about to change
 * under it. Throws StepError PUBLISH_FAILED or PUBLISH_ENDED (rejected) when it exits with another status than 0, what
 * `assertSafe` throws, StateError FENCED when another driver took over, and the signal's reason: the job goes on then.
 */
export async function runServerJob(
  world: World,
  job: ServerJob,
  tools: EffectTools,
): Promise<{ ended: JobEvidence } | { ask: Question }> {
  const id = jobId(job);
  const place = publishPlace(world, job.server);
  const glance = await peekJob(place.host, place.jobs, id);
  const started = glance.state !== 'absent' && glance.state !== 'claimed';
  if (started) {
    if (job.mode === 'end') await end(place, id, tools);
    else tools.report({ kind: 'note', text: `the publish ${id} was started before; attaching to it` });
    return await attend(world, job, id, tools, { attachOnly: true });
  }
  if (job.isTreeReady !== true) {
    const asked = await prepareTree(world, job, tools);
    if (asked !== null) return { ask: asked };
  }
  await world.ownership.assert();
  // Last, so that nothing lies between the look and the start.
  await job.assertSafe();
  tools.signal.throwIfAborted();
  return await attend(world, job, id, tools, { attachOnly: false });
}

/**
 * Waits for other jobs in flow's tree, and brings it to the job's commit; elsewhere it waits for other jobs in the same folder.
 * Answers a question where another does not end.
 */
export async function prepareTree(world: World, job: ServerJob, tools: EffectTools): Promise<Question | null> {
  const id = jobId(job);
  const place = publishPlace(world, job.server);
  for (let mayEnd = job.mode === 'end'; ; mayEnd = false) {
    const other = await otherJobAtWork(place.host, place.jobs, id);
    if (other === null) break;
    if (mayEnd) {
      await end(place, other, tools);
      continue;
    }
    tools.report({ kind: 'note', text: `${other} is still at work; it is waited for` });
    const asked = await waitFor(world, job, other, tools);
    if (asked !== null) return asked;
  }
  const tagged = place.isOwnTree ? null : await world.repository.tagCommit(job.version);
  await withWayOut(
    place.isOwnTree
      ? world.repository.prepareWorktree(world.worktree, job.commit)
      : bring(world, place, job.commit, tagged === job.commit ? job.version : null),
    `Nothing was started on ${job.server.name}. ${job.next}`,
    { untouched: true },
  );
  return null;
}

/**
 * Brings the commit to where the command runs. git does not tell a connection that broke from a clone that refuses: the host is
 * asked, which waits for it for a while, and only what fails again then is a refusal.
 */
async function bring(world: World, place: PublishPlace, commit: string, tag: string | null): Promise<void> {
  const at = { host: place.destination, dir: place.cwd, ssh: world.sshCommand };
  try {
    await world.repository.bringTo(at, commit, tag);
  } catch {
    requireReached(place.host, await place.host.run(['true']));
    await world.repository.bringTo(at, commit, tag);
  }
}

async function end({ host, jobs }: PublishPlace, id: string, tools: EffectTools): Promise<void> {
  tools.report({ kind: 'note', text: `ending ${id}` });
  await endJob(host, jobs, id);
}

/** Watches a job until it has ended or has been silent for too long; null stands for silence. The signal ends the watching only. */
async function watch(
  world: World,
  host: Host,
  job: Job,
  output: JobOutput,
  tools: EffectTools,
  options: { attachOnly: boolean },
): Promise<JobEnd | null> {
  const silent = new AbortController();
  const forget = output.onSilence(world.config.publish.silence, () => {
    silent.abort();
  });
  try {
    return await ensureJob(host, job, {
      ...options,
      signal: AbortSignal.any([tools.signal, silent.signal]),
      onOutput: (chunk) => {
        output.take(chunk);
      },
    });
  } catch (error) {
    if (silent.signal.aborted && !tools.signal.aborted && error === silent.signal.reason) return null;
    throw error;
  } finally {
    forget();
  }
}

async function jobOf(world: World, job: ServerJob, id: string): Promise<Job> {
  const { jobs, cwd } = publishPlace(world, job.server);
  return {
    root: jobs,
    id,
    lane: job.server.name,
    epoch: world.epoch,
    argv: await publishCommand(world, job),
    cwd,
    stdin: world.config.publish.answer,
  };
}

/** The step's own job, to its end. */
async function attend(
  world: World,
  job: ServerJob,
  id: string,
  tools: EffectTools,
  options: { attachOnly: boolean },
): Promise<{ ended: JobEvidence } | { ask: Question }> {
  const place = publishPlace(world, job.server);
  const { host, jobs } = place;
  const output = jobOutput(tools, join(jobs, id, 'out'));
  const ended = await watch(world, host, await jobOf(world, job, id), output, tools, options);
  const { name } = job.server;
  if (ended === null) return { ask: await silentQuestion(world, job, id, output) };
  switch (ended.state) {
    case 'done': {
      const { status } = ended;
      if (status === 0)
        return { ended: { job: id, exitStatus: 0, seconds: ended.seconds ?? 0, printed: output.printed() } };
      const stands = `${job.stands} Its last words: ${output.lastWords()}. All of them: ${outputOn(place, id)}.`;
      if (job.mode === 'end')
        throw new StepError(
          'PUBLISH_ENDED',
          'rejected',
          `The publish of ${job.version} to ${name} was ended as you said (exit status ${status}). ${stands} ${job.next}`,
        );
      throw new StepError(
        'PUBLISH_FAILED',
        'rejected',
        `The publish of ${job.version} to ${name} ended with exit status ${status}. ${stands} ${job.next}`,
      );
    }
    case 'lost':
      return { ask: await lostQuestion(world, job, id) };
    case 'fenced':
      throw new StateError(
        'FENCED',
        `Another driver has taken over; nothing was started on ${name}. See who: flow status`,
      );
    case 'busy':
      throw new StepError(
        'PUBLISH_BUSY',
        'unsafe',
        `${ended.by} began to work on ${name} at the same moment. Nothing was started. When it has ended: ${job.again}`,
      );
    case 'absent':
      throw new StepError(
        'PUBLISH_ABSENT',
        'unknownOutcome',
        `The job ${id} has vanished from ${jobs} on ${host.name}. Look at ${name} before going on: flow status`,
      );
  }
}

/** A job's output, as people find it. */
const outputOn = ({ host, jobs, isOwnTree }: PublishPlace, id: string): string =>
  isOwnTree ? join(jobs, id, 'out') : `${join(jobs, id, 'out')} on ${host.name}`;

/** Another job, until it no longer is at work; a question where it is silent for too long, or has left processes behind. */
async function waitFor(world: World, job: ServerJob, other: string, tools: EffectTools): Promise<Question | null> {
  const { host, jobs } = publishPlace(world, job.server);
  const output = jobOutput(tools, join(jobs, other, 'out'));
  const ended = await watch(world, host, await jobOf(world, job, other), output, tools, { attachOnly: true });
  if (ended === null) return await silentQuestion(world, job, other, output);
  return ended.state === 'lost' && ended.alive ? leftoverQuestion(job, other) : null;
}

const waitOrEnd = (name: string, id: string) => [
  { choice: 'wait', does: 'go on waiting; it is asked again when nothing is printed for as long again' },
  { choice: 'end', does: `end ${id}: it is asked to stop, and killed after 10 s; ${name} may be half published` },
];

async function silentQuestion(world: World, job: ServerJob, id: string, output: JobOutput): Promise<Question> {
  const { host, jobs } = publishPlace(world, job.server);
  const { pid } = await peekJob(host, jobs, id);
  const seconds = Math.round(world.config.publish.silence / 1_000);
  return {
    id: `jobSilent.${job.step}.${job.attempt}`,
    kind: 'jobSilent',
    text:
      `The publish ${id} has printed nothing for ${seconds} s, and still runs. Its last words: ${output.lastWords()}. ` +
      `Look at it: ps -o pid,etime,args -s ${pid ?? '?'}`,
    choices: waitOrEnd(job.server.name, id),
  };
}

function leftoverQuestion(job: ServerJob, id: string): Question {
  return {
    id: `jobSilent.${job.step}.${job.attempt}`,
    kind: 'jobSilent',
    text: `The publish ${id} was cut off, but processes of it still run, so nothing else may be published.`,
    choices: waitOrEnd(job.server.name, id),
  };
}

async function lostQuestion(world: World, job: ServerJob, id: string): Promise<Question> {
  const [version, health] = await Promise.all([askVersion(world, job.server), askHealth(world, job.server)]);
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
 * Waits until the server reports what was published and is healthy; `next` is the sentence that says what to do when it does not. Throws StepError VERSION_DIFFERS or UNHEALTHY when it does
 * not within `publish.settle`.
 */
export async function proveRuns(
  world: World,
  server: ServerSettings,
  expected: { what: string; matches(answer: VersionAnswer): boolean; next: string },
  tools: EffectTools,
): Promise<{ version: string; health: string; healthySeconds: number }> {
  const startedAt = performance.now();
  for (;;) {
    const [answer, health] = await Promise.all([askVersion(world, server), askHealth(world, server)]);
    const runs = answer.version ?? answer.commit;
    if (runs !== null && expected.matches(answer) && health.ok) {
      return {
        version: runs,
        health: health.because,
        healthySeconds: (performance.now() - startedAt) / 1_000,
      };
    }
    tools.signal.throwIfAborted();
    tools.report({ kind: 'figures', text: `${server.name}: ${answer.because}; health ${health.because}` });
    if (performance.now() - startedAt > world.config.publish.settle) {
      const stands = `Look at ${server.dir} and ${server.log}. ${expected.next}`;
      if (runs === null || !expected.matches(answer)) {
        throw new StepError(
          'VERSION_DIFFERS',
          'rejected',
          `${server.name} should run ${expected.what}, but ${answer.because}. ${stands}`,
        );
      }
      throw new StepError(
        'UNHEALTHY',
        'rejected',
        `${server.name} runs ${runs} but is not healthy: ${health.because}. ${stands}`,
      );
    }
    await delay(PROBE_EVERY_MS);
  }
}
