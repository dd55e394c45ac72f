/**
 * The rules of flow.yaml that its shape can not express: names that must differ, servers that must exist, placeholders,
 * patterns and times that must be readable. Each rule says which sections it reads, so that the rules of sound sections
 * are still checked when another section is broken, and everything wrong is told at once. Pure.
 */
import { routesNeeded } from '../../machines/routes.ts';
import { stateCollision } from '../../machines/topology.ts';
import { nearest } from '../views/nearest.ts';
import { EXPECTED_FREEZE_TIME, parseFreezeTime } from './freeze.ts';
import { namesInBraces, PLACEHOLDERS, type Placeholder } from './placeholders.ts';
import type { Check, Config, IncludeConfig, VersionProbe } from './schema.ts';
import { cutoverOf, minimumHealthyOf, namesIn, proxiesOf, routesOf, topologyOf, wavesFrom } from './settings.ts';

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

/** States are named after servers: two states must not get one name. */
function stateNames({ servers }: Config): Finding[] {
  const collision = stateCollision(Object.keys(servers));
  // Said in other words already.
  if (collision === null || folded(collision.server) === 'all') return [];
  const { server, state } = collision;
  const message = `expected a name that gives its steps names of their own; "${server}" would share ${state} with ${collision.with}`;
  return [{ path: ['servers', server], message }];
}

function enoughServers({ servers }: Config): Finding[] {
  const count = Object.keys(servers).length;
  if (count > 1) return [];
  const message =
    count === 0
      ? 'expected the servers to release, each with its address; there is none'
      : 'expected at least two servers; here stands 1. One is published while another serves';
  return [{ path: ['servers'], message }];
}

/** Waves cover the fleet, each server once, and never take more out of rotation than the load can do without. */
function waves(config: Config): Finding[] {
  const all = Object.keys(config.servers);
  if (all.length < 2) return [];
  const written = wavesAsWritten(config, all);
  if (written.length > 0) return written;
  const minimum = minimumHealthyOf(config);
  if (minimum >= all.length) {
    const message = `expected less than all ${all.length} servers, or none could leave the rotation; here stand ${minimum}`;
    return [{ path: ['minimumHealthy'], message }];
  }
  const planned = wavesFrom(config);
  const [canary] = planned;
  if (planned.length < 2 || canary === undefined) {
    const message = 'expected at least two waves: one is verified before the others are begun; here stands one';
    return [{ path: ['waves'], message }];
  }
  const needs = `the load needs ${minimum} of ${all.length} (minimumHealthy)`;
  if (cutoverOf(config) === 'exclusive') {
    const findings: Finding[] = [];
    if (canary.servers.length < minimum) {
      const message = `expected a first wave that carries the load alone, as "exclusive" has it; ${needs}, and ${listed(canary.servers)} ${canary.servers.length === 1 ? 'is' : 'are'} ${canary.servers.length}. Make the first wave larger, lower minimumHealthy, or say "cutover: rolling"`;
      findings.push({ path: ['cutover'], message });
    }
    if (all.length - canary.servers.length < minimum) {
      const message = `expected a first wave without which the others carry the load; ${needs}, and ${all.length - canary.servers.length} would be left`;
      findings.push({ path: ['waves', 0], message });
    }
    return findings;
  }
  return planned.flatMap(({ servers }, index): Finding[] => {
    if (all.length - servers.length >= minimum) return [];
    // A size that is repeated stands where it was written.
    const at = Math.min(index, Math.max(0, (config.waves?.length ?? 1) - 1));
    const message = `expected at most ${all.length - minimum} servers in a wave, because ${needs}; wave ${index + 1} has ${servers.length}`;
    return [{ path: ['waves', at], message }];
  });
}

function wavesAsWritten(config: Config, all: string[]): Finding[] {
  const findings: Finding[] = [];
  const seen = new Set<string>();
  for (const [index, entry] of (config.waves ?? []).entries()) {
    const path = ['waves', index, ...(Array.isArray(entry) || typeof entry !== 'object' ? [] : ['servers'])];
    for (const [at, name] of (namesIn(entry) ?? []).entries()) {
      if (!all.includes(name)) {
        const message = `expected the name of a server; here stands "${name}"; ${meant(name, all)}`;
        findings.push({ path: [...path, at], message });
      } else if (seen.has(name)) {
        findings.push({ path: [...path, at], message: `expected each server in one wave; "${name}" stands twice` });
      }
      seen.add(name);
    }
  }
  const without = all.filter((name) => !wavesFrom(config).some(({ servers }) => servers.includes(name)));
  if (findings.length === 0 && without.length > 0) {
    const message = `expected every server in a wave; ${listed(without)} ${without.length === 1 ? 'is' : 'are'} in none. Name them, or end with a size such as 25%`;
    findings.push({ path: ['waves'], message });
  }
  return findings;
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

/** One file for all routes, or a branch for each; what the file says has to be words of Nginx. */
function includes(config: Config): Finding[] {
  const names = Object.keys(config.servers);
  const proxies: [Path, { include?: IncludeConfig | undefined; routes?: unknown } | undefined][] = [
    [['nginx'], config.nginx],
    [['preview', 'nginx'], config.preview?.nginx],
  ];
  return proxies.flatMap(([path, nginx]): Finding[] => {
    if (nginx?.include === undefined) return [];
    const findings: Finding[] = [];
    if (nginx.routes !== undefined) {
      const message = 'expected either "routes" (a branch for each) or "include" (one file that flow writes), not both';
      findings.push({ path: [...path, 'routes'], message });
    }
    for (const server of Object.keys(nginx.include.weights)) {
      if (names.includes(server)) continue;
      const message = `expected the name of a server; here stands "${server}"; ${meant(server, names)}`;
      findings.push({ path: [...path, 'include', 'weights', server], message });
    }
    for (const [name, { address }] of Object.entries(config.servers)) {
      if (/^[A-Za-z0-9_.:[\]-]+$/.test(address)) continue;
      const message = `expected host:port, as Nginx reads it in ${nginx.include.file}; here stands "${address}"`;
      findings.push({ path: ['servers', name, 'address'], message });
    }
    return findings;
  });
}

function routes(config: Config): Finding[] {
  if (config.nginx.include !== undefined) return [];
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
  // Waves that do not add up need routes that nobody meant.
  if (names.length < 2 || waves(config).length > 0) return findings;
  const have = new Set(routesOf(config).map(({ servers }) => setOf(servers)));
  const needed = routesNeeded({ topology: topologyOf(config), serving: names, leftOut: [] });
  for (const servers of needed) {
    if (have.has(setOf(servers))) continue;
    have.add(setOf(servers));
    const message = `expected a route for ${whoServes(names, servers)}, which a release or its rollback needs; there is none. Leave "routes" out for the defaults`;
    findings.push({ path: ['nginx', 'routes'], message });
  }
  return findings;
}

function whoServes(all: readonly string[], servers: readonly string[]): string {
  const out = all.filter((name) => !servers.includes(name));
  if (out.length === 0) return `all servers (${listed(servers)})`;
  return out.length < servers.length ? `all servers but ${listed(out)}` : `only ${listed(servers)}`;
}

/** The pre-release proxy needs a route to the servers of the first wave alone. */
function previewRoutes(config: Config): Finding[] {
  const { preview } = config;
  const given = preview?.nginx?.routes;
  const [canary] = wavesFrom(config);
  if (given === undefined || canary === undefined || waves(config).length > 0) return [];
  if (given.some(({ servers }) => setOf(servers) === setOf(canary.servers))) return [];
  const message = `expected a route for only ${listed(canary.servers)}, which is looked at through it; there is none`;
  return [{ path: ['preview', 'nginx', 'routes'], message }];
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
  const { servers, test, probes, publish, rollback, nginx, preview, drain, verify, preflight } = config;
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
    ...ofText(['publish', 'dir'], publish.dir, OF_SERVER),
    ...ofCommand(['rollback', 'run'], rollback.run, AT_PUBLISH),
    ...ofCommand(['nginx', 'test'], nginx.test, []),
    ...ofCommand(['nginx', 'reload'], nginx.reload, []),
    ...nginx.also.flatMap(({ test, reload }, index) => [
      ...ofCommand(['nginx', 'also', index, 'test'], test, []),
      ...ofCommand(['nginx', 'also', index, 'reload'], reload, []),
    ]),
    ...ofCommand(['preview', 'nginx', 'test'], preview?.nginx?.test, []),
    ...ofCommand(['preview', 'nginx', 'reload'], preview?.nginx?.reload, []),
    ...ofChecks(['preview', 'checks'], preview?.checks ?? [], PLACEHOLDERS),
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

/** Two proxies are two folders, or two hosts. */
function distinctProxies(config: Config): Finding[] {
  const all = proxiesOf(config);
  return all.flatMap(({ name, on, dir }, index): Finding[] => {
    const path = ['nginx', 'also', index - 1];
    const before = all.slice(0, index);
    if (before.some((other) => other.on === on && other.dir === dir)) {
      const message = `expected a proxy of its own; ${dir}${on === undefined ? '' : ` on ${on}`} is that of another`;
      return [{ path, message }];
    }
    if (!before.some((other) => other.name === name)) return [];
    return [{ path: [...path, 'name'], message: `expected a name of its own; "${name}" is that of another proxy` }];
  });
}

/** Elsewhere flow has no tree of its own: somebody has to say where the command runs. */
function publishPlace({ publish }: Config): Finding[] {
  if (publish.on === undefined) {
    if (publish.dir === undefined) return [];
    const message = 'expected `on` beside it: here the command runs in a tree of the released commit';
    return [{ path: ['publish', 'dir'], message }];
  }
  if (publish.dir !== undefined && /^(?:\/|\{dir\})/.test(publish.dir)) return [];
  const message = `expected \`dir\` beside it, the absolute folder it runs in there; here stands ${publish.dir ?? 'none'}`;
  return [{ path: ['publish', publish.dir === undefined ? 'on' : 'dir'], message }];
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
function latencyLimits({ servers, test, probes, preview, drain, verify, preflight }: Config): Finding[] {
  const checks: { path: Path; check: Check | undefined }[] = [
    { path: ['probes', 'health'], check: probes.health },
    { path: ['test', 'health'], check: test.health },
    ...Object.entries(servers).map(([name, { health }]) => ({ path: ['servers', name, 'health'], check: health })),
    ...(preview?.checks ?? []).map((check, index) => ({ path: ['preview', 'checks', index], check })),
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
  { reads: ['servers'], check: stateNames },
  { reads: ['servers'], check: enoughServers },
  { reads: ['servers', 'cutover', 'waves', 'minimumHealthy', 'verify'], check: waves },
  { reads: ['servers', 'test'], check: distinctAddresses },
  { reads: ['servers', 'nginx', 'cutover', 'waves', 'minimumHealthy', 'verify', 'preview'], check: routes },
  { reads: ['servers', 'preview', 'cutover', 'waves', 'minimumHealthy', 'verify'], check: previewRoutes },
  { reads: ['servers', 'nginx', 'preview'], check: includes },
  {
    reads: ['servers', 'test', 'probes', 'publish', 'rollback', 'nginx', 'preview', 'drain', 'verify', 'preflight'],
    check: placeholders,
  },
  { reads: ['probes', 'servers', 'test'], check: versionProbes },
  { reads: ['publish'], check: publishPlace },
  { reads: ['nginx'], check: distinctProxies },
  { reads: ['verify'], check: errorPatterns },
  { reads: ['verify', 'drain'], check: pauses },
  { reads: ['servers', 'test', 'probes', 'preview', 'drain', 'verify', 'preflight'], check: latencyLimits },
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
