import { describe, expect, it } from 'vitest';
import { fill, fillText, namesInBraces } from '../../src/config/placeholders.ts';

describe('filling placeholders', () => {
  it('inserts a value as part of one argument, whatever it holds', () => {
    const server = 'a b"; rm -rf $(x) \'{tag}';
    expect(fill(['./publish.sh', '--to={server}', '{tag}'], { server, tag: 'v1' })).toEqual([
      './publish.sh',
      `--to=${server}`,
      'v1',
    ]);
  });

  it('takes "$&" and "$1" of a value as they are', () => {
    expect(fillText('x{tag}y', { tag: '$&$1$$' })).toBe('x$&$1$$y');
  });

  it('leaves braces alone that hold no word', () => {
    expect(fillText('{} { } {{.State}} {1}', {})).toBe('{} { } {{.State}} {1}');
  });

  it.each(['{sever}', '{constructor}', '{tag}'])('throws for %s when it is not known or has no value', (text) => {
    expect(() => fillText(text, { server: 'app1' })).toThrow(
      expect.objectContaining({ code: 'PLACEHOLDER', exitCode: 2 }),
    );
  });

  it('names every word in braces once', () => {
    expect(namesInBraces('{a} {b}{a} {c d}')).toEqual(['a', 'b']);
  });
});
