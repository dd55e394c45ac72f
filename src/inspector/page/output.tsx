/** What jobs and servers print. Text only: nothing that is printed is ever read as a part of the page. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Model } from './model.ts';

const SHOWN_LINES = 400;

export function Output({ printed }: { printed: Model['printed'] }) {
  // The job of this moment first, then those before it, then the logs.
  const sources = Object.keys(printed)
    .reverse()
    .sort((a, b) => Number(a.endsWith(' log')) - Number(b.endsWith(' log')));
  const [wanted, setWanted] = useState<string | null>(null);
  const [words, setWords] = useState('');
  const [held, setHeld] = useState<Model['printed'] | null>(null);
  const box = useRef<HTMLPreElement>(null);
  const source = wanted !== null && sources.includes(wanted) ? wanted : (sources[0] ?? null);
  const from = (held ?? printed)[source ?? ''];
  const found = (from?.lines ?? []).filter((line) => words === '' || line.toLowerCase().includes(words.toLowerCase()));
  const lines = found.slice(-SHOWN_LINES);
  useEffect(() => {
    if (held === null && box.current !== null) box.current.scrollTop = box.current.scrollHeight;
  });
  if (source === null) return <p class="empty">Nothing was printed since the page is open.</p>;
  return (
    <div class="output">
      <div class="tools">
        <div role="tablist" aria-label="Source">
          {sources.map((name) => (
            <button key={name} type="button" role="tab" aria-selected={name === source} onClick={() => setWanted(name)}>
              {name.split('/').slice(-2).join(' ')}
            </button>
          ))}
        </div>
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
      <pre ref={box} tabIndex={0} aria-label={`Output of ${source}`}>
        {(from?.dropped ?? 0) > 0 ? `… ${from?.dropped ?? 0} or more lines before this are not shown here\n` : ''}
        {lines.join('\n')}
      </pre>
    </div>
  );
}
