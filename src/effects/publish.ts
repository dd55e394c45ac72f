/**
 * R3.4 and R5.1: the publish command runs to its end exactly once for this version on this server, which then reports that
 * version and is healthy. The same effect restores the version before during a rollback.
 * Twice is safe: see server-job.ts. A server that may receive traffic is never published to, whatever the facts said earlier.
 */
import type { EffectInput, PublishEvidence, Question } from '../../machines/contract.ts';
import { sameServers } from '../../machines/topology.ts';
import { serverSettings } from '../config/settings.ts';
import { StepError } from '../errors.ts';
import type { Effects, EffectTools } from './effect.ts';
import { jobId, proveRuns, runServerJob, type ServerJob } from './server-job.ts';
import { tryAgain } from './try-again.ts';
import type { World } from './world.ts';

export function publish(world: World): Effects['publish'] {
  return async (input, tools) => {
    const ended = await publishServer(world, input, await publishJob(world, input), tools);
    return 'ask' in ended ? { outcome: 'ask', question: ended.ask } : { outcome: 'done', evidence: ended.evidence };
  };
}

const isRestoring = (step: string): boolean => step.startsWith('restoring');

/** The job that publishes to one server. Throws StepError TAG_MISSING or TAG_MOVED (unsafe): nothing was started. */
export async function publishJob(world: World, input: EffectInput<'publish'>): Promise<ServerJob> {
  const server = serverSettings(world.config, input.server);
  const again = tryAgain(world, input.step);
  const restoring = isRestoring(input.step);
  const commit = await world.repository.tagCommit(input.version);
  if (commit === null) {
    throw new StepError(
      'TAG_MISSING',
      'unsafe',
      `There is no tag ${input.version || '(none)'} to publish to ${server.name} from. Nothing was started. Fetch it: git fetch --tags ${world.config.git.remote}, then: ${again}`,
    );
  }
  if (input.commit !== null && input.commit !== commit) {
    throw new StepError(
      'TAG_MOVED',
      'unsafe',
      `The tag ${input.version} is at ${commit.slice(0, 10)}, but this release tested and pushed ${input.commit.slice(0, 10)}. Nothing was started. Put it back: git tag -f ${input.version} ${input.commit.slice(0, 10)}, then: ${again}`,
    );
  }
  return {
    ...input,
    mode: input.mode === 'end' ? 'end' : 'run',
    server,
    commit,
    stands: `${server.name} receives no traffic, and nobody can say what it runs.`,
    again,
    next: restoring ? `Mend it, then: ${again}` : `Mend it and send NEXT to try again, or: flow send ROLLBACK`,
    assertSafe: () => assertOutOfRotation(world, input),
    choices: [
      { choice: 'worked', does: `prove that ${server.name} runs ${input.version} and is healthy, and go on` },
      { choice: 'again', does: `publish ${input.version} to ${server.name} once more` },
      ...(restoring ? [] : [{ choice: 'rollback', does: 'roll the release back' }]),
    ],
  };
}

/** Runs the job of one server and proves what it runs then. Throws what `runServerJob` and `proveRuns` throw. */
export async function publishServer(
  world: World,
  input: EffectInput<'publish'>,
  job: ServerJob,
  tools: EffectTools,
): Promise<{ evidence: PublishEvidence } | { ask: Question }> {
  const { server } = job;
  let ended = { job: jobId(job), exitStatus: null as number | null, seconds: 0, printed: '' };
  if (input.mode !== 'probe') {
    const run = await runServerJob(world, job, tools);
    if ('ask' in run) return { ask: run.ask };
    ended = run.ended;
  }
  const proof = await proveRuns(
    world,
    server,
    {
      what: input.version,
      matches: (answer) => answer.version === input.version,
      next: job.next === '' ? '' : whatNext(input.step, job.again),
    },
    tools,
  );
  return { evidence: { server: server.name, ...ended, ...proof } };
}

const whatNext = (step: string, again: string): string =>
  isRestoring(step)
    ? `Mend it, then restore it again: ${again}`
    : 'Then: flow send NEXT to publish again, or: flow send ROLLBACK';

/** The condition that everything else exists for, looked at once more right before the command starts. */
async function assertOutOfRotation(world: World, input: EffectInput<'publish'>): Promise<void> {
  const { server, serving, switched } = input;
  const next = isRestoring(input.step)
    ? `To prove the route again and go on: ${tryAgain(world, input.step)}`
    : 'See what the proxy does: flow resume';
  const refuse = (why: string) =>
    new StepError('IN_ROTATION', 'unsafe', `${server} was not published, because ${why}. Nothing was started. ${next}`);
  if (serving.includes(server)) throw refuse(`${server} is in rotation`);
  if (switched === null) throw refuse('no switch that took it out of rotation is on record');
  const seen = await world.proxy.observe();
  if (seen.problem !== undefined) throw refuse(`${seen.problem}. ${seen.problemMend ?? 'Look at Nginx'}`);
  const [foreign, left] = await Promise.all([world.proxy.reloadedByOthers(switched), world.proxy.remaining(switched)]);
  if (seen.servers === null || !sameServers(seen.servers, serving)) {
    throw refuse(
      `the proxy should serve ${serving.join(' and ')}, but ${seen.treeProblem ?? `its configuration is that of ${seen.servers?.join(' and ') ?? 'no known route'}`}`,
    );
  }
  if (foreign !== null)
    throw refuse(
      `Nginx was reloaded or restarted by somebody else since it was switched (workers ${foreign.pids.join(', ')})`,
    );
  if (left.length > 0 && !input.drainWaived)
    throw refuse(`${left.length} old Nginx workers may still send it requests`);
}
