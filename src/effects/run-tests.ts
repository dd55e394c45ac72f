/**
 * R1: `develop` is merged into `testing` with --no-ff and published to the test server, which then reports that commit.
 * Twice is safe: a develop that testing already contains is not merged again, and the publish is a job.
 */
import type { Effects } from './effect.ts';
import { testServerSettings } from '../config/settings.ts';
import { StepError } from '../errors.ts';
import { askHealth } from './probes.ts';
import { proveRuns, runServerJob } from './server-job.ts';
import type { World } from './world.ts';

const HEALTH_EVERY_MS = 200;

export function runTests(world: World): Effects['runTests'] {
  return async (input, tools) => {
    const { repository, config } = world;
    const { branches, remote } = config.git;
    const server = testServerSettings(config);
    tools.report({ kind: 'note', text: `git fetch ${remote}` });
    await repository.fetch(remote);
    const { commit, merged } = await mergeDevelop(world);
    const outage = watchOutage(server);
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

async function mergeDevelop(world: World): Promise<{ commit: string; merged: boolean }> {
  const { repository, config } = world;
  const { branches } = config.git;
  const [develop, testing] = await Promise.all([
    repository.resolve(`refs/heads/${branches.develop}`),
    repository.resolve(`refs/heads/${branches.testing}`),
  ]);
  if (develop === null || testing === null) {
    const missing = develop === null ? branches.develop : branches.testing;
    throw new StepError(
      'BRANCH_MISSING',
      'unsafe',
      `There is no branch ${missing}. Nothing was changed. Make it, for instance: git branch ${missing} ${branches.master}`,
    );
  }
  if (await repository.isAncestor(develop, testing)) return { commit: testing, merged: false };
  await refuseCheckedOut(world, branches.testing);
  await repository.prepareWorktree(world.worktree, testing);
  const commit = await repository.mergeInWorktree(world.worktree, {
    into: testing,
    from: develop,
    message: `Merge branch '${branches.develop}' into ${branches.testing}`,
  });
  await repository.moveRefs([{ ref: `refs/heads/${branches.testing}`, to: commit, from: testing }]);
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
function watchOutage(server: ReturnType<typeof testServerSettings>) {
  const startedAt = performance.now();
  let downMs = 0;
  let lastAt = startedAt;
  let asking = false;
  const timer = setInterval(() => {
    if (asking) return;
    asking = true;
    void askHealth(server).then(({ ok }) => {
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
