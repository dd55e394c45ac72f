/** The closing table of the demo: what clients saw, and how long it took. Pure. */
import type { Evidence, ReleaseContext } from '../../../machines/contract.ts';
import { canaryAndRest, wavesOf } from '../../../machines/topology.ts';
import type { LoadTotals } from '../../sandbox/load.ts';

export interface Clients {
  /** Every request on a connection of its own. */
  close: LoadTotals;
  /** Connections that are kept and used again. */
  keepAlive: LoadTotals;
}

/** Seconds that no tool could save: the publish commands themselves, and the requests in flight when a server left the rotation. */
export interface Unavoidable {
  publishes: number;
  drains: number;
  total: number;
}

/** The unavoidable seconds of a release in production, those of its rollback included, from the evidence of its steps. */
export function unavoidableSeconds({ topology, evidence }: ReleaseContext): Unavoidable {
  const waves = wavesOf(topology).map(({ upper }) => upper);
  const { canary } = canaryAndRest(topology);
  const publishing = waves.flatMap((wave) => [`publishing${wave}`, `restoring${wave}`]);
  const draining = [`goingLive${canary.upper}`, ...waves.flatMap((wave) => [`draining${wave}`, `drainingBack${wave}`])];
  const publishes = sum(publishing.map((step) => publishSeconds(evidence[step])));
  const drains = sum(draining.map((step) => drainSeconds(evidence[step])));
  return { publishes, drains, total: publishes + drains };
}

/** Of a wave the longest: the others can go beside it. */
function publishSeconds(seen: Evidence | undefined): number {
  if (seen === undefined) return 0;
  if ('exitStatus' in seen) return seen.seconds;
  if (!('results' in seen)) return 0;
  return Math.max(0, ...seen.results.map((result) => (result.outcome === 'done' ? result.evidence.seconds : 0)));
}
const drainSeconds = (seen: Evidence | undefined): number =>
  seen !== undefined && 'judgedBy' in seen ? (seen.drainedAfterSeconds ?? 0) : 0;
const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** Requests per second that all clients together had an answer to. */
export function requestsPerSecond({ close, keepAlive }: Clients): number {
  return sum([close, keepAlive].map(({ requests, seconds }) => (seconds > 0 ? requests / seconds : 0)));
}

/** The table as lines. `seconds` is the whole, from planning to the end. */
export function closingTable(clients: Clients, seconds: number, context: ReleaseContext): string[] {
  const row = (name: string, of: (totals: LoadTotals) => string | number): string =>
    `  ${name.padEnd(44)}${String(of(clients.close)).padStart(18)}${String(of(clients.keepAlive)).padStart(14)}`;
  const { publishes, drains, total } = unavoidableSeconds(context);
  const share = seconds > 0 ? (100 * total) / seconds : 0;
  const moved = context.evidence.movingBack;
  const back = moved !== undefined && 'secondsUntilMoved' in moved ? moved.secondsUntilMoved : null;
  return [
    `  ${'What the clients saw'.padEnd(44)}${'Connection: close'.padStart(18)}${'keep-alive'.padStart(14)}`,
    row('requests (GET and POST)', ({ requests }) => requests),
    row('seconds', (totals) => totals.seconds.toFixed(1)),
    row('failed', ({ failed }) => failed),
    row('  of these 5xx', ({ status5xx }) => status5xx),
    row('resets of idle connections', ({ resets }) => resets),
    row('requests due but not sent by the client', ({ notSent }) => notSent),
    '',
    `  ${requestsPerSecond(clients).toFixed(0)} requests/s together.`,
    '  A reload itself closes idle keep-alive connections; a client that writes on one at that very moment is reset, and its',
    '  request reaches no server. Nginx before 1.27.4 cannot avoid it, whatever the tool (since then: keepalive_min_timeout).',
    '',
    `  ${'The whole'.padEnd(44)}${`${seconds.toFixed(1)} s`.padStart(18)}`,
    `  ${'  publish commands in production'.padEnd(44)}${`${publishes.toFixed(1)} s`.padStart(18)}`,
    `  ${'  drains: requests in flight'.padEnd(44)}${`${drains.toFixed(1)} s`.padStart(18)}`,
    `  ${'  both together, which no tool could avoid'.padEnd(44)}${`${total.toFixed(1)} s`.padStart(18)}${`${share.toFixed(0)} %`.padStart(14)}`,
    ...(back === null ? [] : [`  ${'  traffic moved back in'.padEnd(44)}${`${back.toFixed(1)} s`.padStart(18)}`]),
  ];
}
