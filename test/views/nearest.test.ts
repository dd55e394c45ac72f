import { describe, expect, it } from 'vitest';
import { nearest } from '../../src/views/nearest.ts';

describe('the nearest known word', () => {
  it.each([
    ['adress', ['address', 'dir'], 'address'],
    ['nxet', ['NEXT', 'ABORT'], null],
    ['next', ['NEXT', 'ABORT'], 'NEXT'],
    ['ROLBACK', ['NEXT', 'ROLLBACK'], 'ROLLBACK'],
    ['statsu', ['start', 'status'], 'status'],
    ['zzz', ['start', 'status'], null],
    ['ab', ['xy'], null],
    ['', ['a'], null],
    ['a', [], null],
  ])('to "%s" among %j is %j', (word, known, expected) => {
    expect(nearest(word, known)).toBe(expected);
  });
});
