/** What can go wrong with the git repository that holds the configuration of Nginx (runbook R3.1). */
import type { FailureRows } from './failure.ts';

export const BOTH = { app1: 'v1.3.7', app2: 'v1.3.7' } as const;
export const atStart = { exit: 4, rests: null, serving: ['app1', 'app2'], versions: BOTH, run: 'flow start' } as const;
export const atTagged = {
  exit: 4,
  rests: 'tagged',
  serving: ['app1', 'app2'],
  versions: BOTH,
  run: 'flow send NEXT',
} as const;

export const beforeStart = {
  dirMissing: {
    ...atStart,
    situation: 'the folder that nginx.dir names does not exist',
    does: 'refuses to start; nothing is begun',
    sees: 'There is no folder /opt/nginx/nowhere on this machine, where flow.yaml says that the configuration of Nginx lies. Nothing was changed. Correct nginx.dir in flow.yaml',
    run: 'flow config check',
  },
  notARepository: {
    ...atStart,
    situation: 'the Nginx folder is no git repository',
    does: 'refuses to start; nothing is begun',
    sees: '/opt/nginx on this machine is no git repository, and flow switches traffic by its branches. Nothing was changed.',
  },
  otherOwner: {
    ...atStart,
    situation: "the Nginx folder belongs to another user, so that git refuses it (git's safe.directory)",
    does: 'refuses to start, and says whom it belongs to',
    sees: 'git does not work in the repository of another user, because its hooks and settings would run as',
    run: 'git config --global --add safe.directory /opt/nginx',
  },
  branchMissing: {
    ...atStart,
    situation: 'the branch of a route does not exist when a release is planned',
    does: 'refuses to start, also where only the rollback would need the branch',
    sees: '/opt/nginx has no branch "yun-app1". Make it again (git -C /opt/nginx branch yun-app1 COMMIT; where it was last: git -C /opt/nginx reflog)',
  },
  branchesSwapped: {
    ...atStart,
    situation: 'the branches `yun-app1` and `yun-app2` are swapped',
    does: 'refuses to start: the servers in the branches count, not the names',
    sees: 'the branch yun-app1 of /opt/nginx should send traffic to app1, but its upstream servers are',
  },
  routesDiffer: {
    ...atStart,
    situation: 'a branch differs from the others in more than its upstream servers',
    does: 'refuses to start, and lists the lines; can be overridden, which is recorded',
    sees: 'yun-app2 differs from master in more than its upstream servers: conf/nginx.conf: +location /only-here { return 204 ; }',
    run: 'flow start --force=routesDiffer --reason "…"',
  },
} as const satisfies FailureRows;

export const beforeTheFirstSwitch = {
  dirty: {
    ...atTagged,
    situation: 'a tracked file of the Nginx folder was changed and not committed',
    does: 'refuses NEXT before traffic moves; the file is kept',
    sees: '/opt/nginx is not clean: conf/nginx.conf is changed and not committed to unblock: See what was changed (git -C /opt/nginx diff HEAD), and commit it on every branch or drop it (git -C /opt/nginx restore --staged --worktree conf/nginx.conf), then: flow send NEXT',
  },
  untrackedIncluded: {
    ...atTagged,
    situation: 'a file that no branch has lies where an `include` takes it in',
    does: 'refuses NEXT before traffic moves: the next reload would make it live',
    sees: '/opt/nginx is not clean: conf/conf.d/debug.conf is on no branch, and an include may take it in with the next reload',
  },
  untrackedElsewhere: {
    ...atTagged,
    situation: 'a file that no branch has lies where nothing includes it',
    does: 'refuses NEXT as well, since only Nginx knows what it includes; says how to except the file for good',
    sees: 'Remove what is on no branch, commit it on every branch, or, where Nginx never reads it, name it in /opt/nginx/.git/info/exclude, then: flow send NEXT',
  },
  ignoredInTheWay: {
    ...atTagged,
    situation: 'git ignores a file that the branch to be switched to has as its own',
    does: 'refuses NEXT before anything moves: git would have overwritten it without a word',
    sees: 'In /opt/nginx, git ignores logs/notes.txt, and the branch yun-app2 has a file of that name: switching to it would overwrite what is there.',
  },
  staleLock: {
    ...atTagged,
    situation: 'a lock file of git was left by a program that is gone (`index.lock`)',
    does: 'refuses NEXT, says since when and by whom, and never removes a lock that is not its own',
    sees: '/opt/nginx holds a lock of git (/opt/nginx/.git/index.lock, made 3 h ago by',
    run: 'rm /opt/nginx/.git/index.lock',
  },
  detached: {
    ...atTagged,
    situation: 'the Nginx folder stands on a commit and on no branch (detached HEAD)',
    does: 'refuses NEXT: there would be no branch to return to',
    sees: 'and on no branch, so there is no branch to return to to unblock: Put it on the branch that has these files: git -C /opt/nginx switch BRANCH',
  },
  unfinishedMerge: {
    ...atTagged,
    situation: 'a merge in the Nginx folder (or a rebase, cherry-pick, revert) was begun and not finished',
    does: 'refuses NEXT before traffic moves, also where no file differs: git would refuse the switch half-way through the release',
    sees: 'a git merge was begun in /opt/nginx and not finished, and git switches no branch until it is to unblock: Finish it (git -C /opt/nginx merge --continue) or give it up (git -C /opt/nginx merge --abort), then: flow send NEXT',
    run: 'git -C /opt/nginx merge --abort',
  },
  branchInUse: {
    ...atTagged,
    situation: 'the branch of a route is checked out in another folder (`git worktree`)',
    does: 'refuses NEXT before traffic moves: git would refuse to switch to it, be it for the rollback',
    sees: 'git would refuse to switch to it. Free the branch, which changes no file there: git -C',
    run: 'switch --detach',
  },
  branchDeleted: {
    ...atTagged,
    situation: 'the branch of the next route is deleted in mid-release',
    does: 'refuses NEXT before traffic moves, and says where the branch was last',
    sees: '/opt/nginx has no branch "yun-app2". Make it again (git -C /opt/nginx branch yun-app2 COMMIT; where it was last: git -C /opt/nginx reflog)',
  },
  editedSinceStart: {
    ...atTagged,
    situation: 'a branch is edited between the start and the first switch',
    does: 'refuses NEXT before traffic moves; can be overridden, which is recorded',
    sees: 'yun-app2 differs from master in more than its upstream servers: conf/nginx.conf: +location /only-here { return 204 ; } (git -C /opt/nginx diff master yun-app2)',
    run: 'flow send NEXT --force=routesDiffer --reason "…"',
  },
} as const satisfies FailureRows;

export const inMidRelease = {
  swappedInMidRelease: {
    situation: 'the branches `yun-app1` and `yun-app2` are swapped in mid-release',
    does: 'refuses NEXT: the switch would send the traffic to the wrong server',
    sees: 'the branch yun-app1 of /opt/nginx should send traffic to app1, but its upstream servers are',
    run: 'flow send NEXT',
    exit: 4,
    rests: 'app1Published',
    serving: ['app2'],
    versions: { app1: 'v1.3.6', app2: 'v1.3.7' },
  },
  dirtyInRollback: {
    situation: 'a file of the Nginx folder was changed and not committed when ROLLBACK has to switch',
    does: 'touches neither the file nor the traffic, and rests until the file is put right and ROLLBACK is sent again',
    sees: '/opt/nginx is not clean: conf/nginx.conf is changed and not committed. Nothing was changed.',
    run: 'flow send ROLLBACK',
    exit: 6,
    rests: 'stuck',
    serving: ['app2'],
    versions: BOTH,
  },
  killedInSwitch: {
    situation:
      'flow and its git are killed in the middle of `git switch`: half of the files are those of the other branch',
    does: 'knows the switch for its own by the note in the lock, puts the files back, and does the step again',
    sees: "A switch of flow's own in /opt/nginx, from master to yun-app2, was cut in half",
    run: 'flow send NEXT',
    exit: 0,
    rests: 'app1Drained',
    serving: ['app2'],
    versions: BOTH,
  },
  killedInSwitchAndEdited: {
    situation: 'the same, and a person has changed a file since',
    does: 'touches nothing, and says what to do: what a person wrote is never overwritten',
    sees: 'was cut in half, and conf/upstream.conf is of neither, so flow does not put it right by itself. Nothing was changed.',
    run: 'rm /opt/nginx/.git/index.lock && git -C /opt/nginx switch --discard-changes master',
    exit: 6,
    rests: 'tagged',
    serving: ['app1', 'app2'],
    versions: BOTH,
  },
  fileNamedLikeABranch: {
    situation: 'the repository has a file with the name of a branch',
    does: 'switches the branch (`git checkout` would have restored the file instead)',
    sees: 'app1Drained',
    run: 'flow send NEXT',
    exit: 0,
    rests: 'app1Drained',
    serving: ['app2'],
    versions: BOTH,
  },
} as const satisfies FailureRows;

export const configRepositoryRows = { ...beforeStart, ...beforeTheFirstSwitch, ...inMidRelease };
