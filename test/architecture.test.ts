import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { breachesOf } from './architecture/breaches.ts';
import { readSources } from './architecture/source.ts';

const ROOT = join(import.meta.dirname, '..');
/** Written apart, so that a search for such calls does not find this file. */
const dotted = (object: string, name: string) => `${object}.${name}`;

const HEAD = '/** What lives here. */\n';

/** The breaches of a sample: file texts by path, each with a file head, all led to by a test so that none is dead. */
function breachesOfSample(files: Record<string, string>): string[] {
  const sources = new Map(Object.entries(files).map(([path, text]) => [path, HEAD + text]));
  const all = Object.keys(files).map((path) => `void '../${path}';`);
  return breachesOf(sources.set('test/all.test.ts', all.join('\n')));
}

describe('the tree', () => {
  it('keeps every rule of structure', () => {
    const sources = readSources(ROOT, ['machines', 'src', 'test', 'scripts']);
    expect(sources.size).toBeGreaterThan(10);
    expect(breachesOf(sources).join('\n')).toBe('');
  });
});

describe('the rules', () => {
  it('pass a sample that keeps them', () => {
    expect(
      breachesOfSample({
        'machines/release.ts': "import { setup } from 'xstate';\nimport { x } from './topology.ts';",
        'machines/topology.ts':
          "import type { AnyActor } from 'xstate';\nimport type { R } from './release.ts';\n// Date",
        'src/git/tags.ts': "import { simpleGit } from 'simple-git';\nimport { readFile } from 'node:fs/promises';",
        'src/views/status.ts': "import type { Config } from '../config/schema.ts';",
        'src/effects/draining.ts':
          "import type { S } from '../store/store.ts';\nimport { a } from '../nginx/reload.ts';",
        'src/main.ts': "void import('./cli/run.ts');",
      }),
    ).toEqual([]);
  });

  it.each([
    [
      'machines/a.ts',
      "import { readFile } from 'node:fs';",
      /^machines\/a\.ts:2 imports node:fs; machines may import machines, xstate\./,
    ],
    ['machines/a.ts', "export * from '../src/errors.ts';", /imports src\/errors\.ts; machines may import/],
    ['machines/guards.ts', "import { and } from 'xstate';", /imports xstate, and so loads XState into/],
    [
      'machines/guards.ts',
      "import { r } from './release.ts';",
      /imports machines\/release\.ts, and so loads XState into/,
    ],
    [
      'src/views/a.ts',
      "import { configSchema } from '../config/schema.ts';",
      /for more than its types\. Write `import type`/,
    ],
    ['src/views/a.ts', "import { join } from 'node:path';", /imports node:path; src\/views may import/],
    [
      'src/views/a.ts',
      "import type { S } from 'xstate';",
      /imports xstate, which only machines and src\/release and src\/inspector\/inspected.ts may/,
    ],
    [
      'src/store/a.ts',
      "import { x } from '../effects/draining.ts';",
      /imports src\/effects\/draining\.ts; src\/store may import/,
    ],
    [
      'src/effects/a.ts',
      "import { x } from '../store/store.ts';",
      /imports src\/store\/store\.ts for more than its types/,
    ],
    ['src/effects/a.ts', "import simpleGit from 'simple-git';", /imports simple-git, which only src\/git may/],
    [
      'src/effects/a.ts',
      "import { x } from '../release/send.ts';",
      /imports src\/release\/send\.ts; src\/effects may import/,
    ],
    [
      'src/nginx/a.ts',
      "import { execa } from 'execa';",
      /imports execa, which only src\/hosts may\. Start programs with/,
    ],
    ['src/nginx/a.ts', "import { spawn } from 'node:child_process';", /imports node:child_process, which only/],
    [
      'src/release/a.ts',
      "import { x } from '../cli/status.ts';",
      /imports src\/cli\/status\.ts; src\/release may import/,
    ],
    [
      'src/cli/a.ts',
      "const x = await import('../effects/draining.ts');",
      /imports src\/effects\/draining\.ts; src\/cli may import/,
    ],
    ['src/cli/a.ts', "type T = import('../git/tags.ts').Tag;", /imports src\/git\/tags\.ts; src\/cli may import/],
    ['src/cli/a.ts', "import '../main.ts';", /imports src\/main\.ts, which nothing may/],
    [
      'src/sandbox/a.ts',
      "import { x } from '../nginx/reload.ts';",
      /imports src\/nginx\/reload\.ts; src\/sandbox may import/,
    ],
    ['src/errors.ts', "import { z } from 'zod';", /src\/errors\.ts may import nothing/],
    ['src/elsewhere/a.ts', '', /^src\/elsewhere\/a\.ts lies in no layer: add a row/],
    ['scripts/a.mjs', "import { execa } from 'execa';", /imports execa, which only src\/hosts/],
    ['machines/a.ts', 'export const now = () => Date.now();', /uses Date\. The chart is pure/],
    ['machines/a.ts', 'export const chance = Math.random();', /uses Math\.random\. /],
    ['machines/a.ts', 'export const at = process.pid;', /uses process\. /],
    ['machines/a.ts', 'setTimeout(() => {}, 1);', /uses setTimeout\. /],
    ['test/a.test.ts', `${dotted('vi', 'mock')}('x');`, /uses vi\.mock\. Every test runs/],
    ['test/a.test.ts', `${dotted('describe', 'only')}('x', () => {});`, /uses describe\.only\. /],
    ['test/a.test.ts', `${dotted('it', 'skip')}('x', () => {});`, /uses it\.skip\. /],
    ['src/git/a.ts', `// ${'TO' + 'DO'}: later`, /^src\/git\/a\.ts:2 holds a TO.O\. /],
    ['src/git/utils.ts', '', /has "utils" in its name, which says nothing/],
    ['src/git/lock-manager.ts', '', /has "manager" in its name/],
    ['src/common/a.ts', '', /has "common" in its name/],
  ])('name the breach in %s: %s', (path, text, expected) => {
    expect(breachesOfSample({ [path]: text })).toContainEqual(expect.stringMatching(expected));
  });

  it('name a file without a head, and one that nothing leads to', () => {
    const sources = new Map([
      ['test/a.test.ts', "import '../src/git/a.ts';"],
      ['src/git/a.ts', `${HEAD}new URL('./program.ts', import.meta.url);`],
      ['src/git/program.ts', HEAD],
      ['src/git/headless.ts', 'export const x = 1;'],
    ]);
    expect(breachesOf(sources)).toEqual([
      expect.stringMatching(/^src\/git\/headless\.ts does not begin with a block comment/),
      expect.stringMatching(/^src\/git\/headless\.ts is reached neither from src\/main\.ts nor/),
    ]);
  });

  it('leave alone what is only written in a comment, a string or a property name', () => {
    const text =
      "// Date\nexport const x = { process: 'Math.random', Date: `setTimeout` };\nexport const y = (a: { process: 1 }) => a.process;";
    expect(breachesOfSample({ 'machines/a.ts': text })).toEqual([]);
  });
});
