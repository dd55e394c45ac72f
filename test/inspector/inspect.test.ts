/** The inspector beside a real release: what a viewer of @xstate/inspect's protocol receives, and what the page is told. */
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import type { Message } from '../../src/inspector/wire.ts';
import { stage, type Stage } from '../scenarios/stage.ts';
import { openInspector, type Opened } from './opened.ts';

let on: Stage;
beforeEach(async () => {
  on = await stage();
});
afterEach(async () => {
  await on.close();
});

/** As a user of that package would write it, on a Node that has no WebSocket of its own. */
interface Receiver {
  subscribe(observer: { next(event: Received): void }): unknown;
  send(event: unknown): void;
}
interface Received {
  type: string;
  sessionId: string;
  state?: { value: string };
  event?: { name: string; data: { type: string } };
  machine?: { initial: string; states: Record<string, unknown> };
}
const fromWorkspace = createRequire(join(import.meta.dirname, '../../src/inspector/package.json'));
Object.assign(globalThis, { WebSocket });
const { createWebSocketReceiver } = fromWorkspace('@xstate/inspect') as {
  createWebSocketReceiver: (options: { server: string }) => Receiver;
};

function receive({ port, token }: Opened): { events: Received[]; receiver: Receiver } {
  const events: Received[] = [];
  const receiver = createWebSocketReceiver({ server: `127.0.0.1:${port}/wire?token=${token}` });
  receiver.subscribe({
    next: (event) => {
      events.push(event);
    },
  });
  return { events, receiver };
}
const states = (events: Received[]) =>
  events.flatMap(({ type, state }) => (type === 'service.state' ? [state?.value] : []));

describe('a viewer of the protocol of @xstate/inspect', () => {
  test('receives the chart, every event and every state of a running release', async () => {
    const driver = await on.start();
    const opened = await openInspector(on);
    const { events } = receive(opened);
    await expect.poll(() => events.some(({ type }) => type === 'service.register')).toBe(true);
    const registered = events.find(({ type }) => type === 'service.register');
    expect(registered?.sessionId).toBe('flow:r-0001');
    expect(registered?.state?.value).toBe('planned');
    expect(Object.keys(registered?.machine?.states ?? {})).toContain('app1Drained');
    await on.walkTo(driver, 'tested');
    await expect.poll(() => states(events)).toEqual(['testing', 'tested']);
    const names = events.flatMap(({ type, event }) => (type === 'service.event' ? [event?.data.type] : []));
    expect(names.slice(-2)).toEqual(['NEXT', 'done']);
  }, 60_000);
});

describe('what the page is told', () => {
  test('is everything first, then every change; it is right again after the inspector was restarted', async () => {
    const driver = await on.start();
    const first = await openInspector(on);
    const told = await first.events();
    await expect.poll(() => told.of('status').at(-1)?.status.release?.state).toBe('planned');
    await expect
      .poll(
        () =>
          told
            .of('next')
            .at(-1)
            ?.next?.events.find(({ event }) => event === 'NEXT')?.passes,
      )
      .toBe(true);
    await on.walkTo(driver, 'app1Drained');
    await expect.poll(() => told.of('status').at(-1)?.status.release?.state).toBe('app1Drained');
    const { recording } = told.of('status').at(-1) ?? {};
    expect(recording?.frames.map(({ state }) => state)).toEqual([
      'planned',
      'testing',
      'tested',
      'tagging',
      'tagged',
      'drainingApp1',
      'app1Drained',
    ]);
    expect(recording?.frames.at(-1)?.servers).toEqual([expect.objectContaining({ name: 'app1', traffic: 'drained' })]);
    expect(told.of('text').some(({ lines }) => lines.some((line) => line.includes('goes to test')))).toBe(true);
    await first.kill();
    const second = await openInspector(on);
    expect([second.port, second.token]).toEqual([first.port, first.token]);
    const again = await second.events();
    await expect.poll(() => again.of('status').at(-1)?.recording?.frames.length).toBe(7);
    await expect.poll(() => again.of('rates').length).toBeGreaterThan(0);
    const servers: Message[] = again.of('rates');
    expect(Object.keys((servers[0] as Extract<Message, { type: 'rates' }>).rates.servers)).toEqual(['app1', 'app2']);
  }, 60_000);
});

describe('an event from the page', () => {
  test('is carried out as the command line does it, and the history says where it came from', async () => {
    await on.start();
    await on.leave();
    const opened = await openInspector(on, '--allow-send');
    const stale = await opened.send({ event: 'NEXT', expect: 7, reason: null });
    expect(stale.accepted).toBe(false);
    expect(stale.said).toContain('there is no revision 7 yet');
    const taken = await opened.send({ event: 'NEXT', expect: 1, reason: 'from the page' });
    expect(taken.accepted, taken.said).toBe(true);
    await expect.poll(() => on.document().snapshot.value, { timeout: 20_000 }).toBe('tested');
    const entry = on.document().history.find(({ event }) => event === 'NEXT');
    expect([entry?.by?.via, entry?.reason]).toEqual(['inspector', 'from the page']);
  }, 60_000);

  test('is refused where the inspector only shows, and changes nothing', async () => {
    await on.start();
    await on.leave();
    const opened = await openInspector(on);
    const { events, receiver } = receive(opened);
    await expect.poll(() => events.length).toBeGreaterThan(0);
    receiver.send({
      type: 'xstate.event',
      event: JSON.stringify({ name: 'NEXT', origin: 'flow:r-0001', data: { type: 'NEXT', expect: 1 } }),
    });
    await expect(opened.send({ event: 'NEXT', expect: 1, reason: null })).rejects.toThrow('403');
    expect(on.document().rev).toBe(1);
  }, 60_000);
});
