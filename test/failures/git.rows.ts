/** What can go wrong with the project's git repository (runbook R1, R2, R5.3). */
import type { FailureRows } from './failure.ts';

const UNTOUCHED = { serving: ['app1', 'app2'], versions: { app1: 'v1.3.7', app2: 'v1.3.7' } };
const RELEASED = { serving: ['app1', 'app2'], versions: { app1: 'v1.3.8', app2: 'v1.3.8' } };
const REFUSED = { exit: 4, rests: null, ...UNTOUCHED };
const AT_PLANNED = { exit: 6, rests: 'planned', ...UNTOUCHED };
const AT_TESTED = { exit: 6, rests: 'tested', ...UNTOUCHED };
const LIVE = { exit: 0, rests: 'allLive', ...RELEASED };

/** Refused when a release is planned. */
export const gitStartRows = {
  remoteAwayAtStart: {
    situation: 'The remote does not answer when a release is planned',
    does: 'refuses to plan one',
    sees: 'The remote cil could not be asked:',
    run: 'git ls-remote cil. Nothing was changed. Then: flow start',
    ...REFUSED,
  },
  tagTaken: {
    situation: 'The version that is asked for has a tag already',
    does: 'refuses to plan it',
    sees: 'The tag v1.3.7 exists here already, at',
    run: 'flow start --to VERSION',
    ...REFUSED,
  },
  tagsMissing: {
    situation: 'The tag of the last release is on the remote, but not here',
    does: 'refuses to plan one: the version and the list of changes would be wrong',
    sees: 'cil has release tags that are not here (v1.3.7), so the version and the list of changes would be wrong.',
    run: 'git fetch --tags cil',
    ...REFUSED,
  },
  shallow: {
    situation: 'Your clone is shallow (git clone --depth)',
    does: 'refuses to plan a release, as nobody can say there what was released before',
    sees: 'is cut short (a shallow clone), so nobody can say here what was released before. Nothing was changed.',
    run: 'git fetch --unshallow --tags cil',
    ...REFUSED,
  },
  hostileBranch: {
    situation: 'A branch is configured that git would take for an option',
    does: 'refuses the config',
    sees: 'expected a git name',
    run: 'flow config check',
    exit: 2,
    rests: null,
    ...UNTOUCHED,
  },
} as const satisfies FailureRows;

/** Branches, merges, commits and hooks. */
export const gitTreeRows = {
  dirtyTree: {
    thorough: true,
    situation: 'Your tree has changes that are not committed',
    does: 'releases all the same, and leaves your tree alone; merging master back (R5.3) is left to you',
    sees: 'develop does not contain master yet: your tree has changes that are not committed, and was not touched. The release is live all the same.',
    run: 'git switch develop && git merge master',
    ...LIVE,
  },
  conflictBack: {
    thorough: true,
    situation: 'master does not merge into develop at the end (R5.3)',
    does: 'undoes the merge in your tree; the release is live all the same, and the merge is left to you',
    sees: 'does not merge into develop: conflicts in ChangeLog.md. The merge was undone and no branch moved. The release is live all the same.',
    run: 'git switch develop && git merge master',
    ...LIVE,
  },
  conflictTesting: {
    situation: 'develop does not merge into testing (R1.2)',
    does: 'undoes the merge and rests; nothing was published anywhere',
    sees: 'does not merge into testing: conflicts in features.md. The merge was undone and no branch moved. The test server was not touched.',
    run: 'git switch testing && git merge develop, commit, git switch develop, then: flow send NEXT',
    ...AT_PLANNED,
  },
  conflictMaster: {
    thorough: true,
    situation: 'testing does not merge into master (R2.1)',
    does: 'undoes the merge and rests; the way out leads over develop and a new test, as nobody tested what is on master',
    sees: 'does not merge into master: conflicts in features.md. The merge was undone and no branch moved. master holds changes that were never tested.',
    run: 'git switch develop && git merge master), then: flow send RETEST',
    ...AT_TESTED,
  },
  hotfixOnMaster: {
    situation: 'Somebody mended something on master, and nobody tested it',
    does: 'refuses to tag, and names the commits and the files',
    sees: 'Mend the rounding at once (in hotfix.md). No branch or tag was moved. Merge them into develop',
    run: 'git switch develop && git merge master), then: flow send RETEST',
    ...AT_TESTED,
  },
  hookRefuses: {
    thorough: true,
    situation: 'A hook of the project refuses a merge or a commit',
    does: "shows the hook's words and rests; nothing is left half done",
    sees: 'could not be merged into testing, git or a hook says: no merges on a Monday',
    run: 'Mend that, then: flow send NEXT',
    ...AT_PLANNED,
  },
  hostileSubjects: {
    thorough: true,
    situation:
      'Commits carry escape sequences, control characters, marks that turn text round, Markdown, or a whole mail',
    does: 'lists each as one harmless line; no terminal obeys them, and ChangeLog.md stays well-formed',
    sees: '9 changes since v1.3.7',
    run: 'flow send NEXT',
    exit: 0,
    rests: 'tagged',
    ...UNTOUCHED,
  },
} as const satisfies FailureRows;

/** The remote, the push and the tag. */
export const gitRemoteRows = {
  remoteAhead: {
    situation: 'Somebody pushed to cil/master during the release',
    does: 'forces nothing and moves nothing; what came has to be brought in and tested',
    sees: 'cil/master has commits that master here lacks and that were not tested:',
    run: 'git fetch cil master:master && git merge master) and test them: flow send RETEST',
    ...AT_TESTED,
  },
  remoteAway: {
    thorough: true,
    situation: 'The remote does not answer when the test begins',
    does: 'rests before the test: no branch moved, nothing was published',
    sees: 'The remote cil could not be asked:',
    run: 'git ls-remote cil No branch moved. Then: flow send NEXT',
    ...AT_PLANNED,
  },
  pushRejected: {
    situation: 'The remote refuses the push (a hook, a protected branch), or cannot be pushed to',
    does: 'shows its words, puts master back, removes its tag, and rests',
    sees: 'was refused, and nothing of it arrived:',
    run: 'the tag v1.3.8 is removed. Mend that, then: flow send NEXT',
    ...AT_TESTED,
  },
  pushUnknown: {
    thorough: true,
    situation: 'The connection breaks in the push, and the remote can no longer be asked what arrived',
    does: 'undoes nothing; the next try looks, and finds that the tag on the remote is its own',
    sees: 'The push to cil broke off, and cil can not be asked what arrived.',
    run: 'this looks what arrived and goes on: flow send NEXT',
    ...AT_TESTED,
  },
  pushEnded: {
    thorough: true,
    situation: 'git is ended in the middle of the push, before anything arrived; then you give up',
    does: 'ABORT puts master back and removes the tag, because the remote does not have them',
    sees: 'the tag v1.3.8 is removed',
    run: 'flow start',
    exit: 0,
    rests: 'aborted',
    ...UNTOUCHED,
  },
  killedBeforePush: {
    thorough: true,
    situation: 'flow is killed after master and the tag have moved, before the push',
    does: 'knows the tag for its own by its commit, and goes on with the push',
    sees: 'v1.3.8 is tagged and pushed; production is untouched',
    run: 'flow send NEXT',
    exit: 0,
    rests: 'tagged',
    ...UNTOUCHED,
  },
  tagElsewhere: {
    thorough: true,
    situation: 'Somebody else makes the same tag during the release, here or on the remote',
    does: 'refuses to tag; a tag is never moved',
    sees: 'The tag v1.3.8 exists on cil already, at',
    run: 'Choose another version: flow send ABORT, then: flow start',
    ...AT_TESTED,
  },
  abortTagged: {
    thorough: true,
    situation: 'You give the release up after its tag was pushed',
    does: 'ends it, and undoes nothing that is pushed; before the push ABORT undoes what was moved',
    sees: 'v1.3.8 and master, which are pushed to cil',
    run: 'flow start',
    exit: 0,
    rests: 'aborted',
    ...UNTOUCHED,
  },
  remoteDevelopAhead: {
    situation: 'Somebody pushed to cil/develop, and your develop does not have it',
    does: 'says so when it plans and when it tests; what is on your develop is what is released',
    sees: 'cil/develop has commits that develop here lacks, and that are not in this release:',
    run: 'flow send RETEST',
    exit: 0,
    rests: 'tested',
    ...UNTOUCHED,
  },
} as const satisfies FailureRows;

/** The first release ever, and servers that ran nothing before. */
export const nothingBeforeRows = {
  firstRelease: {
    situation: 'There is no tag yet at all, and the servers run something that has none',
    does: 'refuses while rollback.restore is auto, as it could not be restored; with hold it warns and plans v0.1.0',
    sees: 'and there is no such tag: a rollback could not restore it. Nothing was changed.',
    run: 'set rollback.restore: hold',
    ...REFUSED,
  },
  firstInstallation: {
    thorough: true,
    situation: 'The servers run nothing at all yet',
    does: 'releases as always: there is no load to carry, so nobody has to carry it',
    sees: 'app1 and app2 serve v1.3.8',
    run: 'flow start',
    ...LIVE,
    clientsMayFail: 'nothing ran before',
  },
  newServer: {
    thorough: true,
    situation: 'One server ran nothing before, and the release is rolled back',
    does: 'moves traffic to the other one; there is nothing to restore on the new one, so it stays out of rotation',
    sees: 'No version is known that ran on app1 before, so nothing was restored there: it stays out of rotation',
    run: 'flow start',
    exit: 7,
    rests: 'rolledBack',
    serving: ['app2'],
    versions: { app1: 'v1.3.8', app2: 'v1.3.7' },
    clientsMayFail: 'a server of the rotation ran nothing before',
  },
  nothingBefore: {
    thorough: true,
    situation: 'No server ran anything before, and the release is rolled back',
    does: 'ends the release and leaves traffic as it is, as there is nothing to go back to',
    sees: 'there was nothing to go back to: traffic was left as it is.',
    run: 'flow start',
    exit: 7,
    rests: 'rolledBack',
    serving: ['status 502'],
    versions: { app1: null, app2: null },
    clientsMayFail: 'nothing ran before, and nothing was published',
  },
} as const satisfies FailureRows;

export const gitRows = { ...gitStartRows, ...gitTreeRows, ...gitRemoteRows, ...nothingBeforeRows };
