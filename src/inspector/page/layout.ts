/**
 * Where everything of the chart stands. Lanes below each other in the order of the runbook; in a lane the way forward from left to
 * right, each question under the step that asks it; waves that are not near the active state fold into one box. Pure, and
 * without measuring anything: widths follow from the number of letters.
 *
 * Every place is decided here by hand and not by a layout library: the order of a release is known, and a picture in which
 * nothing ever moves is found again with one look.
 */
import type { ChartEdge, ChartLane, ChartNode, ChartPicture } from '../wire.ts';

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}
export interface PlacedNode extends ChartNode, Box {
  /** What kind of lane it stands in. */
  around: ChartLane['kind'];
}
export interface PlacedLane extends Box {
  id: string;
  title: string;
  kind: ChartLane['kind'];
  /** The lanes that are folded into this one; none for a lane that is shown as it is. */
  folded: string[];
}
export interface PlacedEdge extends ChartEdge {
  /** What kind of lane its name stands in. */
  around: ChartLane['kind'];
  points: { x: number; y: number }[];
}
export interface Layout {
  width: number;
  height: number;
  lanes: PlacedLane[];
  nodes: PlacedNode[];
  edges: PlacedEdge[];
}

export interface LayoutOptions {
  /** The width there is, in units of which a letter is about 6.6 wide. */
  width: number;
  /** The active state. */
  state: string;
  /** Lanes that are shown although they would be folded. */
  unfolded: ReadonlySet<string>;
  /** States that were entered: a lane with one of the way back is shown. */
  visited: ReadonlySet<string>;
}

const LETTER = 6.5;
/** Beside the letters, with room for the sign of what became of it. */
const PADDING = 12;
const NODE_HEIGHT = 26;
const STEP_HEIGHT = 22;
/** Between two states, with room for the name of the event and without. */
const GAP_NAMED = 32;
const GAP = 14;
/** A question that was never asked is a mark under its step. */
const MARK = 13;
const UNDER_GAP = 3;
/** Room for the time under a state. */
const UNDER = 14;
const LANE_HEAD = 18;
const LANE_PADDING = 10;
const LANE_GAP = 10;
const ROW_GAP = 24;
/** Between two rows of one way, so that the line from one to the other runs below the times. */
const WRAP_GAP = 32;
const MARGIN = 6;
const FOLDED_HEIGHT = 30;
/** So many waves stand beside each other before any is folded. */
const WAVES_SHOWN = 4;
/** So many servers of the way back are drawn one by one. */
const RETURNING_SHOWN = 3;

/** Lays a chart out. A state that is folded away has no node. */
export function layout(chart: ChartPicture, options: LayoutOptions): Layout {
  const shown = lanesShown(chart, options);
  const lanes: PlacedLane[] = [];
  const nodes: PlacedNode[] = [];
  const width = Math.max(options.width, 320);
  let y = MARGIN;
  for (const lane of shown) {
    const inner = {
      x: MARGIN + LANE_PADDING,
      y: y + LANE_HEAD + LANE_PADDING / 2,
      width: width - 2 * (MARGIN + LANE_PADDING),
    };
    const placed = lane.folded.length > 0 ? [] : placeLane(chart, lane.id, inner, options);
    const isFolded = lane.folded.length > 0;
    const bottom = Math.max(...placed.map((node) => node.y + node.height + (node.width === MARK ? 0 : UNDER)), y);
    const height = isFolded ? FOLDED_HEIGHT : bottom + LANE_PADDING / 2 - y;
    lanes.push({ ...lane, x: MARGIN, y, width: width - 2 * MARGIN, height });
    nodes.push(...placed);
    y += height + LANE_GAP;
  }
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const edges = chart.edges.flatMap((edge) => placeEdge(edge, byId));
  return { width, height: y - LANE_GAP + MARGIN, lanes, nodes, edges };
}

type LaneShown = Pick<PlacedLane, 'id' | 'title' | 'kind' | 'folded'>;

function lanesShown(chart: ChartPicture, { state, unfolded, visited }: LayoutOptions): LaneShown[] {
  const waves = chart.lanes.filter(({ kind }) => kind === 'wave');
  const laneOfActive = chart.nodes.find(({ id }) => id === state)?.lane;
  const active = waves.findIndex(({ id }) => id === laneOfActive);
  // Before the first wave and after the last, the nearest one stays open; on the way back, the last one it came to.
  const furthest = waves.findLastIndex(({ id }) =>
    chart.nodes.some((node) => node.lane === id && visited.has(node.id)),
  );
  const last = laneOfActive === 'returning' ? Math.max(0, furthest) : waves.length - 1;
  const centre = active !== -1 ? active : laneOfActive === 'preparing' ? 0 : last;
  const isOpen = (lane: ChartLane): boolean => {
    if (unfolded.has(lane.id)) return true;
    if (lane.kind === 'returning') return chart.nodes.some(({ id, lane: of }) => of === lane.id && visited.has(id));
    if (lane.kind !== 'wave' || waves.length <= WAVES_SHOWN) return true;
    return Math.abs(waves.indexOf(lane) - centre) <= 1;
  };
  const shown: LaneShown[] = [];
  for (const lane of chart.lanes) {
    if (isOpen(lane)) {
      shown.push({ id: lane.id, title: lane.title, kind: lane.kind, folded: [] });
      continue;
    }
    const before = shown.at(-1);
    if (before !== undefined && before.folded.length > 0 && before.kind === lane.kind) before.folded.push(lane.id);
    else shown.push({ id: `fold-${lane.id}`, title: lane.title, kind: lane.kind, folded: [lane.id] });
  }
  return shown.map((lane) => (lane.folded.length < 2 ? lane : { ...lane, title: foldTitle(chart, lane.folded) }));
}

function foldTitle(chart: ChartPicture, ids: readonly string[]): string {
  const titles = chart.lanes.filter(({ id }) => ids.includes(id)).map(({ title }) => title);
  return `${titles[0] ?? ''} … ${titles.at(-1) ?? ''} (${ids.length} waves)`;
}

const widthOf = ({ id }: ChartNode): number =>
  Math.ceil((id.length + (id.match(/[mw]/gi)?.length ?? 0) / 2) * LETTER) + 2 * PADDING;
const heightOf = (node: ChartNode): number =>
  node.shape === 'step' || node.shape === 'question' ? STEP_HEIGHT : NODE_HEIGHT;

/** The way forward in rows from left to right, wrapped where it is too long; what leaves it stands below. */
function placeLane(chart: ChartPicture, lane: string, at: Omit<Box, 'height'>, options: LayoutOptions): PlacedNode[] {
  const of = chart.nodes.filter((node) => node.lane === lane);
  const servers = [...new Set(of.map(({ server }) => server).filter((server) => server !== ''))];
  const around = chart.lanes.find(({ id }) => id === lane)?.kind ?? 'preparing';
  const rows = around === 'returning' ? returningRows(of, servers, options) : [forwardRow(chart, of)];
  const placed: PlacedNode[] = [];
  let { y } = at;
  for (const row of rows) {
    let x = at.x;
    let rowBottom = y + NODE_HEIGHT;
    for (const [index, node] of row.entries()) {
      const questions = questionsOf(chart, of, node.id);
      const asked = questions.filter(({ id }) => options.visited.has(id));
      const next = row[index + 1];
      // A question may reach under the next state, but not under the questions of that one.
      const isCrowded = next !== undefined && questionsOf(chart, of, next.id).length > 0;
      const width = Math.max(widthOf(node), ...(isCrowded ? asked.map(widthOf) : []));
      if (x > at.x && x + width > at.x + at.width) {
        x = at.x;
        y = rowBottom + WRAP_GAP;
        rowBottom = y + NODE_HEIGHT;
      }
      const height = heightOf(node);
      placed.push({ ...node, around, x, y: y + (NODE_HEIGHT - height) / 2, width: widthOf(node), height });
      let markAt = x + widthOf(node) - MARK - 4;
      let below = y + NODE_HEIGHT + UNDER;
      for (const question of questions) {
        if (asked.includes(question)) {
          placed.push({ ...question, around, x, y: below, width: widthOf(question), height: heightOf(question) });
          below += heightOf(question) + 6;
          rowBottom = Math.max(rowBottom, below - 6);
        } else {
          placed.push({ ...question, around, x: markAt, y: y + NODE_HEIGHT + UNDER_GAP, width: MARK, height: MARK });
          markAt -= MARK + 3;
        }
      }
      const isNamed = chart.edges.some(
        ({ from, to, label }) => from === node.id && to === next?.id && label === 'NEXT',
      );
      x += width + (isNamed ? GAP_NAMED : GAP);
    }
    y = rowBottom + ROW_GAP;
  }
  return placed;
}

/** The forward states of a lane in the order of the way, then those that end it early. Questions stand under their steps. */
function forwardRow(chart: ChartPicture, of: ChartNode[]): ChartNode[] {
  const onTheWay = of.filter(({ shape }) => shape !== 'question');
  const ids = new Set(onTheWay.map(({ id }) => id));
  const order: ChartNode[] = [];
  const rest = new Map(onTheWay.map((node) => [node.id, node]));
  const forward = chart.edges.filter(({ kind, from, to }) => kind === 'forward' && ids.has(from) && ids.has(to));
  const [first] = onTheWay.filter(({ id }) => !forward.some(({ to, from }) => to === id && from !== id));
  for (let node = first ?? onTheWay[0]; node !== undefined; ) {
    order.push(node);
    rest.delete(node.id);
    const { id } = node;
    node = forward.filter(({ from }) => from === id).flatMap(({ to }) => rest.get(to) ?? [])[0];
  }
  return [...order, ...rest.values()];
}

/** Traffic first, then a row for each server, then the ends. */
function returningRows(of: ChartNode[], servers: string[], { visited, unfolded }: LayoutOptions): ChartNode[][] {
  const plain = of.filter(({ shape, server }) => shape !== 'question' && server === '');
  const isEnd = ({ shape }: ChartNode) => shape === 'end' || shape === 'stuck';
  const touched = servers.filter((server) => of.some((node) => node.server === server && visited.has(node.id)));
  const drawn = servers.length <= RETURNING_SHOWN || unfolded.has('returning') ? servers : touched;
  return [
    plain.filter((node) => !isEnd(node)),
    ...drawn.map((server) => of.filter((node) => node.server === server && node.shape !== 'question')),
    plain.filter(isEnd),
  ].filter((row) => row.length > 0);
}

const questionsOf = (chart: ChartPicture, of: ChartNode[], step: string): ChartNode[] =>
  of.filter(
    ({ id, shape }) =>
      shape === 'question' && chart.edges.find(({ to, label }) => to === id && label === 'asks')?.from === step,
  );

function placeEdge(edge: ChartEdge, nodes: ReadonlyMap<string, PlacedNode>): PlacedEdge[] {
  const from = nodes.get(edge.from);
  const to = nodes.get(edge.to);
  if (from === undefined || to === undefined || from === to) return [];
  const around = from.y < to.y ? to.around : from.around;
  return [{ ...edge, around, points: route(from, to, edge.kind) }];
}

/** A line from one box to another that keeps to right angles. */
function route(from: PlacedNode, to: PlacedNode, kind: ChartEdge['kind']): { x: number; y: number }[] {
  const middle = (box: Box) => ({ x: box.x + box.width / 2, y: box.y + box.height / 2 });
  const [a, b] = [middle(from), middle(to)];
  // Beside the time that stands under the middle.
  const out = from.x + from.width - 9;
  const isSameRow = Math.abs(a.y - b.y) < NODE_HEIGHT / 2;
  if (isSameRow && from.x < to.x && kind === 'forward') {
    return [
      { x: from.x + from.width, y: a.y },
      { x: to.x, y: a.y },
    ];
  }
  if (to.shape === 'question' && to.y > from.y && to.x >= from.x && to.x < from.x + from.width) {
    const x = to.width === MARK ? to.x + MARK / 2 : from.x + 14;
    return [
      { x, y: from.y + from.height },
      { x, y: to.y },
    ];
  }
  if (from.shape === 'question' && from.width > MARK && to.y < from.y) {
    const right = Math.min(from.x + from.width, to.x + to.width) - 14;
    // Straight up to the step that asked; else out of the side, and up to where the answer leads.
    if (right > Math.max(from.x, to.x)) {
      return [
        { x: right, y: from.y },
        { x: right, y: to.y + to.height },
      ];
    }
    const isRight = to.x > from.x;
    const x = isRight ? to.x + 14 : to.x + to.width - 14;
    return [
      { x: isRight ? from.x + from.width : from.x, y: a.y },
      { x, y: a.y },
      { x, y: to.y + to.height },
    ];
  }
  // What failed or goes back keeps off the lines of the way forward.
  const off = kind === 'forward' ? 7 : kind === 'failure' ? 11 : 15;
  if (isSameRow) {
    const over = Math.min(from.y, to.y) - off + 3;
    return [
      { x: a.x, y: from.y },
      { x: a.x, y: over },
      { x: b.x, y: over },
      { x: b.x, y: to.y },
    ];
  }
  if (from.y < to.y) {
    return [
      { x: out, y: from.y + from.height },
      { x: out, y: to.y - off },
      { x: b.x, y: to.y - off },
      { x: b.x, y: to.y },
    ];
  }
  return [
    { x: a.x, y: from.y },
    { x: a.x, y: from.y - off },
    { x: b.x + 8, y: from.y - off },
    { x: b.x + 8, y: to.y + to.height },
  ];
}
