/** The page: a band that says where the release stands, and below it the chart, what is next, the servers, the history and the output. */
import type { ComponentChildren } from 'preact';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import type { ReleaseStatus } from '../../views/status.ts';
import type { SendAnswer, SendRequest } from '../wire.ts';
import { Chart } from './chart.tsx';
import { History, Moment } from './history.tsx';
import { type Model, type Shown, shownOf, STALE_MS } from './model.ts';
import { Next } from './next.tsx';
import { Output } from './output.tsx';
import { Servers } from './servers.tsx';
import { clock, minutes } from './words.ts';

export interface AppProps {
  model: Model;
  isWall: boolean;
  send: (request: SendRequest) => Promise<SendAnswer>;
  step: (index: number) => void;
  live: () => void;
  open: (id: string) => void;
}

const PANELS = ['chart', 'next', 'servers', 'history', 'output'] as const;

export function App({ model, isWall, send, step, live, open }: AppProps) {
  const [now, setNow] = useState(() => performance.now());
  const [isHelp, setHelp] = useState(false);
  const [chartBox, room] = useRoom();
  useEffect(() => {
    const timer = setInterval(() => setNow(performance.now()), 500);
    return () => clearInterval(timer);
  }, []);
  const shown = shownOf(model);
  const length = (model.replay?.recording ?? model.recording)?.frames.length ?? 0;
  useEffect(() => onKeys({ shown, length, step, live, help: () => setHelp((before) => !before) }));
  // The chart is drawn anew when it changes, and not whenever a rate ticks.
  const chart = useMemo(
    () => (shown === null ? null : <Chart shown={shown} room={room} />),
    [shown?.recording, shown?.frames.length, shown?.state, room],
  );
  const output = useMemo(() => <Output printed={model.printed} />, [model.printed]);
  const history = useMemo(
    () =>
      shown === null ? null : (
        <History shown={shown} releases={model.releases} length={length} step={step} live={live} open={open} />
      ),
    [shown?.recording, shown?.index, shown?.isReplay, model.releases],
  );
  const isStale = model.heardAt > 0 && Math.max(now, performance.now()) - model.heardAt > STALE_MS;
  const trouble = troubleOf(model, isStale);
  const release = model.status?.release ?? null;
  if (shown === null || release === null) {
    return (
      <main class={`page ${isWall ? 'wall' : ''}`}>
        {trouble}
        <p class="waiting">
          {model.status === null
            ? 'flow: waiting for the inspector.'
            : 'There has been no release yet. Plan one: flow start'}
        </p>
      </main>
    );
  }
  return (
    <main class={`page ${isWall ? 'wall' : ''} ${isStale || model.connection === 'lost' ? 'stale' : ''}`}>
      {trouble}
      <Band model={model} shown={shown} />
      <p class="heard" role="status">
        {announced(shown, release)}
      </p>
      <Panel name="chart" title="Chart" class="chart-panel">
        <div ref={chartBox} class="chart-box">
          {chart}
        </div>
      </Panel>
      {shown.isReplay ? (
        <Panel name="next" title="This moment">
          <Moment shown={shown} live={live} />
        </Panel>
      ) : (
        <Panel name="next" title="Next">
          <Next release={release} next={model.next} send={model.hello?.allowSend === true ? send : null} />
        </Panel>
      )}
      <Panel name="servers" title="Servers">
        <Servers
          servers={shown.servers}
          rates={model.rates}
          sparks={model.sparks}
          isLive={!shown.isReplay}
          health={model.next?.health ?? {}}
        />
      </Panel>
      {isWall ? null : (
        <>
          <Panel name="history" title="History">
            {history}
          </Panel>
          <Panel name="output" title="Output and logs">
            {output}
          </Panel>
        </>
      )}
      {isHelp ? <Help close={() => setHelp(false)} /> : null}
    </main>
  );
}

/** What is said aloud when it changes. */
function announced({ state, isReplay }: Shown, { unwatched, failure, question, phase }: ReleaseStatus): string {
  if (isReplay) return state;
  return [
    state,
    ...(unwatched === null ? [] : [`Unwatched: ${unwatched}`]),
    ...(failure === null || phase === 'ended' ? [] : [`${failure.step} failed`]),
    ...(question === null ? [] : [question.text]),
  ].join('. ');
}

function troubleOf(model: Model, isStale: boolean) {
  if (model.connection === 'noToken')
    return <p class="trouble">This address has no token. Get a whole one: flow inspect</p>;
  if (model.connection === 'refused')
    return <p class="trouble">The token of this page is not right any more. Get a new one: flow inspect</p>;
  if (isStale || (model.connection === 'lost' && model.heardAt > 0))
    return (
      <p class="trouble no-data" role="alert">
        NO DATA SINCE {model.heardTime}. The inspector does not answer; the release goes on without it. Start it again:
        flow inspect
      </p>
    );
  return model.problem === null ? null : <p class="trouble">{model.problem}</p>;
}

/** One look: what, where, how far. */
function Band({ model, shown }: { model: Model; shown: Shown }) {
  const { recording, isReplay, state } = shown;
  const release = model.status?.release ?? null;
  const unwatched = isReplay ? null : (release?.unwatched ?? null);
  const stepSays = isReplay || release?.phase !== 'working' ? null : (model.rates?.step ?? null);
  const soak = isReplay || release?.phase !== 'working' ? null : (model.rates?.soak ?? null);
  const driver = model.status?.driver ?? null;
  const phase = release?.phase ?? 'resting';
  const look = isReplay ? 'replay' : unwatched === null ? phase : 'unwatched';
  const frame = shown.frames.at(-1);
  const isGoingBack = !isReplay && phase !== 'ended' && release !== null && release.rollback !== null;
  const failed = isReplay || phase !== 'resting' ? null : (release?.failure ?? null);
  const tone =
    failed !== null && !isGoingBack
      ? 'failed'
      : state === 'allLive'
        ? 'good'
        : state === 'rolledBack' || state === 'stuck' || isGoingBack
          ? 'back'
          : '';
  return (
    <header class={`band ${look} ${tone}`}>
      <p class="what">
        <b>{recording.project}</b> {recording.before.join(', ')} → <b>{recording.version}</b>
        <span class="id">
          {recording.id} rev {frame?.rev ?? 0}
        </span>
      </p>
      <p class="where" data-state={state}>
        {state}
      </p>
      <p class="sentence">{isReplay ? `as it stood at ${clock(frame?.at ?? '')}` : release?.sentence}</p>
      {soak === null ? null : (
        <p class="soak" aria-label={`${minutes(soak.windowMs - soak.observedMs)} of the soak left`}>
          <span class="left">{minutes(soak.windowMs - soak.observedMs)}</span>
          <progress max={soak.windowMs} value={soak.observedMs} />
        </p>
      )}
      <p class="mode">
        {isReplay ? (
          <b>REPLAY</b>
        ) : (
          <>
            <b>{model.connection === 'live' ? 'LIVE' : 'CONNECTING'}</b>{' '}
            {phase === 'ended'
              ? 'ended'
              : driver === null
                ? 'nobody drives it'
                : `${driver.who}, process ${driver.pid}`}
          </>
        )}
      </p>
      {failed === null ? null : <p class="step wrong">✖ {failed.step} failed</p>}
      {unwatched === null ? null : <p class="unwatched">UNWATCHED: {unwatched}</p>}
      {stepSays === null ? null : <p class="step">{stepSays}</p>}
    </header>
  );
}

function Panel({
  name,
  title,
  children,
  ...more
}: {
  name: string;
  title: string;
  class?: string;
  children: ComponentChildren;
}) {
  return (
    <section id={name} class={`panel ${name} ${more.class ?? ''}`} tabIndex={-1} aria-labelledby={`${name}-title`}>
      <h2 id={`${name}-title`}>{title}</h2>
      <div class="body">{children}</div>
    </section>
  );
}

function Help({ close }: { close: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} onClose={close} aria-label="Keys">
      <h2>Keys</h2>
      <dl class="keys">
        <dt>1 to 5</dt>
        <dd>chart, next, servers, history, output</dd>
        <dt>← →</dt>
        <dd>step through the release</dd>
        <dt>Home, End</dt>
        <dd>its first and last frame</dd>
        <dt>Esc</dt>
        <dd>back to live</dd>
        <dt>/</dt>
        <dd>find in the output</dd>
        <dt>p</dt>
        <dd>hold the output</dd>
      </dl>
      <p class="buttons">
        <button type="button" onClick={() => dialog.current?.close()}>
          Close
        </button>
      </p>
    </dialog>
  );
}

interface Keys {
  shown: Shown | null;
  length: number;
  step: (index: number) => void;
  live: () => void;
  help: () => void;
}

/** The keys of the whole page; none of them while somebody types or a dialog is open. */
function onKeys({ shown, length, step, live, help }: Keys): () => void {
  const listen = (event: KeyboardEvent): void => {
    const target = event.target as HTMLElement;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (['INPUT', 'SELECT', 'TEXTAREA'].includes(target.tagName) || document.querySelector('dialog[open]') !== null)
      return;
    // What scrolls keeps its own keys.
    if (target.tagName === 'PRE' && ['Home', 'End'].includes(event.key)) return;
    const index = shown?.index ?? 0;
    const keys: Record<string, () => void> = {
      ArrowLeft: () => step(Math.max(0, index - 1)),
      ArrowRight: () => step(Math.min(length - 1, index + 1)),
      Home: () => step(0),
      End: () => step(length - 1),
      Escape: live,
      '?': help,
      '/': () => document.getElementById('find')?.focus(),
      p: () => document.getElementById('pause')?.click(),
      ...Object.fromEntries(PANELS.map((name, at) => [String(at + 1), () => document.getElementById(name)?.focus()])),
    };
    const act = keys[event.key];
    if (act === undefined || shown === null) return;
    event.preventDefault();
    act();
  };
  window.addEventListener('keydown', listen);
  return () => window.removeEventListener('keydown', listen);
}

/** The inner size of an element, kept as the window changes. */
function useRoom(): [(element: HTMLElement | null) => void, { width: number; height: number }] {
  const [element, setElement] = useState<HTMLElement | null>(null);
  const [room, setRoom] = useState({ width: 900, height: 400 });
  useEffect(() => {
    if (element === null) return;
    const observer = new ResizeObserver(([entry]) => {
      if (entry === undefined) return;
      const { width, height } = entry.contentRect;
      setRoom({ width: Math.floor(width), height: Math.floor(height) });
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, [element]);
  return [setElement, room];
}
