/** Who did what, when, why, and on what evidence; and stepping through it. */
import { useEffect, useRef } from 'preact/hooks';
import type { ReleaseLine } from '../wire.ts';
import type { Shown } from './model.ts';
import { showIn } from './scroll.ts';
import { clock, moment, took } from './words.ts';

export interface HistoryProps {
  shown: Shown;
  releases: readonly ReleaseLine[];
  /** All frames of the release that is shown. */
  length: number;
  step: (index: number) => void;
  live: () => void;
  open: (id: string) => void;
}

export function History({ shown, releases, length, step, live, open }: HistoryProps) {
  const { recording, index, isReplay } = shown;
  const list = useRef<HTMLOListElement>(null);
  useEffect(() => {
    showIn(list.current?.closest('.body') ?? null, list.current?.querySelector('[aria-current]') ?? null);
  }, [index, recording.id]);
  return (
    <div class="history">
      <div class="controls" role="group" aria-label="Replay">
        <label>
          <span class="heard">Release</span>
          <select value={recording.id} onChange={(change) => open(change.currentTarget.value)}>
            {releases.map(({ id, version, state }) => (
              <option key={id} value={id}>
                {`${id} ${version} ${state}`}
              </option>
            ))}
          </select>
        </label>
        <button type="button" aria-label="first" disabled={index <= 0} onClick={() => step(0)}>
          |◀
        </button>
        <button type="button" aria-label="back" disabled={index <= 0} onClick={() => step(index - 1)}>
          ◀
        </button>
        <input
          type="range"
          min="0"
          max={Math.max(0, length - 1)}
          value={index}
          aria-label="Frame"
          aria-valuetext={`${index + 1} of ${length}: ${shown.state}`}
          onInput={(change) => step(Number(change.currentTarget.value))}
        />
        <button type="button" aria-label="forward" disabled={index >= length - 1} onClick={() => step(index + 1)}>
          ▶
        </button>
        <button type="button" aria-label="last" disabled={index >= length - 1} onClick={() => step(length - 1)}>
          ▶|
        </button>
        {isReplay ? (
          <button type="button" class="live" onClick={live}>
            Back to live
          </button>
        ) : null}
      </div>
      <ol ref={list}>
        {recording.frames
          .map((frame, at) => ({ frame, at }))
          .reverse()
          .map(({ frame, at }) => (
            <li
              key={frame.rev}
              class={`${frame.event === 'failed' || frame.event === 'ROLLBACK' ? 'bad' : ''} ${at > index ? 'later' : ''}`}
              {...(at === index ? { 'aria-current': 'true' as const } : {})}
            >
              <button type="button" class="jump" title="Show the release as it stood here" onClick={() => step(at)}>
                <time dateTime={frame.at}>{clock(frame.at)}</time>{' '}
                <b>
                  {frame.event} → {frame.state}
                </b>
                {frame.seconds === null ? '' : ` ${took(frame.seconds)}`}
              </button>
              {frame.by === null ? null : <span class="by"> {frame.by}</span>}
              {frame.reason === null ? null : <span class="reason"> “{frame.reason}”</span>}
              {frame.forced.length === 0 ? null : <span class="forced"> overridden: {frame.forced.join(', ')}</span>}
              {frame.note === null ? null : <p>{frame.note}</p>}
            </li>
          ))}
      </ol>
    </div>
  );
}

/** One frame in full, where NEXT stands while the page shows what is now. */
export function Moment({ shown, live }: { shown: Shown; live: () => void }) {
  const frame = shown.frames.at(-1);
  return (
    <div class="moment">
      {frame === undefined ? null : (
        <>
          <h3>
            {frame.event} → {frame.state}
          </h3>
          <p>
            <time dateTime={frame.at}>{moment(frame.at)}</time>
            {frame.seconds === null ? '' : `, after ${took(frame.seconds)}`}
            {frame.by === null ? '' : `, by ${frame.by}`}
          </p>
          {frame.reason === null ? null : <p>“{frame.reason}”</p>}
          {frame.forced.length === 0 ? null : <p class="forced">overridden: {frame.forced.join(', ')}</p>}
          {frame.note === null ? null : <p class="note">{frame.note}</p>}
        </>
      )}
      <button type="button" onClick={live}>
        Back to live (Esc)
      </button>
    </div>
  );
}
