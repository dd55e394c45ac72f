/**
 * The release as `@xstate/inspect` 0.8 sees it: an XState 4 service with the generated chart as its machine.
 * That package's own `lib/server.js` speaks its protocol to every viewer; nothing outside this folder knows of XState 4.
 *
 * Invariant: what a viewer sends reaches the package only after `wanted` has let it pass, because the package parses whatever it
 * is given and hands any event on. Events named `xstate.*` are never handed on.
 */
import { EventEmitter } from 'node:events';
import { inspect } from '@xstate/inspect/lib/server.js';
import { State, toSCXMLEvent } from 'xstate';
import type { ReleaseDocument } from '../store/document.ts';
import type { ChartPicture, SendRequest } from './wire.ts';

/** A connected viewer, as the package uses it. */
export interface Viewer {
  send(text: string): void;
  isOpen(): boolean;
  close(code: number, because: string): void;
}

/** What a viewer wants; null for what nobody may want. */
export type Wanted = { what: 'inspect' } | { what: 'send'; request: SendRequest } | null;

type Service = ReturnType<typeof serviceOf>;

const OPEN = 1;

export class Inspected {
  readonly #server = new ViewerServer();
  readonly #send: (request: SendRequest) => void;
  #service: Service | null = null;

  /** `send` is called with an event that a viewer sent; it is only reached where sending is allowed. */
  constructor(send: (request: SendRequest) => void) {
    this.#send = send;
    inspect({ server: this.#server as never });
  }

  /** Shows what is stored now: a new release is registered, a new revision is an event and a state. */
  show(document: ReleaseDocument, chart: ChartPicture): void {
    if (this.#service?.document.id !== document.id) {
      this.#service?.stop();
      this.#service = serviceOf(document, chart);
      registry().register(this.#service);
      return;
    }
    this.#service.show(document);
  }

  /** A viewer has connected. Returns what to call with each of its messages; `allowed` says whether it may send events. */
  connect(viewer: Viewer, allowed: boolean): { message(text: string): boolean; gone(): void } {
    const client = new ViewerClient(viewer);
    this.#server.join(client);
    return {
      message: (text) => {
        const wanted = wantedIn(text, allowed);
        if (wanted === null) return false;
        if (wanted.what === 'inspect') client.emit('message', Buffer.from(JSON.stringify(INSPECTING)), false);
        else this.#send(wanted.request);
        return true;
      },
      gone: () => {
        this.#server.clients.delete(client);
      },
    };
  }

  stop(): void {
    this.#service?.stop();
    this.#server.emit('close');
  }
}

const INSPECTING = { type: 'xstate.inspecting' };

/**
 * What a message of a viewer asks for. `xstate.event` carries an event for the release as a string; it is taken when events are
 * allowed, when it is NEXT or ROLLBACK, and when it names the revision it was meant for (`data.expect`).
 */
export function wantedIn(text: string, allowed: boolean): Wanted {
  const message = parsed(text);
  if (message?.type === INSPECTING.type) return { what: 'inspect' };
  if (message?.type !== 'xstate.event' || !allowed || typeof message.event !== 'string') return null;
  const data = asRecord(parsed(message.event)?.data);
  const { type, expect, reason } = data ?? {};
  if ((type !== 'NEXT' && type !== 'ROLLBACK') || !Number.isSafeInteger(expect)) return null;
  return {
    what: 'send',
    request: { event: type, expect: expect as number, reason: typeof reason === 'string' ? reason : null },
  };
}

const asRecord = (value: unknown): Record<string, unknown> | null =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : null;

function parsed(text: string): Record<string, unknown> | null {
  try {
    return asRecord(JSON.parse(text));
  } catch {
    return null;
  }
}

interface Registry {
  register(service: unknown): void;
}

/** Where the package looks for services: it makes this itself. */
const registry = (): Registry => (globalThis as unknown as { __xstate__: Registry }).__xstate__;

/** The release as an XState 4 service. The package patches `send`, and calls the rest. */
function serviceOf(first: ReleaseDocument, chart: ChartPicture) {
  const definition = definitionOf(first.id, chart);
  const listeners = new Set<(state: unknown) => void>();
  const stopping = new Set<() => void>();
  return {
    id: first.id,
    sessionId: `flow:${first.id}`,
    machine: { definition, toJSON: () => definition },
    document: first,
    state: stateOf(first),
    initialState: stateOf(first),
    // Only told: who sends was asked long before, and what follows is read from the store.
    send: (event: unknown) => event,
    subscribe(listener: (state: unknown) => void) {
      listeners.add(listener);
      return { unsubscribe: () => listeners.delete(listener) };
    },
    onStop(listener: () => void) {
      stopping.add(listener);
    },
    show(document: ReleaseDocument) {
      this.document = document;
      this.state = stateOf(document);
      this.send(eventOf(document));
      for (const listener of listeners) listener(this.state);
    },
    stop() {
      for (const listener of stopping) listener();
      listeners.clear();
      stopping.clear();
    },
  };
}

/** What led to the newest revision. */
function eventOf({ rev, history }: ReleaseDocument) {
  const entry = history.at(-1);
  return { type: entry?.event ?? 'started', rev, at: entry?.at ?? null, by: entry?.by?.user ?? null };
}

/** As `State#toJSON` leaves it, so that the package can store and send it. */
function stateOf(document: ReleaseDocument): object {
  const { value, context } = document.snapshot;
  const event = eventOf(document);
  return Object.assign(State.from(value, context), {
    event,
    _event: toSCXMLEvent(event),
    changed: true,
    done: document.endedAt !== null,
  });
}

/** The chart as the config of an XState 4 machine, which is how the protocol carries it. */
function definitionOf(id: string, { nodes, edges }: ChartPicture) {
  const states = Object.fromEntries(
    nodes.map((node) => {
      const leaving = edges.filter(({ from }) => from === node.id);
      const on = Object.fromEntries(
        [...new Set(leaving.map(({ label }) => label))].map((label) => [
          label,
          leaving
            .filter((edge) => edge.label === label)
            .map(({ to, guards }) => ({ target: to, ...(guards.length === 0 ? {} : { cond: guards.join(' ∧ ') }) })),
        ]),
      );
      return [
        node.id,
        { ...(node.shape === 'end' ? { type: 'final' } : {}), ...(leaving.length === 0 ? {} : { on }), meta: node },
      ];
    }),
  );
  return { id, predictableActionArguments: true, initial: nodes[0]?.id ?? '', states };
}

/** A viewer as a client of `ws`, as far as the package looks. */
class ViewerClient extends EventEmitter {
  readonly OPEN = OPEN;
  readonly #viewer: Viewer;
  constructor(viewer: Viewer) {
    super();
    this.#viewer = viewer;
  }
  get readyState(): number {
    return this.#viewer.isOpen() ? OPEN : OPEN + 2;
  }
  send(text: string): void {
    this.#viewer.send(text);
  }
  terminate(): void {
    this.#viewer.close(1001, 'the inspector ends');
  }
}

/** The server that the package expects: only viewers that were let in are ever seen through it. */
class ViewerServer extends EventEmitter {
  readonly clients = new Set<ViewerClient>();
  join(client: ViewerClient): void {
    this.clients.add(client);
    this.emit('connection', client);
  }
  close(): void {
    this.emit('close');
  }
}
