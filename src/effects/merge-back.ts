/**
 * R5.3: `develop` contains `master` again. It touches the operator's tree, and only when no file in it is changed and it is on
 * develop; otherwise it becomes a follow-up, because a live release is not harmed by it.
 * Twice is safe: a develop that contains master is left alone.
 */
import { codeOf, messageOf } from '../errors.ts';
import type { Effects } from './effect.ts';
import type { World } from './world.ts';

export function mergeBack(world: World): Effects['mergeBack'] {
  return async (input) => {
    const { repository, config } = world;
    const { develop, master } = config.git.branches;
    const followUp = (why: string, first = '') => ({
      outcome: 'done' as const,
      evidence: {
        commit: null,
        followUp: `${develop} does not contain ${master} yet: ${why} The release is live all the same. ${first}Do: git switch ${develop} && git merge ${master}`,
      },
    });
    const [masterCommit, developCommit, branch, changes] = await Promise.all([
      repository.resolve(`refs/heads/${master}`),
      repository.resolve(`refs/heads/${develop}`),
      repository.currentBranch(),
      repository.status(),
    ]);
    if (masterCommit === null || developCommit === null) return followUp('one of the two is missing here.');
    if (await repository.isAncestor(masterCommit, developCommit)) {
      return { outcome: 'done', evidence: { commit: developCommit, followUp: null } };
    }
    if (branch !== develop) return followUp(`your tree is on ${branch ?? 'no branch'}, and was not touched.`);
    // A file that git does not know is in nobody's way; where a merge would overwrite it, git refuses.
    if (changes.some((line) => !line.startsWith('??')))
      return followUp('your tree has changes that are not committed, and was not touched.', 'Commit or stash them. ');
    try {
      const commit = await repository.mergeIntoCurrent({
        from: masterCommit,
        names: { into: develop, from: master },
        message: `Merge branch '${master}' into ${develop} after ${input.release.version}`,
      });
      return { outcome: 'done', evidence: { commit, followUp: null } };
    } catch (error) {
      return followUp(messageOf(error), codeOf(error) === 'MERGE_CONFLICT' ? '' : 'Mend that. ');
    }
  };
}
