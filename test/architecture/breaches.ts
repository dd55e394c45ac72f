/**
 * Compares sources with the rules and names every breach, with its place, the rule and the mend. Pure: it works on the
 * tree and on a sample in memory alike, which is how the rules themselves are tested.
 */
import { posix } from 'node:path';
import {
  BANNED_IN_TESTS,
  EMPTY_NAMES,
  ENTRY,
  IMPURE_NAMES,
  LAYERS,
  type Layer,
  NOTES,
  ONLY_IN,
  ROOTS,
  WITHOUT_XSTATE,
} from './rules.ts';
import { type Import, parseSource, type Source, type Sources } from './source.ts';

type Parsed = ReadonlyMap<string, Source>;

/** Whether `path` is the folder or file, or lies in it. */
const within = (path: string, place: string): boolean => path === place || path.startsWith(`${place}/`);

const matches = (target: string, entry: string): boolean =>
  entry === 'node:' ? target.startsWith('node:') : within(target, entry);

const isTest = (path: string): boolean => within(path, 'test');

/** Every breach, one sentence or two each. Empty when all is well. */
export function breachesOf(sources: Sources): string[] {
  const parsed: Parsed = new Map([...sources].map(([path, text]) => [path, parseSource(path, text)]));
  return [
    ...[...parsed].flatMap(([path, source]) => [...importBreaches(path, source), ...useBreaches(path, source)]),
    ...[...sources].flatMap(([path, text]) => [...textBreaches(path, text), ...nameBreaches(path)]),
    ...deadFiles(parsed),
  ];
}

function layerOf(path: string): [string, Layer] | undefined {
  return Object.entries(LAYERS)
    .filter(([place]) => within(path, place))
    .sort(([a], [b]) => b.length - a.length)[0];
}

function importBreaches(path: string, { imports }: Source): string[] {
  const toEntry = imports
    .filter(({ target }) => target === ENTRY)
    .map(({ line }) => `${path}:${line} imports ${ENTRY}, which nothing may: move what it needs to src/cli.`);
  if (isTest(path)) return toEntry;
  const layer = layerOf(path);
  if (layer === undefined) return [`${path} lies in no layer: add a row for its folder to test/architecture/rules.ts.`];
  const [place, { imports: allowed, types = [], mend }] = layer;
  const light = WITHOUT_XSTATE.includes(path);

  return toEntry.concat(
    imports.flatMap(({ target, line, typeOnly }: Import): string[] => {
      const at = `${path}:${line} imports ${target}`;
      if (target === ENTRY) return [];
      const only = ONLY_IN.find(({ what }) => what === target);
      if (only !== undefined && !only.where.some((where) => within(path, where))) {
        return [`${at}, which only ${only.where.join(' and ')} may. ${only.mend}`];
      }
      if (
        !allowed.some((entry) => matches(target, entry)) &&
        !(typeOnly && types.some((entry) => matches(target, entry)))
      ) {
        if (types.some((entry) => matches(target, entry))) {
          return [`${at} for more than its types. Write \`import type\`, or: ${mend}`];
        }
        return [
          `${at}; ${place} may import ${[...allowed, ...types.map((type) => `types of ${type}`)].join(', ') || 'nothing'}. ${mend}`,
        ];
      }
      if (light && !typeOnly && (target === 'xstate' || !WITHOUT_XSTATE.includes(target))) {
        return [
          `${at}, and so loads XState into \`flow status\`. Use \`import type\`, or move the code to machines/release.ts.`,
        ];
      }
      return [];
    }),
  );
}

function useBreaches(path: string, { uses }: Source): string[] {
  const rules = [
    {
      applies: within(path, 'machines'),
      names: IMPURE_NAMES,
      mend: 'The chart is pure: let the runtime put the value into the event or the input.',
    },
    {
      applies: isTest(path),
      names: BANNED_IN_TESTS,
      mend: 'Every test runs, against the real thing: use a real program, folder or server, or delete the test.',
    },
  ];
  return rules
    .filter(({ applies }) => applies)
    .flatMap(({ names, mend }) =>
      uses.filter(({ name }) => names.includes(name)).map(({ name, line }) => `${path}:${line} uses ${name}. ${mend}`),
    );
}

function textBreaches(path: string, text: string): string[] {
  const notes = new RegExp(`\\b(?:${NOTES.join('|')})\\b`);
  const breaches = text.split('\n').flatMap((line, index) => {
    const note = notes.exec(line)?.[0];
    return note === undefined ? [] : [`${path}:${index + 1} holds a ${note}. Do it now, or write it up as an issue.`];
  });
  if (!isTest(path) && !/^(?:#!.*\n)?\/\*/.test(text)) {
    breaches.push(
      `${path} does not begin with a block comment. Say what lives here, what it keeps true, what is absent on purpose.`,
    );
  }
  return breaches;
}

function nameBreaches(path: string): string[] {
  const empty = path
    .split('/')
    .flatMap((part) => part.replace(/\..*$/, '').toLowerCase().split('-'))
    .find((word) => EMPTY_NAMES.includes(word));
  return empty === undefined
    ? []
    : [`${path} has "${empty}" in its name, which says nothing. Name it after what it does.`];
}

function deadFiles(parsed: Parsed): string[] {
  const seen = new Set<string>();
  const open = [...parsed.keys()].filter((path) => ROOTS.some((root) => root.test(path)));
  for (let path = open.pop(); path !== undefined; path = open.pop()) {
    if (seen.has(path)) continue;
    seen.add(path);
    const source = parsed.get(path);
    if (source === undefined) continue;
    open.push(...source.imports.map(({ target }) => posix.normalize(target)), ...source.mentions);
  }
  return [...parsed.keys()]
    .filter((path) => !seen.has(path))
    .map((path) => `${path} is reached neither from ${ENTRY} nor from a script or a test. Use it or delete it.`);
}
