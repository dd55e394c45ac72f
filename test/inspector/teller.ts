/** The page as it was built, told what a test wants it to be told: for what a real release cannot show soon enough. */
import { readFileSync } from 'node:fs';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Facts } from '../../machines/events.ts';
import { chartOf } from '../../src/inspector/chart.ts';
import { recordingOf } from '../../src/inspector/recording.ts';
import type { Message } from '../../src/inspector/wire.ts';
import { planOf } from '../../src/views/plan.ts';
import { statusView } from '../../src/views/status.ts';
import { whyView } from '../../src/views/verdicts.ts';
import type { Play } from '../machines/documents.ts';

/** Folder of the page, and its files. */
export const PAGE = join(import.meta.dirname, '../../dist/inspector');
export const FILES = ['index.html', 'page.css', 'page.js'];

/** The page from the build, and an inspector that tells it what a measurement wants. */
export class Teller {
  readonly #pages = new Set<ServerResponse>();
  readonly #server: Server = createServer((request, response) => {
    if (request.url === '/events') {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      this.#pages.add(response);
      response.on('close', () => this.#pages.delete(response));
      for (const message of this.first) response.write(`data: ${JSON.stringify(message)}\n\n`);
      return;
    }
    const path = (request.url ?? '').split('?', 1)[0] ?? '';
    const name = path === '/' ? 'index.html' : path.slice(1);
    if (!FILES.includes(name)) {
      response.writeHead(404).end();
      return;
    }
    const type = { 'index.html': 'text/html', 'page.css': 'text/css', 'page.js': 'text/javascript' }[name];
    response.writeHead(200, { 'content-type': type }).end(readFileSync(join(PAGE, name)));
  });
  first: Message[] = [];

  async open(): Promise<string> {
    await new Promise<void>((resolve) => {
      this.#server.listen(0, '127.0.0.1', resolve);
    });
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/#token=x`;
  }
  async tell(message: Message): Promise<void> {
    for (const page of this.#pages) {
      if (!page.write(`data: ${JSON.stringify(message)}\n\n`))
        await new Promise((resolve) => page.once('drain', resolve));
    }
  }
  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

/** What the inspector says of a release at this point of its way. */
export function statusOf(play: Play): Message {
  const { document } = play;
  const recording = recordingOf(document, chartOf(document.snapshot.context.topology));
  const view = statusView({ document, driver: null, live: null, now: play.now });
  return { type: 'status', status: view, recording, releases: [] };
}

/** What the inspector says of what can be sent; `change` makes the world differ from what the release believes. */
export function nextOf(play: Play, change: (facts: Facts) => void = () => undefined): Message {
  const { document } = play;
  const facts = structuredClone(play.facts);
  change(facts);
  const { rev, events } = whyView({ document, event: null, facts });
  const plan = Object.fromEntries(
    (['NEXT', 'ROLLBACK'] as const).map((event) => [
      event,
      planOf(document, event).map(({ where, command, why }) => ({ on: where, command, does: why })),
    ]),
  );
  return { type: 'next', next: { rev, at: play.now.toISOString(), events, plan, health: facts.servers } };
}
