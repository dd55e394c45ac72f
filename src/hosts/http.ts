/**
 * An address asked with HTTP from another host: over a connection that the host makes. Nothing is installed there; ssh forwards
 * the bytes. Each question has a connection of its own: a pooled one could still lead to the process that is being replaced.
 */
import { request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { isIP } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { codeOf } from '../errors.ts';
import type { Connection, Host } from './host.ts';

export interface HttpAnswer {
  status: number;
  text: string;
}

/** Before it is asked again over another connection, where the way to the host broke. */
const AGAIN_MS = 100;
/** A server that hangs up without an answer does so every time. */
const MOST_UNCLEAR = 2;
/** That a connection has ended; why is for who made it to say. */
const CUT_OFF = new Set(['ECONNRESET', 'EPIPE', 'ERR_STREAM_PREMATURE_CLOSE']);

/**
 * The answer to GET; `text` is cut near `limitBytes`. Redirects are not followed. A way to the host that breaks is made again, until
 * `timeoutMs` have passed. Rejects when there is no answer: with what the connection said, or with a DOMException named TimeoutError.
 */
export async function getFrom(
  host: Host,
  address: string,
  { timeoutMs, limitBytes }: { timeoutMs: number; limitBytes: number },
): Promise<HttpAnswer> {
  const url = new URL(address);
  if (url.protocol !== 'https:' && url.protocol !== 'http:') throw new Error(`${url.protocol} is no http`);
  const signal = AbortSignal.timeout(timeoutMs);
  for (let unclear = 0; ; ) {
    const connection = await host.connect(
      hostOf(url),
      Number(url.port) || (url.protocol === 'https:' ? 443 : 80),
      signal,
    );
    try {
      return await ask(url, connection, { signal, limitBytes });
    } catch (error) {
      signal.throwIfAborted();
      // What came through and was not understood, a certificate nobody trusts, say, is an answer of its own.
      const code = codeOf(error);
      if (code !== undefined && !CUT_OFF.has(code)) throw error;
      connection.stream.destroy();
      const { because, isOfHost } = await connection.ended();
      unclear += isOfHost === null ? 1 : 0;
      if (isOfHost === false || unclear > MOST_UNCLEAR) throw new Error(because, { cause: error });
      await delay(AGAIN_MS, undefined, { signal }).catch(() => undefined);
      signal.throwIfAborted();
    } finally {
      connection.close();
    }
  }
}

const hostOf = ({ hostname }: URL): string => hostname.replace(/^\[|\]$/g, '');

async function ask(
  url: URL,
  { stream }: Connection,
  { signal, limitBytes }: { signal: AbortSignal; limitBytes: number },
): Promise<HttpAnswer> {
  return await new Promise((resolve, reject) => {
    const host = hostOf(url);
    // An address is checked against the certificate as well, and never sent as a name.
    const named = isIP(host) === 0 ? { servername: host } : {};
    const options = { signal, headers: { host: url.host, connection: 'close' }, path: `${url.pathname}${url.search}` };
    const request =
      url.protocol === 'https:'
        ? requestHttps({ ...options, createConnection: () => connectTls({ socket: stream, host, ...named }) })
        : requestHttp({ ...options, createConnection: () => stream });
    stream.on('error', reject);
    request.on('error', reject);
    request.on('response', (response) => {
      let text = '';
      const answer = () => {
        resolve({ status: response.statusCode ?? 0, text });
      };
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
        if (text.length > limitBytes) answer();
      });
      response.on('end', answer);
      response.on('error', reject);
    });
    request.end();
  });
}
