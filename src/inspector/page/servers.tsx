/** The servers: what the proxy sends where, what each runs, and how much it is asked. */
import type { ServerStatus } from '../../views/status.ts';
import type { NextPicture, RatesPicture } from '../wire.ts';
import type { Model } from './model.ts';
import { perSecond } from './words.ts';

const TRAFFIC: Record<ServerStatus['traffic'], { sign: string; word: string }> = {
  inRotation: { sign: '●', word: 'in rotation' },
  mayBeInRotation: { sign: '◐', word: 'being switched' },
  drained: { sign: '○', word: 'drained' },
  outOfRotation: { sign: '○', word: 'out of rotation' },
  leftOut: { sign: '○', word: 'left out, to be repaired' },
};
const ROW = 54;
const COMPACT_ABOVE = 8;

export interface ServersProps {
  servers: readonly ServerStatus[];
  rates: RatesPicture | null;
  sparks: Model['sparks'];
  /** False in a replay, which knows no rates. */
  isLive: boolean;
  /** What the servers said of their health that NEXT asked. */
  health: NextPicture['health'];
}

export function Servers({ servers, rates, sparks, isLive, health }: ServersProps) {
  if (servers.length === 0) return <p class="empty">Nothing is known of the servers in this frame.</p>;
  const rateOf = (server: string): number | null => (isLive ? (rates?.servers[server] ?? null) : null);
  const isCompact = servers.length > COMPACT_ABOVE;
  return (
    <div class={`servers ${isCompact ? 'compact' : ''}`}>
      {isCompact ? <p class="sum">{sumOf(servers)}</p> : null}
      {isCompact ? null : <Flow servers={servers} rateOf={rateOf} />}
      <ul>
        {servers.map((server) => {
          const traffic = TRAFFIC[server.traffic];
          const rate = rateOf(server.name);
          const asked = isLive ? health[server.name] : undefined;
          return (
            <li key={server.name} class={`server ${server.traffic} runs-${server.runs}`} data-server={server.name}>
              <span class="name">{server.name}</span>
              <span class="traffic">
                <span class="sign" aria-hidden="true">
                  {traffic.sign}
                </span>{' '}
                {traffic.word}
                {server.drainWaived ? ' (not proven: waived)' : ''}
              </span>
              <span class="version" title={server.says}>
                {server.says} {server.runs === 'unknown' ? null : <em>{server.runs}</em>}
                {asked === undefined ? null : asked.healthy ? (
                  <span class="well"> healthy</span>
                ) : (
                  <strong title={asked.because}> ✖ unhealthy</strong>
                )}
              </span>
              <span class="rate">{isLive ? perSecond(rate) : ''}</span>
              {isLive && !isCompact ? <Spark values={sparks[server.name] ?? []} /> : null}
            </li>
          );
        })}
      </ul>
    </div>
  );
}

/** How many stand how, where they are too many to count. */
function sumOf(servers: readonly ServerStatus[]): string {
  const counted = (words: string[]): string[] =>
    [...new Set(words)].map((word) => `${words.filter((one) => one === word).length} ${word}`);
  return [
    ...counted(servers.map(({ traffic }) => TRAFFIC[traffic].word)),
    ...counted(servers.map(({ says }) => says)),
  ].join(' · ');
}

/** From Nginx to each server: a moving line where requests go, a broken one where none do. */
function Flow({ servers, rateOf }: { servers: readonly ServerStatus[]; rateOf: (server: string) => number | null }) {
  const height = servers.length * ROW;
  const middle = height / 2;
  const most = Math.max(1, ...servers.map(({ name }) => rateOf(name) ?? 0));
  return (
    <svg class="flow" width="72" height={height} viewBox={`0 0 72 ${height}`} aria-hidden="true">
      {servers.map(({ name, traffic }, index) => {
        const y = index * ROW + ROW / 2;
        const rate = rateOf(name) ?? 0;
        const isOpen = traffic === 'inRotation' || traffic === 'mayBeInRotation';
        const d = `M42 ${middle} C 58 ${middle}, 52 ${y}, 70 ${y}`;
        return (
          <g key={name}>
            <path class={`pipe ${isOpen ? 'open' : 'shut'}`} d={d} />
            {isOpen && rate > 0 ? <path class="stream" d={d} stroke-width={1.5 + (3 * rate) / most} /> : null}
          </g>
        );
      })}
      <rect class="proxy" x="1" y={middle - 13} width="42" height="26" rx="4" />
      <text x="22" y={middle + 4} text-anchor="middle">
        nginx
      </text>
    </svg>
  );
}

function Spark({ values }: { values: readonly (number | null)[] }) {
  const most = Math.max(1, ...values.map((value) => value ?? 0));
  const width = 84;
  const height = 22;
  const step = width / 119;
  const points = values.map((value, index) => ({
    x: width - (values.length - 1 - index) * step,
    y: value === null ? null : height - 1 - (value / most) * (height - 3),
  }));
  const d = points
    .map(({ x, y }, index) =>
      y === null ? '' : `${index === 0 || points[index - 1]?.y === null ? 'M' : 'L'}${x.toFixed(1)} ${y.toFixed(1)}`,
    )
    .join('');
  return (
    <svg class="spark" width={width} height={height} viewBox={`0 0 ${width} ${height}`} aria-hidden="true">
      <path d={d} />
    </svg>
  );
}
