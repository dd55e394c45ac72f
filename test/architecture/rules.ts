/**
 * The structure of the code as data: which folder may import what, which names and words are not used, and how each breach
 * is mended. source.ts reads the files, breaches.ts compares, ../architecture.test.ts runs it over the tree.
 * To allow something new, change a row here, in the same commit as the code that needs it, and say why there.
 */

/**
 * What the files of a folder may import. An entry is a folder or file of this repository (`src/store`, `src/errors.ts`), a
 * package, or `node:` for every module of Node. `types` are allowed as `import type` alone, which leaves no trace at run time.
 */
export interface Layer {
  imports: readonly string[];
  types?: readonly string[];
  /** Why the line is drawn here and where the code belongs instead. */
  mend: string;
}

/** The longest matching key is the layer of a file. A folder of src/ that is not listed is a breach by itself. */
export const LAYERS: Readonly<Record<string, Layer>> = {
  machines: {
    imports: ['machines', 'xstate'],
    mend: 'The chart is pure: what it needs from the world comes in with an event or out of an effect. Move the I/O to src/effects.',
  },
  'src/errors.ts': { imports: [], mend: 'Errors stand below everything.' },
  'src/views': {
    imports: [
      'src/views',
      'machines',
      // A plan shows commands as they will run: filled by the functions that fill them then.
      'src/config/settings.ts',
      'src/config/placeholders.ts',
      'src/nginx/include-file.ts',
      'fastest-levenshtein',
      'picocolors',
      'fast-string-width',
    ],
    types: ['src/config', 'src/store'],
    mend: 'A view computes from values it is given. Do the reading in src/release or src/cli and pass the result.',
  },
  'src/store': {
    imports: ['src/store', 'src/errors.ts', 'node:', 'lowdb', 'zod'],
    types: ['machines'],
    mend: 'The store keeps what it is given and knows nothing of steps. Move the decision up to src/release.',
  },
  'src/hosts': {
    imports: ['src/hosts', 'src/errors.ts', 'node:', 'execa', 'p-limit'],
    mend: 'A host runs programs and reads files for everyone alike. Move what is special to src/git, src/nginx or src/logs.',
  },
  'src/git': {
    imports: ['src/git', 'src/hosts', 'src/errors.ts', 'node:', 'simple-git', 'semver'],
    types: ['machines', 'src/config'],
    mend: 'The parts of the world do not know of each other. Bring them together in src/effects.',
  },
  'src/nginx': {
    imports: ['src/nginx', 'src/hosts', 'src/errors.ts', 'node:', 'semver'],
    types: ['machines', 'src/config'],
    mend: 'The parts of the world do not know of each other. Bring them together in src/effects.',
  },
  'src/logs': {
    imports: ['src/logs', 'src/hosts', 'src/errors.ts', 'node:'],
    types: ['machines', 'src/config'],
    mend: 'The parts of the world do not know of each other. Bring them together in src/effects.',
  },
  'src/config': {
    // Which routes and state names a fleet needs is the chart's to say; the config is judged by it.
    imports: ['src/config', 'machines', 'src/errors.ts', 'src/views/nearest.ts', 'node:', 'zod', 'yaml'],
    types: ['src/hosts'],
    mend: 'The config is read and judged, never acted on. Act in src/effects.',
  },
  'src/effects': {
    imports: [
      'src/effects',
      'src/git',
      'src/nginx',
      'src/logs',
      'src/hosts',
      'src/config',
      'src/errors.ts',
      'machines',
      'node:',
      'semver',
    ],
    types: ['src/store'],
    mend: 'An effect returns evidence; storing it and deciding what follows is for src/release.',
  },
  'src/release': {
    imports: [
      'src/release',
      'src/effects',
      'src/git',
      'src/nginx',
      'src/logs',
      'src/hosts',
      'src/store',
      'src/views',
      'src/config',
      'src/errors.ts',
      'machines',
      'node:',
      'xstate',
      'semver',
      'zod',
    ],
    mend: 'The runtime does not know who calls it. Pass what it needs as an argument, or as a callback from src/cli.',
  },
  'src/inspector': {
    imports: [
      'src/inspector',
      'src/store',
      'src/views',
      'src/errors.ts',
      'machines',
      'node:',
      'ws',
      // Of this workspace: version 4, which @xstate/inspect speaks.
      'xstate',
      '@xstate/inspect',
    ],
    mend: 'The inspector follows the store from outside; events go through the same path as those of the command line.',
  },
  'src/inspector/page': {
    imports: ['src/inspector/page', 'preact', '@xstate/inspect'],
    types: ['src/inspector/wire.ts', 'src/views'],
    mend: 'The page draws what it is told. What it needs is put into a message by src/inspector.',
  },
  'src/sandbox': {
    imports: ['src/sandbox', 'src/hosts', 'src/config', 'src/errors.ts', 'node:', 'yaml'],
    mend: 'The demo world is what flow works on. It must not be made with the code that it is there to try.',
  },
  'src/cli': {
    imports: [
      'src/cli',
      'src/release',
      'src/views',
      'src/config',
      'src/store',
      'src/logs',
      'src/hosts',
      'src/sandbox',
      'src/inspector',
      'src/errors.ts',
      // For --version.
      'package.json',
      'machines',
      'node:',
      '@clack/prompts',
      'commander',
      'log-update',
      'open',
      'picocolors',
      'semver',
      'fast-string-width',
      'yaml',
      'zod',
    ],
    mend: 'A command is thin: it asks src/release, and shows what src/views makes of the answer.',
  },
  'src/main.ts': {
    imports: ['src/cli', 'src/errors.ts', 'node:'],
    mend: 'main.ts turns argv into an exit code; the rest is src/cli.',
  },
  scripts: { imports: ['scripts', 'node:'], mend: 'Scripts run before anything is installed: plain Node.' },
};

/** Packages and modules that only some folders may import at all, tests excepted. */
export const ONLY_IN: readonly { what: string; where: readonly string[]; mend: string }[] = [
  {
    what: 'xstate',
    where: ['machines', 'src/release', 'src/inspector/inspected.ts'],
    mend: 'Only the chart and the runtime that hosts it know of XState.',
  },
  { what: 'simple-git', where: ['src/git'], mend: 'Add a function to src/git.' },
  { what: 'execa', where: ['src/hosts'], mend: 'Start programs with `Host.run`.' },
  { what: 'lowdb', where: ['src/store'], mend: 'Add a function to src/store.' },
  {
    what: 'node:child_process',
    where: [
      'src/hosts',
      'src/store',
      'src/sandbox',
      'src/cli/ask.ts',
      'src/cli/inspect',
      'src/cli/demo',
      'src/cli/demo.ts',
      'scripts',
    ],
    mend: 'Start programs with `Host.run`, which gives them a limit, a session of their own and a plain result.',
  },
];

/** Files that `flow status` and `flow why` load. XState is most of what starting up would cost, so they do without. */
export const WITHOUT_XSTATE: readonly string[] = ['topology', 'guards', 'contract', 'events', 'rollback', 'routes'].map(
  (name) => `machines/${name}.ts`,
);

/** Nothing may import it: it is the process itself. */
export const ENTRY = 'src/main.ts';

/** Where a reader can start from. A file that none of them leads to is dead. */
export const ROOTS: readonly RegExp[] = [
  /^src\/main\.ts$/,
  /^scripts\//,
  // What a browser loads.
  /^src\/inspector\/page\/main\.tsx$/,
  /^test\/.*\.(?:test|bench)\.ts$/,
  /^test\/reporter\.ts$/,
  // Started by a test as a process of its own.
  /^test\/.*\/programs\//,
];

/** Names that say nothing, so that everything ends up behind them. */
export const EMPTY_NAMES: readonly string[] = [
  'util',
  'utils',
  'helper',
  'helpers',
  'manager',
  'managers',
  'common',
  'misc',
];

/** What a pure chart has no use for: clocks, chance and the process. */
export const IMPURE_NAMES: readonly string[] = [
  'Date',
  'Math.random',
  'crypto',
  'performance',
  'process',
  'setImmediate',
  'setInterval',
  'setTimeout',
];

/** Tests that do not run, or that run against a fiction. */
export const BANNED_IN_TESTS: readonly string[] = ['vi', 'it', 'test', 'describe'].flatMap((object) =>
  (object === 'vi' ? ['mock', 'doMock', 'stubGlobal'] : ['only', 'skip', 'todo', 'skipIf', 'fails']).map(
    (name) => `${object}.${name}`,
  ),
);

/** Work left in the code as a note. Written apart so that this file does not hold the words itself. */
export const NOTES: readonly string[] = ['TO' + 'DO', 'FIX' + 'ME', 'X' + 'XX'];
