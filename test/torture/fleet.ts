/** Fleets of a size: a canary and waves of a share of the servers each. Fixture of what is said of large fleets. */
import type { Topology } from '../../machines/topology.ts';

/** `waves` waves after the canary, as even as they can be. The load needs three quarters of the servers. */
export function fleetOf(servers: number, waves: number): Topology {
  const names = Array.from({ length: servers }, (_, index) => `app${index + 1}`);
  const [canary = '', ...rest] = names;
  const size = Math.ceil(rest.length / waves);
  const parts = Array.from({ length: Math.ceil(rest.length / size) }, (_, index) =>
    rest.slice(index * size, (index + 1) * size),
  );
  return {
    servers: names,
    cutover: 'rolling',
    waves: [[canary], ...parts],
    minimumHealthy: Math.floor((servers - size) * 0.75),
  };
}
