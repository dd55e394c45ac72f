/**
 * Asking a person. Only where there is a terminal: a prompt library would take piped text for an answer. Without one, and
 * without --yes, the command ends with exit 2 and nothing changed.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EXIT, FlowError, UsageError } from '../errors.ts';
import { terminal } from './terminal.ts';

/** The ordinary confirmation; the default is No. Throws UsageError NO_TTY when nobody can be asked, FlowError CANCELLED on a no. */
export async function confirm(question: string, yes: boolean): Promise<void> {
  if (yes) return;
  if (!terminal().interactive) {
    throw new UsageError(
      'NO_TTY',
      `There is no terminal to ask "${question}" on. Nothing was changed. To answer it beforehand: --yes`,
    );
  }
  const { confirm: ask, isCancel } = await import('@clack/prompts');
  const answer = await ask({ message: question, initialValue: false, output: process.stderr });
  if (isCancel(answer)) throw new FlowError('CANCELLED', EXIT.interrupted, 'Cancelled. Nothing was changed.');
  if (!answer) throw new FlowError('DECLINED', EXIT.refused, 'Not sent. Nothing was changed.');
}

/** Lets a person edit a text in $VISUAL or $EDITOR; lines that start with `;` are dropped. */
export function edit(text: string, hint: string): string {
  // An empty variable is as good as none.
  const editor = [process.env.VISUAL, process.env.EDITOR].find((name) => name !== undefined && name !== '') ?? 'vi';
  const folder = mkdtempSync(join(tmpdir(), 'flow-notes-'));
  const file = join(folder, 'ChangeLog-section.md');
  try {
    writeFileSync(file, `${text}\n\n; ${hint}\n; Lines that start with ";" are dropped.\n`);
    // $EDITOR is the person's own and may hold options ("code --wait"); the file's name is given as an argument of its own.
    const result = spawnSync('sh', ['-c', `exec ${editor} "$1"`, 'sh', file], { stdio: 'inherit' });
    if (result.status !== 0)
      throw new UsageError(
        'EDITOR',
        `The editor (${editor}) ended with status ${result.status ?? 'none'}. Nothing was changed. Give the text with: --notes FILE`,
      );
    return readFileSync(file, 'utf8')
      .split('\n')
      .filter((line) => !line.startsWith(';'))
      .join('\n')
      .trim();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
