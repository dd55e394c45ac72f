/** What the demo says before each step: what the runbook does there, and what flow proves. Pure. */
import type { Topology } from '../../../machines/topology.ts';
import { canaryAndRest } from '../../../machines/topology.ts';

/** One or two sentences on the way to a milestone. */
export function narrationOf(topology: Topology, milestone: string): string {
  const { canary, rest } = canaryAndRest(topology);
  const others = rest.map(({ server }) => server).join(' and ');
  const said: Record<string, string> = {
    tested:
      'The work is merged into testing and published to the test server. Proven: that server reports exactly this commit.',
    tagged:
      'testing becomes master, with its ChangeLog section and its tag, in one atomic push. Your own tree is not touched.',
    [`${canary.lower}Drained`]: `${canary.server} leaves the rotation. Proven: every Nginx worker from before the reload is gone, so no request of a customer is on ${canary.server} any more.`,
    [`${canary.lower}Published`]: `The new version goes to ${canary.server}, which serves nobody. Proven: it reports the version and is healthy.`,
    [`${canary.lower}Live`]: `All traffic goes to the new version on ${canary.server}. The old one stays on ${others}, one reload away.`,
    verified:
      'The soak: checks, errors and rates are watched for the whole window. Patience is what a person at night has least of.',
    ...Object.fromEntries(
      rest.map((wave) => [
        `${wave.lower}Published`,
        `${wave.server} was drained by the same switch; it gets the new version only now.`,
      ]),
    ),
    allLive: 'All servers take traffic again and are watched for a moment; then develop gets master back.',
  };
  return said[milestone] ?? milestone;
}
