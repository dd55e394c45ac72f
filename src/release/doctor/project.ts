/** The project's repository: whether a release could be tested, tagged, pushed and published from it (R1, R2). */
import { serverSettings } from '../../config/settings.ts';
import { publishPlace } from '../../effects/server-job.ts';
import type { World } from '../../effects/world.ts';
import { requireReached } from '../../hosts/host.ts';
import { type Finding, look } from './finding.ts';

const ABOUT = 'project';

export async function lookAtProject(world: World): Promise<Finding[]> {
  const { repository, config } = world;
  const { remote, branches } = config.git;
  return await Promise.all([
    look(ABOUT, 'branches', async () => {
      const names = Object.values(branches);
      const found = await Promise.all(names.map((name) => repository.branchCommit(name)));
      const missing = names.filter((_, index) => found[index] === null);
      return missing.length === 0
        ? { verdict: 'ok', because: names.join(', ') }
        : {
            verdict: 'bad',
            because: `${missing.join(' and ')} ${missing.length === 1 ? 'is' : 'are'} not in ${repository.dir}`,
            mend: missing.map((name) => `git fetch ${remote} ${name}:${name}`).join(' && '),
          };
    }),
    look(ABOUT, 'history', async () =>
      (await repository.isShallow())
        ? {
            verdict: 'bad',
            because: 'it is cut short (a shallow clone)',
            mend: `git fetch --unshallow --tags ${remote}`,
          }
        : { verdict: 'ok', because: 'whole' },
    ),
    look(ABOUT, `remote ${remote}`, async () => {
      const theirs = await repository.remoteRefs(remote);
      const master = await repository.branchCommit(branches.master);
      const missing = master === null ? [] : await repository.missingReleaseTags(theirs.tags, master);
      return missing.length === 0
        ? { verdict: 'ok', because: `answers; ${theirs.tags.length} tags` }
        : {
            verdict: 'bad',
            because: `it has release tags that are not here: ${missing.join(', ')}`,
            mend: `git fetch --tags ${remote}`,
          };
    }),
    look(ABOUT, 'tree', async () => {
      const changed = await repository.status();
      return changed.length === 0
        ? { verdict: 'ok', because: 'clean' }
        : {
            verdict: 'told',
            because: `not clean: ${changed.slice(0, 5).join(', ')}. A release takes what is committed`,
          };
    }),
    look(ABOUT, 'who commits', async () => {
      await repository.requireIdentity();
      return { verdict: 'ok', because: 'git knows' };
    }),
    look(ABOUT, 'last release', async () => {
      const master = await repository.branchCommit(branches.master);
      const tag = master === null ? null : await repository.latestReleaseTag([master]);
      return tag === null
        ? {
            verdict: 'told',
            because: `no tag on ${branches.master}: the first release will be v0.1.0, or: flow start --to VERSION`,
          }
        : { verdict: 'ok', because: `${tag.name} at ${tag.oid.slice(0, 10)}` };
    }),
    look(ABOUT, 'publish command', () => publishCommand(world)),
  ]);
}

/** The command runs in a tree of the commit that is released, so that is where it has to be. */
async function publishCommand(world: World): Promise<Omit<Finding, 'about' | 'what'>> {
  const { config, repository } = world;
  const [program] = config.publish.run;
  if (config.publish.on !== undefined) return await elsewhere(world, program);
  const { host } = world;
  const branch = config.git.branches.develop;
  if (program.includes('{'))
    return { verdict: 'told', because: `${program} depends on the server; it was not looked for` };
  if (!program.includes('/') || program.startsWith('/')) {
    const found = await host.run(['sh', '-c', 'command -v -- "$1"', 'flow', program]);
    return found.status === 0
      ? { verdict: 'ok', because: found.stdout.trim() }
      : { verdict: 'bad', because: `${program} is not there`, mend: `install it, or correct publish.run in flow.yaml` };
  }
  const commit = await repository.branchCommit(branch);
  const path = program.replace(/^\.\//, '');
  const file = commit === null ? null : await repository.fileAt(commit, path);
  if (file === null) {
    return {
      verdict: 'bad',
      because: `${path} is not on ${branch}`,
      mend: `git add ${path} && git commit, or correct publish.run in flow.yaml`,
    };
  }
  return file.executable
    ? { verdict: 'ok', because: `${path} is on ${branch}` }
    : {
        verdict: 'bad',
        because: `${path} is on ${branch}, but cannot be executed`,
        mend: `git update-index --chmod=+x ${path} && git commit`,
      };
}

/** Elsewhere it lies in a clone of the project, into which flow brings the commit. */
async function elsewhere(world: World, program: string): Promise<Omit<Finding, 'about' | 'what'>> {
  const { config } = world;
  const servers = Object.keys(config.servers).map((name) => serverSettings(config, name));
  const places = servers.map((server) => publishPlace(world, server));
  const problems = await Promise.all(
    places.map(async ({ host, cwd }) => {
      const isClone = requireReached(host, await host.run(['git', '-C', cwd, 'rev-parse', '--git-dir']));
      if (isClone.status !== 0) return `${cwd} on ${host.name} is no clone of the project`;
      if (program.includes('{')) return null;
      const found = requireReached(host, await host.run(['sh', '-c', 'command -v -- "$1"', 'flow', program], { cwd }));
      return found.status === 0 ? null : `${program} is not there, or cannot be executed, in ${cwd} on ${host.name}`;
    }),
  );
  const [problem] = problems.filter((one) => one !== null);
  const where = [...new Set(places.map(({ host, cwd }) => `${cwd} on ${host.name}`))].join(', ');
  return problem === undefined
    ? { verdict: 'ok', because: `${program} in ${where}` }
    : { verdict: 'bad', because: problem, mend: 'put it there, or correct publish.dir and publish.run in flow.yaml' };
}
