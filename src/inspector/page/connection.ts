/**
 * The page's two lines to the inspector: `/events` for everything, and `@xstate/inspect`'s own receiver for the active state. Both
 * come back by themselves. Invariant: after every return everything is told again, so that nothing missed stays missing.
 */
import { createWebSocketReceiver } from '@xstate/inspect/es/browser.js';
import type { Message, Recording, SendAnswer, SendRequest } from '../wire.ts';
import { eventReader } from './events.ts';

export interface Heard {
  message(message: Message): void;
  /** The active state, as the chart's own protocol tells it. */
  active(state: string): void;
  lost(): void;
  refused(): void;
}

export interface Line {
  send(request: SendRequest): Promise<SendAnswer>;
  recording(id: string): Promise<Recording>;
  /** Attaches the receiver of the chart anew. */
  reattach(): void;
}

const FIRST_WAIT_MS = 150;
const LONGEST_WAIT_MS = 2_000;
const SILENCE_MS = 6_000;

/** Opens both lines and keeps them open. */
export function openLine(token: string, heard: Heard): Line {
  const headers = { authorization: `Bearer ${token}` };
  let generation = 0;
  const attach = (): void => {
    generation += 1;
    const mine = generation;
    const receiver = createWebSocketReceiver({ server: `${location.host}/wire?token=${token}`, serialize: undefined });
    receiver.subscribe((event) => {
      if (mine !== generation) return;
      if (event.type !== 'service.register' && event.type !== 'service.state') return;
      // The chart of a release is flat: its value is a name.
      if (typeof event.state.value === 'string') heard.active(event.state.value);
    });
  };
  void listen(headers, heard, attach);
  return {
    reattach: attach,
    async send(request) {
      const response = await fetch('/send', {
        method: 'POST',
        headers: { ...headers, 'content-type': 'application/json' },
        body: JSON.stringify(request),
      });
      return response.ok
        ? ((await response.json()) as SendAnswer)
        : { accepted: false, said: (await response.text()).trim() };
    },
    async recording(id) {
      const response = await fetch(`/releases/${id}`, { headers });
      if (!response.ok) throw new Error((await response.text()).trim());
      return (await response.json()) as Recording;
    },
  };
}

async function listen(headers: Record<string, string>, heard: Heard, attach: () => void): Promise<never> {
  let waitMs = FIRST_WAIT_MS;
  for (;;) {
    const over = new AbortController();
    try {
      const response = await fetch('/events', { headers, signal: over.signal });
      if (response.status === 401) heard.refused();
      if (!response.ok || response.body === null) throw new Error(`the inspector answered ${response.status}`);
      waitMs = FIRST_WAIT_MS;
      attach();
      await readAll(response.body, heard, over);
    } catch {
      // Told below: whatever ended the line, it is opened again.
    }
    over.abort();
    heard.lost();
    await untilWorthTrying(waitMs);
    waitMs = Math.min(waitMs * 2, LONGEST_WAIT_MS);
  }
}

/** Until the stream ends, or nothing was heard for longer than the inspector is ever silent. */
async function readAll(body: ReadableStream<Uint8Array>, heard: Heard, over: AbortController): Promise<void> {
  const decoder = new TextDecoder();
  const events = eventReader();
  const reader = body.getReader();
  for (;;) {
    const silence = setTimeout(() => over.abort(), SILENCE_MS);
    const { done, value } = await reader.read().finally(() => clearTimeout(silence));
    if (done) return;
    for (const message of events.read(decoder.decode(value, { stream: true }))) heard.message(message);
  }
}

/** After the time, or at once when the page is looked at again or the network is back. */
async function untilWorthTrying(waitMs: number): Promise<void> {
  await new Promise<void>((resolve) => {
    const go = (): void => {
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', look);
      window.removeEventListener('online', go);
      resolve();
    };
    const look = (): void => {
      if (!document.hidden) go();
    };
    const timer = setTimeout(go, waitMs);
    document.addEventListener('visibilitychange', look);
    window.addEventListener('online', go);
  });
}
