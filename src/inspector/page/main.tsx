/** The page's entry: takes the token out of the address, opens the line, and draws what is heard. */
import { render } from 'preact';
import { App } from './app.tsx';
import type { SendAnswer, SendRequest } from '../wire.ts';
import { openLine } from './connection.ts';
import { EMPTY, heard, type Model, titleOf } from './model.ts';

const TOKEN = 'flow-token';
/** The chart's own protocol may be behind the store for so long before it is attached anew. */
const DISAGREE_MS = 2_000;

const root = document.getElementById('page');
if (root === null) throw new Error('the page has no root');
root.replaceChildren();
const isWall = new URLSearchParams(location.search).has('wall');
const token = takeToken();

let model: Model = token === null ? { ...EMPTY, connection: 'noToken' } : EMPTY;
let isDrawing = false;
const change = (next: Model): void => {
  model = next;
  if (isDrawing) return;
  isDrawing = true;
  // Many messages may come at once; a hidden page gets no frames, and has to be right when it is looked at again.
  const draw = (): void => {
    isDrawing = false;
    show();
  };
  if (document.hidden) setTimeout(draw, 200);
  else requestAnimationFrame(draw);
};

const now = () => ({ ms: performance.now(), time: new Date().toTimeString().slice(0, 8) });
const line =
  token === null
    ? null
    : openLine(token, {
        message: (message) => change(heard(model, message, now())),
        active: (active) => change({ ...model, active }),
        lost: () => {
          if (model.connection !== 'refused') change({ ...model, connection: 'lost' });
        },
        refused: () => change({ ...model, connection: 'refused' }),
      });

let disagreedAt: number | null = null;
setInterval(() => {
  const stored = model.recording?.frames.at(-1)?.state;
  if (stored === undefined || model.active === stored || model.connection !== 'live') {
    disagreedAt = null;
    return;
  }
  disagreedAt ??= performance.now();
  if (performance.now() - disagreedAt < DISAGREE_MS) return;
  disagreedAt = null;
  change({ ...model, active: stored });
  line?.reattach();
}, 500);

// Always the same functions, so that a panel is drawn anew for what it shows and for nothing else.
const actions = {
  send: async (request: SendRequest): Promise<SendAnswer> =>
    line === null ? { accepted: false, said: 'The page has no token.' } : await line.send(request),
  step: (index: number): void => {
    const recording = model.replay?.recording ?? model.recording;
    if (recording?.frames[index] === undefined) return;
    change({ ...model, replay: { recording, index } });
  },
  live: (): void => change({ ...model, replay: null }),
  open: (id: string): void => {
    if (id === model.recording?.id) {
      change({ ...model, replay: null });
      return;
    }
    line?.recording(id).then(
      (recording) => change({ ...model, replay: { recording, index: recording.frames.length - 1 } }),
      (error: unknown) => change({ ...model, problem: String(error) }),
    );
  },
};

function show(): void {
  if (root === null) return;
  document.title = titleOf(model);
  render(<App model={model} isWall={isWall} {...actions} />, root);
}
show();

/** From the address, where it is taken away at once, or from what this tab kept; null when there is none. */
function takeToken(): string | null {
  const given = new URLSearchParams(location.hash.slice(1)).get('token');
  if (given !== null) {
    sessionStorage.setItem(TOKEN, given);
    history.replaceState(null, '', location.pathname + location.search);
  }
  return given ?? sessionStorage.getItem(TOKEN);
}
