import { expect, test } from 'vitest';
import { changeLines, withSection } from '../../src/effects/tag.ts';

test('a change is one line of text in the ChangeLog, whatever its subject begins with', () => {
  const subjects = [
    'Plain',
    '## v9.9.9',
    '- a',
    '* b',
    '> c',
    '1. d',
    '---',
    '<!-- e',
    '```',
    '-f is an option',
    '#12 is mended',
  ];
  expect(changeLines(subjects).split('\n')).toEqual([
    '* Plain',
    '* \\## v9.9.9',
    '* \\- a',
    '* \\* b',
    '* \\> c',
    '* 1\\. d',
    '* \\---',
    '* \\<!-- e',
    '* \\```',
    '* -f is an option',
    '* #12 is mended',
  ]);
});

test('a section stands above the older ones and below the title', () => {
  expect(withSection('# ChangeLog\n\n## v1\n\n* a\n', '## v2\n\n* b\n')).toBe(
    '# ChangeLog\n\n## v2\n\n* b\n\n## v1\n\n* a\n',
  );
  expect(withSection('', '## v2\n\n* b\n')).toBe('## v2\n\n* b\n');
});
