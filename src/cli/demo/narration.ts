/** What the demo says before each step: what the runbook does there, and what flow proves. Pure. */
import type { Topology } from '../../../machines/topology.ts';
import { canaryAndRest, without } from '../../../machines/topology.ts';

const isOne = (servers: readonly string[]): boolean => servers.length === 1;

/** One or two sentences on the way to a milestone. */
export function narrationOf(topology: Topology, milestone: string): string {
  const { canary, rest } = canaryAndRest(topology);
  const isRolling = topology.cutover === 'rolling';
  const first = canary.servers.join(' and ');
  const others = without(topology, ...canary.servers).join(' and ');
  const drained = (servers: readonly string[]): string => {
    const names = servers.join(' and ');
    return `${names} ${isOne(servers) ? 'leaves' : 'leave'} the rotation. Proven: every Nginx worker from before the reload is gone, so no request of a customer is on ${names} any more.`;
  };
  const said: Record<string, string> = {
    tested:
      'The work is merged into testing and published to the test server. Proven: that server reports exactly this commit.',
    tagged:
      'testing becomes master, with its ChangeLog section and its tag, in one atomic push. Your own tree is not touched.',
    [`${canary.lower}Drained`]: drained(canary.servers),
    [`${canary.lower}Published`]: isOne(canary.servers)
      ? `The new version goes to ${first}, which serves nobody. Proven: it reports the version and is healthy.`
      : `The new version goes to ${first}, which serve nobody. Proven: they report the version and are healthy.`,
    [`${canary.lower}Previewed`]: `The pre-release checks look at the new version on ${first}, before any customer does.`,
    [`${canary.lower}Live`]: isRolling
      ? `${first} ${isOne(canary.servers) ? 'joins' : 'join'} ${others} again: some of the traffic goes to the new version, and the old one is one reload away.`
      : `All traffic goes to the new version on ${first}. The old one stays on ${others}, one reload away.`,
    verified:
      'The soak: checks, errors and rates are watched for the whole window. Patience is what a person at night has least of.',
    ...Object.fromEntries(
      rest.flatMap((wave) => {
        const names = wave.servers.join(' and ');
        const gets = isOne(wave.servers) ? 'gets' : 'get';
        return isRolling
          ? [
              [`${wave.lower}Drained`, drained(wave.servers)],
              [`${wave.lower}Published`, `${names} ${gets} the new version, while the others serve.`],
              [
                `${wave.lower}Live`,
                `${names} ${isOne(wave.servers) ? 'joins' : 'join'} the others, and ${isOne(wave.servers) ? 'is' : 'are'} watched for a while.`,
              ],
            ]
          : [
              [
                `${wave.lower}Published`,
                `${names} ${isOne(wave.servers) ? 'was' : 'were'} drained by the same switch; ${isOne(wave.servers) ? 'it gets' : 'they get'} the new version only now.`,
              ],
            ];
      }),
    ),
    allLive: 'All servers take traffic again and are watched for a moment; then develop gets master back.',
  };
  return said[milestone] ?? milestone;
}
