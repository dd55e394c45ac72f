import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { notify } from '../../src/release/notify.ts';
import type { HistoryEntry, ReleaseDocument } from '../../src/store/document.ts';

const NAME = 'FLOW_TEST_WEBHOOK';
afterEach(() => {
  Reflect.deleteProperty(process.env, NAME);
});

const document = {
  project: 'quickpay',
  id: 'r-0001',
  endedAt: null,
  snapshot: { value: 'app1Drained', status: 'active', context: { version: 'v1.3.8', question: null } },
} as unknown as ReleaseDocument;
const entry: HistoryEntry = {
  rev: 7,
  at: '2026-01-01T00:00:00Z',
  event: 'done',
  from: 'drainingApp1',
  to: 'app1Drained',
  by: null,
  reason: null,
  forced: [],
  note: 'drained after 0.13 s',
  seconds: 2,
};

test('posts where the release rests, to the address in the environment', async () => {
  const bodies: unknown[] = [];
  const server = createServer((request, response) => {
    let text = '';
    request.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    request.on('end', () => {
      bodies.push(JSON.parse(text));
      response.end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  process.env[NAME] = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`;
  expect(await notify([{ webhook: { env: NAME } }], document, entry)).toEqual([]);
  expect(bodies).toEqual([expect.objectContaining({ project: 'quickpay', version: 'v1.3.8', state: 'app1Drained' })]);
  server.close();
});

test('says that a webhook could not be told, and fails nothing', async () => {
  expect(await notify([{ webhook: { env: NAME } }], document, entry)).toEqual([
    `the webhook in ${NAME} is not set, so nobody was notified`,
  ]);
  process.env[NAME] = 'http://127.0.0.1:1/secret-path';
  const [problem] = await notify([{ webhook: { env: NAME } }], document, entry);
  expect(problem).toContain('could not be reached');
  expect(problem).not.toContain('secret-path');
});
