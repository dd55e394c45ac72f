/** Numbers, moments and foreign text as the page says them. */
import { describe, expect, test } from 'vitest';
import { moment, visible } from '../../src/inspector/page/words.ts';

describe('a line that was printed', () => {
  test('loses the colours of a terminal, and shows every character that would hide or reorder others', () => {
    expect(visible('\u001b[1;31mfailed\u001b[0m \u202egnp.exe\u0000\u0007')).toBe('failed \\x202egnp.exe\\x00\\x07');
    expect(visible('\tas it <b>was</b> 日本')).toBe('\tas it <b>was</b> 日本');
  });
});

describe('a moment', () => {
  const at = new Date(2026, 10, 28, 8, 0, 0);

  test('is told without the day on its day, and with it on any other', () => {
    expect(moment(at.toISOString(), new Date(2026, 10, 28, 1))).toBe('08:00:00');
    expect(moment(at.toISOString(), new Date(2026, 10, 23))).toBe('Sat Nov 28 08:00:00');
  });

  test('that is no time is told as it came', () => {
    expect(moment('soon')).toBe('soon');
  });
});
