/**
 * The rules of the chart, checked over every state and transition that can be reached: for every policy of the runbook's two
 * servers, and for two to five servers in every way they can be released. Of more than two servers the quick form takes the moments
 * that are two or three troubles away from a release that goes well; `npm run torture` takes more of them.
 */
import { describe, expect, test } from 'vitest';
import { eventsOf } from '../../machines/guards.ts';
import { createReleaseMachine } from '../../machines/release.ts';
import { goodOldServers, mayServe } from '../../machines/rollback.ts';
import { routesNeeded } from '../../machines/routes.ts';
import {
  FINAL_STATES,
  milestonesOf,
  minimumOf,
  sameServers,
  type Topology,
  wavesOf,
  without,
} from '../../machines/topology.ts';
import { FULL } from '../torture/report.ts';
import { type Edge, type Node, TOPOLOGY, walk, type WalkOptions } from './walk.ts';

const RUNBOOK: WalkOptions[] = [
  { restore: 'auto', onBad: 'rollback', kind: 'release' },
  { restore: 'hold', onBad: 'rollback', kind: 'release' },
  { restore: 'auto', onBad: 'hold', kind: 'release' },
  { restore: 'auto', onBad: 'rollback', kind: 'rollback' },
];

const named = (count: number): string[] => Array.from({ length: count }, (_, index) => `app${index + 1}`);
const half = (count: number): number => Math.max(1, Math.floor(count / 2));

/** Two to five servers, alone and in waves of several, with and without a pre-release proxy. */
function topologies(): Topology[] {
  return [2, 3, 4, 5].flatMap((count): Topology[] => {
    const servers = named(count);
    const [first = '', ...others] = servers;
    const inTwo = [[first], others.slice(0, half(count)), others.slice(half(count))].filter((wave) => wave.length > 0);
    const canaryOfTwo = [servers.slice(0, 2), servers.slice(2)];
    const single: Topology[] = [
      { servers, cutover: 'rolling', minimumHealthy: half(count), preview: count % 2 === 0 },
      { servers, cutover: 'exclusive', preview: count === 2 },
    ];
    const inWaves: Topology[] = [
      { servers, cutover: 'rolling', waves: inTwo, minimumHealthy: 1, preview: count % 2 === 1 },
      { servers, cutover: 'exclusive', waves: [[first], others] },
    ];
    const canaries: Topology[] = [
      { servers, cutover: 'rolling', waves: canaryOfTwo, minimumHealthy: 2, preview: true },
    ];
    return [...single, ...(count > 2 ? inWaves : []), ...(count > 3 ? canaries : [])];
  });
}

/** How many troubles are taken on the way: each multiplies what can be reached by some three. */
const troublesFor = (servers: number): number => (servers > 3 ? 2 : 3) + (FULL ? 1 : 0);

const fleets: WalkOptions[] = [
  ...topologies().map((topology) => ({
    topology,
    ...(topology.servers.length > 2 ? { troubles: troublesFor(topology.servers.length) } : {}),
    most: 200_000,
  })),
  // A fleet that a rollback left with a server out of rotation.
  { topology: { servers: ['app1', 'app2'], cutover: 'exclusive' }, serving: ['app2'] },
  {
    topology: { servers: named(3), cutover: 'rolling', minimumHealthy: 1 },
    serving: ['app2', 'app3'],
    troubles: troublesFor(3),
    most: 200_000,
  },
  {
    topology: {
      servers: named(4),
      cutover: 'rolling',
      waves: [['app1', 'app2'], ['app3'], ['app4']],
      minimumHealthy: 1,
    },
    serving: ['app2', 'app3', 'app4'],
    troubles: troublesFor(4),
    most: 200_000,
  },
];

const titled = (options: WalkOptions) => ({ title: JSON.stringify(options), options });
const where = (node: Node): string => `${node.state} after ${node.path.join(' · ')}`;

/** The nodes from which one of `ends` can be reached. */
function leadingTo(ends: Node[], edges: Edge[]): Set<Node> {
  const back = new Map<Node, Node[]>();
  for (const { from, to } of edges) back.set(to, [...(back.get(to) ?? []), from]);
  const leading = new Set(ends);
  for (const node of leading) for (const from of back.get(node) ?? []) leading.add(from);
  return leading;
}

describe.each([...RUNBOOK, ...fleets].map(titled))('the chart of $title', ({ options }) => {
  const { nodes, edges, machine, start } = walk(options);
  const { topology = TOPOLOGY, restore = 'auto', kind = 'release', serving = topology.servers, troubles } = options;
  const waves = wavesOf(topology);
  const violations = (broken: (node: Node) => boolean): string[] => nodes.filter(broken).map(where);

  test('reaches every state it defines, save those of the policy not chosen', () => {
    const reached = new Set(nodes.map((node) => node.state));
    const missing = Object.keys(machine.states).filter((state) => !reached.has(state));
    const excused: string[] = ['rollingBack'];
    if (kind === 'rollback') excused.push('planned', 'testing', 'askingTest', 'tested', 'tagging');
    expect(
      missing
        .filter((state) => !excused.includes(state))
        .filter((state) => restore === 'auto' || !/^(restoring|rejoining|drainingBack|asking)/.test(state)),
    ).toEqual([]);
  });

  test('never publishes to a server that may be in rotation', () => {
    expect(nodes.some(({ publishes }) => publishes.length > 0)).toBe(true);
    expect(violations(({ publishes, context }) => publishes.some((name) => mayServe(context).includes(name)))).toEqual(
      [],
    );
  });

  test('never restores on a server that was not proven drained, or waived by the operator', () => {
    const broken = nodes.filter(
      ({ state, publishes, context }) =>
        state.startsWith('restoring') && publishes.some((server) => !context.drained.includes(server)),
    );
    expect(broken.map(where)).toEqual([]);
  });

  test('says of every server that is published to that nobody knows what it runs', () => {
    expect(violations(({ publishes, context }) => publishes.some((name) => context.runs[name] !== 'unknown'))).toEqual(
      [],
    );
  });

  test('counts a route as possibly live from the commit before it is tried, also after ROLLBACK has cut in', () => {
    const knows = (node: Node, routes: string[][]) =>
      routes.every((to) => node.context.routes.some((route) => sameServers(route, to)));
    expect(nodes.some(({ trying }) => trying.length > 0)).toBe(true);
    expect(violations((node) => !knows(node, node.trying))).toEqual([]);
    const cutIn = edges.filter(({ from, event }) => event === 'ROLLBACK' && from.trying.length > 0);
    expect(cutIn.length).toBeGreaterThan(0);
    expect(cutIn.filter(({ from, to }) => !knows(to, from.trying)).map(({ to }) => where(to))).toEqual([]);
  });

  test('rests at a Published milestone only when the new version is proven, or the server was left out', () => {
    const unproven = ({ state, context }: Node) =>
      waves.some(
        (wave) =>
          [`${wave.lower}Published`, `${wave.lower}Previewed`, `${wave.lower}Live`].includes(state) &&
          wave.servers.some((name) => context.runs[name] !== 'new' && !context.leftOut.includes(name)),
      );
    expect(violations(unproven)).toEqual([]);
  });

  test('never has an empty route', () => {
    expect(
      violations((node) => node.context.routes.length === 0 || node.context.routes.some((route) => route.length === 0)),
    ).toEqual([]);
  });

  test('has as many servers in rotation as the load needs, save where a rollback has no others', () => {
    const minimum = minimumOf(topology);
    const tooFew = (node: Node) => node.context.routes.some((route) => route.length < minimum);
    expect(violations((node) => node.context.rollback === null && tooFew(node))).toEqual([]);
    const hadChoice = ({ context, state }: Node) => {
      const good = goodOldServers(context);
      const able = topology.servers.filter(
        (name) => good.includes(name) || (context.runs[name] === 'new' && context.routes[0]?.includes(name) === true),
      );
      const leaving = waves
        .map(({ servers }) => able.filter((name) => servers.includes(name) && !good.includes(name)).length)
        .filter((count) => count > 0);
      const isProofOnly = state.startsWith('drainingBack') && leaving.length === 0;
      return able.length - (isProofOnly ? 0 : Math.min(...leaving)) >= minimum;
    };
    // As it is when the step is computed: what a step changes is its own.
    const entered = edges.filter(
      ({ from, to }) =>
        to.context.rollback !== null && to.state !== from.state && to.trying.some((route) => route.length < minimum),
    );
    expect(entered.filter(({ to }) => to.state !== 'movingBack' && hadChoice(to)).map(({ to }) => where(to))).toEqual(
      [],
    );
    const moved = entered.filter(({ to }) => to.state === 'movingBack');
    const couldGain = ({ to: { context } }: Edge) =>
      waves.some(({ servers }) => {
        const able = topology.servers.filter(
          (name) =>
            !servers.includes(name) &&
            (goodOldServers(context).includes(name) ||
              (context.runs[name] === 'new' && context.routes[0]?.includes(name) === true)),
        );
        const gain = servers.some(
          (name) =>
            !goodOldServers(context).includes(name) && serving.includes(name) && !context.leftOut.includes(name),
        );
        return gain && able.length >= minimum;
      });
    expect(moved.filter(couldGain).map(({ to }) => where(to))).toEqual([]);
  });

  test('never has a server in rotation of which nobody can say what it runs, nor one that was left out', () => {
    expect(violations(({ context }) => mayServe(context).some((server) => context.runs[server] === 'unknown'))).toEqual(
      [],
    );
    expect(violations(({ context }) => mayServe(context).some((server) => context.leftOut.includes(server)))).toEqual(
      [],
    );
  });

  test('touches no later wave before the first is verified', () => {
    const early = new Set([start]);
    const onward = new Map<Node, Node[]>();
    for (const { from, to } of edges) onward.set(from, [...(onward.get(from) ?? []), to]);
    for (const node of early) if (node.state !== 'verified') for (const to of onward.get(node) ?? []) early.add(to);
    expect([...early].some(({ state }) => state === 'verified')).toBe(true);
    const later = waves.slice(1).flatMap(({ servers }) => servers);
    const touched = [...early].filter(
      ({ context, publishes, state }) =>
        publishes.some((name) => later.includes(name) && state.startsWith('publishing')) ||
        later.some((name) => context.runs[name] === 'new'),
    );
    expect(touched.map(where)).toEqual([]);
  });

  test('publishes nothing that is not tagged', () => {
    const untagged = (node: Node) =>
      node.state.startsWith('publishing') && kind === 'release' && node.context.evidence.tagging === undefined;
    expect(violations(untagged)).toEqual([]);
  });

  test('publishes only the version before on a rollback', () => {
    expect(violations((node) => node.state.startsWith('restoring') && node.context.rollback === null)).toEqual([]);
  });

  test('can reach an end from every state', () => {
    const ended = leadingTo(
      nodes.filter((node) => (FINAL_STATES as readonly string[]).includes(node.state)),
      edges,
    );
    expect(violations((node) => !ended.has(node))).toEqual([]);
  });

  test('can roll back from every production state to the old version everywhere', () => {
    const inProduction = nodes.filter((node) => eventsOf(node.state, node.context).includes('ROLLBACK'));
    expect(inProduction.length).toBeGreaterThan(10);
    const rolledFrom = new Set(edges.filter(({ event }) => event === 'ROLLBACK').map(({ from }) => from));
    // Where only so many troubles are taken, ROLLBACK is not tried from those that have had them.
    if (troubles === undefined) {
      expect(
        inProduction
          .filter((node) => !rolledFrom.has(node))
          .filter((node) => node.context.returnTo !== 'tagged')
          .map(where),
      ).toEqual([]);
    }
    for (const node of nodes.filter(({ state }) => state === 'rolledBack')) {
      const { routes, runs, leftOut, ranBefore } = node.context;
      expect(routes).toHaveLength(1);
      // Where the operator gave up what could have been gone back to, traffic is left as it is.
      if (leftOut.length > 0 && goodOldServers(node.context).length === 0) continue;
      expect(
        routes[0]?.every((server) => runs[server] === 'old'),
        where(node),
      ).toBe(true);
      if (restore === 'auto') {
        const untouched = topology.servers.filter((name) => !serving.includes(name) && ranBefore[name] === undefined);
        expect(routes[0], where(node)).toEqual(without(topology, ...leftOut, ...untouched));
      }
    }
  });

  test('moves traffic to the old version first wherever enough healthy servers run it', () => {
    const first = edges.filter(({ event, from }) => event === 'ROLLBACK' && from.state !== 'stuck');
    expect(first.length).toBeGreaterThan(0);
    for (const { to } of first) {
      const good = goodOldServers(to.context);
      if (good.length >= minimumOf(topology)) expect(to.state, where(to)).toBe('movingBack');
      // With a server of which nobody knows what it runs there may be nobody to carry the load meanwhile.
      else if (good.length === 0 && serving.length === topology.servers.length)
        expect(to.state, where(to)).toMatch(/^(restoring|drainingBack)/);
    }
  });

  test('needs no route that start has not asked for, where every server is healthy and none is left out', () => {
    const asked = routesNeeded({ topology, serving, leftOut: [] });
    const others = nodes
      // What fails on the way back leaves routes behind that are uncertain, and sets of servers that nobody planned for.
      .filter(
        ({ context }) => context.unhealthy.length === 0 && context.leftOut.length === 0 && context.rollback === null,
      )
      .flatMap(({ trying }) => trying)
      .filter((route) => !asked.some((known) => sameServers(known, route)));
    expect(others).toEqual([]);
  });

  test('offers in its table of events exactly what some state of the chart takes', () => {
    const taken = new Map<string, Set<string>>();
    for (const { from, event } of edges) {
      const name = event.split(' ')[0] ?? '';
      if (['NEXT', 'ABORT', 'RETEST', 'ROLLBACK', 'ANSWER'].includes(name))
        taken.set(from.state, (taken.get(from.state) ?? new Set()).add(name));
    }
    for (const state of new Set(nodes.map((node) => node.state))) {
      const offered = new Set(eventsOf(state, start.context));
      for (const name of taken.get(state) ?? []) expect([...offered], `${state} takes ${name}`).toContain(name);
      if (['rollingBack', 'stuck'].includes(state) || offered.size === 0) continue;
      expect(taken.get(state)?.size ?? 0, `${state} offers ${[...offered].join()}`).toBeGreaterThan(0);
    }
  });

  test('ends in allLive only with the new version on every server in rotation, and with all that were not left out', () => {
    const ends = nodes.filter(({ state }) => state === 'allLive');
    expect(ends.length).toBeGreaterThan(0);
    for (const { context } of ends) {
      const live = without(topology, ...context.leftOut);
      expect(context.routes).toEqual([live]);
      expect(live.filter((server) => context.runs[server] !== 'new')).toEqual([]);
      if (context.leftOut.length > 0) expect(context.followUps.join()).toContain(context.leftOut[0]);
    }
  });

  test('passes its milestones in order where all goes well', () => {
    const straight = nodes.find(({ state, context }) => state === 'allLive' && context.leftOut.length === 0);
    const passed = new Set<string>();
    let at: Node | undefined = start;
    const onward = new Map<Node, Edge>();
    for (const edge of edges) {
      const good = /^(?:NEXT|\w+ (?:done|good))$/.test(edge.event);
      if (good && !onward.has(edge.from)) onward.set(edge.from, edge);
    }
    while (at !== undefined && !passed.has(at.state)) {
      passed.add(at.state);
      at = onward.get(at)?.to;
    }
    expect(straight).toBeDefined();
    const milestones = milestonesOf(topology).filter(
      (name) => kind === 'release' || !['planned', 'tested'].includes(name),
    );
    expect([...passed].filter((state) => milestones.includes(state))).toEqual(milestones);
  });
});

test('one server alone can not be released: nobody would serve meanwhile', () => {
  expect(() => createReleaseMachine({ servers: ['app1'], cutover: 'rolling' })).toThrow('at least two');
});

describe.each([
  { before: { app1: null, app2: null } },
  { before: { app1: null, app2: 'v1' } },
  { before: { app1: 'v1', app2: null } },
])('the chart where before the release $before was known', ({ before }) => {
  const { nodes, edges } = walk({ before });
  const known: Record<string, string | null> = before;

  test('never tries to restore what nobody knows', () => {
    const broken = nodes.filter((node) => node.publishes.some((server) => known[server] === null));
    expect(broken.filter(({ state }) => state.startsWith('restoring')).map(where)).toEqual([]);
  });

  test('has a ROLLBACK that ends in every production state, with a route and nothing unknown in it', () => {
    const from = nodes.filter((node) => eventsOf(node.state, node.context).includes('ROLLBACK'));
    const back = new Map<Node, Edge[]>();
    for (const edge of edges) back.set(edge.to, [...(back.get(edge.to) ?? []), edge]);
    const rolledBack = nodes.filter(({ state }) => state === 'rolledBack');
    const ending = new Set(rolledBack);
    for (const node of ending) for (const edge of back.get(node) ?? []) ending.add(edge.from);
    expect(from.filter((node) => !ending.has(node)).map(where)).toEqual([]);
    for (const { context } of rolledBack) {
      expect(mayServe(context)).not.toEqual([]);
      expect(mayServe(context).filter((server) => context.runs[server] === 'unknown')).toEqual([]);
    }
  });

  test('says what it could not restore, and leaves it out of rotation where another server can serve', () => {
    const left = nodes.filter(
      ({ state, context }) =>
        state === 'rolledBack' &&
        context.topology.servers.some((server) => known[server] === null && context.runs[server] !== 'old'),
    );
    expect(left.length).toBeGreaterThan(0);
    for (const node of left) {
      expect(node.context.followUps.join(), where(node)).toContain('before, so');
      const good = node.context.topology.servers.filter(
        (server) => node.context.runs[server] === 'old' && !node.context.unhealthy.includes(server),
      );
      if (good.length > 0) expect(node.context.routes, where(node)).toEqual([good]);
    }
  });
});
