/**
 * Who may speak to the inspector: decided here for every request and every socket, before anything else looks at them.
 *
 * Invariants: nothing but the empty page is given out without the token, whoever asks; a page of another site gets nothing, with
 * or without it (Host against rebinding, Origin and Sec-Fetch-Site against cross-site requests); a refusal says no more than why.
 * The rules answer what other local servers were caught by: CVE-2025-24010 and CVE-2026-39363 (Vite), CVE-2025-24964 (Vitest UI).
 */
import { timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

export interface Refusal {
  status: 400 | 401 | 403 | 404 | 405 | 413 | 415 | 421 | 429 | 503;
  because: string;
}

export interface Gate {
  /** Of every request: the host it was meant for, and the site it comes from. Null when it may be looked at. */
  address(request: Pick<IncomingMessage, 'headers'>): Refusal | null;
  /** Of everything that holds data or moves anything. Null when the token is right. */
  token(given: string | null): Refusal | null;
}

const FAILURES_PER_MINUTE = 30;
const MINUTE_MS = 60_000;

/** `port` is the one that is listened on, `now` a monotonic clock in milliseconds. */
export function createGate({ token, port, now }: { token: string; port: number; now: () => number }): Gate {
  const wanted = Buffer.from(token);
  const hosts = [`127.0.0.1:${port}`, `localhost:${port}`];
  const origins = hosts.map((host) => `http://${host}`);
  let failures = 0;
  let since = now();
  return {
    address({ headers }) {
      const { host, origin } = headers;
      if (host === undefined || !hosts.includes(host)) {
        return { status: 421, because: 'this is not the host that was asked for' };
      }
      if (origin !== undefined && !origins.includes(origin)) {
        return { status: 403, because: 'pages of other sites are refused' };
      }
      const site = headers['sec-fetch-site'];
      const isNavigation = headers['sec-fetch-mode'] === 'navigate';
      // Opening the page from a file or a link is cross-site, and the page without its token is empty.
      if (site !== undefined && site !== 'same-origin' && site !== 'none' && !isNavigation) {
        return { status: 403, because: 'requests of other sites are refused' };
      }
      return null;
    },
    token(given) {
      if (now() - since > MINUTE_MS) {
        since = now();
        failures = 0;
      }
      // The right token is let in also while somebody guesses: or guessing would lock the operator out.
      const bytes = Buffer.from(given ?? '');
      if (bytes.length === wanted.length && timingSafeEqual(bytes, wanted)) return null;
      failures += 1;
      return failures > FAILURES_PER_MINUTE
        ? { status: 429, because: 'too many wrong tokens' }
        : { status: 401, because: given === null ? 'the token is missing' : 'the token is wrong' };
    },
  };
}

/** The token of an `Authorization: Bearer` header; null when there is none. */
export function bearerOf({ headers }: Pick<IncomingMessage, 'headers'>): string | null {
  return /^Bearer ([\w-]+)$/.exec(headers.authorization ?? '')?.[1] ?? null;
}
