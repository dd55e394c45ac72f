/** The closing table of the demo: what clients saw, and how long it took. Pure. */
import type { ReleaseContext } from '../../../machines/contract.ts';
import { canaryAndRest } from '../../../machines/topology.ts';
import type { LoadTotals } from '../../sandbox/load.ts';

export interface Clients {
  /** Every request on a connection of its own. */
  close: LoadTotals;
  /** Connections that are kept and used again. */
  keepAlive: LoadTotals;
}

/** Seconds that no tool could save: the publish commands themselves, and the requests in flight when a server left the rotation. */
export function unavoidableSeconds(context: ReleaseContext): { restarts: number; drains: number } {
  const { canary, rest } = canaryAndRest(context.topology);
  const published = [canary, ...rest].map(({ upper }) => context.evidence[`publishing${upper}`]);
  const switched = [`draining${canary.upper}`, `goingLive${canary.upper}`].map((step) => context.evidence[step]);
  const sum = (values: number[]): number => values.reduce((total, value) => total + value, 0);
  return {
    restarts: sum(
      published.map((evidence) => (evidence !== undefined && 'exitStatus' in evidence ? evidence.seconds : 0)),
    ),
    drains: sum(
      switched.map((evidence) =>
        evidence !== undefined && 'judgedBy' in evidence ? (evidence.drainedAfterSeconds ?? 0) : 0,
      ),
    ),
  };
}

/** The table as lines. */
export function closingTable(clients: Clients, seconds: number, context: ReleaseContext): string[] {
  const { close, keepAlive } = clients;
  const row = (name: string, of: (totals: LoadTotals) => string | number): string =>
    `  ${name.padEnd(44)}${String(of(close)).padStart(18)}${String(of(keepAlive)).padStart(14)}`;
  const { restarts, drains } = unavoidableSeconds(context);
  const both = (close.requests + keepAlive.requests) / Math.max(close.seconds, keepAlive.seconds, 1);
  return [
    `  ${'What the clients saw'.padEnd(44)}${'Connection: close'.padStart(18)}${'keep-alive'.padStart(14)}`,
    row('requests (GET and POST)', ({ requests }) => requests),
    row('seconds', (totals) => totals.seconds.toFixed(1)),
    row('failed', ({ failed }) => failed),
    row('  of these 5xx', ({ status5xx }) => status5xx),
    row('resets of idle connections', ({ resets }) => resets),
    row('requests due but not sent by the client', ({ notSent }) => notSent),
    '',
    `  ${both.toFixed(0)} requests/s together. A reload closes idle kept connections; now and then a client uses one at that very moment and is reset.`,
    '  Such a request never reached a server. Nginx before 1.27.4 cannot avoid it, whatever the tool; see keepalive_min_timeout.',
    '',
    `  The release took ${seconds.toFixed(1)} s. No tool could avoid ${(restarts + drains).toFixed(1)} s of it in production: ` +
      `the publish commands (${restarts.toFixed(1)} s) and the requests in flight (${drains.toFixed(1)} s).`,
  ];
}
