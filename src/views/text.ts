/**
 * How text looks: colour, icons, columns, times, and the defusing of text that came from outside.
 * Invariant: no character that a server, a log or a person wrote reaches a terminal as anything but a visible character.
 * Deliberately absent: looking at the terminal. Whether there is colour or Unicode is told by the caller, per stream.
 */
import picocolors from 'picocolors';
import stringWidth from 'fast-string-width';

/** How to mark up text. Every icon stands beside a word that says the same. */
export interface Paint {
  bold: (text: string) => string;
  dim: (text: string) => string;
  green: (text: string) => string;
  red: (text: string) => string;
  yellow: (text: string) => string;
  icons: {
    ok: string;
    bad: string;
    /** Not reached yet, or receiving nothing. */
    open: string;
    /** Where it stands, or what is under way. */
    active: string;
    /** Receiving traffic. */
    full: string;
    /** One of two, nobody can say which. */
    unsure: string;
    skipped: string;
    arrow: string;
  };
  /** The last touch on a whole text: flow's own dots, dashes and arrows in the characters there are. */
  finish: (text: string) => string;
}

const unicodeIcons = {
  ok: '✔',
  bad: '✖',
  open: '○',
  active: '▸',
  full: '●',
  unsure: '◐',
  skipped: '–',
  arrow: '→',
};
const asciiIcons = { ok: '+', bad: 'x', open: 'o', active: '>', full: '*', unsure: '?', skipped: '-', arrow: '->' };

const IN_ASCII: Readonly<Record<string, string>> = { '→': '->', '…': '...', '–': '-', '·': '-' };

/** The paint of one stream: `colour` where it may be coloured, `unicode` where it shows more than ASCII. */
export function paintFor(colour: boolean, unicode: boolean): Paint {
  const { bold, dim, green, red, yellow } = picocolors.createColors(colour);
  return {
    bold,
    dim,
    green,
    red,
    yellow,
    icons: unicode ? unicodeIcons : asciiIcons,
    finish: unicode ? (text) => text : (text) => text.replaceAll(/[→…–·]/g, (sign) => IN_ASCII[sign] ?? sign),
  };
}

export const plainPaint: Paint = paintFor(false, true);
export const asciiPaint: Paint = paintFor(false, false);

/** Sequences that a terminal obeys: CSI (colours, cursor), and OSC, DCS and their like with what they carry. */
const SEQUENCES = [
  /(?:\u001b\[|\u009b)[0-?]*[ -/]*[@-~]/g,
  /(?:\u001b[\]PX^_]|[\u0090\u0098\u009d-\u009f])\P{Cc}*(?:\u0007|\u001b\\|\u009c)/gu,
];
/** Control characters, and marks that reorder or hide text. */
const DANGEROUS = /[\p{Cc}\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu;

/**
 * Text that came from outside, as one line that is safe to print: sequences are taken out, line ends become ` | `, and any
 * other control character is shown as its number instead of being obeyed.
 */
export function plainLine(text: string): string {
  const without = SEQUENCES.reduce((rest, sequence) => rest.replaceAll(sequence, ''), text);
  return without
    .trim()
    .replaceAll(/\s*[\r\n]+\s*/g, ' | ')
    .replaceAll('\t', ' ')
    .replaceAll(DANGEROUS, (character) => {
      const code = character.charCodeAt(0).toString(16);
      return code.length > 2 ? `\\u${code.padStart(4, '0')}` : `\\x${code.padStart(2, '0')}`;
    });
}

/** `text` with blanks up to a width in columns of the terminal. */
export function padded(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - stringWidth(text)));
}

/** A cell: its text, and how it is painted once its width is known. */
export interface Cell {
  text: string;
  paint?: (text: string) => string;
}

/** Rows as aligned lines, two blanks between columns, no blanks at the end. The last column may be as long as it likes. */
export function table(rows: readonly (readonly (Cell | string)[])[], indent = ''): string[] {
  const cells = rows.map((row) => row.map((cell): Cell => (typeof cell === 'string' ? { text: cell } : cell)));
  const widths: number[] = [];
  for (const row of cells) {
    for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, stringWidth(cell.text));
  }
  return cells.map((row) => {
    const last = row.findLastIndex((cell) => cell.text !== '');
    const line = row.slice(0, last + 1).map((cell, column) => {
      const blanks = column === last ? 0 : (widths[column] ?? 0) - stringWidth(cell.text) + 2;
      return (cell.paint ?? same)(cell.text) + ' '.repeat(blanks);
    });
    return indent + line.join('');
  });
}

const same = (text: string): string => text;

/** A duration in the two largest units that matter: `250 ms`, `45 s`, `5 min`, `1 h 5 min`, `2 d 3 h`. */
export function durationText(ms: number): string {
  if (ms < 1_000) return `${Math.max(0, Math.round(ms))} ms`;
  const seconds = Math.round(ms / 1_000);
  if (seconds < 60) return `${seconds} s`;
  const [large, unit, small, smallUnit] =
    seconds < 3_600
      ? [Math.floor(seconds / 60), 'min', seconds % 60, 's']
      : seconds < 86_400
        ? [Math.floor(seconds / 3_600), 'h', Math.floor((seconds % 3_600) / 60), 'min']
        : [Math.floor(seconds / 86_400), 'd', Math.floor((seconds % 86_400) / 3_600), 'h'];
  return small === 0 ? `${large} ${unit}` : `${large} ${unit} ${small} ${smallUnit}`;
}

const two = (value: number): string => String(value).padStart(2, '0');

/** A stored ISO time on the clock of this machine, with the date; the text itself when it is no time. */
export function timeText(iso: string): string {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return plainLine(iso);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clockOf(at)}`;
}

/** As `timeText`, without the date where it is the date of `now`. */
export function recentTimeText(iso: string, now: Date): string {
  const at = new Date(iso);
  return at.toDateString() === now.toDateString() ? clockOf(at) : timeText(iso);
}

const clockOf = (at: Date): string => `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;

/** `app1`, `app1 and app2`, `app1, app2 and app3`. */
export function listText(names: readonly string[], none = 'no server'): string {
  const last = names.at(-1);
  if (last === undefined) return none;
  return names.length === 1 ? last : `${names.slice(0, -1).join(', ')} and ${last}`;
}

/** A command as a person would type it: arguments that a shell would read otherwise are quoted. */
export function commandText(argv: readonly string[]): string {
  return argv
    .map((word) => (/^[\w./:=@%+,^-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`))
    .map(plainLine)
    .join(' ');
}
