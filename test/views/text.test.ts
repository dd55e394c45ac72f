import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  asciiPaint,
  commandText,
  durationText,
  listText,
  paintFor,
  plainLine,
  plainPaint,
  recentTimeText,
  table,
  timeText,
} from '../../src/views/text.ts';

const ESC = '\u001b';

describe('text from outside', () => {
  it.each([
    ['a colour', `${ESC}[1;31mred${ESC}[0m`, 'red'],
    ['a cleared screen', `a${ESC}[2J${ESC}[Hb`, 'ab'],
    ['a window title', `${ESC}]0;owned\u0007text`, 'text'],
    ['a link', `${ESC}]8;;http://evil${ESC}\\text${ESC}]8;;${ESC}\\`, 'text'],
    ['an 8-bit sequence', 'a\u009b31mb', 'ab'],
    ['a sequence without an end', `${ESC}]0;title`, '\\x1b]0;title'],
    ['a carriage return over a line', 'failed\rok', 'failed | ok'],
    ['line ends', ' first \r\n\n  second\n', 'first | second'],
    ['a backspace', 'ab\bc', 'ab\\x08c'],
    ['a mark that turns text around', 'a\u202eb', 'a\\u202eb'],
    ['a tab', 'a\tb', 'a b'],
    ['Chinese', '发布失败', '发布失败'],
  ])('is defused: %s', (_what, text, expected) => {
    expect(plainLine(text)).toBe(expected);
  });

  it('never keeps a character that a terminal obeys, whatever it is made of', () => {
    const piece = fc.constantFrom(
      ESC,
      '[',
      ']',
      '31',
      'm',
      '\u009b',
      '\u009d',
      '\u0007',
      '\\',
      'a',
      '\n',
      '\u202e',
      '发',
    );
    fc.assert(
      fc.property(
        fc.array(piece).map((pieces) => pieces.join('')),
        (text) => {
          expect(plainLine(text)).not.toMatch(/[\p{Cc}\u202e]/u);
        },
      ),
    );
  });

  it('is defused in time that grows with its length alone', () => {
    const startedAt = performance.now();
    plainLine('\u009d'.repeat(200_000));
    plainLine(`${ESC}]`.repeat(200_000));
    expect(performance.now() - startedAt).toBeLessThan(2_000);
  });
});

describe('a table', () => {
  it('aligns by columns of the terminal, not by characters', () => {
    const rows = [
      ['名字', 'x', 'last'],
      ['app1', 'yy', ''],
    ];
    expect(table(rows, '> ')).toEqual(['> 名字  x   last', '> app1  yy']);
  });

  it('pads what is painted by what is seen of it', () => {
    const { red } = paintFor(true, true);
    const [line = ''] = table([
      [{ text: 'a', paint: red }, 'b'],
      ['long', 'c'],
    ]);
    expect(line).toBe(`${red('a')}     b`);
  });

  it('takes each icon for one column', () => {
    for (const icon of Object.values(plainPaint.icons)) {
      expect(
        table([
          [icon, 'b'],
          ['1', 'b'],
        ]),
      ).toEqual([`${icon}  b`, '1  b']);
    }
  });
});

describe('a paint', () => {
  it('uses colours only where they are wanted', () => {
    expect(paintFor(true, true).red('x')).toBe(`${ESC}[31mx${ESC}[39m`);
    expect(plainPaint.red('x')).toBe('x');
  });

  it('writes nothing but ASCII of its own where only that is shown', () => {
    expect(Object.values(asciiPaint.icons).join('')).toMatch(/^[\x20-\x7e]+$/);
    expect(asciiPaint.finish('a → b – c · 名…')).toBe('a -> b - c - 名...');
    expect(plainPaint.finish('a → b')).toBe('a → b');
  });
});

describe('words', () => {
  it.each([
    [0, '0 ms'],
    [250, '250 ms'],
    [45_000, '45 s'],
    [59_700, '1 min'],
    [300_000, '5 min'],
    [372_000, '6 min 12 s'],
    [3_900_000, '1 h 5 min'],
    [183_600_000, '2 d 3 h'],
  ])('name a duration of %i ms', (ms, expected) => {
    expect(durationText(ms)).toBe(expected);
  });

  it('name a time on the clock of this machine, and its date where it is not today', () => {
    const at = new Date(2026, 5, 1, 14, 3, 9);
    expect(timeText(at.toISOString())).toBe('2026-06-01 14:03:09');
    expect(recentTimeText(at.toISOString(), new Date(2026, 5, 1, 23, 59))).toBe('14:03:09');
    expect(recentTimeText(at.toISOString(), new Date(2026, 5, 2, 0, 1))).toBe('2026-06-01 14:03:09');
    expect(timeText(`no${ESC}[31m time`)).toBe('no time');
  });

  it('list names', () => {
    expect([[], ['a'], ['a', 'b'], ['a', 'b', 'c']].map((names) => listText(names))).toEqual([
      'no server',
      'a',
      'a and b',
      'a, b and c',
    ]);
  });

  it('write a command so that a shell would read it as it is run', () => {
    expect(commandText(['./publish.sh', 'app1', 'a b', "it's", '$HOME', ''])).toBe(
      `./publish.sh app1 'a b' 'it'\\''s' '$HOME' ''`,
    );
  });
});
