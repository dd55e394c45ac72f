/** The rules of the chart, checked over every state and transition that can be reached, for every policy. */
import { describe, expect, test } from 'vitest';
import { eventsOf } from '../../machines/guards.ts';
import { mayServe } from '../../machines/rollback.ts';
import { FINAL_STATES, sameServers } from '../../machines/topology.ts';
import { type Edge, type Node, walk } from './walk.ts';

const policies = [
  { restore: 'auto', onBad: 'rollback', kind: 'release' },
  { restore: 'hold', onBad: 'rollback', kind: 'release' },
  { restore: 'auto', onBad: 'hold', kind: 'release' },
  { restore: 'auto', onBad: 'rollback', kind: 'rollback' },
] as const;

const where = (node: Node): string => `${node.state} after ${node.path.join(' · ')}`;
const publishes = (node: Node): string[] =>
  [...node.state.matchAll(/^(?:publishing|restoring)(.+)$/g)].map(
    ([, name = '']) => name.charAt(0).toLowerCase() + name.slice(1),
  );

describe.each(policies)('the chart with restore $restore, onBad $onBad, kind $kind', (policy) => {
  const { nodes, edges, machine, start } = walk(policy);
  const violations = (broken: (node: Node) => boolean): string[] => nodes.filter(broken).map(where);

  test('reaches every state it defines, save those of the policy not chosen', () => {
    const reached = new Set(nodes.map((node) => node.state));
    const missing = Object.keys(machine.states).filter((state) => !reached.has(state));
    const excused: string[] = ['rollingBack'];
    if (policy.kind === 'rollback') excused.push('planned', 'testing', 'askingTest', 'tested', 'tagging');
    expect(
      missing
        .filter((state) => !excused.includes(state))
        .filter((state) => policy.restore === 'auto' || !/^(restoring|rejoining|drainingBack|asking)/.test(state)),
    ).toEqual([]);
  });

  test('never publishes to a server that may be in rotation', () => {
    expect(violations((node) => publishes(node).some((server) => mayServe(node.context).includes(server)))).toEqual([]);
  });

  test('never publishes to a server that was not proven drained, or waived by the operator', () => {
    const entries = edges.filter(({ from, to }) => from.state !== to.state && publishes(to).length > 0);
    const broken = entries.filter(({ to }) =>
      publishes(to).some((server) => to.state.startsWith('restoring') && !to.context.drained.includes(server)),
    );
    expect(broken.map(({ to }) => where(to))).toEqual([]);
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

  test('rests at a Published milestone only when the new version is proven', () => {
    const unproven = (node: Node) =>
      /^app[12]Published$/.test(node.state) && node.context.runs[node.state.slice(0, 4)] !== 'new';
    expect(violations(unproven)).toEqual([]);
  });

  test('never has an empty route', () => {
    expect(
      violations((node) => node.context.routes.length === 0 || node.context.routes.some((route) => route.length === 0)),
    ).toEqual([]);
  });

  test('never has a server in rotation of which nobody can say what it runs', () => {
    expect(
      violations((node) => mayServe(node.context).some((server) => node.context.runs[server] === 'unknown')),
    ).toEqual([]);
  });

  test('publishes the second wave only from verified, or again after a failed try', () => {
    const entries = edges.filter(({ from, to }) => to.state === 'publishingApp2' && from.state !== 'publishingApp2');
    expect(entries.length).toBeGreaterThan(0);
    expect(new Set(entries.map(({ from }) => from.state))).toEqual(new Set(['verified', 'askingPublishApp2']));
  });

  test('publishes nothing that is not tagged', () => {
    const untagged = (node: Node) =>
      node.state.startsWith('publishingApp') &&
      node.context.kind === 'release' &&
      node.context.evidence.tagging === undefined;
    expect(violations(untagged)).toEqual([]);
  });

  test('publishes only the version before on a rollback', () => {
    expect(violations((node) => node.state.startsWith('restoring') && node.context.rollback === null)).toEqual([]);
  });

  test('can reach an end from every state', () => {
    const back = new Map<Node, Edge[]>();
    for (const edge of edges) back.set(edge.to, [...(back.get(edge.to) ?? []), edge]);
    const ended = new Set(nodes.filter((node) => (FINAL_STATES as readonly string[]).includes(node.state)));
    for (const node of ended) for (const edge of back.get(node) ?? []) ended.add(edge.from);
    expect(violations((node) => !ended.has(node))).toEqual([]);
  });

  test('can roll back from every production state to the old version everywhere', () => {
    const inProduction = nodes.filter((node) => eventsOf(node.state, node.context).includes('ROLLBACK'));
    expect(inProduction.length).toBeGreaterThan(10);
    const rolledFrom = new Set(edges.filter(({ event }) => event === 'ROLLBACK').map(({ from }) => from));
    expect(
      inProduction
        .filter((node) => !rolledFrom.has(node))
        .filter((node) => node.context.returnTo !== 'tagged')
        .map(where),
    ).toEqual([]);
    for (const node of nodes.filter(({ state }) => state === 'rolledBack')) {
      const serving = node.context.routes;
      expect(serving).toHaveLength(1);
      expect(
        serving[0]?.every((server) => node.context.runs[server] === 'old'),
        where(node),
      ).toBe(true);
      if (policy.restore === 'auto') {
        expect(serving[0], where(node)).toEqual(['app1', 'app2']);
        expect(node.context.runs, where(node)).toEqual({ app1: 'old', app2: 'old' });
      }
    }
  });

  test('moves traffic to the old version first wherever a healthy server runs it', () => {
    const first = edges.filter(({ event, from }) => event === 'ROLLBACK' && from.state !== 'stuck');
    expect(first.length).toBeGreaterThan(0);
    for (const { to } of first) {
      const good = to.context.topology.servers.filter(
        (s) => to.context.runs[s] === 'old' && !to.context.unhealthy.includes(s),
      );
      if (good.length > 0) expect(to.state, where(to)).toBe('movingBack');
      else expect(to.state, where(to)).toMatch(/^(restoring|drainingBack)/);
    }
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
    }
  });

  test('ends in allLive only with the new version on every server in rotation', () => {
    const broken = violations(
      (node) =>
        node.state === 'allLive' &&
        (node.context.routes.length !== 1 ||
          node.context.routes[0]?.length !== 2 ||
          Object.values(node.context.runs).some((runs) => runs !== 'new')),
    );
    expect(broken).toEqual([]);
  });
});

describe.each([
  { before: { app1: null, app2: null } },
  { before: { app1: null, app2: 'v1' } },
  { before: { app1: 'v1', app2: null } },
])('the chart where before the release $before was known', ({ before }) => {
  const { nodes, edges } = walk({ before });
  const known: Record<string, string | null> = before;

  test('never tries to restore what nobody knows', () => {
    const broken = nodes.filter((node) => publishes(node).some((server) => known[server] === null));
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
