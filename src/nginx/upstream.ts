/**
 * Reads Nginx configuration text: which servers its upstream blocks name, and what else stands on a line.
 * Pure. Deliberately absent: everything else of Nginx's grammar; `nginx -t` judges whether a file is valid.
 */

interface Token {
  kind: 'word' | '{' | '}' | ';';
  text: string;
}

/** Words, braces and semicolons; comments are skipped, quotes and backslashes are understood. */
function* tokens(text: string): Generator<Token> {
  let at = 0;
  while (at < text.length) {
    const char = text.charAt(at);
    if (/\s/.test(char)) {
      at += 1;
    } else if (char === '#') {
      const end = text.indexOf('\n', at);
      at = end < 0 ? text.length : end;
    } else if (char === '{' || char === '}' || char === ';') {
      yield { kind: char, text: char };
      at += 1;
    } else {
      const { word, next } = readWord(text, at);
      yield { kind: 'word', text: word };
      at = next;
    }
  }
}

function readWord(text: string, start: number): { word: string; next: number } {
  const quote = text.charAt(start);
  const quoted = quote === '"' || quote === "'";
  let word = '';
  let at = quoted ? start + 1 : start;
  while (at < text.length) {
    const char = text.charAt(at);
    if (char === '\\' && at + 1 < text.length) {
      word += text.charAt(at + 1);
      at += 2;
    } else if (quoted ? char === quote : /[\s;{}]/.test(char)) {
      // `${name}` is one word: its braces open no block.
      if (char === '{' && word.endsWith('$')) {
        const end = text.indexOf('}', at);
        const stop = end < 0 ? text.length : end + 1;
        word += text.slice(at, stop);
        at = stop;
        continue;
      }
      return { word, next: quoted ? at + 1 : at };
    } else {
      word += char;
      at += 1;
    }
  }
  return { word, next: at };
}

/** A directive of Nginx with its words, and the block it stands in; '' is outside of every block. */
interface Directive {
  words: string[];
  block: string;
}

function* directives(text: string): Generator<Directive> {
  const blocks: string[] = [];
  let words: string[] = [];
  for (const token of tokens(text)) {
    if (token.kind === 'word') {
      words.push(token.text);
      continue;
    }
    if (token.kind === '{') blocks.push(words[0] ?? '');
    else if (token.kind === '}') blocks.pop();
    else yield { words, block: blocks.at(-1) ?? '' };
    words = [];
  }
}

/** The `server` lines of upstream blocks, each as its words: the address first, with its port; those marked `down` as well. */
export function upstreamServerLines(text: string): string[][] {
  return [...directives(text)].flatMap(({ words: [directive, address, ...parameters], block }) =>
    directive === 'server' && address !== undefined && (block === '' || block === 'upstream')
      ? [[withPort(address), ...parameters]]
      : [],
  );
}

/**
 * The addresses (`host:port`, `unix:PATH`) of the `server ADDRESS …;` lines inside `upstream` blocks. Lines marked
 * `down` are left out; a missing port is Nginx's own default, 80. A `server` line outside of every block counts too:
 * it is valid only where such a file is included into an upstream block.
 */
export const upstreamAddresses = (text: string): string[] =>
  upstreamServerLines(text).flatMap(([address = '', ...parameters]) => (parameters.includes('down') ? [] : [address]));

/** What the upstream blocks include, as it stands there: a path, or a pattern of one. */
export const upstreamIncludes = (text: string): string[] =>
  [...directives(text)].flatMap(({ words: [directive, path], block }) =>
    directive === 'include' && path !== undefined && block === 'upstream' ? [path] : [],
  );

function withPort(address: string): string {
  if (address.startsWith('unix:') || /:\d+$/.test(address.replace(/^\[.*\]/, ''))) return address;
  return `${address}:80`;
}

/**
 * What a line says besides upstream `server` lines and comments, with blanks made equal; empty when nothing.
 * `server {` of a virtual host and `server_name` stay.
 */
export function besidesServerLines(line: string): string {
  const words: string[] = [];
  const kept: string[] = [];
  for (const token of tokens(line)) {
    words.push(token.text);
    if (token.kind === 'word') continue;
    if (!(token.kind === ';' && words[0] === 'server' && words.length > 2)) kept.push(words.join(' '));
    words.length = 0;
  }
  if (words.length > 0) kept.push(words.join(' '));
  return kept.join(' ');
}
