/**
 * The guards: one table of named pure functions, each returning a verdict that says why.
 * The chart's guard is `verdict.ok`; `flow why`, the refusal and the page print the same verdicts, so they can never differ.
 */
import type { ReleaseContext } from './contract.ts';
import type { EventName, Facts, ReleaseEvent } from './events.ts';
import { mayServe } from './rollback.ts';
import { canaryAndRest, derived, minimumOf, sameServers, type Topology, type Wave, wavesOf } from './topology.ts';

/** A guard's answer. */
export interface Verdict {
  id: string;
  ok: boolean;
  because: string;
  /** When it opens by itself, as an ISO time, where that is known. */
  opensAt?: string;
  /** What would unblock it. */
  unblock?: string;
  /** Whether `--force=ID --reason "…"` may override it. */
  forceable?: boolean;
}

type Judgement = Omit<Verdict, 'id' | 'forceable'>;
/** `servers`: those the guard is about, or for `versionsAsBelieved` those that another guard judges. */
type Guard = (context: ReleaseContext, event: ReleaseEvent, servers: readonly string[]) => Judgement;

const yes = (because: string): Judgement => ({ ok: true, because });
const no = (because: string, unblock?: string): Judgement => ({
  ok: false,
  because,
  ...(unblock === undefined ? {} : { unblock }),
});
const MOST_NAMED = 8;

/** Servers by name; of a fleet the first few, and how many more. */
const list = (servers: readonly string[]): string =>
  servers.length === 0
    ? 'no server'
    : servers.length <= MOST_NAMED
      ? servers.join(' and ')
      : `${servers.slice(0, MOST_NAMED - 2).join(', ')} and ${servers.length - MOST_NAMED + 2} more`;
const is = (servers: readonly string[]): string => (servers.length === 1 ? 'is' : 'are');

/** The route that is believed to be live. */
function believed(context: ReleaseContext): string[] {
  return context.routes[0] ?? [];
}

/** Whether the proxy was seen to serve exactly these servers, by workers that are this release's. */
export function servesExactly(proxy: Facts['proxy'], servers: readonly string[]): boolean {
  return proxy?.live === true && proxy.servers !== null && sameServers(proxy.servers, servers);
}

function withFacts(event: ReleaseEvent, judge: (facts: Facts) => Judgement): Judgement {
  return event.facts === undefined ? no('nothing was looked at', 'flow resume') : judge(event.facts);
}

/** The servers that carry the load while others are out of rotation. */
const carriersWithout = (context: ReleaseContext, servers: readonly string[]): string[] =>
  context.topology.servers.filter((name) => believed(context).includes(name) && !servers.includes(name));

/** The first installation: nothing runs anywhere. */
const servesNobody = ({ topology, before }: ReleaseContext, { servers }: Facts): boolean =>
  topology.servers.every((name) => (before[name] ?? null) === null && servers[name]?.healthy !== true);

/** Every named guard, with the servers that the step is about; none where it is about none. */
const GUARDS = {
  preflightPasses: (_context, event) =>
    withFacts(event, (facts) => {
      const red = facts.preflight.filter((check) => !check.ok);
      if (red.length === 0) {
        return yes(
          facts.preflight.length === 0
            ? 'no preflight check is configured'
            : `${facts.preflight.length} preflight checks pass`,
        );
      }
      return no(red.map((check) => `${check.name}: ${check.because}`).join('; '), 'mend it, then: flow send NEXT');
    }),

  testingUnmoved: (context, event) =>
    withFacts(event, (facts) => {
      const tested = context.evidence.testing;
      const commit = tested !== undefined && 'merged' in tested ? tested.commit : null;
      if (commit === null) return no('nothing was tested in this release', 'flow send RETEST');
      if (facts.testing?.commit === commit) return yes(`testing is still at ${commit.slice(0, 10)}`);
      const now = facts.testing?.commit?.slice(0, 10) ?? 'nowhere';
      return no(`testing is at ${now}, but ${commit.slice(0, 10)} was tested`, 'flow send RETEST');
    }),

  testServerUnmoved: (context, event) =>
    withFacts(event, (facts) => {
      const tested = context.evidence.testing;
      const commit = tested !== undefined && 'merged' in tested ? tested.commit : null;
      const runs = facts.testing?.serverCommit ?? null;
      if (commit !== null && runs !== null && commit.startsWith(runs)) return yes(`the test server runs ${runs}`);
      return no(
        `the test server does not run the tested commit: ${facts.testing?.because ?? 'it was not asked'}`,
        'flow send RETEST',
      );
    }),

  notFrozen: (_context, event) =>
    withFacts(event, ({ freeze }) => {
      if (freeze === null) return yes('no freeze window is open');
      return {
        ...no(`frozen until ${freeze.until}: ${freeze.because}`, `wait until ${freeze.until}, then: flow send NEXT`),
        opensAt: freeze.until,
      };
    }),

  proxyAsBelieved: (context, event) =>
    withFacts(event, ({ proxy }) => {
      const expected = believed(context);
      if (proxy === null) return no('the proxy could not be looked at', 'flow resume');
      if (servesExactly(proxy, expected)) {
        return yes(`the proxy serves ${list(expected)}`);
      }
      return no(
        `the proxy should serve ${list(expected)}, but ${proxy.because}`,
        proxy.mend === undefined
          ? 'flow resume, which shows the difference and offers to put it back'
          : `${proxy.mend}, then: flow send NEXT`,
      );
    }),

  // Before every switch: a branch that was edited or renamed sends traffic to the wrong server.
  routesAsNamed: (_context, event) =>
    withFacts(event, ({ routes }) => {
      if (routes === null) return no('the routes could not be looked at', 'flow why NEXT');
      if (routes.wrong.length === 0) return yes('every route sends traffic to exactly the servers it is for');
      return no(routes.wrong.join('; '), 'put the routes right, then: flow send NEXT');
    }),

  // The first switch would make the difference live unasked; `flow start` has looked at it once, and it may be new.
  routesDiffer: (_context, event) =>
    withFacts(event, ({ routes }) => {
      if (routes === null) return no('the routes could not be looked at', 'flow why NEXT');
      if (routes.differ.length === 0) return yes('the routes differ in their servers alone');
      return no(routes.differ.join('; '), 'make the routes alike, then: flow send NEXT');
    }),

  othersHealthy: (context, event, servers) =>
    withFacts(event, (facts) => {
      const others = carriersWithout(context, servers);
      const ill = others.filter((name) => facts.servers[name]?.healthy !== true);
      if (ill.length === 0) return yes(`${list(others)} can carry the load: healthy`);
      if (servesNobody(context, facts))
        return yes('no server runs anything yet, so nobody is served and there is no load to carry');
      return no(
        `${list(ill)} would carry the load, but is not healthy: ${ill.map((name) => facts.servers[name]?.because ?? 'not asked').join('; ')}`,
        `mend ${list(ill)}, then: flow send NEXT`,
      );
    }),

  // With many servers one that is ill may be tolerated; that too few are left may not.
  minimumHealthy: (context, event, servers) =>
    withFacts(event, (facts) => {
      const minimum = minimumOf(context.topology);
      const healthy = carriersWithout(context, servers).filter((name) => facts.servers[name]?.healthy === true);
      const left = `without ${list(servers)}, ${healthy.length} healthy servers are in rotation`;
      if (healthy.length >= minimum) return yes(`${left}, and ${minimum} are needed`);
      if (servesNobody(context, facts))
        return yes('no server runs anything yet, so nobody is served and there is no load to carry');
      return no(`${left}, but ${minimum} are needed (minimumHealthy)`, 'mend the others, then: flow send NEXT');
    }),

  // Only a contradiction counts: a server that does not answer is a matter of health, and a soak has to find that out.
  versionsAsBelieved: (context, event, judgedApart) =>
    withFacts(event, ({ servers }) => {
      const contradictions = context.topology.servers.flatMap((name) => {
        const runs = context.runs[name];
        const believed = runs === 'new' ? context.version : (context.before[name] ?? null);
        const reports = servers[name]?.version ?? null;
        if (judgedApart.includes(name) || runs === 'unknown' || reports === null || reports === believed) return [];
        return [`${name} should run ${believed ?? 'nothing'}, but reports ${reports}: somebody published it meanwhile`];
      });
      if (contradictions.length === 0) return yes('no server runs anything else than this release believes');
      return no(
        contradictions.join('; '),
        context.switched === null
          ? 'flow send ABORT, then: flow start'
          : 'put the right version back, or: flow send ROLLBACK, or override it: --force=versionsAsBelieved --reason "…"',
      );
    }),

  tagAsPushed: (context, event) =>
    withFacts(event, ({ tag }) => {
      const { tagging } = context.evidence;
      if (tagging === undefined || !('tag' in tagging)) return yes('the version was tagged before this release');
      if (tag?.commit === tagging.commit) return yes(`${tagging.tag} is at ${tagging.commit.slice(0, 10)}, as pushed`);
      const now =
        tag === null ? 'was not looked for' : tag.commit === null ? 'is gone' : `is at ${tag.commit.slice(0, 10)}`;
      return no(
        `the tag ${tagging.tag} was pushed at ${tagging.commit.slice(0, 10)}, and ${now}`,
        `git tag -f ${tagging.tag} ${tagging.commit.slice(0, 10)}, then: flow send NEXT`,
      );
    }),

  drained: (context, event, servers) =>
    withFacts(event, ({ drained }) => {
      const waived = servers.filter((server) => context.drainWaived.includes(server));
      const judged = servers.filter((server) => !waived.includes(server));
      const not = judged.filter((server) => drained[server]?.ok !== true);
      if (judged.length === 0) return yes(`the drain of ${list(waived)} was waived by the operator`);
      if (not.length === 0) return yes(drained[judged[0] ?? '']?.because ?? '');
      return no(
        `${list(not)} ${is(not)} not proven drained: ${drained[not[0] ?? '']?.because ?? 'it was not looked at'}`,
        `wait until ${not.length === 1 ? 'its' : 'their'} last requests have ended, then: flow send NEXT`,
      );
    }),

  outOfRotation: (context, _event, servers) => {
    const serving = servers.filter((server) => mayServe(context).includes(server));
    return serving.length > 0
      ? no(`${list(serving)} may still receive traffic`, 'flow send ROLLBACK')
      : yes(`${list(servers)} ${is(servers)} in no route that may be live`);
  },

  newVersionRuns: (context, event, servers) =>
    withFacts(event, (facts) => {
      const { version, leftOut, runs } = context;
      const wanted = servers.filter((server) => !leftOut.includes(server));
      for (const server of wanted) {
        const fact = facts.servers[server];
        if (runs[server] !== 'new') return no(`${server} was not published`, 'flow send ROLLBACK');
        if (fact?.version !== version) {
          const reports = fact?.version ?? null;
          const but = reports === null ? (fact?.because ?? 'it was not asked') : `it reports ${reports}`;
          return no(`${server} should run ${version}, but ${but}`, 'flow send ROLLBACK');
        }
        if (!fact.healthy) return no(`${server} is not healthy: ${fact.because}`, `mend it, or: flow send ROLLBACK`);
      }
      if (wanted.length === 0) return yes(`${list(servers)} ${is(servers)} left out of rotation`);
      return yes(
        wanted.length === 1
          ? `${list(wanted)} runs ${version} and is healthy`
          : `${list(wanted)} run ${version} and are healthy`,
      );
    }),

  answersTheQuestion: (context, event) => {
    const { question } = context;
    if (question === null) return no('no question is open', 'flow status');
    if (event.type !== 'ANSWER') return no('only an ANSWER answers a question');
    const choices = question.choices.map((choice) => choice.choice);
    if (event.question !== question.id)
      return no(`the open question is ${question.id}, not ${event.question}`, 'flow status');
    if (!choices.includes(event.choice))
      return no(`"${event.choice}" is not a choice`, `one of: ${choices.join(', ')}`);
    return yes(`"${event.choice}" answers ${question.id}`);
  },

  proxyDiffers: (context, event) =>
    withFacts(event, ({ proxy }) =>
      proxy !== null && !servesExactly(proxy, believed(context)) ? yes(proxy.because) : no('the proxy is as believed'),
    ),
} satisfies Record<string, Guard>;

export type GuardId = keyof typeof GUARDS;

/** Every guard by its id. */
export const GUARD_IDS = Object.keys(GUARDS) as GuardId[];

/** Guards that `--force` may override. The rest protect customers or the record, and have no override. */
export const FORCEABLE: readonly GuardId[] = [
  'preflightPasses',
  'notFrozen',
  'routesDiffer',
  'versionsAsBelieved',
  'othersHealthy',
];

interface Requirement {
  guard: GuardId;
  servers?: readonly string[];
}

/** What NEXT requires at every milestone. */
const requirementsOf = derived((topology: Topology): Record<string, Requirement[]> => {
  const { canary, rest } = canaryAndRest(topology);
  const isRolling = topology.cutover === 'rolling';
  const taking = ({ servers }: Wave): Requirement[] => [
    { guard: 'othersHealthy', servers },
    ...(isRolling || topology.servers.length > 2 ? [{ guard: 'minimumHealthy', servers } as const] : []),
  ];
  const publishing = ({ servers }: Wave, judgedApart?: Wave): Requirement[] => [
    { guard: 'proxyAsBelieved' },
    { guard: 'outOfRotation', servers },
    { guard: 'drained', servers },
    { guard: 'versionsAsBelieved', ...(judgedApart === undefined ? {} : { servers: judgedApart.servers }) },
    { guard: 'tagAsPushed' },
  ];
  const published = ({ servers }: Wave): Requirement[] => [
    { guard: 'newVersionRuns', servers },
    { guard: 'versionsAsBelieved', servers },
  ];
  const goingLive = (wave: Wave): Requirement[] => [
    { guard: 'proxyAsBelieved' },
    { guard: 'routesAsNamed' },
    ...published(wave),
  ];
  const required: Record<string, Requirement[]> = {
    planned: [{ guard: 'preflightPasses' }],
    tested: [{ guard: 'testingUnmoved' }, { guard: 'testServerUnmoved' }],
    tagged: [
      { guard: 'notFrozen' },
      { guard: 'preflightPasses' },
      { guard: 'proxyAsBelieved' },
      { guard: 'routesAsNamed' },
      { guard: 'routesDiffer' },
      { guard: 'versionsAsBelieved' },
      { guard: 'tagAsPushed' },
      ...taking(canary),
    ],
    [`${canary.lower}Drained`]: publishing(canary),
    ...(topology.preview === true
      ? {
          [`${canary.lower}Published`]: [{ guard: 'proxyAsBelieved' }, ...published(canary)],
          [`${canary.lower}Previewed`]: goingLive(canary),
        }
      : { [`${canary.lower}Published`]: goingLive(canary) }),
    [`${canary.lower}Live`]: [{ guard: 'proxyAsBelieved' }, { guard: 'versionsAsBelieved' }],
  };
  let before = 'verified';
  for (const wave of rest) {
    const isFirst = before === 'verified';
    if (isRolling) {
      required[before] = [
        ...(isFirst ? [{ guard: 'newVersionRuns', servers: canary.servers } as const] : []),
        { guard: 'proxyAsBelieved' },
        { guard: 'routesAsNamed' },
        { guard: 'versionsAsBelieved', ...(isFirst ? { servers: canary.servers } : {}) },
        { guard: 'tagAsPushed' },
        ...taking(wave),
      ];
      required[`${wave.lower}Drained`] = publishing(wave);
      required[`${wave.lower}Published`] = goingLive(wave);
      before = `${wave.lower}Live`;
    } else {
      required[before] = [
        ...(isFirst ? [{ guard: 'newVersionRuns', servers: canary.servers } as const] : []),
        ...publishing(wave, isFirst ? canary : undefined),
      ];
      before = `${wave.lower}Published`;
    }
  }
  if (isRolling) return required;
  required[before] = [
    { guard: 'proxyAsBelieved' },
    { guard: 'routesAsNamed' },
    ...rest.map(({ servers }) => ({ guard: 'newVersionRuns', servers }) as const),
    { guard: 'versionsAsBelieved' },
  ];
  return required;
});

/** What NEXT requires at every milestone. */
const nextRequires = ({ topology }: Pick<ReleaseContext, 'topology'>): Record<string, Requirement[]> =>
  requirementsOf(topology);

/** The guards that NEXT has to pass in a state, by name; none where it has no guards. */
export function nextGuards(state: string, context: Pick<ReleaseContext, 'topology'>): GuardId[] {
  return [...new Set((nextRequires(context)[state] ?? []).map(({ guard }) => guard))];
}

/** What has to be looked at before NEXT can be judged at a milestone: no more, because every look takes time. */
export interface Looks {
  proxy: boolean;
  routes: boolean;
  drain: boolean;
  testing: boolean;
  tag: boolean;
  preflight: boolean;
  /** Servers to be asked for their version and health. */
  servers: string[];
}

/** The looks that the guards of NEXT need in a state; none where it has no guards. */
export function looksFor(state: string, context: Pick<ReleaseContext, 'topology'>): Looks {
  const requirements = nextRequires(context)[state] ?? [];
  const needs = (...guards: GuardId[]): boolean => requirements.some(({ guard }) => guards.includes(guard));
  const everyServer = needs('versionsAsBelieved', 'othersHealthy', 'minimumHealthy');
  return {
    proxy: needs('proxyAsBelieved'),
    routes: needs('routesAsNamed', 'routesDiffer'),
    drain: needs('drained'),
    testing: needs('testingUnmoved', 'testServerUnmoved'),
    tag: needs('tagAsPushed'),
    preflight: needs('preflightPasses'),
    servers: everyServer
      ? context.topology.servers
      : requirements.flatMap(({ guard, servers = [] }) => (guard === 'newVersionRuns' ? servers : [])),
  };
}

/** Milestones at which a proxy that is not as believed makes `flow resume` ask. */
export function recheckStates(context: Pick<ReleaseContext, 'topology'>): string[] {
  return Object.entries(nextRequires(context))
    .filter(([, requirements]) => requirements.some(({ guard }) => guard === 'proxyAsBelieved'))
    .map(([state]) => state);
}

// Every guard may be asked about a server; those that are about none take no notice.
const guardOf = (id: GuardId): Guard => GUARDS[id];

function judge(requirement: Requirement, context: ReleaseContext, event: ReleaseEvent): Verdict {
  const { guard, servers = [] } = requirement;
  return { id: guard, forceable: FORCEABLE.includes(guard), ...guardOf(guard)(context, event, servers) };
}

/**
 * The verdicts on an event in a state, in the order in which they are shown. Empty where the event has no guard there
 * (which does not say that the state accepts it: the chart does).
 */
export function verdictsOn(state: string, context: ReleaseContext, event: ReleaseEvent): Verdict[] {
  switch (event.type) {
    case 'NEXT':
      return (nextRequires(context)[state] ?? []).map((requirement) => judge(requirement, context, event));
    case 'ANSWER':
      return [judge({ guard: 'answersTheQuestion' }, context, event)];
    case 'RECHECK':
      return [judge({ guard: 'proxyDiffers' }, context, event)];
    default:
      return [];
  }
}

/** Whether the verdicts let the event pass: every one is ok, or may be overridden and was. */
export function passes(verdicts: readonly Verdict[], force: readonly string[] = []): boolean {
  return verdicts.every((verdict) => verdict.ok || isOverridden(verdict, force));
}

/** Whether a verdict that is not ok was overridden by name. */
export function isOverridden(verdict: Verdict, force: readonly string[] = []): boolean {
  return !verdict.ok && verdict.forceable === true && force.includes(verdict.id);
}

/** The states of a rollback, and those that ask. Names are looked up, never parsed: a server may be called `asking`. */
const waysBackOf = derived((topology: Topology) => {
  const uppers = wavesOf(topology).map(({ upper }) => upper);
  const each = (...before: string[]): string[] => uppers.flatMap((upper) => before.map((name) => name + upper));
  return {
    steps: new Set(['movingBack', ...each('drainingBack', 'restoring', 'rejoining')]),
    asking: new Set(each('askingDrainBack', 'askingRestore')),
  };
});
const askingOf = derived(
  (topology: Topology) =>
    new Set([
      'askingTest',
      'askingSoak',
      'askingWatch',
      'askingWorldMoved',
      ...waysBackOf(topology).asking,
      ...wavesOf(topology).flatMap(({ upper }) => [
        `askingDrain${upper}`,
        `askingPublish${upper}`,
        `askingSoak${upper}`,
      ]),
    ]),
);

/** Whether a step is one of a rollback. */
const isWayBack = (step: string, topology: Topology): boolean => waysBackOf(topology).steps.has(step);

/** The event that tries a step again after it failed: the state in which it rests then takes no other. */
export function triedAgainWith(step: string, topology: Topology): 'NEXT' | 'ROLLBACK' {
  return step === 'revertingRoute' || isWayBack(step, topology) ? 'ROLLBACK' : 'NEXT';
}

/** The events that a state can take at all, guards aside; the one table that `why`, `status` and the chart share. */
export function eventsOf(
  state: string,
  context: Pick<ReleaseContext, 'topology' | 'question' | 'returnTo'>,
): EventName[] {
  const { topology } = context;
  if (['allLive', 'rolledBack', 'aborted'].includes(state)) return [];
  const resting = nextRequires(context)[state] !== undefined;
  const events: EventName[] = resting ? ['NEXT'] : [];
  if (state === 'tested') events.push('RETEST');
  if (askingOf(topology).has(state)) events.push('ANSWER');
  const isRollback =
    ['aborting', 'rollingBack', 'undoing'].includes(state) ||
    isWayBack(state, topology) ||
    waysBackOf(topology).asking.has(state);
  const beforeProduction = ['planned', 'testing', 'tested', 'tagging', 'tagged', 'askingTest'].includes(state);
  if (['planned', 'tested', 'tagged'].includes(state)) events.push('ABORT');
  // The proxy was found moved before this release had touched it: there is nothing to roll back yet.
  const untouched = ['askingWorldMoved', 'reestablishingRoute'].includes(state) && context.returnTo === 'tagged';
  if (!beforeProduction && !isRollback && !untouched) events.push('ROLLBACK');
  return events;
}
