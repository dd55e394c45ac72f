/**
 * The rules of flow.yaml that its shape can not express: names that must differ, servers that must exist, placeholders,
 * patterns and times that must be readable. Each rule says which sections it reads, so that the rules of sound sections
 * are still checked when another section is broken, and everything wrong is told at once. Pure.
 */
import { nearest } from '../views/nearest.ts';
import { EXPECTED_FREEZE_TIME, parseFreezeTime } from './freeze.ts';
import { namesInBraces, PLACEHOLDERS, type Placeholder } from './placeholders.ts';
import type { Check, Config, VersionProbe } from './schema.ts';
import { routesOf } from './settings.ts';

export type Section = keyof Config;
export type Path = readonly PropertyKey[];

/** Something wrong at a place of the config; the place may be one that was left out of the file. */
export interface Finding {
  path: Path;
  message: string;
}

interface Rule {
  reads: readonly Section[];
  check: (config: Config) => Finding[];
}

/** Names are compared as state names are made: without regard to case and `-`. */
const folded = (name: string): string => name.toLowerCase().replaceAll('-', '');
const setOf = (servers: readonly string[]): string => [...new Set(servers)].sort().join(' ');
const listed = (names: readonly string[]): string => names.map((name) => `"${name}"`).join(', ');

function meant(word: string, known: readonly string[]): string {
  const near = nearest(word, known);
  return near === null ? `known: ${listed(known)}` : `did you mean "${near}"?`;
}

function serverNames({ servers, test }: Config): Finding[] {
  const names = Object.keys(servers);
  const findings = names.flatMap((name, index): Finding[] => {
    const twin = names.slice(0, index).find((earlier) => folded(earlier) === folded(name));
    if (twin !== undefined) {
      const message = `expected names that differ in more than case and "-"; here stand "${twin}" and "${name}"`;
      return [{ path: ['servers', name], message }];
    }
    if (folded(name) !== 'all') return [];
    return [{ path: ['servers', name], message: `expected a name other than "${name}": "all" means every server` }];
  });
  if (names.some((name) => folded(name) === folded(test.name))) {
    const message = `expected a name that no production server has; here stands "${test.name}"`;
    findings.push({ path: ['test', 'name'], message });
  }
  return findings;
}

/** What the statechart can do today, which is less than the shape allows. */
function supportedByChart({ servers }: Config): Finding[] {
  const count = Object.keys(servers).length;
  if (count === 0) {
    return [{ path: ['servers'], message: 'expected the servers to release, each with its address; there is none' }];
  }
  if (count === 2) return [];
  const why = 'releases exactly two servers for now: one is published while the other serves';
  return [{ path: ['servers'], message: `expected two servers; here stands ${count}. The statechart ${why}` }];
}

function distinctAddresses({ servers, test }: Config): Finding[] {
  const all = [
    ...Object.entries(servers).map(([name, { address }]) => ({ path: ['servers', name, 'address'], address })),
  ];
  all.push({ path: ['test', 'address'], address: test.address });
  return all.flatMap(({ path, address }, index): Finding[] => {
    const twin = all.slice(0, index).find((earlier) => earlier.address === address);
    if (twin === undefined) return [];
    return [
      {
        path,
        message: `expected an address of its own; "${address}" is that of ${twin.path.slice(0, -1).join('.')} too`,
      },
    ];
  });
}

function routes(config: Config): Finding[] {
  const names = Object.keys(config.servers);
  const findings: Finding[] = [];
  const given = config.nginx.routes ?? [];
  for (const [index, route] of given.entries()) {
    const path = ['nginx', 'routes', index];
    for (const [at, server] of route.servers.entries()) {
      if (!names.includes(server)) {
        const message = `expected the name of a server; here stands "${server}"; ${meant(server, names)}`;
        findings.push({ path: [...path, 'servers', at], message });
      } else if (route.servers.indexOf(server) !== at) {
        findings.push({
          path: [...path, 'servers', at],
          message: `expected each server once; "${server}" stands twice`,
        });
      }
    }
    const before = given.slice(0, index);
    if (before.some((other) => setOf(other.servers) === setOf(route.servers))) {
      const message = `expected one route for each set of servers; ${listed(route.servers)} has one already`;
      findings.push({ path: [...path, 'servers'], message });
    }
    if (before.some((other) => other.branch === route.branch)) {
      const message = `expected a branch of its own; "${route.branch}" is that of another route`;
      findings.push({ path: [...path, 'branch'], message });
    }
  }
  const have = new Set(routesOf(config).map(({ servers }) => setOf(servers)));
  const needed = [names, ...names.map((name) => [name])];
  for (const servers of needed) {
    if (servers.length === 0 || have.has(setOf(servers))) continue;
    have.add(setOf(servers));
    const who = servers.length === 1 ? `only ${listed(servers)}` : `all servers (${listed(servers)})`;
    const message = `expected a route for ${who}, which a release or its rollback needs; there is none. Leave "routes" out for the defaults`;
    findings.push({ path: ['nginx', 'routes'], message });
  }
  return findings;
}

const OF_SERVER: readonly Placeholder[] = ['server', 'dir', 'address'];
const OF_RELEASE: readonly Placeholder[] = ['version', 'tag', 'previous'];
const AT_PUBLISH: readonly Placeholder[] = PLACEHOLDERS;

/** Texts that belong to one place: a text, or every text of a command or check. */
interface Place {
  path: Path;
  texts: readonly string[];
  allowed: readonly Placeholder[];
}

function ofCommand(path: Path, run: readonly string[] | undefined, allowed: readonly Placeholder[]): Place[] {
  return run === undefined ? [] : [{ path, texts: run, allowed }];
}

function ofText(path: Path, text: string | undefined, allowed: readonly Placeholder[]): Place[] {
  return text === undefined ? [] : [{ path, texts: [text], allowed }];
}

function ofProbe(path: Path, probe: VersionProbe | undefined): Place[] {
  if (probe === undefined) return [];
  return [
    ...ofCommand([...path, 'run'], probe.run, OF_SERVER),
    ...ofText([...path, 'http'], probe.http, OF_SERVER),
    ...ofText([...path, 'cwd'], probe.cwd, OF_SERVER),
  ];
}

function ofChecks(path: Path, checks: readonly Check[], allowed: readonly Placeholder[]): Place[] {
  return checks.flatMap((check, index) => {
    const at = [...path, index];
    if ('http' in check) {
      return [...ofText([...at, 'http'], check.http, allowed), ...ofText([...at, 'contains'], check.contains, allowed)];
    }
    return [...ofCommand([...at, 'run'], check.run, allowed), ...ofText([...at, 'cwd'], check.cwd, allowed)];
  });
}

function placesOf(config: Config): Place[] {
  const { servers, test, probes, publish, rollback, nginx, drain, verify, preflight } = config;
  const machines = [
    ...Object.entries(servers).map(([name, server]) => ({ path: ['servers', name], server })),
    { path: ['test'], server: test },
  ];
  return [
    ...machines.flatMap(({ path, server }) => [
      ...ofText([...path, 'address'], server.address, []),
      ...ofText([...path, 'dir'], server.dir, ['server', 'address']),
      ...ofText([...path, 'log'], server.log, OF_SERVER),
      ...ofProbe([...path, 'version'], server.version),
      ...ofText([...path, 'health', 'http'], server.health?.http, OF_SERVER),
    ]),
    ...ofText(['probes', 'dir'], probes.dir, ['server', 'address']),
    ...ofText(['probes', 'log'], probes.log, OF_SERVER),
    ...ofProbe(['probes', 'version'], probes.version),
    ...ofText(['probes', 'health', 'http'], probes.health.http, OF_SERVER),
    ...ofCommand(['publish', 'run'], publish.run, AT_PUBLISH),
    ...ofCommand(['rollback', 'run'], rollback.run, AT_PUBLISH),
    ...ofCommand(['nginx', 'test'], nginx.test, []),
    ...ofCommand(['nginx', 'reload'], nginx.reload, []),
    ...ofChecks(['drain', 'checks'], drain.checks, PLACEHOLDERS),
    ...ofChecks(['verify', 'checks'], verify.checks, PLACEHOLDERS),
    ...ofChecks(['preflight'], preflight, OF_RELEASE),
  ];
}

function placeholders(config: Config): Finding[] {
  return placesOf(config).flatMap(({ path, texts, allowed }) =>
    [...new Set(texts.flatMap(namesInBraces))]
      .filter((name) => !(allowed as readonly string[]).includes(name))
      .map((name) => ({ path, message: placeholderMessage(name, allowed) })),
  );
}

function placeholderMessage(name: string, allowed: readonly Placeholder[]): string {
  if (allowed.length === 0) return `expected no placeholder here; here stands {${name}}`;
  const known = allowed.map((placeholder) => `{${placeholder}}`).join(' ');
  if ((PLACEHOLDERS as readonly string[]).includes(name))
    return `{${name}} has no value here; expected one of ${known}`;
  const near = nearest(name, allowed);
  return `expected one of the placeholders ${known}; here stands {${name}}${near === null ? '' : `; did you mean {${near}}?`}`;
}

function versionProbes({ probes, servers, test }: Config): Finding[] {
  const asks = (probe: VersionProbe | undefined) => probe?.run !== undefined || probe?.http !== undefined;
  if (asks(probes.version) || [...Object.values(servers), test].every(({ version }) => asks(version))) return [];
  return [
    { path: ['probes', 'version'], message: 'expected `run: COMMAND` or `http: ADDRESS`, or both; there is neither' },
  ];
}

function errorPatterns({ verify }: Config): Finding[] {
  return verify.errors.flatMap((pattern, index): Finding[] => {
    const path = ['verify', 'errors', index];
    try {
      if (!new RegExp(pattern).test('')) return [];
      return [{ path, message: `expected a pattern for bad lines; "${pattern}" matches every line` }];
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      return [{ path, message: `expected a regular expression; here stands "${pattern}" (${why})` }];
    }
  });
}

function pauses({ verify, drain }: Config): Finding[] {
  const findings: Finding[] = [];
  if (verify.every <= 0 || (verify.soak > 0 && verify.every > verify.soak)) {
    const message = `expected more than 0 and at most the soak (${verify.soak} ms); here stands ${verify.every} ms`;
    findings.push({ path: ['verify', 'every'], message });
  }
  if (verify.blind <= 0) findings.push({ path: ['verify', 'blind'], message: 'expected more than 0' });
  if (drain.deadline <= 0) findings.push({ path: ['drain', 'deadline'], message: 'expected more than 0' });
  return findings;
}

/** A limit on the time of an answer that the timeout never lets it reach. */
function latencyLimits({ servers, test, probes, drain, verify, preflight }: Config): Finding[] {
  const checks: { path: Path; check: Check | undefined }[] = [
    { path: ['probes', 'health'], check: probes.health },
    { path: ['test', 'health'], check: test.health },
    ...Object.entries(servers).map(([name, { health }]) => ({ path: ['servers', name, 'health'], check: health })),
    ...drain.checks.map((check, index) => ({ path: ['drain', 'checks', index], check })),
    ...verify.checks.map((check, index) => ({ path: ['verify', 'checks', index], check })),
    ...preflight.map((check, index) => ({ path: ['preflight', index], check })),
  ];
  return checks.flatMap(({ path, check }): Finding[] => {
    if (check === undefined || !('http' in check) || check.within === undefined) return [];
    if (check.within > 0 && check.within < check.timeout) return [];
    const message = `expected more than 0 and less than the timeout (${check.timeout} ms); here stands ${check.within} ms`;
    return [{ path: [...path, 'within'], message }];
  });
}

function freezes({ freeze }: Config): Finding[] {
  return freeze.flatMap((window, index): Finding[] => {
    const at = (end: 'from' | 'to') => ['freeze', index, end];
    const from = parseFreezeTime(window.from);
    const to = parseFreezeTime(window.to);
    if (from === null || to === null) {
      return (['from', 'to'] as const)
        .filter((end) => (end === 'from' ? from : to) === null)
        .map((end) => ({ path: at(end), message: `expected ${EXPECTED_FREEZE_TIME}; here stands "${window[end]}"` }));
    }
    if (from.kind !== to.kind) {
      const message = `expected both ends of one kind; "from" is "${window.from}" and "to" is "${window.to}"`;
      return [{ path: at('to'), message }];
    }
    const empty =
      from.kind === 'once' && to.kind === 'once' ? from.at >= to.at : JSON.stringify(from) === JSON.stringify(to);
    return empty
      ? [{ path: at('to'), message: `expected an end after "${window.from}"; here stands "${window.to}"` }]
      : [];
  });
}

/** Names that git would take for something else: an option, a range, a path out of refs. */
function gitNames(config: Config): Finding[] {
  const { branches, remote } = config.git;
  const named: { path: Path; name: string }[] = [
    ...Object.entries(branches).map(([key, name]) => ({ path: ['git', 'branches', key], name })),
    { path: ['git', 'remote'], name: remote },
    ...(config.nginx.routes ?? []).map(({ branch }, index) => ({
      path: ['nginx', 'routes', index, 'branch'],
      name: branch,
    })),
  ];
  const findings: Finding[] = named
    .filter(({ name }) => !/^[\w+][\w./+-]*$/.test(name) || /\.\.|\/\/|[./]$|\.lock$/.test(name))
    .map(({ path, name }) => ({
      path,
      message: `expected a git name of letters, digits and "_ + . / -", not beginning with "-"; here stands "${name}"`,
    }));
  const seen = new Map<string, string>();
  for (const [key, name] of Object.entries(branches)) {
    const twin = seen.get(name);
    if (twin === undefined) seen.set(name, key);
    else {
      const message = `expected three different branches; "${name}" is git.branches.${twin} too`;
      findings.push({ path: ['git', 'branches', key], message });
    }
  }
  return findings;
}

function secretNames({ notify }: Config): Finding[] {
  return notify.flatMap(({ webhook }, index) =>
    /^[A-Za-z_]\w*$/.test(webhook.env)
      ? []
      : [
          {
            path: ['notify', index, 'webhook', 'env'],
            // The value is not repeated: it may be the secret itself.
            message: 'expected the name of an environment variable that holds the address, not the address itself',
          },
        ],
  );
}

const RULES: readonly Rule[] = [
  { reads: ['servers', 'test'], check: serverNames },
  { reads: ['servers'], check: supportedByChart },
  { reads: ['servers', 'test'], check: distinctAddresses },
  { reads: ['servers', 'nginx'], check: routes },
  {
    reads: ['servers', 'test', 'probes', 'publish', 'rollback', 'nginx', 'drain', 'verify', 'preflight'],
    check: placeholders,
  },
  { reads: ['probes', 'servers', 'test'], check: versionProbes },
  { reads: ['verify'], check: errorPatterns },
  { reads: ['verify', 'drain'], check: pauses },
  { reads: ['servers', 'test', 'probes', 'drain', 'verify', 'preflight'], check: latencyLimits },
  { reads: ['freeze'], check: freezes },
  { reads: ['git', 'nginx'], check: gitNames },
  { reads: ['notify'], check: secretNames },
];

/** Everything wrong in a config of the right shape. Rules that read a section of `broken` are left out. */
export function semantics(config: Config, broken: ReadonlySet<string> = new Set()): Finding[] {
  return RULES.filter(({ reads }) => !reads.some((section) => broken.has(section))).flatMap(({ check }) =>
    check(config),
  );
}
