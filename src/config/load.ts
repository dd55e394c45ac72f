/**
 * Reads flow.yaml: text → YAML → shape (schema.ts) → rules (semantics.ts). Everything wrong is told at once, each with its
 * place, what was expected and what stands there. Nothing of the file is ever run.
 * Deliberately absent: a second format, inheritance, values from the environment.
 */
import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { LineCounter, parseDocument } from 'yaml';
import { z } from 'zod';
import { codeOf, messageOf, UsageError } from '../errors.ts';
import { nearest } from '../views/nearest.ts';
import { type Place, Positions } from './positions.ts';
import { type Config, configSchema } from './schema.ts';
import { type Path, semantics } from './semantics.ts';

const FILE_NAME = 'flow.yaml';

export interface LoadedConfig {
  config: Config;
  /** Absolute path. */
  file: string;
  /** sha256, in hex, of the validated config as canonical JSON: comments, order of keys and spelled-out defaults do not change it. */
  hash: string;
  /** The file as it was read. */
  text: string;
}

/** One thing wrong in flow.yaml. Line and column from 1. */
export interface ConfigIssue {
  line: number;
  column: number;
  message: string;
}

/** flow.yaml can not be used; `issues` holds every reason, the message shows them all. Nothing was touched. */
export class ConfigError extends UsageError {
  readonly issues: readonly ConfigIssue[];
  constructor(message: string, issues: readonly ConfigIssue[] = [], options?: ErrorOptions) {
    super('CONFIG', message, options);
    this.issues = issues;
  }
}

/** The flow.yaml of `startDir` or of the nearest folder above it; null when there is none up to the root. Absolute. */
export function findConfigFile(startDir: string): string | null {
  for (let dir = resolve(startDir); ; dir = dirname(dir)) {
    const file = join(dir, FILE_NAME);
    if (statSync(file, { throwIfNoEntry: false })?.isFile() === true) return file;
    if (dir === dirname(dir)) return null;
  }
}

/** Reads and validates a config file. Throws ConfigError (code `CONFIG`) when it can not be read or anything in it is wrong. */
export function loadConfig(file: string): LoadedConfig {
  const path = resolve(file);
  const text = readText(path);
  const result = parseConfig(text);
  if ('issues' in result) throw new ConfigError(report(path, result.issues), result.issues);
  return { config: result.config, file: path, hash: hashOf(result.config), text };
}

/** Validates the text of a config file. The issues stand in the order of the text. */
export function parseConfig(text: string): { config: Config } | { issues: ConfigIssue[] } {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const positions = new Positions(document, lines);
  const flaws = [...document.errors, ...document.warnings];
  if (flaws.length > 0) {
    return {
      issues: flaws.map(({ pos, message }) => ({
        ...positions.at(pos[0]),
        message: `not readable as YAML: ${message}`,
      })),
    };
  }
  let data: unknown;
  try {
    data = document.toJS({ maxAliasCount: 100 });
  } catch (error) {
    // Aliases that would grow without end.
    return { issues: [{ line: 1, column: 1, message: `not readable as YAML: ${messageOf(error)}` }] };
  }
  const parsed = configSchema.safeParse(data, { error: (issue) => expectation(issue) });
  const findings = parsed.success
    ? semantics(parsed.data).map((finding) => place(positions, finding))
    : [
        ...parsed.error.issues.flatMap((issue) => shapeIssues(positions, data, issue)),
        ...rulesOfSoundSections(positions, data, parsed.error),
      ];
  if (parsed.success && findings.length === 0) return { config: parsed.data };
  return { issues: findings.sort((a, b) => a.line - b.line || a.column - b.column) };
}

/** The JSON schema of flow.yaml, for editors. Defaults may be left out, as in the file. */
export function configJsonSchema(): Record<string, unknown> {
  return { title: FILE_NAME, ...z.toJSONSchema(configSchema, { io: 'input' }) };
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const code = codeOf(error);
    const why = code === 'ENOENT' ? 'there is no such file' : `it can not be read (${code ?? messageOf(error)})`;
    throw new ConfigError(`${path}: ${why}. Write one beside the project, or name another with --config.`, [], {
      cause: error,
    });
  }
}

function report(path: string, issues: readonly ConfigIssue[]): string {
  const near = relative(process.cwd(), path);
  const name = near.startsWith('..') ? path : near;
  const count = issues.length === 1 ? 'one problem' : `${issues.length} problems`;
  const rows = issues.map(({ line, column, message }) => `  ${name}:${line}:${column}  ${message}`);
  return [`${FILE_NAME} has ${count}; nothing was touched:`, ...rows, 'Mend it, then run `flow config check`.'].join(
    '\n',
  );
}

function hashOf(config: Config): string {
  return createHash('sha256').update(canonicalJson(config)).digest('hex');
}

/** JSON with the keys of every object in one order. */
function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}

function place(positions: Positions, finding: { path: Path; message: string }): ConfigIssue {
  return { ...positions.find(finding.path).position, message: `${dotted(finding.path)}: ${finding.message}` };
}

function dotted(path: Path): string {
  return path.reduce<string>((text, step) => {
    if (typeof step === 'number') return `${text}[${step}]`;
    return text === '' ? String(step) : `${text}.${String(step)}`;
  }, '');
}

/** So that mending the shape does not only then bring up the next round of problems. */
function rulesOfSoundSections(positions: Positions, data: unknown, error: z.ZodError): ConfigIssue[] {
  if (typeof data !== 'object' || data === null) return [];
  const broken = new Set(error.issues.flatMap(({ path }) => (path.length > 0 ? [String(path[0])] : [])));
  const stubs = { version: 1, project: 'unknown', servers: {}, test: { address: 'unknown' } };
  for (const required of Object.keys(stubs)) if (!Object.hasOwn(data, required)) broken.add(required);
  const sound = Object.entries(data).filter(([key]) => Object.hasOwn(configSchema.shape, key) && !broken.has(key));
  const parsed = configSchema.safeParse({ ...stubs, ...Object.fromEntries(sound) });
  return parsed.success ? semantics(parsed.data, broken).map((finding) => place(positions, finding)) : [];
}

type Issue = z.core.$ZodIssue;

/** One issue of the schema, as what people read; the branches of a union are replaced by the one that was meant. */
function shapeIssues(positions: Positions, data: unknown, issue: Issue, base: Path = []): ConfigIssue[] {
  const path = [...base, ...issue.path];
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => {
      const { position } = positions.find([...path, key], 'key');
      return { ...position, message: `${dotted([...path, key])}: unknown key; ${suggestion(key, keysAt(path, data))}` };
    });
  }
  if (issue.code === 'invalid_union') {
    const meant = branchMeant(issue.errors);
    if (meant !== null) return meant.flatMap((inner) => shapeIssues(positions, data, inner, path));
  }
  if (issue.code === 'invalid_key') {
    const { position } = positions.find(path, 'key');
    const expected = issue.issues.map(({ message }) => message).join(', and ');
    return [{ ...position, message: `${dotted(path)}: expected ${expected}; here stands "${String(path.at(-1))}"` }];
  }
  const found = positions.find(path);
  const where = path.length === 0 ? '' : `${dotted(path)}: `;
  return [
    {
      ...found.position,
      message: `${where}expected ${issue.message}; ${whatStands(valueAt(data, path), found)}`,
    },
  ];
}

/** The branch of a union that the value was meant for: of those that take a value of its type, the one it misses least. */
function branchMeant(branches: readonly Issue[][]): Issue[] | null {
  const weigh = (issues: readonly Issue[]) =>
    issues.reduce((sum, issue) => sum + (issue.code === 'unrecognized_keys' ? issue.keys.length : 1), 0);
  const fitting = branches.filter(
    (issues) => !issues.some(({ code, path }) => code === 'invalid_type' && path.length === 0),
  );
  const [best, second] = fitting
    .map((issues) => ({ issues, weight: weigh(issues) }))
    .sort((a, b) => a.weight - b.weight);
  if (best === undefined || second?.weight === best.weight) return null;
  return best.issues;
}

/** What zod found wanting, as the phrase after "expected". Phrases of the schema itself go before these. */
function expectation(issue: z.core.$ZodRawIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      if (issue.expected === 'string' && ['number', 'boolean'].includes(typeof issue.input)) {
        return `a text: in quotes, or it is read as a ${typeof issue.input}`;
      }
      return TYPE_NAMES[issue.expected] ?? `a value of type ${issue.expected}`;
    case 'invalid_value':
      return issue.values.map((value) => JSON.stringify(value)).join(' or ');
    case 'too_small':
      if (issue.origin === 'string') return 'a text that is not empty';
      return issue.origin === 'array' ? `at least ${issue.minimum} in the list` : `at least ${issue.minimum}`;
    case 'too_big':
      return `at most ${issue.maximum}`;
    default:
      return 'something else';
  }
}

const TYPE_NAMES: Readonly<Partial<Record<string, string>>> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  object: 'a mapping (key: value)',
  record: 'a mapping (name: settings)',
  array: 'a list',
};

function whatStands(value: unknown, { source }: Place): string {
  if (value === undefined) return 'it is missing';
  if (value === null) return 'nothing stands here';
  if (Array.isArray(value)) return 'here stands a list';
  if (typeof value === 'object') return 'here stands a mapping';
  const read = JSON.stringify(value);
  // `1.20` is the number 1.2: shown both ways, or the message speaks of something that is not in the file.
  const written = typeof value === 'string' || source === null || source === read ? '' : ` (written ${source})`;
  return `here stands ${read}${written}`;
}

function suggestion(key: string, known: readonly string[]): string {
  const near = nearest(key, known);
  return near === null ? `known here: ${known.join(', ')}` : `did you mean "${near}"?`;
}

function valueAt(data: unknown, path: Path): unknown {
  return path.reduce<unknown>(
    (value, step) =>
      typeof value === 'object' && value !== null && Object.hasOwn(value, step)
        ? (value as Record<PropertyKey, unknown>)[step]
        : undefined,
    data,
  );
}

interface JsonSchemaNode {
  properties?: Record<string, JsonSchemaNode>;
  additionalProperties?: JsonSchemaNode | false;
  items?: JsonSchemaNode;
  anyOf?: JsonSchemaNode[];
}

/** The keys the schema knows at `path`. Where there are several forms (a check is `http` or `run`), those of the form `data` has. */
function keysAt(path: Path, data: unknown): string[] {
  let nodes: JsonSchemaNode[] = [configJsonSchema()];
  for (const step of path) {
    nodes = nodes.flatMap(({ properties, additionalProperties, items }) => {
      const entry = properties !== undefined && Object.hasOwn(properties, step) ? properties[String(step)] : undefined;
      const next = entry ?? (typeof step === 'number' ? items : additionalProperties);
      return next === undefined || next === false ? [] : (next.anyOf ?? [next]);
    });
  }
  const here = valueAt(data, path);
  const present = typeof here === 'object' && here !== null ? Object.keys(here) : [];
  const forms = nodes.map(({ properties = {} }) => Object.keys(properties));
  const shared = (form: string[]) => form.filter((key) => present.includes(key)).length;
  return forms.sort((a, b) => shared(b) - shared(a))[0] ?? [];
}
