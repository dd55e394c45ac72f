/**
 * The generated chart as the page draws it: states in lanes, and what leads from one to another.
 * Read off the machine itself, so that the picture cannot differ from what decides; nothing is drawn by hand.
 */
import { nextGuards } from '../../machines/guards.ts';
import { createReleaseMachine } from '../../machines/release.ts';
import { FINAL_STATES, type Topology, type Wave, wavesOf } from '../../machines/topology.ts';
import { namesText, type StateKind, stateOf } from '../views/states.ts';
import type { ChartEdge, ChartLane, ChartNode, ChartPicture } from './wire.ts';

const PREPARING: readonly StateKind[] = [
  'planned',
  'testing',
  'askingTest',
  'tested',
  'tagging',
  'tagged',
  'aborting',
  'aborted',
];
const FINISHING: readonly StateKind[] = ['goingAllLive', 'watchingAll', 'askingWatch', 'mergingBack', 'allLive'];
const ON_A_WAVE: readonly StateKind[] = [
  'draining',
  'askingDrain',
  'drained',
  'publishing',
  'askingPublish',
  'published',
  'previewing',
  'previewed',
  'goingLive',
  'live',
  'verifying',
  'askingSoak',
  'verified',
  'soaking',
  'askingWaveSoak',
  'waveLive',
];

/** The chart of a topology. Throws when the topology has fewer than two servers. */
export function chartOf(topology: Topology): ChartPicture {
  const machine = createReleaseMachine(topology);
  const states = Object.values(machine.states);
  const nodes = states.map((state) => nodeOf(state.key, topology));
  const shapes = new Map(nodes.map((node) => [node.id, node]));
  // A step that ends well and leads back to where NEXT came from has found that it must not go on.
  const steps = new Set(
    states.flatMap((state) =>
      (state.transitions.get('NEXT') ?? []).flatMap(({ target }) =>
        (target ?? []).map((to) => `${to.key} ${state.key}`),
      ),
    ),
  );
  const edges = new Map<string, ChartEdge>();
  for (const state of states) {
    const guards = nextGuards(state.key, { topology });
    const transitions = [...state.transitions.values()].flat().concat(state.always ?? []);
    for (const { eventType, target } of transitions) {
      for (const to of target ?? []) {
        const isBack = steps.has(`${state.key} ${to.key}`);
        const edge = edgeOf(shapes, state.key, to.key, eventType, guards, isBack);
        edges.set(`${edge.from} ${edge.label} ${edge.to}`, edge);
      }
    }
  }
  return { lanes: lanesOf(topology), nodes, edges: [...edges.values()] };
}

function lanesOf(topology: Topology): ChartLane[] {
  const { servers } = topology;
  return [
    { id: 'preparing', title: 'Test and tag', servers: [], kind: 'preparing' },
    ...wavesOf(topology).map((wave): ChartLane => {
      const names = wave.servers.length === 1 ? '' : ` (${namesText(wave.servers)})`;
      return { id: waveLane(wave.index), title: `${nameOf(wave)}${names}`, servers: wave.servers, kind: 'wave' };
    }),
    { id: 'finishing', title: 'All live', servers, kind: 'finishing' },
    { id: 'returning', title: 'The way back', servers: [], kind: 'returning' },
  ];
}

/** A wave of one server is called as the server is. */
const nameOf = ({ servers, lower }: Wave): string => (servers.length === 1 ? (servers[0] ?? lower) : lower);

const waveLane = (index: number): string => `wave${index + 1}`;

function nodeOf(id: string, topology: Topology): ChartNode {
  const known = stateOf(id, topology);
  if (known === null) throw new Error(`the chart has a state ${id} that has no words`);
  const { kind: what, wave: index } = known;
  const wave = index === null ? undefined : wavesOf(topology)[index];
  const lane = PREPARING.includes(what)
    ? 'preparing'
    : FINISHING.includes(what)
      ? 'finishing'
      : ON_A_WAVE.includes(what) && wave !== undefined
        ? waveLane(wave.index)
        : 'returning';
  return { id, lane, server: wave === undefined ? '' : nameOf(wave), what, shape: shapeOf(id, what) };
}

const MILESTONES: readonly StateKind[] = [
  'planned',
  'tested',
  'tagged',
  'drained',
  'published',
  'previewed',
  'live',
  'verified',
  'waveLive',
];

function shapeOf(id: string, what: StateKind): ChartNode['shape'] {
  if ((FINAL_STATES as readonly string[]).includes(id)) return 'end';
  if (what === 'stuck') return 'stuck';
  if (what.startsWith('asking')) return 'question';
  return MILESTONES.includes(what) ? 'milestone' : 'step';
}

function edgeOf(
  nodes: ReadonlyMap<string, ChartNode>,
  from: string,
  to: string,
  eventType: string,
  guards: readonly string[],
  isBack: boolean,
): ChartEdge {
  const asks = nodes.get(to)?.shape === 'question';
  const backwards = nodes.get(to)?.lane === 'returning' && nodes.get(from)?.lane !== 'returning';
  const edge = (label: string, kind: ChartEdge['kind']): ChartEdge => ({ from, to, label, kind, guards: [] });
  if (eventType === 'NEXT') return { ...edge('NEXT', 'forward'), guards: [...guards] };
  if (eventType === 'ROLLBACK') return edge('ROLLBACK', 'rollback');
  if (eventType === 'ANSWER') return edge('ANSWER', 'answer');
  if (eventType.startsWith('xstate.error')) return edge('failed', 'failure');
  if (eventType.startsWith('xstate.done')) {
    if (asks) return edge('asks', 'failure');
    if (to === 'rollingBack' && backwards) return edge('bad', 'rollback');
    if (isBack) return edge('bad', 'failure');
    return edge('done', 'forward');
  }
  // A transition without an event: the chart goes on by itself.
  return edge(eventType === '' ? 'at once' : eventType, eventType === '' ? 'forward' : 'other');
}
