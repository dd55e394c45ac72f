/**
 * A wave: several servers, each published as publish.ts does it for one, side by side up to a limit, each with a job and a result
 * of its own. After the first that fails no other is begun, so that what is bad does not spread; those that run are followed to
 * their end. Twice is safe: every server's job is attached to, or its result taken, by its id.
 */
import type { EffectInput, Question, ServerResult } from '../../machines/contract.ts';
import { FlowError, StateError, StepError } from '../errors.ts';
import { peekJob } from '../hosts/jobs.ts';
import type { Effects, EffectTools } from './effect.ts';
import { publishJob, publishServer } from './publish.ts';
import { jobId, prepareTree, publishPlace, type ServerJob } from './server-job.ts';
import type { World } from './world.ts';

interface Member {
  input: EffectInput<'publish'>;
  job: ServerJob;
  /** It was started before, by a driver that is gone. */
  isStarted: boolean;
}

/** Throws the StepError (unsafe) of the first server where nothing was begun on any, StateError, and the signal's reason. */
export function publishWave(world: World): Effects['publishWave'] {
  return async (input, tools) => {
    const { servers, serving, switched, mode, ...step } = input;
    const members: Member[] = [];
    for (const one of servers) {
      const single = { ...step, ...one, serving, switched, mode };
      const job = await publishJob(world, single);
      const { state } = await peek(world, job);
      const isStarted = state !== 'absent' && state !== 'claimed';
      // The question about all of them says what to do next.
      members.push({ input: single, job: { ...job, mode: isStarted ? job.mode : 'run', next: '' }, isStarted });
    }
    const refused = new Map<string, StepError>();
    const asked = await readyTree(world, members, tools);
    if (asked !== null)
      return partial(members.map(({ input: { server } }) => ({ server, outcome: 'silent', message: asked.text })));
    const results = await sideBySide(world, members, refused, tools);
    const [first] = refused.values();
    if (first !== undefined && results.every(({ outcome }) => outcome === 'held')) throw first;
    return results.every(({ outcome }) => outcome === 'done')
      ? { outcome: 'done', evidence: { results } }
      : partial(results);
  };
}

const peek = async (world: World, job: ServerJob) => {
  const { host, jobs } = publishPlace(world, job.server);
  return await peekJob(host, jobs, jobId(job));
};

const partial = (results: ServerResult[]) => ({ outcome: 'partial' as const, evidence: { results } });

/**
 * One tree for all: it is prepared before the first job begins, and stands while any of them runs. Answers a question where another
 * job is at work in it and silent.
 */
async function readyTree(world: World, members: readonly Member[], tools: EffectTools): Promise<Question | null> {
  const [first] = members.filter(({ isStarted }) => !isStarted);
  const commits = new Set(members.map(({ job }) => job.commit));
  if (first === undefined || first.input.mode === 'probe' || commits.size > 1) return null;
  const own = await Promise.all(members.map(({ job }) => peek(world, job)));
  if (!own.some(({ state }) => state === 'running')) {
    const mode = first.input.mode === 'end' ? 'end' : 'run';
    const question = await prepareTree(world, { ...first.job, mode }, tools);
    if (question !== null) return question;
  }
  for (const { job } of members) job.isTreeReady = true;
  return null;
}

async function sideBySide(
  world: World,
  members: readonly Member[],
  refused: Map<string, StepError>,
  tools: EffectTools,
): Promise<ServerResult[]> {
  const results = new Map<string, ServerResult>();
  const waiting = [...members];
  let failed: string | null = null;
  const work = async (): Promise<void> => {
    for (let member = waiting.shift(); member !== undefined; member = waiting.shift()) {
      const { server } = member.input;
      const result: ServerResult =
        failed !== null && !member.isStarted
          ? { server, outcome: 'held', message: `${server} was not begun, because of ${failed}.` }
          : await one(world, member, refused, tools);
      results.set(server, result);
      if (result.outcome !== 'done') failed ??= server;
    }
  };
  // Members of one tree go side by side; where each needs a tree of its own (versions that differ), one after the other.
  const limit = members.every(({ job }) => job.isTreeReady === true) ? world.config.publish.sideBySide : 1;
  const ended = await Promise.allSettled(Array.from({ length: Math.min(limit, members.length) }, work));
  const broken = ended.find((end) => end.status === 'rejected');
  if (broken !== undefined) throw broken.reason;
  return members.flatMap(({ input: { server } }) => results.get(server) ?? []);
}

async function one(
  world: World,
  { input, job }: Member,
  refused: Map<string, StepError>,
  tools: EffectTools,
): Promise<ServerResult> {
  const { server } = input;
  const named: EffectTools = {
    signal: tools.signal,
    report: (progress) => {
      const text = progress.kind === 'output' ? progress.text : `${server}: ${progress.text}`;
      tools.report({ ...progress, text });
    },
  };
  try {
    const ended = await publishServer(world, input, job, named);
    if ('evidence' in ended) return { server, outcome: 'done', evidence: ended.evidence };
    const outcome = ended.ask.kind === 'jobSilent' ? 'silent' : 'lost';
    return { server, outcome, message: ended.ask.text };
  } catch (error) {
    if (tools.signal.aborted || error instanceof StateError || !(error instanceof FlowError)) throw error;
    const message = error.message.trim();
    if (error instanceof StepError && error.kind === 'unsafe') {
      refused.set(server, error);
      return { server, outcome: 'held', message };
    }
    return { server, outcome: 'failed', message };
  }
}
