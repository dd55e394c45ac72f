/**
 * Where a release stands: the value behind `flow status` (text, `--watch` and `--json`), and the text made from it.
 * It shows what the release believes, which is what is stored; whether the world agrees is for `flow resume`.
 * Pure and light: `now` is an argument, and nothing here loads XState, zod or a YAML parser.
 */
import type { Question, ReleaseContext, Runs, StepFailure } from '../../machines/contract.ts';
import type { EventName } from '../../machines/events.ts';
import { mayServe, nextRollbackStep, type RollbackStep, unrestorableServers } from '../../machines/rollback.ts';
import { repairs } from '../../machines/routes.ts';
import { milestonesOf, sameServers, without } from '../../machines/topology.ts';
import { eventsOf } from '../../machines/guards.ts';
import type { HistoryEntry, ReleaseDocument } from '../store/document.ts';
import { namesText, nextInWords, type Phase, phaseOf, placeOf, stateOf, stateSentence, versionText } from './states.ts';
import { type Cell, durationText, type Paint, padded, plainLine, recentTimeText, table } from './text.ts';

/** Who holds the lock, as driver.json tells it. */
export interface StatusDriver {
  who: string;
  host: string;
  pid: number;
  /** ISO time. */
  since: string;
  /** What it does, in words that follow "is". */
  doing: string;
}

export type Traffic = 'inRotation' | 'mayBeInRotation' | 'drained' | 'outOfRotation' | 'leftOut';

export interface ServerStatus {
  name: string;
  traffic: Traffic;
  runs: Runs;
  /** The tag it runs; null where nobody can say, or where it ran nothing. */
  version: string | null;
  /** `version` in words, for people. */
  says: string;
  /** The operator went on without the proof that it has finished what it had. */
  drainWaived: boolean;
}

export interface Milestone {
  name: string;
  /** The wave it is about, counted from 1; null where it is about none. */
  wave: number | null;
  /** `active` is where the release rests, or what it works towards. */
  mark: 'done' | 'active' | 'open' | 'skipped';
}

/** A command to run next, and what it does. */
export interface NextCommand {
  command: string;
  does: string;
}

export interface ReleaseStatus {
  id: string;
  project: string;
  kind: 'release' | 'rollback';
  version: string;
  /** The versions the servers ran when it started, each once. */
  before: string[];
  rev: number;
  state: string;
  sentence: string;
  phase: Phase;
  startedAt: string;
  endedAt: string | null;
  /** What is wrong with nobody driving it; null when all is as it should be. */
  unwatched: string | null;
  milestones: Milestone[];
  servers: ServerStatus[];
  /** The newest figures of the step that is under way. */
  live: { text: string; at: string } | null;
  question: (Question & { commands: NextCommand[] }) | null;
  failure: StepFailure | null;
  rollback: { because: string; moved: boolean; stillToDo: string[] } | null;
  bad: { version: string; because: string } | null;
  followUps: string[];
  last: HistoryEntry | null;
  commands: NextCommand[];
}

export interface StatusView {
  schemaVersion: 1;
  /** ISO time of the look. */
  at: string;
  driver: StatusDriver | null;
  /** The newest release, running or ended; null when there never was one. */
  release: ReleaseStatus | null;
}

export interface StatusInput {
  document: ReleaseDocument | null;
  driver: StatusDriver | null;
  /** The last line of live figures, `{ step, text, at }`; anything else counts as none. */
  live: unknown;
  now: Date;
}

/** Where the release stands, as a plain value. */
export function statusView({ document, driver, live, now }: StatusInput): StatusView {
  return {
    schemaVersion: 1,
    at: now.toISOString(),
    driver:
      driver === null
        ? null
        : { who: driver.who, host: driver.host, pid: driver.pid, since: driver.since, doing: driver.doing },
    release: document === null ? null : releaseStatus(document, driver !== null, live),
  };
}

function releaseStatus(document: ReleaseDocument, isDriven: boolean, live: unknown): ReleaseStatus {
  const { value: state, context } = document.snapshot;
  const phase = phaseOf(state, context);
  const { question } = context;
  return {
    id: document.id,
    project: document.project,
    kind: context.kind,
    version: context.version,
    before: [...new Set(context.topology.servers.map((server) => context.before[server] ?? 'none'))],
    rev: document.rev,
    state,
    sentence: stateSentence(state, context),
    phase,
    startedAt: document.startedAt,
    endedAt: document.endedAt,
    unwatched: phase === 'working' && !isDriven ? `the step ${state} waits for: flow resume` : null,
    milestones: milestones(document),
    servers: context.topology.servers.map((server) => serverStatus(server, context)),
    live: phase === 'working' ? liveOf(live, state) : null,
    question:
      phase === 'asking' && question !== null ? { ...question, commands: question.choices.map(answerCommand) } : null,
    failure: context.failure,
    rollback:
      context.rollback === null
        ? null
        : {
            because: context.rollback.because,
            moved: context.rollback.moved,
            stillToDo: phase === 'ended' ? [] : rollbackSteps(context, { anew: state === 'stuck' }),
          },
    bad: context.bad,
    followUps: phase === 'ended' ? context.followUps : [...context.followUps, ...repairs(context)],
    last: document.history.at(-1) ?? null,
    commands: commandsOf(state, phase, context, isDriven),
  };
}

/** On the way forward by place, since a failed step leads back; on the way back by what was once reached. */
function milestones({ snapshot, history }: ReleaseDocument): Milestone[] {
  const { value: state, context } = snapshot;
  const place = placeOf(state, context);
  const reached = new Set(history.map(({ to }) => to));
  const markOf = (name: string, index: number): Milestone['mark'] => {
    const left = context.kind === 'rollback' && (name === 'planned' || name === 'tested');
    if (left) return 'skipped';
    if (place === null) return reached.has(name) ? 'done' : 'skipped';
    if (index === place) return state === 'allLive' ? 'done' : 'active';
    return index < place ? 'done' : 'open';
  };
  return milestonesOf(context.topology).map((name, index) => {
    const wave = stateOf(name, context.topology)?.wave ?? null;
    return { name, wave: wave === null ? null : wave + 1, mark: markOf(name, index) };
  });
}

/** What has to be known of a release to say how its servers stand. */
export type Standings = Pick<
  ReleaseContext,
  'topology' | 'before' | 'version' | 'runs' | 'routes' | 'drained' | 'drainWaived' | 'leftOut'
> &
  Partial<Pick<ReleaseContext, 'serving' | 'ranBefore'>>;

/** How one server stands. */
export function serverStatus(name: string, context: Standings): ServerStatus {
  const runs = context.runs[name] ?? 'unknown';
  return {
    name,
    traffic: trafficOf(name, context),
    runs,
    version: runs === 'unknown' ? null : runs === 'new' ? context.version : (context.before[name] ?? null),
    says: versionText(name, context),
    drainWaived: context.drainWaived.includes(name),
  };
}

/** While a switch is under way more than one route may be live. */
function trafficOf(server: string, context: Standings): Traffic {
  if (context.routes.every((route) => route.includes(server))) return 'inRotation';
  if (mayServe(context).includes(server)) return 'mayBeInRotation';
  if (context.leftOut.includes(server)) return 'leftOut';
  return context.drained.includes(server) && !context.drainWaived.includes(server) ? 'drained' : 'outOfRotation';
}

function liveOf(live: unknown, state: string): { text: string; at: string } | null {
  if (typeof live !== 'object' || live === null || !('step' in live) || !('text' in live) || !('at' in live))
    return null;
  const { step, text, at } = live;
  return step === state && typeof text === 'string' && typeof at === 'string' ? { text, at } : null;
}

/** Choices that go on without proof: the record asks why. */
const NEED_A_REASON: readonly string[] = ['proceed', 'accept', 'leaveOut'];

/** The command that gives an answer. */
function answerCommand({ choice, does }: Question['choices'][number]): NextCommand {
  const why = NEED_A_REASON.includes(choice) ? ' -m WHY' : '';
  return { command: `flow send ANSWER ${choice}${why}`, does };
}

function commandsOf(state: string, phase: Phase, context: ReleaseContext, isDriven: boolean): NextCommand[] {
  if (phase === 'ended') return [...AFTER_THE_END];
  const commands: NextCommand[] = [];
  if (phase === 'working') {
    commands.push(
      isDriven
        ? { command: 'flow status --watch', does: 'follow it' }
        : { command: 'flow resume', does: `go on with ${state}` },
    );
  }
  const does = eventsInWords(state, context);
  for (const event of eventsOf(state, context)) {
    const words = does[event];
    if (words !== undefined) commands.push({ command: `flow send ${event}`, does: words });
  }
  return commands;
}

/** What each event does here, for the commands and for `flow why`. ANSWER is left to the question's choices. */
export function eventsInWords(state: string, context: ReleaseContext): Partial<Record<EventName, string>> {
  const next = nextInWords(state, context);
  return {
    ...(next === null ? {} : { NEXT: next }),
    RETEST: 'test once more, with what is on the development branch now',
    ABORT:
      context.evidence.tagging === undefined
        ? 'give the release up; production is untouched'
        : 'give the release up; production is untouched, the pushed tag stays',
    ROLLBACK: rollbackSteps(context, { anew: context.rollback === null || state === 'stuck' }).join(', then '),
  };
}

const AFTER_THE_END: readonly NextCommand[] = [
  { command: 'flow start', does: 'plan the next release' },
  { command: 'flow history', does: 'read what happened' },
];

/** What a rollback does to the context when its step succeeds; what it moves is proven, so only the end is of interest. */
function afterStep(context: ReleaseContext, step: RollbackStep): ReleaseContext {
  const moved = (to: string[]): ReleaseContext => ({
    ...context,
    routes: [to],
    drained: context.drained.filter((server) => !to.includes(server)),
  });
  switch (step.do) {
    case 'move':
      return { ...moved(step.to), rollback: { because: context.rollback?.because ?? '', moved: true } };
    case 'drain': {
      const out = moved(step.to);
      return { ...out, drained: [...out.drained, ...step.servers] };
    }
    case 'rejoin':
      return moved(step.to);
    case 'restore':
      return {
        ...context,
        runs: { ...context.runs, ...Object.fromEntries(step.servers.map((server) => [server, 'old'] as const)) },
        unhealthy: context.unhealthy.filter((server) => !step.servers.includes(server)),
      };
    case 'done':
      return context;
  }
}

/** A release of n servers is back after a move and three steps for each; more means that the rule goes in a circle. */
const MOST_STEPS_EACH = 4;

/**
 * The steps of a rollback, computed by the chart's own rule as if each of them succeeded.
 * `anew` begins it, as the event ROLLBACK does; otherwise one that has begun goes on. Which servers are healthy is not known here.
 */
export function rollbackPath(
  context: ReleaseContext,
  { anew = context.rollback === null }: { anew?: boolean } = {},
): { step: RollbackStep; before: ReleaseContext }[] {
  const path: { step: RollbackStep; before: ReleaseContext }[] = [];
  let at: ReleaseContext = anew
    ? {
        ...context,
        unhealthy: [],
        leftOut: context.rollback === null ? [] : context.leftOut,
        rollback: { because: '', moved: false },
      }
    : context;
  for (let left = 1 + MOST_STEPS_EACH * context.topology.servers.length; left > 0; left -= 1) {
    const step = nextRollbackStep(at);
    if (step.do === 'done') return path;
    path.push({ step, before: at });
    at = afterStep(at, step);
  }
  return path;
}

/** What a rollback would do, step by step, in words; of many waves the first, and how many are left. Empty when nothing is left to do. */
export function rollbackSteps(context: ReleaseContext, options: { anew?: boolean } = {}): string[] {
  const path = rollbackPath(context, options);
  const words = folded(path);
  const last = path.at(-1);
  const atTheEnd = last === undefined ? context : afterStep(last.before, last.step);
  const lost = unrestorableServers(atTheEnd);
  if (lost.length > 0) {
    const why = `as no version is known that ran there before`;
    return [...words, last === undefined ? `leave traffic as it is, ${why}` : `leave ${namesText(lost)} out, ${why}`];
  }
  if (last === undefined || context.restore !== 'hold') return words;
  const out = without(context.topology, ...mayServe(atTheEnd));
  return out.length === 0 ? words : [...words, `leave ${namesText(out)} out of rotation (rollback.restore: hold)`];
}

/** Waves that are told in full; of more, the first and the last step are. */
const MOST_WAVES_TOLD = 2;

function folded(path: ReturnType<typeof rollbackPath>): string[] {
  const waves = [...new Set(path.flatMap(({ step }) => ('wave' in step ? [step.wave] : [])))];
  const words = path.map(({ step, before }) => stepInWords(step, before));
  const told = waves.slice(0, MOST_WAVES_TOLD);
  const isTold = path.map(({ step }) => !('wave' in step) || told.includes(step.wave));
  if (waves.length <= MOST_WAVES_TOLD + 1) return words;
  const more = `the same for ${waves.length - MOST_WAVES_TOLD} more waves`;
  return [...words.filter((_, index) => isTold[index]), more];
}

function stepInWords(step: RollbackStep, context: ReleaseContext): string {
  const { topology } = context;
  switch (step.do) {
    case 'move':
      return `traffic to ${namesText(step.to)} ${isRoute(context, step.to) ? '(where it is, proven again)' : 'at once'}`;
    case 'drain': {
      const had = step.servers.length === 1 ? 'it has finished what it had' : 'they have finished what they had';
      if (!isRoute(context, step.to)) return `take ${namesText(step.servers)} out of rotation until ${had}`;
      return step.servers.length === 1
        ? `wait until ${namesText(step.servers)} has finished what it had`
        : `wait until ${namesText(step.servers)} have finished what they had`;
    }
    case 'restore': {
      const versions = [...new Set(step.servers.map((server) => context.before[server] ?? ''))];
      return `restore ${versions.join(', ')} on ${namesText(step.servers)}`;
    }
    case 'rejoin':
      return sameServers(step.to, topology.servers)
        ? `traffic to ${step.to.length === 2 ? 'both' : 'all'}`
        : `${namesText(step.servers)} into rotation`;
    case 'done':
      return 'nothing';
  }
}

/** Whether exactly these servers are in rotation, by a switch that is proven. */
export function isRoute({ routes }: Pick<ReleaseContext, 'routes'>, servers: readonly string[]): boolean {
  return routes.length === 1 && sameServers(routes[0] ?? [], servers);
}

/** What a rollback does not undo, for its confirmation. */
export function rollbackLeaves(context: ReleaseContext): string[] {
  const tagged = context.kind === 'release' && context.evidence.tagging !== undefined;
  const hasServed = context.served || mayServe(context).some((server) => context.runs[server] === 'new');
  return [
    ...(tagged ? [`the tag ${context.version} and the merge into the release branch stay, as they are pushed`] : []),
    ...(hasServed ? [`${context.version} is marked bad: releasing it again needs an override`] : []),
  ];
}

const LABEL_WIDTH = 9;

/** Lines under one label; every line after the first is indented as far. */
function labelled(label: string, lines: readonly string[], paint: Paint): string[] {
  return lines.map((line, index) => `${paint.dim(padded(index === 0 ? label : '', LABEL_WIDTH))}${line}`);
}

/** The text of `flow status`, without a line end at its end. */
export function statusText(view: StatusView, paint: Paint): string {
  const { release } = view;
  return paint.finish((release === null ? emptyLines(view, paint) : releaseLines(view, release, paint)).join('\n'));
}

function emptyLines(view: StatusView, paint: Paint): string[] {
  return [
    'No release is running.',
    '',
    ...labelled(
      'Do',
      commandLines(
        [
          { command: 'flow start', does: 'plan a release; --to VERSION or --bump minor choose its version' },
          { command: 'flow send NEXT', does: 'plan the next patch version' },
          { command: 'flow config check', does: 'check flow.yaml before' },
        ],
        paint,
      ),
      paint,
    ),
    ...(view.driver === null ? [] : ['', ...driverLines(view, paint)]),
  ];
}

function releaseLines(view: StatusView, release: ReleaseStatus, paint: Paint): string[] {
  const now = new Date(view.at);
  const title = [
    paint.bold(
      `${plainLine(release.project)}  ${release.before.map(plainLine).join('/')} ${paint.icons.arrow} ${plainLine(release.version)}`,
    ),
    `${release.kind} ${release.id}`,
    `rev ${release.rev}`,
  ].join('   ');
  return [
    title,
    '',
    ...labelled('State', stateLines(release, now, paint), paint),
    ...milestoneLines(release, paint),
    '',
    ...serverLines(release, paint),
    '',
    ...(release.phase === 'ended' ? [] : driverLines(view, paint)),
    ...nowLines(release, now, paint),
    ...questionLines(release, paint),
    ...troubleLines(release, paint),
    ...labelled('Last', lastLines(release.last, now, paint), paint),
    ...labelled('Left', release.followUps.map(plainLine), paint),
    ...labelled('Do', commandLines(release.commands, paint), paint),
  ];
}

function stateLines(release: ReleaseStatus, now: Date, paint: Paint): string[] {
  const { state, sentence, phase, endedAt } = release;
  const colour = phase === 'asking' || phase === 'resting' ? paint.yellow : paint.green;
  const name = (state === 'stuck' || state === 'rolledBack' ? paint.red : colour)(paint.bold(state));
  const lines = [`${name}: ${plainLine(sentence)}`];
  if (endedAt !== null) {
    const took = durationText(Date.parse(endedAt) - Date.parse(release.startedAt));
    lines.push(`ended ${recentTimeText(endedAt, now)}, ${took} after it was planned`);
  }
  return lines;
}

function milestoneLines(release: ReleaseStatus, paint: Paint): string[] {
  const { icons } = paint;
  const group = (label: string, mark: Milestone['mark'], icon: string, colour: (text: string) => string) => {
    const names = foldedMilestones(release.milestones, mark);
    return names.length === 0
      ? []
      : labelled(label, [names.map((name) => `${colour(icon)} ${name}`).join('  ')], paint);
  };
  const isHere = release.phase === 'resting';
  return [
    ...group('Done', 'done', icons.ok, paint.green),
    ...group(isHere ? 'Here' : 'Towards', 'active', icons.active, paint.yellow),
    ...group('To come', 'open', icons.open, paint.dim),
    ...group('Left out', 'skipped', icons.skipped, paint.dim),
  ];
}

/** With more waves than this, those that are done and those to come are one word each. */
const MOST_WAVES_SHOWN = 4;

/** The milestones of one mark. Of a long release, whole waves are counted; those of the wave in hand are named. */
function foldedMilestones(milestones: readonly Milestone[], mark: Milestone['mark']): string[] {
  const waves = new Set(milestones.flatMap(({ wave }) => wave ?? []));
  const marked = milestones.filter((milestone) => milestone.mark === mark);
  if (waves.size <= MOST_WAVES_SHOWN) return marked.map(({ name }) => name);
  const isWhole = (wave: number) => milestones.every((other) => other.wave !== wave || other.mark === mark);
  const names: { text: string; wave: number | null }[] = [];
  for (const { name, wave } of marked) {
    const whole = wave !== null && isWhole(wave) ? wave : null;
    if (whole === null) names.push({ text: name, wave: null });
    else if (names.at(-1)?.wave !== whole) names.push({ text: '', wave: whole });
  }
  const told: string[] = [];
  for (const [index, { text, wave }] of names.entries()) {
    if (wave === null) told.push(text);
    else if (index === 0 || names[index - 1]?.wave === null) {
      let last = index;
      while (names[last + 1]?.wave !== null && names[last + 1] !== undefined) last += 1;
      const to = names[last]?.wave ?? wave;
      told.push(to === wave ? `wave ${wave}` : `waves ${wave} to ${to}`);
    }
  }
  return told;
}

/** With more servers than this, those that are alike share a line. */
const MOST_SERVERS_SHOWN = 8;

function serverLines(release: ReleaseStatus, paint: Paint): string[] {
  const header = ['SERVER', 'TRAFFIC', 'VERSION'].map((text): Cell => ({ text, paint: paint.dim }));
  const alike = new Map<string, ServerStatus[]>();
  for (const server of release.servers) {
    const { name, ...rest } = server;
    const key = release.servers.length > MOST_SERVERS_SHOWN ? JSON.stringify(rest) : name;
    alike.set(key, [...(alike.get(key) ?? []), server]);
  }
  const rows = [...alike.values()].flatMap((servers) => {
    const [server] = servers;
    if (server === undefined) return [];
    const count = servers.length > 1 ? `${servers.length}: ` : '';
    const names = `${count}${namesText(servers.map(({ name }) => name))}`;
    return [[names, trafficCell(server, paint), versionCell(server, paint)]];
  });
  return table([header, ...rows]);
}

function trafficCell({ traffic, drainWaived }: ServerStatus, paint: Paint): Cell {
  const { icons } = paint;
  switch (traffic) {
    case 'inRotation':
      return { text: `${icons.full} in rotation`, paint: paint.green };
    case 'mayBeInRotation':
      return { text: `${icons.unsure} may be in rotation while switching`, paint: paint.yellow };
    case 'drained':
      return { text: `${icons.open} drained` };
    case 'leftOut':
      return { text: `${icons.open} left out of rotation, to be repaired`, paint: paint.yellow };
    case 'outOfRotation':
      return {
        text: `${icons.open} out of rotation, ${drainWaived ? 'its drain waived' : 'not proven drained'}`,
        paint: paint.yellow,
      };
  }
}

function versionCell({ runs, says }: ServerStatus, paint: Paint): Cell {
  const text = plainLine(says);
  if (runs === 'unknown') return { text, paint: paint.red };
  return runs === 'new' ? { text: `${text} new`, paint: paint.green } : { text: `${text} before` };
}

function driverLines({ driver, release, at }: StatusView, paint: Paint): string[] {
  if (driver === null) {
    const { unwatched = null } = release ?? {};
    const line = unwatched === null ? 'nobody drives it' : paint.red(`UNWATCHED: ${unwatched}`);
    return labelled('Driver', [line], paint);
  }
  const who = driver.who.includes('@') ? driver.who : `${driver.who}@${driver.host}`;
  const since = recentTimeText(driver.since, new Date(at));
  return labelled(
    'Driver',
    [`${plainLine(who)}, pid ${driver.pid}, since ${since}, is ${plainLine(driver.doing)}`],
    paint,
  );
}

function nowLines({ live }: ReleaseStatus, now: Date, paint: Paint): string[] {
  if (live === null) return [];
  const age = durationText(Math.max(0, now.getTime() - Date.parse(live.at)));
  return labelled('Now', [`${plainLine(live.text)} ${paint.dim(`(${age} ago)`)}`], paint);
}

function questionLines({ question }: ReleaseStatus, paint: Paint): string[] {
  if (question === null) return [];
  return labelled(
    'Question',
    [
      paint.yellow(plainLine(question.text)),
      ...commandLines(question.commands, paint),
      paint.dim(`(${plainLine(question.id)})`),
    ],
    paint,
  );
}

function troubleLines(release: ReleaseStatus, paint: Paint): string[] {
  const { failure, rollback, bad, phase } = release;
  const back =
    rollback === null
      ? []
      : [
          `because: ${plainLine(rollback.because)}`,
          ...(phase === 'ended'
            ? []
            : [rollback.moved ? 'the traffic has moved back' : paint.red('the traffic has not moved back yet')]),
          ...(rollback.stillToDo.length === 0
            ? []
            : [`still to do: ${rollback.stillToDo.map(plainLine).join(', then ')}`]),
        ];
  return [
    ...(failure === null
      ? []
      : labelled(
          'Failed',
          [`${paint.red(`${paint.icons.bad} ${failure.step}`)}: ${plainLine(failure.message)}`],
          paint,
        )),
    ...labelled('Rollback', back, paint),
    ...(bad === null
      ? []
      : labelled('Bad', [`${paint.red(plainLine(bad.version))} served and failed: ${plainLine(bad.because)}`], paint)),
  ];
}

function lastLines(last: HistoryEntry | null, now: Date, paint: Paint): string[] {
  if (last === null) return [];
  const who = last.by === null ? '' : ` by ${plainLine(`${last.by.user}@${last.by.host}`)}`;
  const why = last.reason === null ? '' : `: ${plainLine(last.reason)}`;
  const first = `${recentTimeText(last.at, now)} ${plainLine(last.event)} ${paint.icons.arrow} ${last.to}${who}${why}`;
  // A failure and a question stand above already, in full.
  const isRepeated = last.event === 'failed' || last.event === 'asked';
  return last.note === null || isRepeated ? [first] : [first, paint.dim(plainLine(last.note))];
}

function commandLines(commands: readonly NextCommand[], paint: Paint): string[] {
  return table(commands.map(({ command, does }) => [{ text: plainLine(command), paint: paint.bold }, plainLine(does)]));
}
