/**
 * What an event will run, before it is sent: the commands of the next steps, in order, until the release rests again.
 *
 * It follows src/effects step by step and fills commands with the same functions, so that what is shown is what runs; git's
 * plumbing is written as the command a person would type for it. Where the path depends on what a step finds, the path is that
 * of success. Deliberately absent: looking at anything. The plan is computed from the pinned config and the context alone.
 */
import type { EffectInput, ReleaseContext, TestingEvidence } from '../../machines/contract.ts';
import type { EventName } from '../../machines/events.ts';
import { canaryAndRest, without } from '../../machines/topology.ts';
import { eventsOf } from '../../machines/guards.ts';
import { fill, fillText } from '../config/placeholders.ts';
import type { Check, Config, HttpCheck } from '../config/schema.ts';
import { routesOf, type ServerSettings, serverSettings, testServerSettings } from '../config/settings.ts';
import type { ReleaseDocument } from '../store/document.ts';
import { type KnownState, stateOf } from './states.ts';
import { isRoute, rollbackPath } from './status.ts';
import { commandText, durationText, listText, type Paint, plainLine } from './text.ts';

/** One thing that is run or waited for. */
export interface PlanStep {
  /** A folder, a server, or flow's own worktree. */
  where: string;
  /** As a person would type it; a sentence where it is a wait. */
  command: string;
  why: string;
  /** Whether it changes anything; false for what only looks or waits. */
  changes: boolean;
}

interface Planning {
  config: Config;
  context: ReleaseContext;
}

type Argv = [string, ...string[]];

/** What a step that moves traffic is about. */
type SwitchTo = Pick<EffectInput<'goLive'>, 'to' | 'lost'>;

/**
 * The steps that an event leads to, until the next rest. Empty for an event that the state does not take, and for one that
 * only moves the release without running anything. `choice` is needed for ANSWER.
 */
export function planOf(document: ReleaseDocument, event: EventName, choice?: string): PlanStep[] {
  const { value: state, context } = document.snapshot;
  const planning: Planning = { config: document.config.pinned as Config, context };
  const known = stateOf(state, context.topology);
  if (known === null || !eventsOf(state, context).includes(event)) return [];
  switch (event) {
    case 'NEXT':
      return nextSteps(planning, known);
    case 'RETEST':
      return testingSteps(planning);
    case 'ABORT':
      return abortSteps(planning);
    case 'ROLLBACK':
      return rollbackPlan(planning, { anew: context.rollback === null || known.kind === 'stuck' });
    case 'ANSWER':
      return context.question?.choices.some((known) => known.choice === choice) === true
        ? answerSteps(planning, known, choice ?? '')
        : [];
    case 'RECHECK':
      return [];
  }
}

function nextSteps(planning: Planning, { kind, server }: KnownState): PlanStep[] {
  const { topology, version } = planning.context;
  const { canary, rest } = canaryAndRest(topology);
  const others = without(topology, canary.server);
  switch (kind) {
    case 'planned':
      return testingSteps(planning);
    case 'tested':
      return taggingSteps(planning);
    case 'tagged':
      return drainSteps(planning, canary.server, others);
    case 'drained':
      return publishSteps(planning, canary.server, version);
    case 'live':
      return soakSteps(planning, 'verifying');
    case 'verified':
      return publishSteps(planning, rest[0]?.server ?? '', version);
    case 'published': {
      if (server === canary.server) return goLiveSteps(planning, { to: [canary.server], lost: others });
      const following = rest[rest.findIndex((wave) => wave.server === server) + 1];
      if (following !== undefined) return publishSteps(planning, following.server, version);
      return [
        ...goLiveSteps(planning, { to: topology.servers, lost: [] }),
        ...soakSteps(planning, 'watchingAll'),
        ...mergeBackSteps(planning),
      ];
    }
    default:
      return [];
  }
}

/** What the choices mean stands in machines/; what is run for them is the step they lead to. */
function answerSteps(planning: Planning, { kind, server }: KnownState, choice: string): PlanStep[] {
  const { context } = planning;
  const { topology, version } = context;
  if (choice === 'rollback') return rollbackPlan(planning, { anew: true });
  if (choice === 'end') {
    const why = 'its processes are asked to stop, and killed after 10 s; what it published by then stays';
    return [{ where: WORKTREE, command: 'end the publish that still runs', why, changes: true }];
  }
  const goOn = (changed: Partial<ReleaseContext>): PlanStep[] =>
    rollbackPlan({ ...planning, context: { ...context, ...changed } }, { anew: false });
  switch (kind) {
    case 'askingTest':
      if (choice === 'again') return testingSteps(planning);
      return choice === 'stop' ? [] : provingTestSteps(planning);
    case 'askingDrain':
      if (choice === 'revert') return switchSteps(planning, topology.servers, 'put the traffic back');
      return choice === 'wait' ? drainWaitSteps(planning, [server]) : [];
    case 'askingPublish':
      return choice === 'again' ? publishSteps(planning, server, version) : provingSteps(planning, server, version);
    case 'askingSoak':
      return choice === 'again' ? soakSteps(planning, 'verifying') : [];
    case 'askingWatch':
      return [...(choice === 'again' ? soakSteps(planning, 'watchingAll') : []), ...mergeBackSteps(planning)];
    case 'askingWorldMoved':
      return choice === 'putBack'
        ? switchSteps(planning, context.routes[0] ?? [], 'put the proxy where this release believes it to be')
        : [];
    case 'askingDrainBack': {
      const wait = choice === 'wait' ? drainWaitSteps(planning, [server]) : [];
      return [...wait, ...goOn({ drained: [...context.drained, server] })];
    }
    case 'askingRestore': {
      const before = context.before[server] ?? '';
      const own = choice === 'again' ? restoreSteps(planning, server) : provingSteps(planning, server, before);
      return [...own, ...goOn({ runs: { ...context.runs, [server]: 'old' } })];
    }
    default:
      return [];
  }
}

function rollbackPlan(planning: Planning, options: { anew: boolean }): PlanStep[] {
  return rollbackPath(planning.context, options).flatMap(({ step, before }) => {
    switch (step.do) {
      case 'move':
        return [
          ...healthSteps(planning, step.to),
          ...switchSteps(planning, step.to, `traffic to ${listText(step.to)} at once`),
        ];
      case 'drain':
        return drainSteps({ ...planning, context: before }, step.server, step.to);
      case 'restore':
        return restoreSteps({ ...planning, context: before }, step.server);
      case 'rejoin':
        return [
          ...healthSteps(planning, step.to),
          ...switchSteps(planning, step.to, `${step.server} comes back into rotation`),
        ];
      case 'done':
        return [];
    }
  });
}

// R1: the test environment.

const WORKTREE = "flow's worktree";

const projectOf = ({ git }: Config): string => (git.dir === '.' ? 'the project' : git.dir);

function testingSteps(planning: Planning): PlanStep[] {
  const { config, context } = planning;
  const { branches, remote } = config.git;
  const dir = projectOf(config);
  const server = testServerSettings(config);
  return [
    runs(dir, ['git', 'fetch', remote], `see what is on ${remote}`),
    changes(
      `${WORKTREE} at ${branches.testing}`,
      ['git', 'merge', '--no-ff', branches.develop],
      `${branches.testing} gets what is to be released; left out where it has it already`,
    ),
    changes(dir, ['git', 'update-ref', `refs/heads/${branches.testing}`, 'MERGE'], 'the branch moves to the merge'),
    publishStep(planning, server, { version: context.version, at: branches.testing, commit: 'MERGE' }),
    ...provingTestSteps(planning),
  ];
}

function provingTestSteps({ config }: Planning): PlanStep[] {
  return provingOf(config, testServerSettings(config), `the commit of ${config.git.branches.testing}`);
}

// R2: change log and tag.

function taggingSteps({ config, context }: Planning): PlanStep[] {
  const { branches, remote, changelog } = config.git;
  const dir = projectOf(config);
  const { version } = context;
  const tested = testedCommit(context);
  const inWorktree = `${WORKTREE} at ${branches.master}`;
  return [
    ...versionSteps(testServerSettings(config), 'the test server still runs what was tested'),
    runs(dir, ['git', 'fetch', remote], `see what is on ${remote}, and that ${version} is not`),
    changes(
      inWorktree,
      ['git', 'merge', '--no-ff', tested],
      `${branches.master} gets what was tested, on no branch yet`,
    ),
    runs(
      inWorktree,
      ['git', 'diff', '--name-only', tested, 'HEAD'],
      `nothing but ${changelog} may differ from what was tested`,
    ),
    changes(
      inWorktree,
      ['git', 'commit', '-m', `ChangeLog for ${version}`, '--', changelog],
      `the section of ${version}, as it was edited`,
    ),
    changes(dir, ['git', 'update-ref', `refs/heads/${branches.master}`, 'COMMIT'], 'the branch moves to that commit'),
    changes(dir, ['git', 'tag', version, 'COMMIT'], 'together with the branch'),
    changes(
      dir,
      ['git', 'push', '--atomic', remote, branches.master, version],
      'the point of no return: what is pushed is never undone',
    ),
  ];
}

function abortSteps({ config, context }: Planning): PlanStep[] {
  const { branches, remote } = config.git;
  const dir = projectOf(config);
  const { version } = context;
  if (context.kind === 'rollback' || (context.attempts.tagging ?? 0) === 0) return [];
  const asked = runs(dir, ['git', 'ls-remote', remote, `refs/tags/${version}`], 'what is pushed stays');
  if (context.evidence.tagging !== undefined) return [asked];
  const ours = 'only where it is this release that moved it';
  return [
    asked,
    changes(dir, ['git', 'update-ref', `refs/heads/${branches.master}`, 'BEFORE'], ours),
    changes(dir, ['git', 'tag', '-d', version], ours),
  ];
}

function testedCommit(context: ReleaseContext): string {
  const tested = context.evidence.testing as TestingEvidence | undefined;
  return tested?.commit.slice(0, 10) ?? 'TESTED';
}

// R3, R5: publishing.

function publishSteps(planning: Planning, name: string, version: string): PlanStep[] {
  const server = serverSettings(planning.config, name);
  const { nginx } = planning.config;
  const serving = planning.context.routes[0] ?? [];
  return [
    waits(
      nginx.dir,
      `look that ${listText(serving)} alone ${serving.length === 1 ? 'serves' : 'serve'} and no old worker is left`,
      `${name} must receive nothing while it is published`,
    ),
    publishStep(planning, server, { version, at: version, commit: commitOf(planning.context, version) }),
    ...provingOf(planning.config, server, version),
  ];
}

/** As `publishSteps`, with the command that the config has for going back. */
function restoreSteps(planning: Planning, name: string): PlanStep[] {
  const { config, context } = planning;
  const version = context.before[name] ?? '';
  const run = config.rollback.run ?? config.publish.run;
  return publishSteps({ context, config: { ...config, publish: { ...config.publish, run } } }, name, version);
}

function commitOf(context: ReleaseContext, version: string): string {
  const { tagging } = context.evidence;
  return tagging !== undefined && 'previousTag' in tagging && tagging.tag === version ? tagging.commit : 'COMMIT';
}

function publishStep(
  { config }: Planning,
  server: ServerSettings,
  { version, at, commit }: { version: string; at: string; commit: string },
): PlanStep {
  const { name, dir, address } = server;
  const argv = fill(config.publish.run, { server: name, dir, address, version, tag: version, commit });
  const answer = config.publish.answer === '' ? '' : ` (stdin ${JSON.stringify(config.publish.answer.trimEnd())})`;
  return {
    where: `${WORKTREE} at ${at}`,
    command: `${commandText(argv)}${answer}`,
    why: `publish ${version} to ${name}, once, as a job that goes on without flow`,
    changes: true,
  };
}

function provingSteps({ config }: Planning, name: string, version: string): PlanStep[] {
  return provingOf(config, serverSettings(config, name), version);
}

function provingOf(config: Config, server: ServerSettings, expected: string): PlanStep[] {
  const within = `within ${durationText(config.publish.settle)}`;
  return [
    ...versionSteps(server, `${server.name} reports ${expected} ${within}`),
    healthStep(server, `${server.name} is healthy ${within}`),
  ];
}

function versionSteps({ name, version }: ServerSettings, why: string): PlanStep[] {
  const { run, http, cwd } = version;
  return [
    ...(run === undefined ? [] : [runs(cwd ?? name, run, why)]),
    ...(http === undefined ? [] : [{ where: name, command: `GET ${http}`, why, changes: false }]),
  ];
}

// R3.2, R4.1, R5.2: traffic.

function drainSteps(planning: Planning, server: string, to: readonly string[]): PlanStep[] {
  // A switch that stands is not made a second time: what is left is the wait.
  const standing = isRoute(planning.context, to);
  return [
    ...healthSteps(planning, to),
    ...(standing ? [] : rateSteps(planning, 'how fast they run before the switch')),
    ...(standing ? [] : switchSteps(planning, to, `take ${server} out of rotation`)),
    ...drainWaitSteps(planning, [server]),
  ];
}

function drainWaitSteps(planning: Planning, servers: readonly string[]): PlanStep[] {
  const { config } = planning;
  const checks = servers.flatMap((name) =>
    config.drain.checks.map((check) =>
      checkStep(check, serverSettings(config, name), `${name} has nothing left to do`),
    ),
  );
  return [
    workersStep(config, servers),
    ...checks,
    ...rateSteps(planning, `the log of ${listText(servers)} has stopped`),
  ];
}

function workersStep({ nginx, drain }: Config, servers: readonly string[]): PlanStep {
  return waits(
    nginx.dir,
    `wait until the old workers are gone, at most ${durationText(drain.deadline)}`,
    `then ${listText(servers)} ${servers.length === 1 ? 'has' : 'have'} finished what was begun before the switch`,
  );
}

function goLiveSteps(planning: Planning, { to, lost }: SwitchTo): PlanStep[] {
  return [
    ...healthSteps(planning, to),
    ...switchSteps(planning, to, `traffic to ${listText(to)}`),
    ...(lost.length === 0 ? [] : [workersStep(planning.config, lost)]),
    ...rateSteps(planning, 'who receives traffic now'),
  ];
}

function switchSteps({ config }: Planning, to: readonly string[], why: string): PlanStep[] {
  const { dir, test, reload } = config.nginx;
  return [
    changes(dir, ['git', 'switch', branchOf(config, to)], why),
    runs(dir, test, 'Nginx accepts the configuration; where it does not, the tree goes back'),
    changes(dir, reload, 'a graceful reload; proven by new workers under the same master'),
  ];
}

function branchOf(config: Config, to: readonly string[]): string {
  const route = routesOf(config).find(
    ({ servers }) => servers.length === to.length && servers.every((server) => to.includes(server)),
  );
  return route?.branch ?? `(no branch is known for ${listText(to)})`;
}

function healthSteps({ config }: Planning, servers: readonly string[]): PlanStep[] {
  return servers.map((name) =>
    healthStep(serverSettings(config, name), `${name} has to carry traffic: it must be healthy`),
  );
}

function healthStep({ name, health }: ServerSettings, why: string): PlanStep {
  return { where: name, command: `GET ${health.http} ${expectedOf(health)}`, why, changes: false };
}

function expectedOf({ status, contains, within }: HttpCheck): string {
  const text = contains === undefined ? '' : ` with ${JSON.stringify(contains)}`;
  return `(expects ${status}${text}${within === undefined ? '' : ` within ${within} ms`})`;
}

function rateSteps({ config, context }: Planning, why: string): PlanStep[] {
  if (config.drain.watch === 0) return [];
  const logs = context.topology.servers.map((name) => serverSettings(config, name).log);
  return [waits('logs', `follow ${listText([...new Set(logs)])} for ${durationText(config.drain.watch)}`, why)];
}

// R4.2, R5.2, R5.3: observing, and the end.

function soakSteps({ config, context }: Planning, step: 'verifying' | 'watchingAll'): PlanStep[] {
  const { canary } = canaryAndRest(context.topology);
  const serving = step === 'verifying' ? [canary.server] : context.topology.servers;
  const window = step === 'verifying' ? config.verify.soak : config.watch.soak;
  const settings = serving.map((name) => serverSettings(config, name));
  const often = `every ${durationText(config.verify.every)} for ${durationText(window)}`;
  const bad =
    config.verify.onBad === 'rollback' ? 'a bad result rolls back by itself' : 'a bad result is held for a decision';
  return [
    ...settings.map((server) => healthStep(server, `${often}; ${bad}`)),
    ...config.verify.checks.flatMap((check) => settings.slice(0, 1).map((server) => checkStep(check, server, often))),
    ...settings.map(({ name, log }) =>
      waits(
        name,
        `follow ${log} for ${durationText(window)}`,
        `errors (${config.verify.errors.join(', ')}) as rare as before the release`,
      ),
    ),
    waits(
      config.nginx.dir,
      `follow ${config.nginx.accessLog} for ${durationText(window)}`,
      '5xx answers as rare as before the release',
    ),
  ];
}

function mergeBackSteps({ config }: Planning): PlanStep[] {
  const { develop, master } = config.git.branches;
  return [
    changes(
      projectOf(config),
      ['git', 'merge', master],
      `${develop} gets what was released; only in a clean tree on ${develop}, else it is left for you to do`,
    ),
  ];
}

// The forms of a step.

function checkStep(check: Check, { name, dir, address }: ServerSettings, why: string): PlanStep {
  const values = { server: name, dir, address };
  if ('run' in check) return runs(check.cwd ?? name, fill(check.run, values), why);
  return { where: name, command: `GET ${fillText(check.http, values)} ${expectedOf(check)}`, why, changes: false };
}

function runs(where: string, argv: readonly string[], why: string): PlanStep {
  return { where, command: commandText(argv), why, changes: false };
}

function changes(where: string, argv: Argv, why: string): PlanStep {
  return { where, command: commandText(argv), why, changes: true };
}

function waits(where: string, sentence: string, why: string): PlanStep {
  return { where, command: sentence, why, changes: false };
}

/** The text of a plan, without a line end at its end. */
export function planText(plan: readonly PlanStep[], paint: Paint): string {
  if (plan.length === 0) return 'Nothing would be run.';
  const width = String(plan.length).length;
  const lines = plan.flatMap(({ where, command, why, changes: isChange }, index) => {
    const number = String(index + 1).padStart(width);
    const does = isChange ? paint.yellow('changes') : paint.dim('looks  ');
    return [
      `${number}  ${does}  ${plainLine(where)}: ${paint.bold(plainLine(command))}`,
      `${' '.repeat(width + 11)}${paint.dim(plainLine(why))}`,
    ];
  });
  return paint.finish(lines.join('\n'));
}
