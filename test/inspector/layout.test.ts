/** Where everything of the chart stands: nothing over anything else, inside its frame, the ends of lines on their states. */
import { describe, expect, test } from 'vitest';
import { chartOf } from '../../src/inspector/chart.ts';
import { layout, type LayoutOptions } from '../../src/inspector/page/layout.ts';
import type { ChartPicture } from '../../src/inspector/wire.ts';

const chartFor = (count: number): ChartPicture =>
  chartOf({ servers: Array.from({ length: count }, (_, index) => `app${index + 1}`), cutover: 'exclusive' });
const options = (more: Partial<LayoutOptions> = {}): LayoutOptions => ({
  width: 940,
  state: 'planned',
  unfolded: new Set(),
  visited: new Set(['planned']),
  ...more,
});
/** Everything unfolded, every question asked: the largest picture there is. */
const whole = (chart: ChartPicture): LayoutOptions =>
  options({
    unfolded: new Set(chart.lanes.map(({ id }) => id)),
    visited: new Set(chart.nodes.map(({ id }) => id)),
  });

describe.each([2, 3, 8, 40])('the layout for %i servers', (count) => {
  const chart = chartFor(count);

  test.each(['as it is opened', 'with everything unfolded'])(
    '%s puts no state over another, and each into its lane',
    (how) => {
      const placed = layout(chart, how === 'as it is opened' ? options() : whole(chart));
      for (const [index, a] of placed.nodes.entries()) {
        const lane = placed.lanes.find(({ id }) => id === a.lane);
        expect(lane, a.id).toBeDefined();
        if (lane === undefined) continue;
        expect(a.x).toBeGreaterThanOrEqual(lane.x);
        expect(a.x + a.width, a.id).toBeLessThanOrEqual(lane.x + lane.width);
        expect(a.y).toBeGreaterThanOrEqual(lane.y);
        expect(a.y + a.height, a.id).toBeLessThanOrEqual(lane.y + lane.height);
        for (const b of placed.nodes.slice(index + 1)) {
          const apart = a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y;
          expect(apart, `${a.id} and ${b.id}`).toBe(true);
        }
      }
    },
  );

  test('draws each line from its state to its state', () => {
    const placed = layout(chart, whole(chart));
    const touches = (id: string, point: { x: number; y: number } | undefined) => {
      const node = placed.nodes.find((one) => one.id === id);
      if (node === undefined || point === undefined) return false;
      const [right, bottom] = [node.x + node.width, node.y + node.height];
      return point.x >= node.x && point.x <= right && point.y >= node.y && point.y <= bottom;
    };
    for (const { from, to, points } of placed.edges) {
      expect(touches(from, points[0]), `${from} → ${to}`).toBe(true);
      expect(touches(to, points.at(-1)), `${from} → ${to}`).toBe(true);
    }
  });

  test('takes less than 300 ms', () => {
    const startedAt = performance.now();
    layout(chart, whole(chart));
    expect(performance.now() - startedAt).toBeLessThan(300);
  });
});

describe('folding', () => {
  test('keeps the wave open that the release had come to, when it goes back', () => {
    const chart = chartFor(40);
    const visited = new Set(
      chart.nodes.filter(({ lane }) => ['wave1', 'wave2', 'wave3'].includes(lane)).map(({ id }) => id),
    );
    const placed = layout(chart, options({ state: 'movingBack', visited: new Set([...visited, 'movingBack']) }));
    const open = placed.lanes.filter(({ kind, folded }) => kind === 'wave' && folded.length === 0);
    expect(open.map(({ title }) => title)).toEqual(['app2', 'app3', 'app4']);
  });

  test('keeps the waves around the active state, and puts the others into one box each side', () => {
    const chart = chartFor(40);
    const placed = layout(chart, options({ state: 'publishingApp20' }));
    const waves = placed.lanes.filter(({ kind }) => kind === 'wave');
    expect(waves.map(({ title }) => title)).toEqual([
      'app1 … app18 (18 waves)',
      'app19',
      'app20',
      'app21',
      'app22 … app40 (19 waves)',
    ]);
    expect(placed.height).toBeLessThan(700);
  });

  test('opens what it is told to open', () => {
    const chart = chartFor(8);
    const before = layout(chart, options());
    const folded = before.lanes.find(({ folded: ids }) => ids.length > 1)?.folded ?? [];
    expect(folded.length).toBeGreaterThan(3);
    const after = layout(chart, options({ unfolded: new Set(folded) }));
    expect(after.lanes.filter(({ kind }) => kind === 'wave')).toHaveLength(8);
  });

  test('shows the way back only once it was taken', () => {
    const chart = chartFor(2);
    const has = (visited: string[]) =>
      layout(chart, options({ visited: new Set(visited) })).nodes.some(({ id }) => id === 'movingBack');
    expect([has(['planned']), has(['planned', 'movingBack'])]).toEqual([false, true]);
  });
});
