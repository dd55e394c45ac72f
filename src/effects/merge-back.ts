/**
 * R5.3: `develop` contains `master` again. It touches the operator's tree, and only when that is clean and on develop;
 * otherwise it becomes a follow-up, because a live release is not harmed by it.
 * Twice is safe: a develop that contains master is left alone.
 */
import { messageOf } from '../errors.ts';
import type { Effects } from './effect.ts';
import type { World } from './world.ts';

export function mergeBack(world: World): Effects['mergeBack'] {
  return async (input) => {
    const { repository, config } = world;
    const { develop, master } = config.git.branches;
    const followUp = (why: string) => ({
      outcome: 'done' as const,
      evidence: {
        commit: null,
        followUp: `${develop} does not contain ${master} yet, because ${why}. Do: git switch ${develop} && git merge ${master}`,
      },
    });
    const [masterCommit, developCommit, branch, changes] = await Promise.all([
      repository.resolve(`refs/heads/${master}`),
      repository.resolve(`refs/heads/${develop}`),
      repository.currentBranch(),
      repository.status(),
    ]);
    if (masterCommit === null || developCommit === null) return followUp('one of the branches is missing');
    if (await repository.isAncestor(masterCommit, developCommit)) {
      return { outcome: 'done', evidence: { commit: developCommit, followUp: null } };
    }
    if (branch !== develop) return followUp(`your tree is not on ${develop}`);
    if (changes.length > 0) return followUp('your tree has changes that are not committed');
    try {
      const commit = await repository.mergeIntoCurrent(
        masterCommit,
        `Merge branch '${master}' into ${develop} after ${input.release.version}`,
      );
      return { outcome: 'done', evidence: { commit, followUp: null } };
    } catch (error) {
      return followUp(messageOf(error));
    }
  };
}
