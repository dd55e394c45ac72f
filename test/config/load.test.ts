import { mkdirSync, mkdtempSync, realpathSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ConfigError, configJsonSchema, findConfigFile, loadConfig, parseConfig } from '../../src/config/load.ts';

const SOUND = `version: 1
project: quickpay
servers:
  app1: { address: "10.0.0.1:8080" }
  app2: { address: "10.0.0.2:8080" }
test: { address: "10.0.0.9:8080" }
`;

function fileOf(text: string): string {
  const file = join(mkdtempSync(join(tmpdir(), 'flow-config-')), 'flow.yaml');
  writeFileSync(file, text);
  return file;
}

/** The issues of a text as `LINE:COL message`. */
function issuesOf(text: string): string[] {
  const result = parseConfig(text);
  return 'issues' in result ? result.issues.map(({ line, column, message }) => `${line}:${column} ${message}`) : [];
}

/** The issues of the sound file with lines added; the first added line is line 7. */
const issuesWith = (...lines: string[]) => issuesOf(SOUND + lines.join('\n'));

function thrownBy(file: string): ConfigError {
  try {
    loadConfig(file);
  } catch (error) {
    if (error instanceof ConfigError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('a sound flow.yaml', () => {
  it('needs only what the runbook can not know, and has the rest as defaults', () => {
    const { config, text } = loadConfig(fileOf(SOUND));
    expect(text).toBe(SOUND);
    expect(config).toMatchObject({
      git: { remote: 'cil', branches: { develop: 'develop', testing: 'testing', master: 'master' } },
      publish: { run: ['./publish.sh', '{server}'], answer: 'y\n', silence: 180_000 },
      nginx: { dir: '/opt/nginx', test: ['sbin/nginx', '-t'], reload: ['sbin/nginx', '-s', 'reload'] },
      verify: { soak: 600_000, onBad: 'rollback', errors: ['ERROR', 'panic:'] },
      rollback: { restore: 'auto' },
    });
  });

  it('has a hash that comments, order and spelled-out defaults leave alone, and a changed value does not', () => {
    const { hash } = loadConfig(fileOf(SOUND));
    const lines = SOUND.trim().split('\n');
    const shuffled = [lines[1], lines[0], '# a comment', ...lines.slice(2), 'git: { remote: cil }'].join('\n');
    expect(hash).toMatch(/^[0-9a-f]{64}$/);
    expect(loadConfig(fileOf(shuffled)).hash).toBe(hash);
    expect(loadConfig(fileOf(`${SOUND}git: { remote: origin }\n`)).hash).not.toBe(hash);
  });

  it('keeps "no" and "10:30" as texts', () => {
    expect(issuesOf(SOUND.replace('quickpay', 'no'))).toEqual([]);
    expect(issuesOf(SOUND.replace('quickpay', '10:30'))).toEqual([]);
  });

  it('is found in a folder above the one flow is called in', () => {
    const root = realpathSync(mkdtempSync(join(tmpdir(), 'flow-config-')));
    const deep = join(root, 'a', 'b');
    mkdirSync(deep, { recursive: true });
    expect(findConfigFile('/')).toBeNull();
    mkdirSync(join(root, 'a', 'flow.yaml'));
    writeFileSync(join(root, 'flow.yaml'), SOUND);
    expect(findConfigFile(deep)).toBe(join(root, 'flow.yaml'));
  });
});

describe('a flawed flow.yaml', () => {
  it('names every problem at its line and column, and is a usage error', () => {
    const file = fileOf(`version: 1.20
project: 1.20
servers:
  App1: { address: a }
  app2: { adress: b }
test:
drain: { deadline: 10 }
publish: { run: [./publish.sh, 3] }
freeze: [{ from: "Fry 16:00", to: "Mon 08:00", because: weekend }]
rollback: { restore: elsewhere }
`);
    const error = thrownBy(file);
    expect(error).toMatchObject({ code: 'CONFIG', exitCode: 2 });
    expect(error.message.split('\n')).toEqual([
      'flow.yaml has 10 problems; nothing was touched:',
      `  ${file}:1:10  version: expected 1; here stands 1.2 (written 1.20)`,
      `  ${file}:2:10  project: expected a text: in quotes, or it is read as a number; here stands 1.2 (written 1.20)`,
      `  ${file}:4:3  servers.App1: expected a server name: a small letter, then letters, digits and "-"; here stands "App1"`,
      `  ${file}:5:3  servers.app2.address: expected a text; it is missing`,
      `  ${file}:5:11  servers.app2.adress: unknown key; did you mean "address"?`,
      `  ${file}:6:1  test: expected a mapping (key: value); nothing stands here`,
      `  ${file}:7:20  drain.deadline: expected a duration with its unit, for instance "30s" or "10m"; here stands 10`,
      `  ${file}:8:32  publish.run[1]: expected a text: in quotes, or it is read as a number; here stands 3`,
      `  ${file}:9:18  freeze[0].from: expected a weekday with a time ("Fri 16:00") or a date with a time ("2026-12-20 18:00"); here stands "Fry 16:00"`,
      `  ${file}:10:22  rollback.restore: expected "auto" or "hold"; here stands "elsewhere"`,
      'Mend it, then run `flow config check`.',
    ]);
  });

  it.each([
    ['a broken structure', 'version: 1\nservers: { app1: {\n', /^3:1 not readable as YAML: /],
    ['a key that stands twice', `${SOUND}project: other\n`, /^7:1 not readable as YAML: Map keys must be unique/],
    ['a second document', `${SOUND}---\nversion: 1\n`, /^7:1 not readable as YAML: /],
    ['a tag that means nothing', `${SOUND}state: !secret x\n`, /^7:8 not readable as YAML: /],
    [
      'aliases without end',
      `a: &a [x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\nc: [*b, *b, *b, *b, *b, *b, *b, *b, *b]\n`,
      /alias/,
    ],
    ['an empty file', '', /^1:1 expected a mapping \(key: value\); nothing stands here/],
    ['a list', '- a\n', /^1:1 expected a mapping \(key: value\); here stands a list/],
  ])('has %s named with its position', (_what, text, expected) => {
    expect(issuesOf(text).join('\n')).toMatch(expected);
  });

  it('is told from one that does not exist', () => {
    const file = join(tmpdir(), 'flow-nowhere', 'flow.yaml');
    expect(thrownBy(file).message).toContain('there is no such file. Write one');
  });

  it.each([
    ['publsh: {}', '7:1 publsh: unknown key; did you mean "publish"?'],
    ['git: { branches: { mastr: x } }', '7:20 git.branches.mastr: unknown key; did you mean "master"?'],
    ['preflight: [{ http: x, contain: a }]', '7:24 preflight[0].contain: unknown key; did you mean "contains"?'],
    ['preflight: [{ run: x, cw: a }]', '7:23 preflight[0].cw: unknown key; did you mean "cwd"?'],
    ['watch: { zzzzzz: 1s }', '7:10 watch.zzzzzz: unknown key; known here: soak'],
  ])('has the nearest known key for %s', (line, expected) => {
    expect(issuesWith(line)).toEqual([expected]);
  });

  it('says of a check that it is one or the other', () => {
    expect(issuesWith('preflight: [{}, 3]')).toEqual([
      '7:13 preflight[0]: expected a check: `http: ADDRESS` or `run: COMMAND`; here stands a mapping',
      '7:17 preflight[1]: expected a check: `http: ADDRESS` or `run: COMMAND`; here stands 3',
    ]);
  });

  it('refuses a wait that a timer can not hold', () => {
    expect(issuesWith('verify: { soak: 9999h }')).toEqual([
      '7:17 verify.soak: expected a duration of at most 168h; here stands "9999h"',
    ]);
  });

  it('points through an alias at what was really written', () => {
    const text = SOUND.replace('app1: {', 'app1: &one {').replace(/app2: .*/, 'app2: *one');
    expect(issuesOf(text)).toEqual([
      '4:25 servers.app2.address: expected an address of its own; "10.0.0.1:8080" is that of servers.app1 too',
    ]);
  });
});

describe('the JSON schema for editors', () => {
  it('requires what has no default, and nothing else', () => {
    expect(configJsonSchema()).toMatchObject({
      required: ['version', 'project', 'servers', 'test'],
      additionalProperties: false,
      properties: { verify: { properties: { soak: { type: 'string', default: '10m' } } } },
    });
  });
});
