/** The chart, drawn: lanes, states, and what leads from one to another. Beside the picture stands the same as a list, for ears. */
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { ChartPicture } from '../wire.ts';
import { layout, type Layout, type PlacedEdge, type PlacedNode } from './layout.ts';
import { edgeKey, type Mark, marksOf, type Shown, takenEdges } from './model.ts';
import { clock, took } from './words.ts';

const WORDS: Record<Mark['is'], string> = {
  open: 'still to come',
  done: 'done',
  active: 'now',
  failed: 'failed',
  skipped: 'not taken',
};
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
    picture.current?.querySelector('.state.is-active')?.scrollIntoView({ block: 'nearest' });
  }, [state]);
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
          {['line', 'taken', 'light', 'back'].map((kind) => (
            <marker
              key={kind}
              id={`arrow-${kind}`}
              class={`arrow ${kind}`}
              viewBox="0 0 8 8"
              refX="7"
              refY="4"
              markerWidth="7"
              markerHeight="7"
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
            <text x={x + 12} y={y + 16}>
              {canFold ? `▸ ${title}` : title}
            </text>
          </g>
        );
      })}
    </g>
  );
}

function Edge({ edge, isTaken }: { edge: PlacedEdge; isTaken: boolean }) {
  const { points, label, kind } = edge;
  const look = isTaken ? 'taken' : kind === 'forward' ? 'line' : kind === 'rollback' ? 'back' : 'light';
  const middle = points[Math.floor((points.length - 1) / 2)];
  const next = points[Math.floor((points.length - 1) / 2) + 1];
  const isFlat = middle !== undefined && next !== undefined && Math.abs(middle.y - next.y) < 1;
  const isShort = label === 'done' || label === 'asks' || label === 'at once';
  return (
    <g class={`edge ${kind} ${look}`}>
      <path
        d={points.map(({ x, y }, index) => `${index === 0 ? 'M' : 'L'}${x} ${y}`).join(' ')}
        marker-end={`url(#arrow-${look})`}
      />
      {!isShort && isFlat ? (
        <text x={labelX(middle.x, next.x, kind)} y={middle.y - 3} text-anchor="middle">
          {label}
        </text>
      ) : null}
    </g>
  );
}

/** In the middle; what failed or goes back names itself nearer to where it leaves. */
const labelX = (from: number, to: number, kind: PlacedEdge['kind']): number =>
  kind === 'forward' ? (from + to) / 2 : from + (to - from) * 0.2;

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
  // A question that was never asked has no room for its name.
  const isMark = shape === 'question' && width < 20;
  return (
    <g
      class={`state ${shape} is-${mark.is} ${isMark ? 'mark' : ''}`}
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
        {isMark ? '?' : SIGNS[mark.is] === '' ? id : `${SIGNS[mark.is]} ${id}`}
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
