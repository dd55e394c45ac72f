/**
 * Plans a release: chooses the version, asks every server what it runs, and refuses before anything is begun when the release
 * or its rollback could not be carried out. It changes nothing but the state folder.
 */
import semver from 'semver';
import type { ReleaseInput } from '../../machines/contract.ts';
import type { Verdict } from '../../machines/guards.ts';
import { routesFrom, routesNeeded } from '../../machines/routes.ts';
import { minimumOf, sameServers, type Topology, wavesOf } from '../../machines/topology.ts';
import { type LoadedConfig, loadConfig } from '../config/load.ts';
import { routesOf, serverSettings, topologyOf } from '../config/settings.ts';
import { askVersion, type VersionAnswer } from '../effects/probes.ts';
import { listOf } from '../effects/way-out.ts';
import type { World } from '../effects/world.ts';
import { codeOf, EXIT, FlowError, LockHeldError, messageOf, StepError, UsageError } from '../errors.ts';
import { heldBy, ownerName, readOwner } from '../nginx/owner.ts';
import type { RouteProblems } from '../nginx/route-files.ts';
import type { ReleaseDocument } from '../store/document.ts';
import { acquireLock } from '../store/lock.ts';
import { createReleaseFile } from '../store/release-file.ts';
import { createStateFolder, nextReleaseId } from '../store/state-folder.ts';
import { firstDocument } from './engine.ts';
import type { Place } from './locate.ts';
import { latestEpoch, readAll, readLatest } from './read.ts';
import { thisSender } from './sender.ts';
import { openWorld } from './world.ts';

export type Bump = 'patch' | 'minor' | 'major';

export interface StartOptions {
  /** The version to release; else the newest tag on master, bumped. */
  to?: string;
  bump?: Bump;
  /** Go back to this version, or, when null, to the one before the last release; without the test stages. */
  backTo?: string | null;
  /** `badVersion` overrides the mark of a version that served and failed; `routesDiffer`, branches that differ in more. */
  force?: string[];
  reason?: string;
}

/** A release that could be planned: what would be stored, and what the operator should know before it is. */
export interface Plan {
  input: Omit<ReleaseInput, 'id'>;
  loaded: LoadedConfig;
  previousTag: string | null;
  warnings: string[];
  /** What stood against it, and was overridden with this reason. */
  overridden: { verdicts: Verdict[]; reason: string | null };
}

const refused = (code: string, message: string) => new FlowError(code, EXIT.refused, message);

/**
 * Looks whether and what could be released. Throws UsageError for a version that cannot be, and FlowError (refused) with the
 * reason: a release is running, a route is missing or leads elsewhere, a version has no tag to go back to, it is marked bad.
 */
export async function planRelease(place: Place, options: StartOptions): Promise<Plan> {
  const running = refuseRunning(place);
  const loaded = loadConfig(place.configFile);
  const { config } = loaded;
  const world = openWorld(place, config, null);
  const owner = await readOwner(world.on(config.nginx), config.nginx.dir);
  if (owner !== null && owner.owner !== ownerName(place.stateDir))
    throw new LockHeldError(heldBy(owner, config.nginx.dir));
  const isRollback = options.backTo !== undefined;
  const master = await masterOf(world);
  // Going back needs the tag alone, and must be possible while the remote is away.
  const theirs = isRollback ? null : await look(world, master);
  const previousTag = (await world.repository.latestReleaseTag([master]))?.name ?? null;
  const version = isRollback
    ? (options.backTo ?? versionBefore(running))
    : (options.to ?? nextVersion(previousTag, options.bump ?? 'patch'));
  if (!/^v?\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.-]+)?$/.test(version)) {
    throw new UsageError(
      'BAD_VERSION',
      `"${version}" is not a version. Expected a form like ${previousTag ?? 'v1.3.8'}: flow start --to VERSION`,
    );
  }
  if (theirs !== null) await refuseTaken(world, version, theirs);
  else if ((await world.repository.tagCommit(version)) === null) {
    throw refused(
      'TAG_MISSING',
      `There is no tag ${version} to go back to. Nothing was changed. See: git tag, or fetch it: git fetch --tags ${config.git.remote}`,
    );
  }
  refuseBad(place, version, options);
  const overridden = await assertRoutes(world, options);
  const { answers, warnings: differing } = await reportedVersions(world);
  const { topology, before, serving, warnings: degraded } = await beginning(world, answers);
  const warnings = [...(await waysBack(world, before, answers)), ...differing, ...degraded];
  if (theirs !== null) warnings.unshift(...(await behindRemote(world, theirs)));
  return {
    input: {
      kind: isRollback ? 'rollback' : 'release',
      version,
      topology,
      before,
      ...(sameServers(serving, topology.servers) ? {} : { serving }),
      switchable: routesOf(config).map((route) => route.servers),
      restore: config.rollback.restore,
      // Going back has a bad version behind it: rolling back to that one by itself would help nobody.
      onBad: isRollback ? 'hold' : config.verify.onBad,
    },
    loaded,
    previousTag,
    warnings,
    overridden: { verdicts: overridden, reason: options.reason ?? null },
  };
}

/** How a release begins: who is in rotation, what each server is to go back to, and in which order they are released. */
interface Beginning {
  topology: Topology;
  before: Record<string, string | null>;
  serving: string[];
  warnings: string[];
}

/**
 * The beginning where servers are out of rotation already (a rollback that held left them there, say). They run a version that nobody
 * trusts, so none of them is ever put back as it is: it goes first, which costs the load nothing, and a rollback restores on it what
 * the serving ones run. Refused where that is no one version, or where the serving ones alone are too few.
 */
async function beginning(world: World, answers: Record<string, VersionAnswer>): Promise<Beginning> {
  const before = Object.fromEntries(Object.entries(answers).map(([name, { version }]) => [name, version] as const));
  const { config } = world;
  const topology = topologyOf(config);
  const all = topology.servers;
  const { servers: serving } = await world.proxy.observe();
  if (serving === null || sameServers(serving, all)) return { topology, before, serving: all, warnings: [] };
  const out = all.filter((name) => !serving.includes(name));
  const trusted = [...new Set(serving.map((name) => before[name] ?? null))];
  const [version] = trusted;
  const runs = listOf(out.map((name) => `${name} (it runs ${before[name] ?? 'nothing'})`));
  const stands = `The proxy serves only ${listOf(serving)}; out of rotation: ${runs}`;
  const known = trusted.length === 1 && version !== undefined && version !== null ? version : null;
  const refuse = (why: string) =>
    refused(
      'FLEET_DEGRADED',
      `${stands}. ${why} Nothing was changed. ` +
        `Publish ${known ?? 'a version that you trust'} to ${listOf(out)} by hand, then: ${world.proxy.byHand(all)}, reload Nginx, and: flow start`,
    );
  if (known === null)
    throw refuse('Those that serve run no one known version, so nobody could say what to go back to.');
  const ordered = outFirst(topology, out);
  const context = { topology: ordered, serving, leftOut: [] };
  const minimum = minimumOf(topology);
  const short = routesFrom(context, 'tagged').find((route) => route.length < Math.max(1, minimum));
  if (short !== undefined)
    throw refuse(`With ${listOf(out)} out, ${short.length} would carry the load at a time, and ${minimum} are needed.`);
  const missing = routesNeeded(context).filter((route) => !world.proxy.hasRoute(route));
  if (missing.length > 0) {
    throw refuse(
      `A release that begins so needs routes that are not there: ${listOf(missing.map((route) => route.join(' and ')))}.`,
    );
  }
  return {
    topology: ordered,
    before: { ...before, ...Object.fromEntries(out.map((name) => [name, known] as const)) },
    serving: all.filter((name) => serving.includes(name)),
    warnings: [
      `${stands}. The release begins with ${listOf(out)}; a rollback restores ${known} there, once the release has been to it`,
    ],
  };
}

/** The waves with a server that is out of rotation go first. */
function outFirst(topology: Topology, out: readonly string[]): Topology {
  const waves = wavesOf(topology).map(({ servers }) => servers);
  const isOut = (wave: string[]): boolean => wave.some((name) => out.includes(name));
  return { ...topology, waves: [...waves.filter(isOut), ...waves.filter((wave) => !isOut(wave))] };
}

/** The last release. Throws FlowError RELEASE_RUNNING when it has not ended. */
function refuseRunning(place: Place): ReleaseDocument | null {
  const last = readLatest(place.stateDir);
  if (last?.endedAt !== null) return last;
  const { version } = last.snapshot.context;
  throw refused(
    'RELEASE_RUNNING',
    `Release ${last.id} (${version}) is running, at ${last.snapshot.value}. Nothing was changed. Go on with it: flow status`,
  );
}

/**
 * Stores a planned release. Throws FlowError RELEASE_RUNNING when somebody else has stored one meanwhile, LockHeldError when somebody
 * drives, StateError when it cannot be written.
 */
export function storeRelease(place: Place, plan: Plan): ReleaseDocument {
  createStateFolder(place.stateDir);
  const by = thisSender('command line');
  const lock = acquireLock(place.stateDir, {
    who: by.user,
    doing: `planning ${plan.input.version}`,
    minEpoch: latestEpoch(place.stateDir),
  });
  try {
    // Once more under the lock: two people may have planned at once.
    refuseRunning(place);
    const id = nextReleaseId(place.stateDir);
    const { config, file, hash } = plan.loaded;
    const document = firstDocument(
      { id, ...plan.input },
      { project: config.project, by, config: { file, hash, pinned: config }, overridden: plan.overridden },
      { now: () => new Date() },
    );
    return createReleaseFile<ReleaseDocument>(place.stateDir, id, lock, document).data;
  } finally {
    lock.release();
  }
}

function nextVersion(previous: string | null, bump: Bump): string {
  if (previous === null) return 'v0.1.0';
  const next = semver.inc(previous, bump);
  if (next === null)
    throw new UsageError(
      'BAD_VERSION',
      `The last tag, ${previous}, cannot be counted up. Name the version: flow start --to VERSION`,
    );
  return previous.startsWith('v') ? `v${next}` : next;
}

/** What every server ran before the last release. Throws when there is no such one version. */
function versionBefore(last: ReleaseDocument | null): string {
  const versions = [...new Set(Object.values(last?.snapshot.context.before ?? {}))];
  const [version] = versions;
  if (versions.length === 1 && version !== undefined && version !== null) return version;
  throw new UsageError(
    'NO_VERSION_BEFORE',
    'What ran before the last release is not one known version. Nothing was changed. Name the version: flow rollback TAG',
  );
}

type Theirs = Awaited<ReturnType<World['repository']['remoteRefs']>>;

async function masterOf({ repository, config }: World): Promise<string> {
  const { branches, remote } = config.git;
  const { master } = branches;
  const commit = await repository.resolve(`refs/heads/${master}`);
  if (commit !== null) return commit;
  throw refused(
    'BRANCH_MISSING',
    `There is no branch ${master} in ${repository.dir}. Nothing was changed. Fetch it (git fetch ${remote} ${master}:${master}), or correct git.branches in flow.yaml`,
  );
}

/** What the remote has. Refuses where the history here does not tell what was released before: the ChangeLog would be wrong. */
async function look({ repository, config }: World, master: string): Promise<Theirs> {
  const { remote } = config.git;
  if (await repository.isShallow())
    throw refused(
      'SHALLOW_CLONE',
      `The history in ${repository.dir} is cut short (a shallow clone), so nobody can say here what was released before. Nothing was changed. Fetch the rest: git fetch --unshallow --tags ${remote}`,
    );
  let theirs: Theirs;
  try {
    theirs = await repository.remoteRefs(remote);
  } catch (error) {
    throw refused(codeOf(error) ?? 'REMOTE_UNREACHABLE', `${messageOf(error)}. Nothing was changed. Then: flow start`);
  }
  const missing = await repository.missingReleaseTags(theirs.tags, master);
  if (missing.length > 0)
    throw refused(
      'TAGS_MISSING',
      `${remote} has release tags that are not here (${listOf(missing)}), so the version and the list of changes would be wrong. Nothing was changed. Fetch them: git fetch --tags ${remote}`,
    );
  return theirs;
}

/** Branches of which the remote has more than is here: flow releases what is here. */
async function behindRemote({ repository, config }: World, theirs: Theirs): Promise<string[]> {
  const { branches, remote } = config.git;
  const warnings: string[] = [];
  for (const [key, branch] of Object.entries(branches)) {
    const there = theirs.branches.get(branch);
    if (there === undefined) continue;
    const isKnown = (await repository.resolve(there)) !== null;
    if (isKnown && (await repository.isAncestor(there, `refs/heads/${branch}`).catch(() => true))) continue;
    const then =
      key === 'master'
        ? `they would be refused when the tag is made. First: git fetch ${remote} ${branch}:${branch} && git merge ${branch}`
        : `they are not in this release. To have them: git fetch ${remote}, then merge ${remote}/${branch} into ${branch}`;
    warnings.push(`${remote}/${branch} has commits that ${branch} here lacks; ${then}`);
  }
  return warnings;
}

async function refuseTaken({ repository, config }: World, version: string, theirs: Theirs): Promise<void> {
  const { remote } = config.git;
  const here = await repository.tagCommit(version);
  const there = theirs.tags.find(({ name }) => name === version)?.oid ?? null;
  const [commit, where] = here === null ? [there, `on ${remote}`] : [here, 'here'];
  if (commit === null) return;
  throw refused(
    'TAG_EXISTS',
    `The tag ${version} exists ${where} already, at ${commit.slice(0, 10)}. Nothing was changed. Choose another: flow start --to VERSION`,
  );
}

function refuseBad(place: Place, version: string, options: StartOptions): void {
  const marked = readAll(place.stateDir).find(({ snapshot }) => snapshot.context.bad?.version === version);
  const bad = marked?.snapshot.context.bad;
  if (bad === undefined || bad === null || options.force?.includes('badVersion') === true) return;
  throw refused(
    'VERSION_BAD',
    `${version} served in release ${marked?.id ?? ''} and failed: ${bad.because}. Nothing was changed. To release it all the same: flow start --to ${version} --force=badVersion --reason "…"`,
  );
}

/**
 * Every route that the release or its rollback can need exists, sends traffic to exactly the servers it is named for, differs
 * in nothing else, and the tree can be switched to it. Answers what was overridden.
 */
async function assertRoutes(world: World, options: StartOptions): Promise<Verdict[]> {
  const { dir } = world.config.nginx;
  let problems: RouteProblems;
  try {
    problems = await world.proxy.routeProblems();
  } catch (error) {
    if (!(error instanceof StepError)) throw error;
    throw refused(error.code, `${error.message}, then: flow start`);
  }
  const { wrong, differ } = problems;
  const listed = (lines: readonly string[]) => lines.map((line) => `  ${line}`).join('\n');
  if (wrong.length > 0)
    throw refused(
      'ROUTE_WRONG',
      `A route that this release or its rollback needs is not as it should be:\n${listed(wrong)}\nNothing was changed. Mend ${dir}, then: flow start`,
    );
  const { treeProblem, treeMend } = await world.proxy.observe();
  if (treeMend !== undefined)
    throw refused(
      'CONFIG_NOT_READY',
      `Traffic could not be switched: ${treeProblem ?? ''}. Nothing was changed. ${treeMend}, then: flow start`,
    );
  if (differ.length === 0) return [];
  const verdict = { id: 'routesDiffer', ok: false, because: differ.join('; '), forceable: true };
  if (options.force?.includes(verdict.id) === true) return [verdict];
  throw refused(
    'ROUTES_DIFFER',
    `The first switch would change more than who gets the traffic:\n${listed(differ)}\n` +
      `Nothing was changed. ${world.config.nginx.include === undefined ? 'Make the branches alike' : 'Write under nginx.include in flow.yaml what is to stand there, or commit what flow would write'}, then: flow start\n` +
      `Or take it as it is: flow start --force=routesDiffer --reason "…"`,
  );
}

/** What every server reports, and that they differ where they do. All are asked at once: a fleet is large. */
async function reportedVersions(world: World): Promise<{ answers: Record<string, VersionAnswer>; warnings: string[] }> {
  const { config } = world;
  const asked = Object.keys(config.servers).map(
    async (name) => [name, await askVersion(world, serverSettings(config, name))] as const,
  );
  const answers = Object.fromEntries(await Promise.all(asked));
  const versions = [...new Set(Object.values(answers).map(({ version }) => version))];
  const told = Object.entries(answers).map(([name, { version }]) => `${name} ${version ?? 'none'}`);
  return {
    answers,
    warnings: versions.length > 1 ? [`the servers run different versions: ${told.join(', ')}`] : [],
  };
}

/** Whether every server can be brought back to what it is to go back to; warnings where that is not wanted or not known. */
async function waysBack(
  { config, repository }: World,
  before: Record<string, string | null>,
  answers: Record<string, VersionAnswer>,
): Promise<string[]> {
  const warnings: string[] = [];
  const tagged = new Map<string, boolean>();
  for (const [name, version] of Object.entries(before)) {
    if (version === null) {
      warnings.push(
        `${answers[name]?.because ?? name}. As no version is known that runs on ${name}, a rollback can not restore it, and would leave it out of rotation`,
      );
      continue;
    }
    const isTagged = tagged.get(version) ?? (await repository.tagCommit(version)) !== null;
    tagged.set(version, isTagged);
    if (isTagged) continue;
    const problem = `${name} runs ${version}, and there is no such tag: a rollback could not restore it`;
    if (config.rollback.restore === 'auto')
      throw refused(
        'NO_WAY_BACK',
        `${problem}. Nothing was changed. Fetch the tag (git fetch --tags ${config.git.remote}), or set rollback.restore: hold`,
      );
    warnings.push(problem);
  }
  return warnings;
}
