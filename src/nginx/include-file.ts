/** What flow writes into the file that the upstream block includes. Pure: a plan shows the same lines. */
import type { IncludeConfig } from '../config/schema.ts';

/** The lines of the file, without its heading. `addresses`: host:port of every server of the project, by its name. */
export function serverLines(
  { parameters, weights, drained }: IncludeConfig,
  servers: readonly string[],
  addresses: Readonly<Record<string, string>>,
): string[] {
  return Object.entries(addresses).flatMap(([name, address]) => {
    const serves = servers.includes(name);
    if (!serves && drained === 'leave out') return [];
    const weight = weights[name];
    const words = [
      'server',
      address,
      ...(weight === undefined ? [] : [`weight=${weight}`]),
      ...(parameters === undefined ? [] : [parameters]),
      ...(serves ? [] : ['down']),
    ];
    return [`${words.join(' ')};`];
  });
}

/** The whole file. The same for the same servers, so that nothing is committed where nothing changes. */
export const fileText = (
  include: IncludeConfig,
  servers: readonly string[],
  addresses: Readonly<Record<string, string>>,
): string =>
  ['# Who has the traffic. flow writes this file; weights and parameters stand in flow.yaml, under nginx.include.']
    .concat(serverLines(include, servers, addresses))
    .map((line) => `${line}\n`)
    .join('');
