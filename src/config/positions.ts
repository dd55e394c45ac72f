/**
 * Where in the text of flow.yaml something stands: the positions that messages point at.
 */
import { type Document, isAlias, isMap, isScalar, isSeq, type LineCounter, type Node, type Pair } from 'yaml';
import type { Path } from './semantics.ts';

/** A place in the text, both from 1. */
export interface Position {
  line: number;
  column: number;
}

/** What stands at a path: the node itself, or nothing and the nearest thing around the place where it is missing. */
export interface Place {
  position: Position;
  /** The text as it was written, when a single value stands there. */
  source: string | null;
}

/** Reads positions out of a parsed document. */
export class Positions {
  readonly #document: Document;
  readonly #lines: LineCounter;

  constructor(document: Document, lines: LineCounter) {
    this.#document = document;
    this.#lines = lines;
  }

  /** The position of a character. */
  at(offset: number): Position {
    const { line, col } = this.#lines.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  }

  /** The value at `path`; when there is none, the key of the nearest entry around it. `keys` points at the key itself. */
  find(path: Path, point: 'value' | 'key' = 'value'): Place {
    let node = this.#resolve(this.#document.contents);
    let around = startOf(node) ?? 0;
    for (const [depth, step] of path.entries()) {
      const pair = isMap(node) ? node.items.find(({ key }) => keyText(key) === String(step)) : undefined;
      const next = isSeq(node) ? node.items[Number(step)] : pair?.value;
      if (pair === undefined && !(isSeq(node) && next !== undefined))
        return { position: this.at(around), source: null };
      around = (pair === undefined ? startOf(next) : startOf(pair.key)) ?? around;
      if (point === 'key' && depth === path.length - 1) return { position: this.at(around), source: null };
      node = this.#resolve(next);
    }
    const source = isScalar(node) && node.source !== undefined ? node.source : null;
    return { position: this.at(this.#isWritten(node) ? (startOf(node) ?? around) : around), source };
  }

  /** An empty value (`log:` and nothing after it) has a place, but nobody sees it there: the key is shown instead. */
  #isWritten(node: unknown): boolean {
    return node !== null && !(isScalar(node) && node.value === null && (node.source ?? '') === '');
  }

  #resolve(node: unknown): unknown {
    return isAlias(node) ? node.resolve(this.#document) : node;
  }
}

function startOf(node: unknown): number | undefined {
  return (node as Node | null | undefined)?.range?.[0];
}

function keyText(key: Pair['key']): string {
  return isScalar(key) ? String(key.value) : '';
}
