/**
 * R1: `develop` is merged into `testing` with --no-ff and published to the test server, which then reports that commit.
 * Twice is safe: a develop that testing already contains is not merged again, and the publish is a job.
 */
import type { Effects } from './effect.ts';
import { testServerSettings } from '../config/settings.ts';
import { StepError } from '../errors.ts';
import { askHealth } from './probes.ts';
import { proveRuns, runServerJob } from './server-job.ts';
import { listOf, withWayOut } from './way-out.ts';
import { tryAgain } from './try-again.ts';
import type { World } from './world.ts';

const HEALTH_EVERY_MS = 200;

export function runTests(world: World): Effects['runTests'] {
  return async (input, tools) => {
    const { repository, config } = world;
    const { branches, remote } = config.git;
    const server = testServerSettings(config);
    tools.report({ kind: 'note', text: `git fetch ${remote}` });
    await withWayOut(repository.fetch(remote), 'No branch moved. Then: flow send NEXT');
    for (const text of await behindRemote(world)) tools.report({ kind: 'note', text });
    const { commit, merged } = await mergeDevelop(world);
    const outage = watchOutage(world, server);
    try {
      if (input.mode !== 'probe') {
        const job = await runServerJob(
          world,
          {
            ...input,
            mode: input.mode,
            server,
            stands: `Customers never met it; nobody can say what the test server runs.`,
            next: 'Mend it, then: flow send NEXT',
            again: tryAgain(world, input.step),
            version: input.release.version,
            commit,
            // Nobody's traffic depends on the test server (R1.5): it may be interrupted.
            assertSafe: () => Promise.resolve(),
            choices: [
              { choice: 'worked', does: 'prove that the test server runs the commit, and go on' },
              { choice: 'again', does: 'publish to the test server once more' },
              { choice: 'stop', does: 'go back to planned' },
            ],
          },
          tools,
        );
        if ('ask' in job) return { outcome: 'ask', question: job.ask };
      }
      const proof = await proveRuns(
        world,
        server,
        {
          what: `${branches.testing} at ${commit.slice(0, 10)}`,
          matches: (answer) => answer.commit !== null && commit.startsWith(answer.commit),
          next: 'Mend it, then test again: flow send NEXT',
        },
        tools,
      );
      return {
        outcome: 'done',
        evidence: {
          commit,
          merged,
          version: proof.version,
          checks: [{ name: `${server.name} health`, ok: true, because: proof.health }],
          interruptedSeconds: outage.seconds(),
          publishSeconds: outage.elapsed(),
        },
      };
    } finally {
      outage.stop();
    }
  };
}

/** What the remote has that the branches here lack. flow releases what is here, so this is said, and nothing is merged. */
async function behindRemote({ repository, config }: World): Promise<string[]> {
  const { branches, remote } = config.git;
  const notes: string[] = [];
  for (const branch of [branches.develop, branches.testing]) {
    const [here, there] = [`refs/heads/${branch}`, `refs/remotes/${remote}/${branch}`];
    const [ours, theirs] = await Promise.all([repository.resolve(here), repository.resolve(there)]);
    if (ours === null || theirs === null || (await repository.isAncestor(theirs, ours))) continue;
    const missing = await repository.commitsBetween(here, there);
    notes.push(
      `${remote}/${branch} has commits that ${branch} here lacks, and that are not in this release: ${listOf(missing)}`,
    );
  }
  return notes;
}

async function mergeDevelop(world: World): Promise<{ commit: string; merged: boolean }> {
  const { repository, config } = world;
  const { develop: source, testing: target, master } = config.git.branches;
  const [develop, testing] = await Promise.all([
    repository.resolve(`refs/heads/${source}`),
    repository.resolve(`refs/heads/${target}`),
  ]);
  if (develop === null || testing === null) {
    const missing = develop === null ? source : target;
    throw new StepError(
      'BRANCH_MISSING',
      'unsafe',
      `There is no branch ${missing} here. Nothing was changed. Make it (git branch ${missing} ${master}) or fetch it (git fetch ${config.git.remote} ${missing}:${missing}), then: flow send NEXT`,
    );
  }
  if (await repository.isAncestor(develop, testing)) return { commit: testing, merged: false };
  await refuseCheckedOut(world, target);
  const merging = repository.mergeInWorktree(world.worktree, {
    into: testing,
    from: develop,
    names: { into: target, from: source },
    message: `Merge branch '${source}' into ${target}`,
  });
  const commit = await withWayOut(merging, ({ code }) =>
    code === 'MERGE_CONFLICT'
      ? `The test server was not touched. Resolve it: git switch ${target} && git merge ${source}, commit, git switch ${source}, then: flow send NEXT`
      : 'The test server was not touched. Mend that, then: flow send NEXT',
  );
  await withWayOut(
    repository.moveRefs([{ ref: `refs/heads/${target}`, to: commit, from: testing }]),
    'Then: flow send NEXT',
  );
  return { commit, merged: true };
}

/** A branch that somebody has checked out cannot be moved under their feet. */
export async function refuseCheckedOut(world: World, branch: string): Promise<void> {
  const places = await world.repository.worktreesOn(branch);
  if (places.length === 0) return;
  throw new StepError(
    'BRANCH_CHECKED_OUT',
    'unsafe',
    `The branch ${branch} is checked out in ${places.join(', ')}, so flow does not move it. Nothing was changed. ` +
      `Go back to ${world.config.git.branches.develop} (git switch ${world.config.git.branches.develop}), then: flow send NEXT`,
  );
}

/** Measures for how long the test server does not answer while it is being published (R1.5). */
function watchOutage(world: World, server: ReturnType<typeof testServerSettings>) {
  const startedAt = performance.now();
  let downMs = 0;
  let lastAt = startedAt;
  let asking = false;
  const timer = setInterval(() => {
    if (asking) return;
    asking = true;
    void askHealth(world, server).then(({ ok }) => {
      const at = performance.now();
      if (!ok) downMs += at - lastAt;
      lastAt = at;
      asking = false;
    });
  }, HEALTH_EVERY_MS);
  return {
    seconds: () => Math.round(downMs / 100) / 10,
    elapsed: () => Math.round((performance.now() - startedAt) / 100) / 10,
    stop: () => {
      clearInterval(timer);
    },
  };
}
