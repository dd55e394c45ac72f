/** A real `flow inspect` beside a stage, and a page that has no browser. */
import { vi } from 'vitest';
import type { Message, SendAnswer, SendRequest } from '../../src/inspector/wire.ts';
import type { Stage } from '../scenarios/stage.ts';

export interface Told {
  messages: Message[];
  of<Type extends Message['type']>(type: Type): Extract<Message, { type: Type }>[];
  leave(): void;
}

export interface Opened {
  port: number;
  token: string;
  url: string;
  /** What `GET /events` tells. */
  events(): Promise<Told>;
  send(request: SendRequest): Promise<SendAnswer>;
  /** SIGKILL. */
  kill(): Promise<void>;
}

/** Starts `flow inspect` in the stage's project; it ends with the stage. */
export async function openInspector(on: Stage, ...args: string[]): Promise<Opened> {
  const running = on.begin('inspect', '--no-open', '--json', ...args);
  let out = '';
  running.child.stdout?.on('data', (chunk: Buffer) => {
    out += chunk.toString();
  });
  const line = await vi.waitUntil(() => /^(.+)\n/.exec(out)?.[1], { timeout: 10_000 });
  const { url, port } = JSON.parse(line) as { url: string; port: number };
  const token = url.split('#token=')[1] ?? '';
  const authorization = `Bearer ${token}`;
  const base = `http://127.0.0.1:${port}`;
  return {
    port,
    token,
    url,
    async events() {
      const over = new AbortController();
      const response = await fetch(`${base}/events`, { headers: { authorization }, signal: over.signal });
      if (response.body === null || !response.ok) throw new Error(`/events answered ${response.status}`);
      const messages: Message[] = [];
      void read(response.body, messages).catch(() => undefined);
      return {
        messages,
        of: <Type extends Message['type']>(type: Type) =>
          messages.filter((message): message is Extract<Message, { type: Type }> => message.type === type),
        leave: () => {
          over.abort();
        },
      };
    },
    async send(request) {
      const response = await fetch(`${base}/send`, {
        method: 'POST',
        headers: { authorization, 'content-type': 'application/json' },
        body: JSON.stringify(request),
      });
      if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
      return (await response.json()) as SendAnswer;
    },
    async kill() {
      running.child.kill('SIGKILL');
      await running.ended;
    },
  };
}

async function read(body: ReadableStream<Uint8Array>, messages: Message[]): Promise<void> {
  let text = '';
  const decoder = new TextDecoder();
  for await (const chunk of body as unknown as AsyncIterable<Uint8Array>) {
    const events = (text + decoder.decode(chunk, { stream: true })).split('\n\n');
    text = events.pop() ?? '';
    for (const event of events) messages.push(JSON.parse(event.replace(/^data: /, '')) as Message);
  }
}
