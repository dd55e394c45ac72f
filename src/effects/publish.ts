/**
 * R3.4 and R5.1: the publish command runs to its end exactly once for this version on this server, which then reports that
 * version and is healthy. The same effect restores the version before during a rollback.
 * Twice is safe: see server-job.ts. A server that may receive traffic is never published to, whatever the facts said earlier.
 */
import type { EffectInput } from '../../machines/contract.ts';
import { sameServers } from '../../machines/topology.ts';
import { serverSettings } from '../config/settings.ts';
import { StepError } from '../errors.ts';
import type { Effects } from './effect.ts';
import { jobId, proveRuns, runServerJob } from './server-job.ts';
import { tryAgain } from './try-again.ts';
import type { World } from './world.ts';

export function publish(world: World): Effects['publish'] {
  return async (input, tools) => {
    const server = serverSettings(world.config, input.server);
    const again = tryAgain(world, input.step);
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
    const restoring = input.step.startsWith('restoring');
    let ended = { job: jobId({ ...input, server }), exitStatus: null as number | null, seconds: 0, printed: '' };
    if (input.mode !== 'probe') {
      const job = await runServerJob(
        world,
        {
          ...input,
          mode: input.mode,
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
        },
        tools,
      );
      if ('ask' in job) return { outcome: 'ask', question: job.ask };
      ended = job.ended;
    }
    const proof = await proveRuns(
      world,
      server,
      {
        what: input.version,
        matches: (answer) => answer.version === input.version,
        next: restoring
          ? `Mend it, then restore it again: ${again}`
          : 'Then: flow send NEXT to publish again, or: flow send ROLLBACK',
      },
      tools,
    );
    return { outcome: 'done', evidence: { server: server.name, ...ended, ...proof } };
  };
}

/** The condition that everything else exists for, looked at once more right before the command starts. */
async function assertOutOfRotation(world: World, input: EffectInput<'publish'>): Promise<void> {
  const { server, serving, switched } = input;
  const next = input.step.startsWith('restoring')
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
