/** The chart, drawn: lanes, states, and what leads from one to another. Beside the picture stands the same as a list, for ears. */
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { ChartPicture } from '../wire.ts';
import { layout, type Layout, type PlacedEdge, type PlacedNode } from './layout.ts';
import { edgeKey, type Mark, marksOf, type Shown, takenEdges } from './model.ts';
import { showIn } from './scroll.ts';
import { clock, took } from './words.ts';

const WORDS: Record<Mark['is'], string> = {
  open: 'still to come',
  done: 'done',
  active: 'now',
  failed: 'failed',
  skipped: 'not taken',
};
/** An end is not on its way to anything. */
const ENDED_SIGNS: Record<string, string> = { allLive: '✔', rolledBack: '■', aborted: '■' };
const SIGNS: Record<Mark['is'], string> = { open: '', done: '✔', active: '▶', failed: '✖', skipped: '–' };
const ENDED: readonly string[] = ['allLive', 'rolledBack', 'aborted'];

export interface ChartProps {
  shown: Shown;
  /** The room there is, in pixels. */
  room: { width: number; height: number };
}

/** The widths a chart is tried in where there is more room than it needs; the one that can be drawn largest is taken. */
const WIDTHS = [1_000, 820, 660, 520];
const LARGEST_SCALE = 2.2;
/** How wide a letter of the name of a line is. */
const LABEL_LETTER = 6;

export function Chart({ shown, room }: ChartProps) {
  const { recording, frames, state } = shown;
  const [unfolded, setUnfolded] = useState<ReadonlySet<string>>(new Set());
  const [looked, setLooked] = useState<string | null>(null);
  const marks = useMemo(() => marksOf(frames, state), [frames, state]);
  const taken = useMemo(() => takenEdges(frames), [frames]);
  const visited = useMemo(() => new Set(marks.keys()), [marks]);
  const { chart } = recording;
  const { placed, scale } = useMemo(() => {
    const tries = [
      Math.min(room.width, WIDTHS[0] ?? room.width),
      ...WIDTHS.slice(1).filter((width) => width < room.width),
    ];
    return tries
      .map((width) => {
        const placed = layout(chart, { width, state, unfolded, visited });
        return { placed, scale: scaleIn(placed, room) };
      })
      .reduce((best, one) => (one.scale > best.scale ? one : best));
  }, [chart, room, state, unfolded, visited]);
  const isOver = ENDED.includes(state);
  const markOf = (id: string): Mark =>
    marks.get(id) ?? { is: isOver ? 'skipped' : 'open', at: null, seconds: null, times: 0 };
  const toggle = (ids: string[]): void => {
    setUnfolded((before) => {
      const after = new Set(before);
      for (const id of ids) if (!after.delete(id)) after.add(id);
      return after;
    });
  };
  const focus = looked ?? state;
  const picture = useRef<SVGSVGElement>(null);
  useEffect(() => {
    const active = picture.current?.querySelector('.state.is-active') ?? null;
    showIn(active?.closest('.chart-box') ?? null, active);
  }, [state, room]);
  return (
    <div class="chart">
      <svg
        ref={picture}
        viewBox={`0 0 ${placed.width} ${placed.height}`}
        width={Math.floor(placed.width * scale)}
        height={Math.floor(placed.height * scale)}
        role="group"
        aria-label={`The chart of release ${recording.id}`}
      >
        <defs>
          {['line', 'taken', 'light', 'back', 'wrong', 'returned'].map((kind) => (
            <marker
              key={kind}
              id={`arrow-${kind}`}
              class={`arrow ${kind}`}
              viewBox="0 0 8 8"
              refX="7"
              refY="4"
              markerUnits="userSpaceOnUse"
              markerWidth="8"
              markerHeight="8"
              orient="auto-start-reverse"
            >
              <path d="M0 0.5 L8 4 L0 7.5 z" />
            </marker>
          ))}
        </defs>
        <Lanes placed={placed} onFold={toggle} />
        <g class="edges" aria-hidden="true">
          {merged(placed.edges.filter((edge) => isDrawn(edge, focus, taken, placed))).map((edge) => (
            <Edge
              key={edgeKey(edge.from, edge.label, edge.to)}
              edge={edge}
              isTaken={edge.label.split(', ').some((label) => taken.has(edgeKey(edge.from, label, edge.to)))}
            />
          ))}
        </g>
        <Titles placed={placed} />
        {placed.nodes.map((node) => (
          <State key={node.id} node={node} mark={markOf(node.id)} chart={chart} onLook={setLooked} />
        ))}
      </svg>
      <Outline chart={chart} markOf={markOf} state={state} />
    </div>
  );
}

/** Lines between the same two states that look alike are one line with all their names. */
function merged(edges: readonly PlacedEdge[]): PlacedEdge[] {
  const byEnds = new Map<string, PlacedEdge>();
  for (const edge of edges) {
    const key = edgeKey(edge.from, edge.kind, edge.to);
    const before = byEnds.get(key);
    byEnds.set(key, before === undefined ? edge : { ...before, label: `${before.label}, ${edge.label}` });
  }
  return [...byEnds.values()];
}

/** How large a chart can be drawn in the room there is; never smaller than it is read well, as the panel scrolls. */
const scaleIn = ({ width, height }: Layout, room: ChartProps['room']): number =>
  Math.max(1, Math.min(room.width / width, room.height / height, LARGEST_SCALE));

/** The way forward and what was taken always; what else leads away from a state while it is looked at. */
function isDrawn(edge: PlacedEdge, focus: string, taken: ReadonlySet<string>, { nodes }: Layout): boolean {
  const from = nodes.find(({ id }) => id === edge.from);
  if (taken.has(edgeKey(edge.from, edge.label, edge.to))) return true;
  if (edge.label === 'asks') return true;
  if (edge.kind === 'forward' && from?.lane !== 'returning') return true;
  return edge.from === focus && edge.label !== 'RECHECK';
}

function Lanes({ placed, onFold }: { placed: Layout; onFold: (ids: string[]) => void }) {
  return (
    <g class="lanes">
      {placed.lanes.map(({ id, title, kind, folded, x, y, width, height }) => {
        const canFold = folded.length > 0;
        return (
          <g
            key={id}
            class={`lane ${kind} ${canFold ? 'folded' : ''}`}
            {...(canFold
              ? {
                  role: 'button',
                  tabIndex: 0,
                  'aria-label': `${title}: show`,
                  onClick: () => onFold(folded),
                  onKeyDown: (event: KeyboardEvent) => {
                    if (event.key !== 'Enter' && event.key !== ' ') return;
                    event.preventDefault();
                    onFold(folded);
                  },
                }
              : {})}
          >
            <rect x={x} y={y} width={width} height={height} rx="6" />
          </g>
        );
      })}
    </g>
  );
}

/** Above the lines, so that none runs through them. */
function Titles({ placed }: { placed: Layout }) {
  return (
    <g class="titles" aria-hidden="true">
      {placed.lanes.map(({ id, title, kind, folded, x, y }) => (
        <text key={id} class={`in-${kind}`} x={x + 12} y={y + 16}>
          {folded.length > 0 ? `▸ ${title}` : title}
        </text>
      ))}
    </g>
  );
}

/** How a line looks that the release took. */
const TAKEN: Record<PlacedEdge['kind'], string> = {
  forward: 'taken',
  answer: 'taken',
  other: 'taken',
  failure: 'wrong',
  rollback: 'returned',
};

function Edge({ edge, isTaken }: { edge: PlacedEdge; isTaken: boolean }) {
  const { points, label, kind, around } = edge;
  const look = isTaken ? TAKEN[kind] : kind === 'forward' ? 'line' : kind === 'rollback' ? 'back' : 'light';
  const [start, end] = longestFlat(points);
  const isDown = (points[0]?.y ?? 0) < (points.at(-1)?.y ?? 0) - 1;
  const isPlain = label === 'done' || label === 'asks' || label === 'at once';
  return (
    <g class={`edge ${kind} ${look} in-${around}`}>
      <path
        d={points.map(({ x, y }, index) => `${index === 0 ? 'M' : 'L'}${x} ${y}`).join(' ')}
        marker-end={`url(#arrow-${look})`}
      />
      {!isPlain && start !== undefined && end !== undefined && hasRoom(label, start, end) ? (
        <text x={labelX(start.x, end.x, kind === 'forward' || isDown)} y={start.y - 4.5} text-anchor="middle">
          {label}
        </text>
      ) : null}
    </g>
  );
}

/** Both ends of the longest part that runs level, which is where the name stands; empty where all of it runs up or down. */
function longestFlat(points: PlacedEdge['points']): PlacedEdge['points'] {
  let longest: PlacedEdge['points'] = [];
  let length = 0;
  for (const [index, end] of points.entries()) {
    const start = points[index - 1];
    if (start === undefined || Math.abs(start.y - end.y) >= 1 || Math.abs(start.x - end.x) <= length) continue;
    longest = [start, end];
    length = Math.abs(start.x - end.x);
  }
  return longest;
}

/** In the middle; what goes up or over others names itself near to where it leaves, away from their names. */
const labelX = (from: number, to: number, isInTheMiddle: boolean): number =>
  from + (to - from) * (isInTheMiddle ? 0.5 : 0.15);
const hasRoom = (label: string, start: { x: number }, end: { x: number }): boolean =>
  Math.abs(start.x - end.x) > label.length * LABEL_LETTER;

const diamond = ({ x, y, width, height }: PlacedNode): string =>
  `M${x + width / 2} ${y - 1} L${x + width + 1} ${y + height / 2} L${x + width / 2} ${y + height + 1} L${x - 1} ${y + height / 2} z`;
const hexagon = ({ x, y, width, height }: PlacedNode): string =>
  `M${x + 8} ${y} H${x + width - 8} L${x + width} ${y + height / 2} L${x + width - 8} ${y + height} H${x + 8} L${x} ${y + height / 2} z`;

interface StateProps {
  node: PlacedNode;
  mark: Mark;
  chart: ChartPicture;
  onLook: (id: string | null) => void;
}

function State({ node, mark, chart, onLook }: StateProps) {
  const { id, shape, x, y, width, height } = node;
  const guards = chart.edges.find(({ from, label }) => from === id && label === 'NEXT')?.guards ?? [];
  const leaving = chart.edges.filter(({ from, label }) => from === id && label !== 'RECHECK');
  const words = [
    `${id}: ${shape}, ${WORDS[mark.is]}${mark.at === null ? '' : ` at ${clock(mark.at)}`}`,
    ...(mark.seconds === null ? [] : [`took ${took(mark.seconds)}`]),
    ...(mark.times > 1 ? [`entered ${mark.times} times`] : []),
    ...(guards.length === 0 ? [] : [`NEXT asks for: ${guards.join(', ')}`]),
    ...leaving.slice(0, 8).map(({ label, to }) => `${label} → ${to}`),
  ];
  const middle = y + height / 2;
  const sign = mark.is === 'active' ? (ENDED_SIGNS[id] ?? SIGNS.active) : SIGNS[mark.is];
  // A question that was never asked has no room for its name.
  const isMark = shape === 'question' && width < 20;
  return (
    <g
      class={`state ${shape} is-${mark.is} ${isMark ? 'mark' : ''} in-${node.around}`}
      tabIndex={0}
      role="img"
      aria-label={words.join('. ')}
      data-state={id}
      data-mark={mark.is}
      onMouseEnter={() => onLook(id)}
      onMouseLeave={() => onLook(null)}
      onFocus={() => onLook(id)}
      onBlur={() => onLook(null)}
    >
      <title>{words.join('\n')}</title>
      {shape === 'question' ? (
        <path d={isMark ? diamond(node) : hexagon(node)} />
      ) : (
        <rect x={x} y={y} width={width} height={height} rx={shape === 'step' ? height / 2 : shape === 'end' ? 0 : 5} />
      )}
      {shape === 'end' ? <rect class="inner" x={x + 2.5} y={y + 2.5} width={width - 5} height={height - 5} /> : null}
      <text x={x + width / 2} y={middle + 4} text-anchor="middle">
        {isMark ? '?' : sign === '' ? id : `${sign} ${id}`}
      </text>
      {mark.at !== null && shape !== 'question' ? (
        <text class="time" x={x + width / 2} y={y + height + 11} text-anchor="middle">
          {mark.seconds === null ? clock(mark.at) : took(mark.seconds)}
        </text>
      ) : null}
    </g>
  );
}

/** The chart as a nested list. */
function Outline({ chart, markOf, state }: { chart: ChartPicture; markOf: (id: string) => Mark; state: string }) {
  return (
    <ol class="heard" aria-label="The states of the release">
      {chart.lanes.map(({ id: lane, title }) => (
        <li key={lane}>
          {title}
          <ol>
            {chart.nodes
              .filter((node) => node.lane === lane && (node.shape !== 'question' || node.id === state))
              .map((node) => (
                <li key={node.id} {...(node.id === state ? { 'aria-current': 'step' as const } : {})}>
                  {`${node.id}, ${WORDS[markOf(node.id).is]}`}
                </li>
              ))}
          </ol>
        </li>
      ))}
    </ol>
  );
}
