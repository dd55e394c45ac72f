/** What people type: words that are refused, questions that are answered wrongly, a confirmation, and an editor. */
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { beginInTerminal, CTRL_C, CTRL_D, ENTER } from '../scenarios/pseudo-terminal.ts';
import { git, type Stage } from '../scenarios/stage.ts';
import { begin, type Ended } from '../scenarios/terminal.ts';
import { failures, refusals } from './failure.ts';
import { misansweredRows, mistypedRows, turnedBackRows } from './person.rows.ts';

const ESCAPE = '\u001b';
const QUESTION = 'Send NEXT (revision 3)?';

/** `flow send NEXT` in a terminal, up to the confirmation; then the keys are pressed. */
async function atThePrompt(on: Stage, keys: string, env: Record<string, string> = {}): Promise<Ended> {
  const terminal = beginInTerminal(on.sandbox.projectDir, ['send', 'NEXT'], env);
  await terminal.shows(QUESTION);
  terminal.type(keys);
  return await terminal.ended;
}

/** An editor that does what a shell script says; $1 is the file. */
async function editor(on: Stage, script: string): Promise<Record<string, string>> {
  const file = join(on.sandbox.root, 'editor.sh');
  await writeFile(file, `#!/bin/sh\n${script}\n`);
  await chmod(file, 0o755);
  return { VISUAL: '', EDITOR: file };
}

refusals(
  'a word that is not taken',
  mistypedRows,
  {
    async prepare(on) {
      await on.walkTo(await on.start(), 'tested');
      await on.leave();
    },
  },
  {
    unknownEvent: (on) => on.flow('send', 'NEX'),
    unknownCommand: (on) => on.flow('staus'),
    unknownMilestone: (on) => on.flow('run', '--until', 'app1Lve', '--yes'),
    pastMilestone: (on) => on.flow('run', '--until', 'planned', '--yes'),
    outsideAProject: () => begin(tmpdir(), ['send', 'NEXT', '--yes']).ended,
    startedAgain: (on) => on.flow('start', '--yes'),
    async staleRevision(on) {
      const future = await on.flow('send', 'NEXT', '--yes', '--expect', '9');
      expect([future.status, future.err]).toEqual([4, expect.stringContaining('there is no revision 9 yet')]);
      return await on.flow('send', 'NEXT', '--expect', '1');
    },
    forcedWithoutReason: (on) => on.flow('send', 'NEXT', '--yes', '--force=notFrozen'),
    forcedFirmGuard: (on) => on.flow('send', 'NEXT', '--yes', '--force=drained', '-m', 'in a hurry'),
    forcedUnknownGuard: (on) => on.flow('run', '--yes', '--force=notFrozn', '-m', 'in a hurry'),
    rollbackTooEarly: (on) => on.flow('send', 'ROLLBACK', '--yes'),
    answerWithoutQuestion: (on) => on.flow('send', 'ANSWER'),
    noTerminal: (on) => on.flow('send', 'NEXT'),
    async continuousIntegration(on) {
      const inTerminal = (env: Record<string, string>) =>
        beginInTerminal(on.sandbox.projectDir, ['send', 'NEXT'], env).ended;
      const [dumb, ci] = await Promise.all([inTerminal({ TERM: 'dumb' }), inTerminal({ CI: '1' })]);
      expect(`${dumb.out}${ci.out}`).not.toContain(ESCAPE);
      expect(dumb.out).toBe(ci.out);
      return ci;
    },
    async answeredNo(on) {
      const no = await atThePrompt(on, 'n', { NO_COLOR: '1' });
      // Without colour the question still moves the cursor.
      expect(no.out).not.toMatch(new RegExp(`${ESCAPE}\\[[0-9;]*m`));
      expect(no.status).toBe(4);
      return await atThePrompt(on, ENTER);
    },
    async cancelled(on) {
      const ended = await atThePrompt(on, CTRL_D);
      expect([ended.status, ended.out]).toEqual([130, expect.stringContaining('Nothing was changed')]);
      return await atThePrompt(on, CTRL_C);
    },
    editorFails: async (on) => await atThePrompt(on, 'y', await editor(on, 'exit 3')),
    editorLeavesNothing: async (on) => await atThePrompt(on, 'y', await editor(on, ': > "$1"')),
  },
);

refusals(
  'while a question is open',
  misansweredRows,
  {
    stage: { config: { drain: { checks: [{ name: 'queue is empty', run: 'false' }] } } },
    async prepare(on) {
      await on.walkTo(await on.start(), 'tagged');
      await on.leave();
      for (const [event, ...more] of [['NEXT'], ['ANSWER', 'wait']] as const) {
        expect((await on.flow('send', event, ...more, '--yes')).status).toBe(6);
      }
    },
  },
  {
    unknownChoice: (on) => on.flow('send', 'ANSWER', 'prceed', '--yes', '-m', 'why'),
    missingChoice: (on) => on.flow('send', 'ANSWER', '--yes'),
    olderQuestion: (on) => on.flow('send', 'ANSWER', 'revert', '--yes', '--question', 'drainOverdue.drainingApp1.1'),
    nextInsteadOfAnswer: (on) => on.flow('send', 'NEXT', '--yes'),
    runWithQuestion: (on) => on.flow('run', '--yes'),
    abortInProduction: (on) => on.flow('send', 'ABORT', '--yes'),
  },
);

failures('turning back', turnedBackRows, {
  abort: {
    async trouble(on) {
      const abortFrom = async (milestone: string, to: string) => {
        const driver = await on.start({ to });
        await on.walkTo(driver, milestone);
        await on.leave();
        return await on.flow('send', 'ABORT', '--yes');
      };
      for (const milestone of ['planned', 'tested']) {
        const { status, out } = await abortFrom(milestone, 'v1.3.8');
        expect([status, out]).toEqual([0, expect.stringContaining('aborted')]);
        expect(git(on.sandbox.projectDir, 'tag', '--list', 'v1.3.8')).toBe('');
      }
      return await abortFrom('tagged', 'v1.3.9');
    },
    async mended(on) {
      const started = await on.flow('start', '--yes');
      expect([started.status, started.out]).toEqual([0, expect.stringContaining('v1.3.10')]);
    },
  },
  retestTooLate: {
    async trouble(on) {
      await on.walkTo(await on.start(), 'tested');
      await on.leave();
      // On a terminal that cannot be redrawn, since something is performed here.
      for (const env of [{ TERM: 'dumb' }, { CI: '1' }]) {
        const again = beginInTerminal(on.sandbox.projectDir, ['send', 'RETEST', '--yes'], env);
        expect((await again.ended).status, again.screen()).toBe(0);
        expect(again.screen()).not.toContain(ESCAPE);
        expect(again.screen()).toContain('tested → testing');
      }
      expect(on.document().snapshot.context.attempts.testing).toBe(3);
      // What was written is there again when nothing could be tagged: here the branch moves while somebody writes.
      const { projectDir, root } = on.sandbox;
      const tested = git(projectDir, 'rev-parse', 'testing');
      const moves = `printf '* Written once\\n' > "$1"; git -C '${projectDir}' update-ref refs/heads/testing master`;
      const refused = beginInTerminal(projectDir, ['send', 'NEXT'], await editor(on, moves));
      await refused.shows('?');
      refused.type('y');
      expect((await refused.ended).status, refused.screen()).toBe(4);
      git(projectDir, 'update-ref', 'refs/heads/testing', tested);
      // The section is what the editor leaves, without the hints, and Ctrl-C is the editor's own.
      const written = await editor(
        on,
        `trap "echo caught" INT; cp "$1" '${root}/offered'; printf "; dropped\\n* Written by hand\\n" > "$1"; echo ready; sleep 1; echo over`,
      );
      const terminal = beginInTerminal(on.sandbox.projectDir, ['send', 'NEXT'], written);
      await terminal.shows('?');
      terminal.type('y');
      await terminal.shows('ready');
      terminal.type(CTRL_C);
      await terminal.shows('over');
      expect((await terminal.ended).status, terminal.screen()).toBe(0);
      expect(terminal.screen()).toContain('caught');
      const offered = await readFile(join(root, 'offered'), 'utf8');
      expect(offered).toMatch(/^\* Written once\n\n; What was written before/);
      expect(offered).toContain('\n; * ');
      const log = git(on.sandbox.projectDir, 'show', 'master:ChangeLog.md');
      expect(log).toContain('\n\n* Written by hand\n\n## v1.3.7');
      return await on.flow('send', 'RETEST', '--yes');
    },
  },
  rollbackAfterTheEnd: {
    async trouble(on) {
      await on.walkTo(await on.start(), 'allLive');
      await on.leave();
      return await on.flow('send', 'ROLLBACK', '--yes');
    },
    async mended(on) {
      const back = await on.flow('rollback', '--yes');
      expect([back.status, back.out]).toEqual([0, expect.stringContaining('flow send NEXT')]);
    },
  },
});
