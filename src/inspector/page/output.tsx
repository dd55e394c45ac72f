/** What jobs and servers print. Text only: nothing that is printed is ever read as a part of the page. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Model } from './model.ts';
import { shortSource, visible } from './words.ts';

const SHOWN_LINES = 400;
/** So many sources are buttons; more are a list to choose from. */
const BUTTONS = 6;
const NEAR_THE_END = 24;

export function Output({ printed }: { printed: Model['printed'] }) {
  // The job of this moment first, then those before it, then the logs.
  const sources = Object.keys(printed)
    .reverse()
    .sort((a, b) => Number(a.endsWith(' log')) - Number(b.endsWith(' log')));
  const [wanted, setWanted] = useState<string | null>(null);
  const [words, setWords] = useState('');
  const [held, setHeld] = useState<Model['printed'] | null>(null);
  const box = useRef<HTMLPreElement>(null);
  // Who scrolls up to read is left there.
  const isAtEnd = useRef(true);
  const source = wanted !== null && sources.includes(wanted) ? wanted : (sources[0] ?? null);
  const from = (held ?? printed)[source ?? ''];
  const found = (from?.lines ?? []).filter((line) => words === '' || line.toLowerCase().includes(words.toLowerCase()));
  const lines = found.slice(-SHOWN_LINES);
  useEffect(() => {
    if (held === null && isAtEnd.current && box.current !== null) box.current.scrollTop = box.current.scrollHeight;
  });
  const want = (name: string): void => {
    isAtEnd.current = true;
    setWanted(name);
  };
  if (source === null) return <p class="empty">Nothing was printed since the page is open.</p>;
  return (
    <div class="output">
      <div class="tools">
        {sources.length > BUTTONS ? (
          <select aria-label="Source" value={source} onChange={(change) => want(change.currentTarget.value)}>
            {sources.map((name) => (
              <option key={name} value={name}>
                {shortSource(name)}
              </option>
            ))}
          </select>
        ) : (
          <div class="sources" role="group" aria-label="Source">
            {sources.map((name) => (
              <button key={name} type="button" aria-pressed={name === source} onClick={() => want(name)}>
                {shortSource(name)}
              </button>
            ))}
          </div>
        )}
        <input
          id="find"
          type="search"
          placeholder="find  /"
          aria-label="Find in the output"
          value={words}
          onInput={(change) => setWords(change.currentTarget.value)}
        />
        <button
          id="pause"
          type="button"
          aria-pressed={held !== null}
          onClick={() => setHeld((before) => (before === null ? printed : null))}
        >
          {held === null ? 'Pause (p)' : 'Go on (p)'}
        </button>
      </div>
      <pre
        ref={box}
        tabIndex={0}
        role="log"
        aria-live="off"
        aria-label={`Output of ${source}`}
        onScroll={({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => {
          isAtEnd.current = scrollHeight - scrollTop - clientHeight < NEAR_THE_END;
        }}
      >
        {(from?.dropped ?? 0) > 0 ? `… ${from?.dropped ?? 0} or more lines before this are not shown here\n` : ''}
        {found.length > lines.length ? `… ${found.length - lines.length} lines before these\n` : ''}
        {words !== '' && found.length === 0 ? `No line has “${words}”.` : lines.map(visible).join('\n')}
      </pre>
    </div>
  );
}
