/**
 * What others may try on the inspector's port, sent raw: each is refused in so many words, no event is taken, and the release does
 * not notice.
 */
import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { stage, type Stage } from '../scenarios/stage.ts';
import { openInspector, type Opened } from './opened.ts';

let on: Stage;
let shows: Opened;
beforeAll(async () => {
  on = await stage();
  await on.start();
  await on.leave();
  shows = await openInspector(on);
}, 60_000);
afterAll(async () => {
  expect(on.document().rev).toBe(1);
  await on.close();
});

/** Sends bytes and returns what came back before the connection ended, or within a moment. */
async function raw(port: number, bytes: string | Buffer, patienceMs = 1_500): Promise<string> {
  return await new Promise((resolve) => {
    let answer = '';
    const socket: Socket = connect(port, '127.0.0.1', () => {
      socket.write(bytes);
    });
    const end = () => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answer);
    };
    const timer = setTimeout(end, patienceMs);
    socket.on('data', (chunk: Buffer) => {
      answer += chunk.toString('latin1');
      if (/^HTTP\/1\.1 [45]/.test(answer) && answer.includes('\r\n\r\n')) setTimeout(end, 50);
    });
    socket.on('error', end);
    socket.on('close', end);
  });
}

interface Attack {
  method?: string;
  path?: string;
  host?: string | null;
  headers?: string[];
  body?: string;
  /** True for the right token, a text for another one. */
  token?: boolean | string;
}

function request({ method = 'GET', path = '/events', host, headers = [], body = '', token = false }: Attack): string {
  const lines = [
    `${method} ${path} HTTP/1.1`,
    ...(host === null ? [] : [`Host: ${host ?? `127.0.0.1:${shows.port}`}`]),
    ...(token === false ? [] : [`Authorization: Bearer ${token === true ? shows.token : token}`]),
    ...(body === '' ? [] : [`Content-Length: ${Buffer.byteLength(body)}`]),
    ...headers,
    headers[0] === UPGRADE[0] ? 'Connection: Upgrade' : 'Connection: close',
  ];
  return `${lines.join('\r\n')}\r\n\r\n${body}`;
}

const UPGRADE = ['Upgrade: websocket', 'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=='];
const JSON_BODY = ['Content-Type: application/json'];
const NEXT = JSON.stringify({ event: 'NEXT', expect: 1, reason: null });

describe('a request to the inspector', () => {
  test.each<[string, Attack, number]>([
    ['for the name of another site (rebinding)', { host: 'evil.example', token: true }, 421],
    ['for the address of another site on this port', { host: 'evil.example:80', token: true }, 421],
    ['for this machine on another port', { host: '127.0.0.1:1', token: true }, 421],
    ['for every address', { host: '0.0.0.0:1', token: true }, 421],
    ['without a host', { host: null, token: true }, 400],
    ['from a page of another site', { headers: ['Origin: https://evil.example'], token: true }, 403],
    ['from a page without an origin of its own', { headers: ['Origin: null'], token: true }, 403],
    ['from another port of this machine', { headers: ['Origin: http://127.0.0.1:1'], token: true }, 403],
    ['that the browser calls cross-site', { headers: ['Sec-Fetch-Site: cross-site'], token: true }, 403],
    ['that the browser calls same-site', { headers: ['Sec-Fetch-Site: same-site'], token: true }, 403],
    ['without a token', {}, 401],
    ['with a wrong token', { token: 'A'.repeat(43) }, 401],
    ['with a token that is cut short', { token: 'short' }, 401],
    ['with the token in its address', { path: '/events?token=TOKEN' }, 401],
    ['with the token under another scheme', { headers: ['Authorization: Basic TOKEN'] }, 401],
    ['with POST for what is only read', { method: 'POST', token: true }, 405],
    ['with OPTIONS, as browsers ask before they send', { method: 'OPTIONS', headers: ['Origin: null'] }, 403],
    ['with TRACE', { method: 'TRACE', token: true }, 405],
    ['with GET for what sends', { path: '/send', token: true }, 405],
    ['for a file of the machine', { path: '/../../../../etc/passwd', token: true }, 404],
    ['for a file of the machine, in disguise', { path: '/%2e%2e%2f%2e%2e%2fetc/passwd', token: true }, 404],
    ['for a release of another folder', { path: '/releases/../../driver.json', token: true }, 404],
    ['for a release that is none', { path: '/releases/__proto__', token: true }, 404],
    ['for a property of every object', { path: '/constructor', token: true }, 404],
    [
      'with an event, where it only shows',
      { method: 'POST', path: '/send', headers: JSON_BODY, body: NEXT, token: true },
      403,
    ],
    ['with headers without end', { headers: [`X-Long: ${'a'.repeat(20_000)}`], token: true }, 431],
    ['that is no HTTP', { method: '\u0001\u0002', token: true }, 400],
    ['for a socket, without a token', { path: '/wire', headers: UPGRADE }, 401],
    ['for a socket, with a wrong token', { path: `/wire?token=${'A'.repeat(43)}`, headers: UPGRADE }, 401],
    [
      'for a socket, from a page of another site',
      { path: '/wire?token=TOKEN', headers: [...UPGRADE, 'Origin: https://evil.example'] },
      403,
    ],
    [
      'for a socket, by the name of another site',
      { path: '/wire?token=TOKEN', host: 'evil.example', headers: UPGRADE },
      421,
    ],
    ['for a socket at a path that is no path', { path: '//', headers: UPGRADE }, 404],
    ['for a socket elsewhere', { path: '/events?token=TOKEN', headers: UPGRADE }, 404],
  ])('%s is refused', async (_what, attack, status) => {
    const text = request(attack).replaceAll('TOKEN', shows.token);
    const answer = await raw(shows.port, text);
    // What is no HTTP at all is not answered.
    if (status === 400 || status === 431) expect(answer).not.toMatch(/^HTTP\/1\.1 [123]/);
    else expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect(answer).not.toContain('quickpay');
    expect(answer.toLowerCase()).not.toContain('access-control-allow-origin');
  });
});

/** A viewer with the right token sends this; resolves with the code its connection is closed with, or null when it stays. */
async function viewerSays(opened: Opened, ...frames: (string | Buffer)[]): Promise<number | null> {
  const socket = new WebSocket(`ws://127.0.0.1:${opened.port}/wire?token=${opened.token}`);
  return await new Promise((resolve, reject) => {
    socket.on('error', reject);
    socket.on('open', () => {
      for (const frame of frames) socket.send(frame);
    });
    const timer = setTimeout(() => {
      socket.close();
      resolve(null);
    }, 800);
    socket.on('close', (code) => {
      clearTimeout(timer);
      resolve(code);
    });
  });
}
const forged = (event: Record<string, unknown>): string =>
  JSON.stringify({ type: 'xstate.event', event: JSON.stringify({ name: 'x', origin: 'flow:r-0001', ...event }) });

describe('a viewer with the token', () => {
  test.each<[string, string | Buffer]>([
    ['an event, where it only shows', forged({ data: { type: 'NEXT', expect: 1 } })],
    ['a frame that is no JSON', '{"type":'],
    ['a frame that is no text', Buffer.from([0, 1, 2])],
    ['a word that the protocol does not have', JSON.stringify({ type: 'service.state', state: '{}' })],
    ['an object that poses as another', '{"__proto__":{"type":"xstate.inspecting"}}'],
    ['an event that is none', JSON.stringify({ type: 'xstate.event', event: 7 })],
  ])('that sends %s is shown out', async (_what, frame) => {
    expect(await viewerSays(shows, frame)).toBe(1008);
  });

  test('that sends more than a person can is shown out', async () => {
    const asking = JSON.stringify({ type: 'xstate.inspecting' });
    expect(await viewerSays(shows, ...Array.from({ length: 50 }, () => asking))).toBe(1008);
  });

  test('that sends a frame of a megabyte is cut off', async () => {
    expect(await viewerSays(shows, 'x'.repeat(1_000_000))).toBe(1009);
  });

  test('that only asks to inspect may stay', async () => {
    expect(await viewerSays(shows, JSON.stringify({ type: 'xstate.inspecting' }))).toBeNull();
  });
});

describe('where sending is allowed', () => {
  let sends: Opened;
  beforeAll(async () => {
    sends = await openInspector(on, '--allow-send');
  }, 20_000);
  const post = (body: string, headers = JSON_BODY) =>
    request({ method: 'POST', path: '/send', headers, body, host: `127.0.0.1:${sends.port}`, token: sends.token });

  test.each<[string, () => string, number]>([
    ['an event named xstate.*', () => post(JSON.stringify({ event: 'xstate.init', expect: 1, reason: null })), 400],
    [
      'an event that people do not send',
      () => post(JSON.stringify({ event: 'RECHECK', expect: 1, reason: null })),
      400,
    ],
    ['an event without the revision it is meant for', () => post(JSON.stringify({ event: 'NEXT', reason: null })), 400],
    ['an event as a form, which needs no leave of the browser', () => post(NEXT, ['Content-Type: text/plain']), 415],
    ['an event of 100 kB', () => post(JSON.stringify({ event: 'NEXT', expect: 1, reason: 'x'.repeat(100_000) })), 413],
    ['an event from a page of another site', () => post(NEXT, [...JSON_BODY, 'Origin: https://evil.example']), 403],
    [
      'an event with the token of an inspector that only shows',
      () => post(NEXT).replace(sends.token, shows.token),
      401,
    ],
  ])('%s is refused', async (_what, text, status) => {
    expect(await raw(sends.port, text())).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
  });

  test.each<[string, string]>([
    ['xstate.*', forged({ name: 'xstate.stop', data: { type: 'xstate.stop', expect: 1 } })],
    ['NEXT without its revision', forged({ data: { type: 'NEXT' } })],
  ])('a viewer that sends %s is shown out', async (_what, frame) => {
    expect(await viewerSays(sends, frame)).toBe(1008);
  });
});

describe('a thousand connections that say nothing', () => {
  test('leave the release alone, and the page comes back when they are gone', async () => {
    const sockets = Array.from({ length: 1_000 }, () => {
      const socket = connect(shows.port, '127.0.0.1');
      socket.on('error', () => undefined);
      return socket;
    });
    await expect.poll(() => sockets.filter(({ destroyed, closed }) => destroyed || closed).length).toBeGreaterThan(800);
    const sent = await on.flow('status');
    expect(sent.status).toBe(0);
    for (const socket of sockets) socket.destroy();
    await expect.poll(async () => await raw(shows.port, request({ path: '/' }), 500)).toMatch(/^HTTP\/1\.1 200 /);
  }, 20_000);
});
