/** The picture of the chart: read off the generated machine, so that nothing is missing and nothing is drawn that is not there. */
import { describe, expect, test } from 'vitest';
import { createReleaseMachine } from '../../machines/release.ts';
import { milestonesOf, type Topology } from '../../machines/topology.ts';
import { chartOf } from '../../src/inspector/chart.ts';

const alone: Topology[] = [2, 3, 8].map((count) => ({
  servers: Array.from({ length: count }, (_, index) => `app${index + 1}`),
  cutover: 'exclusive',
}));
const topologies: Topology[] = [
  ...alone,
  { servers: ['app1', 'app2', 'app3'], cutover: 'rolling', preview: true },
  { servers: ['app1', 'b', 'c', 'd'], cutover: 'rolling', waves: [['app1'], ['b', 'c'], ['d']] },
];

describe.each(topologies)('the chart of %j', (topology) => {
  const chart = chartOf(topology);
  const ids = chart.nodes.map(({ id }) => id);

  test('shows every state of the machine once, in a lane that there is', () => {
    expect([...ids].sort()).toEqual(Object.keys(createReleaseMachine(topology).states).sort());
    const lanes = chart.lanes.map(({ id }) => id);
    for (const { lane } of chart.nodes) expect(lanes).toContain(lane);
  });

  test('leads forward from each milestone to the next, by NEXT and what follows from it', () => {
    const milestones = milestonesOf(topology);
    for (const [index, milestone] of milestones.slice(0, -1).entries()) {
      const reached = new Set([milestone]);
      for (const node of reached) {
        for (const edge of chart.edges) if (edge.from === node && edge.kind === 'forward') reached.add(edge.to);
      }
      expect(reached).toContain(milestones[index + 1]);
    }
  });

  test('names the guards of NEXT, and draws ROLLBACK into the way back', () => {
    const next = chart.edges.find(({ from, label }) => from === 'app1Drained' && label === 'NEXT');
    expect(next?.guards).toEqual(expect.arrayContaining(['outOfRotation', 'drained']));
    const back = chart.edges.filter(({ from, kind }) => from === 'verifying' && kind === 'rollback');
    expect(back.map(({ to }) => to)).toContain('rollingBack');
    expect(chart.nodes.find(({ id }) => id === 'rollingBack')?.lane).toBe('returning');
  });
});
