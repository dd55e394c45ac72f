/**
 * R2: what is on the test server is merged into master, the ChangeLog section is written, and the tag is pushed.
 * Everything is prepared in flow's own worktree on commits that no branch points at; then the refs move together, and the
 * atomic push is the point of no return. Before it, a failure or ABORT restores the recorded refs; after it nothing is undone.
 * Twice is safe: the record says which commit is ours, so a repeated try goes on where the last one ended.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestingEvidence } from '../../machines/contract.ts';
import { testServerSettings } from '../config/settings.ts';
import { codeOf, StepError } from '../errors.ts';
import { printable } from '../git/command.ts';
import type { Tag } from '../git/repository.ts';
import type { EffectInput } from '../../machines/contract.ts';
import type { EffectTools, Effects } from './effect.ts';
import { askVersion } from './probes.ts';
import { refuseCheckedOut } from './run-tests.ts';
import { listOf, withWayOut } from './way-out.ts';
import type { World } from './world.ts';

/** What tagging is about to do, written down before it moves a ref. */
interface TaggingRecord {
  tag: string;
  /** What it was made of. */
  tested: string;
  masterBefore: string;
  commit: string;
  previousTag: string | null;
  changes: number;
}
const RECORD = 'tagging';

export function tag(world: World): Effects['tag'] {
  return async (input, tools) => {
    const { repository, config } = world;
    const { version } = input.release;
    const { remote, branches } = config.git;
    if (input.tested === null)
      throw new StepError(
        'NOT_TESTED',
        'unsafe',
        'Nothing was tested in this release. Nothing was changed. Test first: flow send RETEST',
      );
    const tested = input.tested.commit;
    await assertStillTested(world, input.tested);
    tools.report({ kind: 'note', text: `git fetch ${remote}` });
    const theirs = await withWayOut(look(world), 'No branch or tag was moved. Then: flow send NEXT');
    const pushed = theirs.tags.find(({ name }) => name === version)?.oid ?? null;
    let record = readRecord(world, version);
    if (pushed !== null) {
      if (record?.commit !== pushed) throw tagExists(version, `on ${remote}`, pushed);
      if (record.tested !== tested) throw pushedBefore(record, tested);
      await haveRefs(world, record);
      return done(record, remote);
    }
    const existing = await repository.tagCommit(version);
    if (existing !== null && existing !== record?.commit) throw tagExists(version, 'here', existing);

    const master = `refs/heads/${branches.master}`;
    const stands = (await repository.resolve(master)) === record?.commit && existing !== null;
    if (record === null || !stands || record.tested !== tested) {
      // A try before this one that was made of something else, or that somebody moved on from.
      if (record !== null) await restoreRefs(world, record);
      await world.ownership.assert();
      await refuseCheckedOut(world, branches.master);
      const from = await masterToMoveFrom(world);
      await refuseMissingTags(world, theirs.tags, from);
      record = await prepare(world, input, input.tested, from, tools);
      world.checkpoint.write(RECORD, record);
      await withWayOut(
        repository.moveRefs([
          { ref: master, to: record.commit, from: record.masterBefore },
          { ref: `refs/tags/${version}`, to: record.commit, from: null },
        ]),
        'Then: flow send NEXT',
      );
    }
    tools.signal.throwIfAborted();
    await world.ownership.assert();
    tools.report({ kind: 'note', text: `git push --atomic ${remote} ${branches.master} ${version}` });
    try {
      await repository.pushAtomic(remote, [
        { ref: master, oid: record.commit },
        { ref: `refs/tags/${version}`, oid: record.commit },
      ]);
    } catch (error) {
      return await afterFailedPush(world, record, error);
    }
    return done(record, remote);
  };
}

/** ABORT: restores what tagging moved, as long as it was not pushed. Twice is safe: refs are moved only from where we put them. */
export function undoTagging(world: World): Effects['undoTagging'] {
  return async (input) => {
    const record = readRecord(world, input.release.version);
    const { remote, branches } = world.config.git;
    const testing =
      input.tested === null
        ? []
        : [`${branches.testing} at ${input.tested.commit.slice(0, 10)}, and what the test server runs`];
    if (record === null)
      return { outcome: 'done', evidence: { undone: [], kept: [...testing, `${branches.master} and all tags`] } };
    const asked = world.repository.remoteRefs(remote);
    const theirs = await withWayOut(
      asked,
      `So nobody can say whether ${record.tag} was pushed, and nothing was undone. Then: flow send ABORT`,
    );
    const isPushed =
      theirs.tags.some(({ name, oid }) => name === record.tag && oid === record.commit) ||
      theirs.branches.get(branches.master) === record.commit;
    if (isPushed)
      return {
        outcome: 'done',
        evidence: {
          undone: [],
          kept: [...testing, `${record.tag} and ${branches.master}, which are pushed to ${remote}`],
        },
      };
    const undone = await withWayOut(restoreRefs(world, record), 'Then: flow send ABORT');
    return {
      outcome: 'done',
      evidence: { undone, kept: undone.length === 0 ? [...testing, `${branches.master} and all tags`] : testing },
    };
  };
}

function done(record: TaggingRecord, remote: string) {
  const { previousTag, tag: name, commit, changes } = record;
  return { outcome: 'done' as const, evidence: { previousTag, tag: name, commit, changes, pushedTo: remote } };
}

function readRecord(world: World, version: string): TaggingRecord | null {
  const value = world.checkpoint.read(RECORD) as TaggingRecord | null | undefined;
  return value?.tag === version ? value : null;
}

/** What the remote has: its branches are brought here, its tags are only asked for. */
async function look({ repository, config }: World): Promise<{ tags: Tag[] }> {
  await repository.fetch(config.git.remote);
  return await repository.remoteRefs(config.git.remote);
}

/** The tag was pushed, but whoever pushed it did not see that it had: the refs here may have been put back since. */
async function haveRefs({ repository, config }: World, record: TaggingRecord): Promise<void> {
  const master = `refs/heads/${config.git.branches.master}`;
  if ((await repository.tagCommit(record.tag)) === null)
    await repository.moveRefs([{ ref: `refs/tags/${record.tag}`, to: record.commit, from: null }]);
  if ((await repository.resolve(master)) === record.masterBefore)
    await repository.moveRefs([{ ref: master, to: record.commit, from: record.masterBefore }]);
}

/** R2.1: `testing` is exactly what runs in the test environment. */
async function assertStillTested(world: World, tested: TestingEvidence): Promise<void> {
  const { branches } = world.config.git;
  const testing = await world.repository.resolve(`refs/heads/${branches.testing}`);
  if (testing !== tested.commit) {
    throw new StepError(
      'TESTING_MOVED',
      'unsafe',
      `${branches.testing} has moved from ${tested.commit.slice(0, 10)}, which was tested, to ${testing?.slice(0, 10) ?? 'nowhere'}. Nothing was changed. Test it: flow send RETEST`,
    );
  }
  const answer = await askVersion(world, testServerSettings(world.config));
  if (answer.commit === null || !tested.commit.startsWith(answer.commit)) {
    throw new StepError(
      'TEST_SERVER_MOVED',
      'unsafe',
      `The test server no longer runs ${tested.commit.slice(0, 10)}: ${answer.because}. Nothing was changed. Test again: flow send RETEST`,
    );
  }
}

/** Where `master` is; it must have all that the remote's has, or the push would be refused after everything else was done. */
async function masterToMoveFrom({ repository, config }: World): Promise<string> {
  const { branches, remote } = config.git;
  const { master, develop } = branches;
  const here = await repository.resolve(`refs/heads/${master}`);
  if (here === null)
    throw new StepError(
      'BRANCH_MISSING',
      'unsafe',
      `There is no branch ${master}. Nothing was changed. Fetch it: git fetch ${remote} ${master}:${master}`,
    );
  const there = await repository.resolve(`refs/remotes/${remote}/${master}`);
  if (there === null || (await repository.isAncestor(there, here))) return here;
  const missing = await repository.commitsBetween(here, there);
  const hasOwn = !(await repository.isAncestor(here, there));
  const bring = hasOwn
    ? `git switch ${master} && git merge ${remote}/${master} && git switch ${develop}`
    : `git fetch ${remote} ${master}:${master}`;
  throw new StepError(
    'MASTER_BEHIND',
    'unsafe',
    `${remote}/${master} has commits that ${master} here lacks and that were not tested: ${listOf(missing)}. Nothing was forced, no branch or tag was moved. ` +
      `Bring them in (${bring} && git merge ${master}) and test them: flow send RETEST`,
  );
}

/** Without the tag of the last release the list of changes would be that of several. */
async function refuseMissingTags({ repository, config }: World, theirs: readonly Tag[], commit: string): Promise<void> {
  const missing = await repository.missingReleaseTags(theirs, commit);
  if (missing.length === 0) return;
  const { remote } = config.git;
  throw new StepError(
    'TAGS_MISSING',
    'unsafe',
    `${remote} has release tags that are not here (${listOf(missing)}), so the list of changes would be wrong. No branch or tag was moved. Fetch them (git fetch --tags ${remote}), then: flow send NEXT`,
  );
}

/** Makes the merge and the ChangeLog commit on no branch at all. */
async function prepare(
  world: World,
  input: EffectInput<'tag'>,
  tested: TestingEvidence,
  master: string,
  tools: EffectTools,
): Promise<TaggingRecord> {
  const { repository, config, worktree } = world;
  const { branches, changelog } = config.git;
  const { version } = input.release;
  await repository.prepareWorktree(worktree, master);
  const bringIn = `git switch ${branches.develop} && git merge ${branches.master}`;
  const merging = repository.mergeInWorktree(worktree, {
    into: master,
    from: tested.commit,
    names: { into: branches.master, from: branches.testing },
    message: `Merge branch '${branches.testing}' for ${version}`,
  });
  const merged = await withWayOut(merging, ({ code }) =>
    code === 'MERGE_CONFLICT'
      ? `${branches.master} holds changes that were never tested. Merge them into ${branches.develop} and resolve them there (${bringIn}), then: flow send RETEST`
      : 'Mend that, then: flow send NEXT',
  );
  const untested = (await repository.changedFiles(tested.commit, merged)).filter((file) => file !== changelog);
  if (untested.length > 0) {
    const commits = await repository.commitsBetween(tested.commit, merged, untested);
    throw new StepError(
      'UNTESTED_ON_MASTER',
      'rejected',
      `${branches.master} holds changes that nobody tested: ${listOf(commits)} (in ${printable(untested.slice(0, 20).join(', '))}). No branch or tag was moved. ` +
        `Merge them into ${branches.develop} (${bringIn}), then: flow send RETEST`,
    );
  }
  const { previousTag, subjects } = await changesSince(world, merged);
  tools.report({
    kind: 'note',
    text: `${subjects.length} changes since ${previousTag ?? 'the beginning'} go into ${changelog}`,
  });
  const section = sectionText(version, world.now(), input.notes ?? changeLines(subjects));
  const before = await readFile(join(worktree, changelog), 'utf8').catch((error: unknown) => {
    if (codeOf(error) === 'ENOENT') return '';
    throw error;
  });
  const commit = await withWayOut(
    repository.commitFile(worktree, changelog, withSection(before, section), `ChangeLog for ${version}`),
    'Mend that, then: flow send NEXT',
  );
  return { tag: version, tested: tested.commit, masterBefore: master, commit, previousTag, changes: subjects.length };
}

/**
 * R2.2: the last release's tag and the subjects of what came since, merges left out. The tag may be on master alone: where R5.3
 * was left for later, nothing that was tested contains it.
 */
export async function changesSince(
  world: Pick<World, 'repository' | 'config'>,
  commit: string,
): Promise<{ previousTag: string | null; subjects: string[] }> {
  const previous = await world.repository.latestReleaseTag([`refs/heads/${world.config.git.branches.master}`, commit]);
  return {
    previousTag: previous?.name ?? null,
    subjects: await world.repository.subjects(previous?.name ?? null, commit),
  };
}

/** A line that Markdown would take for something else than text: a heading, a list, a rule, a quote, code, HTML. */
const MARKED = /^(?:(?:#{1,6}|[-+*])(?:\s|$)|>|<|`{3}|~{3}|(?:[-_*]\s*){3,}$|\d+(?=[.)](?:\s|$)))/;

/** The list of changes as it goes into the ChangeLog (R2.2): one line each, which stays one whatever its subject begins with. */
export function changeLines(subjects: readonly string[]): string {
  return subjects
    .map((subject) => {
      const number = /^\d+(?=[.)](?:\s|$))/.exec(subject)?.[0] ?? '';
      return `* ${MARKED.test(subject) ? `${number}\\${subject.slice(number.length)}` : subject}`;
    })
    .join('\n');
}

function sectionText(version: string, now: Date, notes: string): string {
  return `## ${version} (${now.toISOString().slice(0, 10)})\n\n${notes.trim()}\n`;
}

/** Puts a section above the older ones, below the file's title. */
export function withSection(file: string, section: string): string {
  const title = /^# .*\n+/.exec(file)?.[0] ?? '';
  const rest = file.slice(title.length);
  return `${title === '' ? '' : `${title.trimEnd()}\n\n`}${section}${rest === '' ? '' : `\n${rest}`}`;
}

/** The push failed. Where nobody can say whether it arrived, nothing is undone; the next try asks again. */
async function afterFailedPush(world: World, record: TaggingRecord, error: unknown): Promise<never> {
  if (!(error instanceof StepError)) throw error;
  const { branches, remote } = world.config.git;
  if (error.kind === 'unknownOutcome') {
    throw new StepError(
      error.code,
      error.kind,
      `${error.message} Nothing was undone: ${branches.master} and ${record.tag} are at ${record.commit.slice(0, 10)} here. When ${remote} answers again, this looks what arrived and goes on: flow send NEXT`,
      { cause: error },
    );
  }
  const undone = await restoreRefs(world, record);
  throw new StepError(
    error.code,
    error.kind,
    `${error.message} Undone: ${undone.join(', ')}. Mend that, then: flow send NEXT`,
    { cause: error },
  );
}

async function restoreRefs(world: World, record: TaggingRecord): Promise<string[]> {
  const { branches } = world.config.git;
  const undone: string[] = [];
  const master = `refs/heads/${branches.master}`;
  if ((await world.repository.resolve(master)) === record.commit) {
    await world.repository.moveRefs([{ ref: master, to: record.masterBefore, from: record.commit }]);
    undone.push(`${branches.master} is back at ${record.masterBefore.slice(0, 10)}`);
  }
  if ((await world.repository.tagCommit(record.tag)) === record.commit) {
    await world.repository.moveRefs([{ ref: `refs/tags/${record.tag}`, to: null, from: record.commit }]);
    undone.push(`the tag ${record.tag} is removed`);
  }
  return undone;
}

function pushedBefore(record: TaggingRecord, tested: string): StepError {
  return new StepError(
    'TAG_PUSHED',
    'rejected',
    `${record.tag} was pushed already, with ${record.tested.slice(0, 10)}, and ${tested.slice(0, 10)} was tested since. What is pushed is never moved. Give this release up (flow send ABORT) and plan the next version: flow start`,
  );
}

function tagExists(version: string, where: string, commit: string): StepError {
  return new StepError(
    'TAG_EXISTS',
    'rejected',
    `The tag ${version} exists ${where} already, at ${commit.slice(0, 10)}, and is not this release's. No branch or tag was moved. Choose another version: flow send ABORT, then: flow start`,
  );
}
