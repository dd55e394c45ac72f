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
import { codeOf, messageOf, StepError } from '../errors.ts';
import type { EffectInput } from '../../machines/contract.ts';
import type { EffectTools, Effects } from './effect.ts';
import { askVersion } from './probes.ts';
import { refuseCheckedOut } from './run-tests.ts';
import type { World } from './world.ts';

/** What tagging is about to do, written down before it moves a ref. */
interface TaggingRecord {
  tag: string;
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
    await assertStillTested(world, input.tested);
    tools.report({ kind: 'note', text: `git fetch ${remote}` });
    await repository.fetch(remote);
    const pushed = await repository.remoteTag(remote, version);
    let record = readRecord(world, version);
    if (pushed !== null) {
      if (record !== null && record.commit === pushed) return done(record, remote);
      throw tagExists(version, `on ${remote}`, pushed);
    }
    const existing = await repository.tagCommit(version);
    if (existing !== null && existing !== record?.commit) throw tagExists(version, 'here', existing);

    const master = await repository.resolve(`refs/heads/${branches.master}`);
    if (master === null)
      throw new StepError('BRANCH_MISSING', 'unsafe', `There is no branch ${branches.master}. Nothing was changed.`);
    if (record === null || (master !== record.commit && master !== record.masterBefore) || existing === null) {
      await refuseCheckedOut(world, branches.master);
      record = await prepare(world, input, input.tested, master, tools);
      world.checkpoint.write(RECORD, record);
      await repository.moveRefs([
        { ref: `refs/heads/${branches.master}`, to: record.commit, from: record.masterBefore },
        { ref: `refs/tags/${version}`, to: record.commit, from: null },
      ]);
    }
    tools.signal.throwIfAborted();
    tools.report({ kind: 'note', text: `git push --atomic ${remote} ${branches.master} ${version}` });
    try {
      await repository.pushAtomic(remote, [
        { ref: `refs/heads/${branches.master}`, oid: record.commit },
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
    if (record === null)
      return {
        outcome: 'done',
        evidence: { undone: [], kept: ['nothing of this release had moved a branch or a tag in git beyond testing'] },
      };
    const pushed = await world.repository.remoteTag(remote, record.tag);
    if (pushed === record.commit) {
      return {
        outcome: 'done',
        evidence: { undone: [], kept: [`${record.tag} and ${branches.master} are pushed to ${remote} and stay`] },
      };
    }
    return { outcome: 'done', evidence: { undone: await restoreRefs(world, record), kept: [] } };
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
  const answer = await askVersion(world.host, testServerSettings(world.config));
  if (answer.commit === null || !tested.commit.startsWith(answer.commit)) {
    throw new StepError(
      'TEST_SERVER_MOVED',
      'unsafe',
      `The test server no longer runs ${tested.commit.slice(0, 10)}: ${answer.because}. Nothing was changed. Test again: flow send RETEST`,
    );
  }
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
  const merged = await repository.mergeInWorktree(worktree, {
    into: master,
    from: tested.commit,
    message: `Merge branch '${branches.testing}' for ${version}`,
  });
  const untested = (await repository.changedFiles(tested.commit, merged)).filter((file) => file !== changelog);
  if (untested.length > 0) {
    throw new StepError(
      'UNTESTED_ON_MASTER',
      'rejected',
      `${branches.master} holds changes that were never on ${branches.testing}: ${untested.slice(0, 20).join(', ')}. No branch or tag was moved. ` +
        `Merge ${branches.master} into ${branches.develop}, then: flow send RETEST`,
    );
  }
  const { previousTag, subjects } = await changesSince(world, merged);
  tools.report({
    kind: 'note',
    text: `${subjects.length} changes since ${previousTag ?? 'the beginning'} go into ${changelog}`,
  });
  const section = sectionText(
    version,
    world.now(),
    input.notes ?? subjects.map((subject) => `* ${subject}`).join('\n'),
  );
  const before = await readFile(join(worktree, changelog), 'utf8').catch((error: unknown) => {
    if (codeOf(error) === 'ENOENT') return '';
    throw error;
  });
  const commit = await repository.commitFile(
    worktree,
    changelog,
    withSection(before, section),
    `ChangeLog for ${version}`,
  );
  return { tag: version, masterBefore: master, commit, previousTag, changes: subjects.length };
}

/** R2.2: the last release's tag and the subjects of what came since, merges left out. */
export async function changesSince(
  world: Pick<World, 'repository'>,
  commit: string,
): Promise<{ previousTag: string | null; subjects: string[] }> {
  const previous = await world.repository.latestReleaseTag(commit);
  return {
    previousTag: previous?.name ?? null,
    subjects: await world.repository.subjects(previous?.name ?? null, commit),
  };
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
  if (error instanceof StepError && error.kind === 'unknownOutcome') throw error;
  const undone = await restoreRefs(world, record);
  throw new StepError(
    'PUSH_FAILED',
    'rejected',
    `${messageOf(error)} Undone: ${undone.join(', ')}. Mend it, then: flow send NEXT`,
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

function tagExists(version: string, where: string, commit: string): StepError {
  return new StepError(
    'TAG_EXISTS',
    'rejected',
    `The tag ${version} exists ${where} already, at ${commit.slice(0, 10)}, and is not this release's. No branch or tag was moved. Choose another version: flow send ABORT, then: flow start --to VERSION`,
  );
}
