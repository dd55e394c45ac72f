/**
 * Free loopback ports for the sandbox. They are taken from below the range the kernel gives to outgoing connections:
 * a server that is down for a second while it is published must find its port free again, and under load an outgoing
 * connection would sooner or later sit on it.
 */
import { randomInt } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { codeOf, EXIT, FlowError } from '../errors.ts';

const LOWEST = 10_000;
const ATTEMPTS = 500;

/** `count` different ports on 127.0.0.1 that nobody listens on. Throws FlowError `NO_FREE_PORT`. */
export async function freePorts(count: number): Promise<number[]> {
  const end = Math.max(LOWEST + 1_000, await firstOutgoingPort());
  const held = new Map<number, Server>();
  try {
    for (let attempt = 0; held.size < count; attempt++) {
      if (attempt >= ATTEMPTS) {
        throw new FlowError(
          'NO_FREE_PORT',
          EXIT.problemFound,
          `No ${count} free ports were found on 127.0.0.1 between ${LOWEST} and ${end}. Nothing was started. ` +
            'See who listens there (ss -ltnp), and try again.',
        );
      }
      const port = randomInt(LOWEST, end);
      const server = await listen(port);
      // Held until all are chosen, so that they differ.
      if (server !== null) held.set(port, server);
    }
    return [...held.keys()];
  } finally {
    await Promise.all([...held.values()].map((server) => new Promise((resolve) => server.close(resolve))));
  }
}

async function firstOutgoingPort(): Promise<number> {
  try {
    const range = await readFile('/proc/sys/net/ipv4/ip_local_port_range', 'utf8');
    return Number(/^\s*(\d+)/.exec(range)?.[1] ?? 32_768);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return 32_768;
    throw error;
  }
}

function listen(port: number): Promise<Server | null> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error) => {
      if (['EADDRINUSE', 'EACCES'].includes(codeOf(error) ?? '')) resolve(null);
      else reject(error);
    });
    server.listen(port, '127.0.0.1', () => resolve(server));
  });
}
