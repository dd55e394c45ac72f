/**
 * The inspector's server: the page, what it is told (`GET /events`), any release for the replay (`GET /releases/ID`), events
 * (`POST /send`), and `@xstate/inspect`'s protocol (`/wire`).
 *
 * Invariants: it listens on 127.0.0.1 alone; the gate (guard.ts) is asked first, of every request and every socket; without the
 * token only the empty page is given out; nothing is accepted that is larger or more frequent than a person needs; an event needs
 * `--allow-send`.
 */
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import { messageOf } from '../errors.ts';
import { bearerOf, createGate, type Gate, type Refusal } from './guard.ts';
import { Session, type SessionOptions } from './session.ts';
import type { SendAnswer, SendRequest } from './wire.ts';

export interface InspectorOptions extends Omit<SessionOptions, 'send'> {
  /** 0 for a free one. */
  port: number;
  /** 256 bits as text of letters, digits, `-` and `_`. */
  token: string;
  /** Folder of the page as it was built. */
  pageDir: string;
  /** Sends an event as the command line does, and resolves when that has decided or ended. */
  send: (request: SendRequest) => Promise<SendAnswer>;
}

export interface Inspector {
  port: number;
  token: string;
  readonly session: Session;
  close(): Promise<void>;
}

const PAGE_FILES: Readonly<Record<string, { file: string; type: string }>> = {
  '/': { file: 'index.html', type: 'text/html; charset=utf-8' },
  '/page.js': { file: 'page.js', type: 'text/javascript; charset=utf-8' },
  '/page.css': { file: 'page.css', type: 'text/css; charset=utf-8' },
};
const CONNECTIONS = 128;
const WATCHERS = 16;
const FRAME_LIMIT_BYTES = 16 * 1024;
const BODY_LIMIT_BYTES = 4 * 1024;
const REASON_LIMIT_CHARACTERS = 500;
const UNREAD_LIMIT_BYTES = 8 * 1024 * 1024;
const FRAMES_PER_SECOND = 20;
const REFUSED = 1008;

/** Starts the inspector. Rejects with the system's error when it cannot listen. */
export async function startInspector(options: InspectorOptions): Promise<Inspector> {
  const state: { sending: Promise<SendAnswer> | null } = { sending: null };
  // One at a time: whoever clicks twice means it once.
  const send = async (request: SendRequest): Promise<SendAnswer> => {
    if (state.sending !== null) return { accepted: false, said: 'An event is just being sent. Nothing was changed.' };
    state.sending = options.send(request);
    try {
      return await state.sending;
    } finally {
      state.sending = null;
    }
  };
  const session = new Session({ ...options, send: (request) => void send(request).catch(() => undefined) });
  const server = createServer({ requestTimeout: 10_000, headersTimeout: 5_000, maxHeaderSize: 8 * 1024 });
  server.maxConnections = CONNECTIONS;
  server.keepAliveTimeout = 5_000;
  try {
    await listen(server, options.port);
  } catch (error) {
    session.stop();
    throw error;
  }
  const { port } = server.address() as AddressInfo;
  const gate = createGate({ token: options.token, port, now: () => performance.now() });
  const sockets = new WebSocketServer({ noServer: true, maxPayload: FRAME_LIMIT_BYTES, perMessageDeflate: false });
  server.on('request', (request, response) => {
    answer(request, response, { gate, session, options, send }).catch((error: unknown) => {
      refuse(response, error instanceof Refused ? error.refusal : { status: 503, because: messageOf(error) });
    });
  });
  server.on('upgrade', (request, socket, head) => {
    const refusal = upgradeRefusal(request, gate, sockets.clients.size);
    if (refusal !== null) {
      refuseUpgrade(socket, refusal);
      return;
    }
    sockets.handleUpgrade(request, socket, head, (webSocket) => {
      view(webSocket, session, options.allowSend);
    });
  });
  server.on('clientError', (_error, socket) => socket.destroy());
  return {
    port,
    token: options.token,
    session,
    async close() {
      session.stop();
      for (const client of sockets.clients) client.terminate();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}

async function listen(server: Server, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host: '127.0.0.1', port }, resolve);
  });
  server.removeAllListeners('error');
}

interface Answering {
  gate: Gate;
  session: Session;
  options: InspectorOptions;
  send: (request: SendRequest) => Promise<SendAnswer>;
}

const ALWAYS: Readonly<Record<string, string>> = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' ws://127.0.0.1:* ws://localhost:*; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'cache-control': 'no-store',
};

/** Answers one request; throws Refused for what is not answered. */
async function answer(request: IncomingMessage, response: ServerResponse, answering: Answering): Promise<void> {
  const { gate, session, options } = answering;
  for (const [name, value] of Object.entries(ALWAYS)) response.setHeader(name, value);
  pass(gate.address(request));
  const path = (request.url ?? '').split('?', 1)[0] ?? '';
  const wanted = path === '/send' ? 'POST' : 'GET';
  if (request.method !== wanted) {
    response.setHeader('allow', wanted);
    throw new Refused({ status: 405, because: `only ${wanted} is answered here` });
  }
  const page = Object.hasOwn(PAGE_FILES, path) ? PAGE_FILES[path] : undefined;
  if (page !== undefined) {
    response.setHeader('content-type', page.type);
    response.end(readFileSync(join(options.pageDir, page.file)));
    return;
  }
  pass(gate.token(bearerOf(request)));
  if (path === '/events') {
    tellEvents(request, response, session);
  } else if (path === '/send') {
    sendJson(response, await sent(request, answering));
  } else {
    const id = /^\/releases\/(r-\d{4,})$/.exec(path)?.[1];
    const recording = id === undefined ? null : session.recording(id);
    if (recording === null) throw new Refused({ status: 404, because: 'there is nothing here' });
    sendJson(response, recording);
  }
}

class Refused extends Error {
  readonly refusal: Refusal;
  constructor(refusal: Refusal) {
    super(refusal.because);
    this.refusal = refusal;
  }
}

function pass(refusal: Refusal | null): void {
  if (refusal !== null) throw new Refused(refusal);
}

/** Server-sent events, each one a `Message`. */
function tellEvents(request: IncomingMessage, response: ServerResponse, session: Session): void {
  if (session.watchers >= WATCHERS) throw new Refused({ status: 503, because: 'too many pages are open' });
  response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' });
  const leave = session.join((message) => {
    // A page that does not read would keep everything that happens in memory.
    if (response.writableLength > UNREAD_LIMIT_BYTES) response.destroy();
    else response.write(`data: ${JSON.stringify(message)}\n\n`);
  });
  request.on('close', leave);
  response.on('close', leave);
}

async function sent(request: IncomingMessage, { options, send }: Answering): Promise<SendAnswer> {
  if (!options.allowSend) {
    const because = 'this inspector only shows. Start it with: flow inspect --allow-send';
    throw new Refused({ status: 403, because });
  }
  if (request.headers['content-type'] !== 'application/json') {
    throw new Refused({ status: 415, because: 'an event is sent as application/json' });
  }
  const body = await bodyOf(request);
  if (body === null) throw new Refused({ status: 413, because: 'that is too long for an event' });
  const wanted = requestIn(body);
  if (wanted === null) throw new Refused({ status: 400, because: 'that is no event' });
  return await send(wanted);
}

/** Null when it is too long. */
async function bodyOf(request: IncomingMessage): Promise<string | null> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > BODY_LIMIT_BYTES) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** Null for what is no event that the page sends. */
function requestIn(body: string): SendRequest | null {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    return null;
  }
  if (typeof value !== 'object' || value === null) return null;
  const { event, expect, reason } = value as Record<string, unknown>;
  if ((event !== 'NEXT' && event !== 'ROLLBACK') || !Number.isSafeInteger(expect) || (expect as number) < 1)
    return null;
  if (reason !== null && (typeof reason !== 'string' || reason.length > REASON_LIMIT_CHARACTERS)) return null;
  return { event, expect: expect as number, reason: reason === '' ? null : reason };
}

function sendJson(response: ServerResponse, value: unknown): void {
  response.setHeader('content-type', 'application/json; charset=utf-8');
  response.end(JSON.stringify(value));
}

function refuse(response: ServerResponse, { status, because }: Refusal): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', connection: 'close' });
  response.end(`${because}\n`);
}

function upgradeRefusal(request: IncomingMessage, gate: Gate, open: number): Refusal | null {
  const refusal = gate.address(request);
  if (refusal !== null) return refusal;
  // Cut by hand: a path may be anything, and `new URL` throws on some of it.
  const [path, query = ''] = (request.url ?? '').split('?', 2);
  if (path !== '/wire') return { status: 404, because: 'there is nothing here' };
  const wrong = gate.token(new URLSearchParams(query).get('token'));
  if (wrong !== null) return wrong;
  return open >= WATCHERS ? { status: 503, because: 'too many viewers are connected' } : null;
}

function refuseUpgrade(socket: Duplex, { status, because }: Refusal): void {
  socket.on('error', () => undefined);
  socket.end(
    `HTTP/1.1 ${status} Refused\r\nconnection: close\r\ncontent-type: text/plain\r\ncontent-length: ${because.length + 1}\r\n\r\n${because}\n`,
  );
}

/** A viewer of `@xstate/inspect`'s protocol: what it sends is judged before the package sees it. */
function view(webSocket: WebSocket, session: Session, allowSend: boolean): void {
  let frames = 0;
  const counting = setInterval(() => {
    frames = 0;
  }, 1_000);
  const viewer = session.inspected.connect(
    {
      send: (text) => {
        if (webSocket.bufferedAmount > UNREAD_LIMIT_BYTES) webSocket.terminate();
        else webSocket.send(text);
      },
      isOpen: () => webSocket.readyState === webSocket.OPEN,
      close: (code, because) => webSocket.close(code, because),
    },
    allowSend,
  );
  webSocket.on('error', () => undefined);
  webSocket.on('message', (data, isBinary) => {
    frames += 1;
    const text = isBinary ? '' : (data as Buffer).toString('utf8');
    if (frames > FRAMES_PER_SECOND || !viewer.message(text)) webSocket.close(REFUSED, 'that is refused here');
  });
  webSocket.on('close', () => {
    clearInterval(counting);
    viewer.gone();
  });
}
