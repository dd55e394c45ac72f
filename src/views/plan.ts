/**
 * What an event will run, before it is sent: the commands of the next steps, in order, until the release rests again.
 *
 * It follows src/effects step by step and fills commands with the same functions, so that what is shown is what runs; git's
 * plumbing is written as the command a person would type for it. Where the path depends on what a step finds, the path is that
 * of success. Deliberately absent: looking at anything. The plan is computed from the pinned config and the context alone.
 */
import type { EffectInput, ReleaseContext, TestingEvidence } from '../../machines/contract.ts';
import type { EventName } from '../../machines/events.ts';
import { routeOf } from '../../machines/routes.ts';
import { type Wave, wavesOf, without } from '../../machines/topology.ts';
import { eventsOf } from '../../machines/guards.ts';
import { fill, fillText } from '../config/placeholders.ts';
import type { Check, Config, HttpCheck, IncludeConfig } from '../config/schema.ts';
import {
  minimumHealthyOf,
  previewRouteOf,
  proxiesOf,
  type Route,
  routesOf,
  type ServerSettings,
  serverSettings,
  soakOf,
  testServerSettings,
} from '../config/settings.ts';
import { serverLines } from '../nginx/include-file.ts';
import type { ReleaseDocument } from '../store/document.ts';
import { type KnownState, namesText, stateOf } from './states.ts';
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

function nextSteps(planning: Planning, { kind, wave: index }: KnownState): PlanStep[] {
  const { context } = planning;
  const { topology } = context;
  const waves = wavesOf(topology);
  const here = waves[index ?? 0];
  const following = index === null ? undefined : waves[index + 1];
  const isRolling = topology.cutover === 'rolling';
  const draining = (wave: Wave | undefined): PlanStep[] =>
    wave === undefined ? [] : drainSteps(planning, wave.servers, routeOf(context, `${wave.lower}Drained`));
  const publishing = (wave: Wave | undefined): PlanStep[] => publishAllSteps(planning, toPublish(context, wave));
  switch (kind) {
    case 'planned':
      return testingSteps(planning);
    case 'tested':
      return taggingSteps(planning);
    case 'tagged':
      return draining(here);
    case 'drained':
      return publishing(here);
    case 'live':
      return soakSteps(planning, here ?? null);
    case 'verified':
    case 'waveLive':
      return isRolling ? draining(following) : publishing(following);
    case 'published':
    case 'previewed': {
      if (here === undefined) return [];
      if (kind === 'published' && index === 0 && topology.preview === true) return previewSteps(planning, here);
      if (index !== 0 && !isRolling && following !== undefined) return publishing(following);
      const milestone = following === undefined ? 'allLive' : `${here.lower}Live`;
      const to = routeOf(context, milestone);
      const goLive = goLiveSteps(planning, {
        to,
        lost: (context.routes[0] ?? []).filter((name) => !to.includes(name)),
      });
      if (following !== undefined) return index === 0 ? goLive : [...goLive, ...soakSteps(planning, here)];
      return [...goLive, ...soakSteps(planning, null), ...mergeBackSteps(planning)];
    }
    default:
      return [];
  }
}

/** The servers of a wave that are still to be published. */
const toPublish = ({ runs, leftOut }: ReleaseContext, wave: Wave | undefined): string[] =>
  (wave?.servers ?? []).filter((name) => runs[name] !== 'new' && !leftOut.includes(name));

/** What the choices mean stands in machines/; what is run for them is the step they lead to. */
function answerSteps(planning: Planning, { kind, servers, wave: index }: KnownState, choice: string): PlanStep[] {
  const { context } = planning;
  const { topology, version } = context;
  const wave = wavesOf(topology)[index ?? 0];
  if (choice === 'rollback') return rollbackPlan(planning, { anew: true });
  if (choice === 'end') {
    const why = 'its processes are asked to stop, and killed after 10 s; what it published by then stays';
    return [{ where: WORKTREE, command: 'end the publish that still runs', why, changes: true }];
  }
  if (choice === 'leaveOut') return [];
  const goOn = (changed: Partial<ReleaseContext>): PlanStep[] =>
    rollbackPlan({ ...planning, context: { ...context, ...changed } }, { anew: false });
  const isAgain = choice === 'again' || choice === 'retry';
  switch (kind) {
    case 'askingTest':
      if (choice === 'again') return testingSteps(planning);
      return choice === 'stop' ? [] : provingTestSteps(planning);
    case 'askingDrain':
      if (choice === 'revert')
        return switchSteps(planning, routeOf(context, milestoneBefore(context, index ?? 0)), 'put the traffic back');
      return choice === 'wait' ? drainWaitSteps(planning, servers) : [];
    case 'askingPublish': {
      const left = toPublish(context, wave);
      return isAgain
        ? publishAllSteps(planning, left)
        : left.flatMap((server) => provingSteps(planning, server, version));
    }
    case 'askingSoak':
    case 'askingWaveSoak':
      return choice === 'again' ? soakSteps(planning, wave ?? null) : [];
    case 'askingWatch':
      return [...(choice === 'again' ? soakSteps(planning, null) : []), ...mergeBackSteps(planning)];
    case 'askingWorldMoved':
      return choice === 'putBack'
        ? switchSteps(planning, context.routes[0] ?? [], 'put the proxy where this release believes it to be')
        : [];
    case 'askingDrainBack': {
      const wait = choice === 'wait' ? drainWaitSteps(planning, servers) : [];
      return [...wait, ...goOn({ drained: [...context.drained, ...servers] })];
    }
    case 'askingRestore': {
      const left = servers.filter((server) => context.runs[server] !== 'old');
      const own = isAgain
        ? restoreSteps(planning, left)
        : left.flatMap((server) => provingSteps(planning, server, context.before[server] ?? ''));
      const runs = { ...context.runs, ...Object.fromEntries(left.map((server) => [server, 'old'] as const)) };
      return [...own, ...goOn({ runs })];
    }
    default:
      return [];
  }
}

/** The milestone from which a wave is drained. */
function milestoneBefore({ topology }: ReleaseContext, wave: number): string {
  if (wave === 0) return 'tagged';
  return wave === 1 ? 'verified' : `${wavesOf(topology)[wave - 1]?.lower ?? ''}Live`;
}

/** Waves of a rollback that are shown command by command; what follows is a line for each. */
const MOST_WAVES_SHOWN = 3;

function rollbackPlan(planning: Planning, options: { anew: boolean }): PlanStep[] {
  const path = rollbackPath(planning.context, options);
  const waves = [...new Set(path.flatMap(({ step }) => ('wave' in step ? [step.wave] : [])))];
  const shown = waves.length <= MOST_WAVES_SHOWN ? waves : waves.slice(0, 1);
  const steps = path.flatMap(({ step, before }) => {
    if ('wave' in step && !shown.includes(step.wave)) return [];
    switch (step.do) {
      case 'move':
        return [
          ...healthSteps(planning, step.to),
          ...switchSteps(planning, step.to, `traffic to ${namesText(step.to)} at once`),
        ];
      case 'drain':
        return drainSteps({ ...planning, context: before }, step.servers, step.to);
      case 'restore':
        return restoreSteps({ ...planning, context: before }, step.servers);
      case 'rejoin':
        return [
          ...healthSteps(planning, step.to),
          ...switchSteps(
            planning,
            step.to,
            `${namesText(step.servers)} ${step.servers.length === 1 ? 'comes' : 'come'} back into rotation`,
          ),
        ];
      case 'done':
        return [];
    }
  });
  const others = waves.filter((wave) => !shown.includes(wave));
  const folded = others.map((wave): PlanStep => {
    const servers = [
      ...new Set(path.flatMap(({ step }) => ('wave' in step && step.wave === wave ? step.servers : []))),
    ];
    return {
      where: namesText(servers),
      command: 'the same: out of rotation, the version before, back into rotation',
      why: 'one wave after the other, so that the load is carried',
      changes: true,
    };
  });
  return [...steps, ...folded];
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
  const serving = planning.context.routes[0] ?? [];
  return [
    waits(
      proxiesOf(planning.config).map(placeOf).join(' '),
      `look that ${listText(serving)} alone ${serving.length === 1 ? 'serves' : 'serve'} and no old worker is left`,
      `${name} must receive nothing while it is published`,
    ),
    publishStep(planning, server, { version, at: version, commit: commitOf(planning.context, version) }),
    ...provingOf(planning.config, server, version),
  ];
}

/** Several servers: the commands of the first, and a line for the others, which are alike. */
function publishAllSteps(planning: Planning, servers: readonly string[], versions?: readonly string[]): PlanStep[] {
  const [first, ...others] = servers;
  if (first === undefined) return [];
  const version = versions?.[0] ?? planning.context.version;
  const steps = publishSteps(planning, first, version);
  if (others.length === 0) return steps;
  const { sideBySide } = planning.config.publish;
  return [
    ...steps,
    {
      where: publishPlaceOf(planning.config, null, [...new Set(versions ?? [version])].join(', ')),
      command: `the same for ${namesText(others)}`,
      why: `each a job of its own, ${sideBySide === 1 ? 'one after the other' : `at most ${sideBySide} at a time`}; when one fails, no other is begun`,
      changes: true,
    },
  ];
}

/** As publishing, with the command that the config has for going back. */
function restoreSteps(planning: Planning, servers: readonly string[]): PlanStep[] {
  const { config, context } = planning;
  const versions = servers.map((name) => context.before[name] ?? '');
  const run = config.rollback.run ?? config.publish.run;
  return publishAllSteps({ context, config: { ...config, publish: { ...config.publish, run } } }, servers, versions);
}

// R4.4: the pre-release proxy.

function previewSteps({ config }: Planning, { servers }: Wave): PlanStep[] {
  const { preview } = config;
  const { nginx } = preview ?? {};
  const switching =
    nginx === undefined
      ? []
      : [
          changes(
            nginx.dir,
            filesCommand(config, nginx, previewRouteOf(config, servers), servers),
            `the pre-release proxy leads to ${listText(servers)}`,
          ),
          runs(nginx.dir, nginx.test, 'its Nginx accepts the configuration'),
          changes(nginx.dir, nginx.reload, 'no customer is on it'),
        ];
  const checks = servers.flatMap((name) =>
    (preview?.checks ?? []).map((check) =>
      checkStep(check, serverSettings(config, name), 'before any customer reaches it'),
    ),
  );
  return [...switching, ...checks];
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
    where: publishPlaceOf(config, server, at),
    command: `${commandText(argv)}${answer}`,
    why: `publish ${version} to ${name}, once, as a job that goes on without flow`,
    changes: true,
  };
}

/** Where a publish runs: in flow's own tree, or in a clone of the project on another host. Null stands for several servers. */
function publishPlaceOf({ publish }: Config, server: ServerSettings | null, at: string): string {
  const { on, dir } = publish;
  if (on === undefined || dir === undefined) return `${WORKTREE} at ${at}`;
  if (server === null) return on === '{on}' ? 'each host' : `${on}:${dir}`;
  const { name, address } = server;
  const folder = fillText(dir, { server: name, dir: server.dir, address });
  return placeOf({ on: on === '{on}' ? server.on : on, dir: folder });
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

function versionSteps({ name, from, version }: ServerSettings, why: string): PlanStep[] {
  const { run, http, cwd } = version;
  return [
    ...(run === undefined ? [] : [runs(cwd ?? name, run, why)]),
    ...(http === undefined ? [] : [{ where: askedFrom(name, from), command: `GET ${http}`, why, changes: false }]),
  ];
}

// R3.2, R4.1, R5.2: traffic.

function drainSteps(planning: Planning, servers: readonly string[], to: readonly string[]): PlanStep[] {
  // A switch that stands is not made a second time: what is left is the wait.
  const standing = isRoute(planning.context, to);
  return [
    ...healthSteps(planning, to),
    ...(standing ? [] : rateSteps(planning, 'how fast they run before the switch')),
    ...(standing ? [] : switchSteps(planning, to, `take ${namesText(servers)} out of rotation`)),
    ...drainWaitSteps(planning, servers),
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
    ...rateSteps(planning, `the log of ${namesText(servers)} has stopped`),
  ];
}

function workersStep(config: Config, servers: readonly string[]): PlanStep {
  const { drain } = config;
  return waits(
    proxiesOf(config).map(placeOf).join(' '),
    `wait until the old workers are gone, at most ${durationText(drain.deadline)}`,
    `then ${namesText(servers)} ${servers.length === 1 ? 'has' : 'have'} finished what was begun before the switch`,
  );
}

function goLiveSteps(planning: Planning, { to, lost }: SwitchTo): PlanStep[] {
  return [
    ...healthSteps(planning, to),
    ...switchSteps(planning, to, `traffic to ${namesText(to)}`),
    ...(lost.length === 0 ? [] : [workersStep(planning.config, lost)]),
    ...rateSteps(planning, 'who receives traffic now'),
  ];
}

function switchSteps({ config }: Planning, to: readonly string[], why: string): PlanStep[] {
  const proxies = proxiesOf(config);
  const back = proxies.length === 1 ? 'the tree goes back' : 'every tree goes back';
  return [
    ...proxies.flatMap((nginx) => [
      changes(placeOf(nginx), filesCommand(config, nginx, routeTo(config, to), to), why),
      runs(placeOf(nginx), nginx.test, `Nginx accepts the configuration; where it does not, ${back}`),
    ]),
    ...proxies.map((nginx) =>
      changes(placeOf(nginx), nginx.reload, 'a graceful reload; proven by new workers under the same master'),
    ),
  ];
}

/** A folder, and the host it is on. */
const placeOf = ({ on, dir }: { on?: string | undefined; dir: string }): string =>
  on === undefined ? dir : `${on}:${dir}`;

const routeTo = (config: Config, to: readonly string[]): Route | undefined =>
  routesOf(config).find(
    ({ servers }) => servers.length === to.length && servers.every((server) => to.includes(server)),
  );

/** How the files of a proxy come to be those of a route: another branch, or a commit of the file that flow writes. */
function filesCommand(
  config: Config,
  { include }: { include?: IncludeConfig | undefined },
  route: Route | null | undefined,
  to: readonly string[],
): Argv | string {
  if (include === undefined) return ['git', 'switch', route?.branch ?? `(no branch is known for ${listText(to)})`];
  const addresses = Object.fromEntries(Object.entries(config.servers).map(([name, { address }]) => [name, address]));
  const lines = serverLines(include, to, addresses);
  const shown = lines.length <= MOST_SERVERS_SHOWN ? lines.join(' ') : `${lines.length} server lines`;
  return `git commit ${include.file}: ${shown}`;
}

function healthSteps({ config }: Planning, servers: readonly string[]): PlanStep[] {
  const [first, ...others] = servers;
  if (first === undefined) return [];
  const one = (name: string) =>
    healthStep(serverSettings(config, name), `${name} has to carry traffic: it must be healthy`);
  if (servers.length <= MOST_SERVERS_SHOWN) return servers.map(one);
  const count = minimumHealthyOf(config);
  const why = `they have to carry traffic: ${count} of ${servers.length} must be healthy`;
  return [one(first), waits(namesText(others), 'the same', why)];
}

/** Servers that are asked one by one in a plan; of more, the first. */
const MOST_SERVERS_SHOWN = 8;

/** A name, and the host that its address is asked from where that is not this machine. */
const askedFrom = (name: string, from: string | undefined): string =>
  from === undefined || from === name ? name : `${name} (from ${from})`;

function healthStep({ name, from, health }: ServerSettings, why: string): PlanStep {
  return {
    where: askedFrom(name, health.on ?? from),
    command: `GET ${health.http} ${expectedOf(health)}`,
    why,
    changes: false,
  };
}

function expectedOf({ status, contains, within }: HttpCheck): string {
  const text = contains === undefined ? '' : ` with ${JSON.stringify(contains)}`;
  return `(expects ${status}${text}${within === undefined ? '' : ` within ${within} ms`})`;
}

function rateSteps({ config, context }: Planning, why: string): PlanStep[] {
  if (config.drain.watch === 0) return [];
  const logs = [...new Set(context.topology.servers.map((name) => serverSettings(config, name).log))];
  return [waits('logs', `follow ${namesText(logs)} for ${durationText(config.drain.watch)}`, why)];
}

// R4.2, R5.2, R5.3: observing, and the end.

/** `wave`: the one that has just joined; null for the watch of all servers. */
function soakSteps({ config, context }: Planning, wave: Wave | null): PlanStep[] {
  const serving = wave === null ? without(context.topology, ...context.leftOut) : wave.servers;
  const window = wave === null ? config.watch.soak : soakOf(config, context.topology, wave.index);
  const settings = serving.map((name) => serverSettings(config, name));
  const often = `every ${durationText(config.verify.every)} for ${durationText(window)}`;
  const bad =
    config.verify.onBad === 'rollback' ? 'a bad result rolls back by itself' : 'a bad result is held for a decision';
  const shown = settings.slice(0, MOST_SERVERS_SHOWN);
  const others = serving.slice(MOST_SERVERS_SHOWN);
  return [
    ...shown.map((server) => healthStep(server, `${often}; ${bad}`)),
    ...config.verify.checks.flatMap((check) => settings.slice(0, 1).map((server) => checkStep(check, server, often))),
    ...(others.length === 0 ? [] : [waits(namesText(others), 'the same, and their logs', often)]),
    ...shown.map(({ name, log }) =>
      waits(
        name,
        `follow ${log} for ${durationText(window)}`,
        `errors (${config.verify.errors.join(', ')}) as rare as before the release`,
      ),
    ),
    waits(
      proxiesOf(config).map(placeOf).join(' '),
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
  if ('run' in check) return runs(check.on ?? check.cwd ?? name, fill(check.run, values), why);
  return {
    where: askedFrom(name, check.on),
    command: `GET ${fillText(check.http, values)} ${expectedOf(check)}`,
    why,
    changes: false,
  };
}

function runs(where: string, argv: readonly string[], why: string): PlanStep {
  return { where, command: commandText(argv), why, changes: false };
}

function changes(where: string, command: Argv | string, why: string): PlanStep {
  return { where, command: typeof command === 'string' ? command : commandText(command), why, changes: true };
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
