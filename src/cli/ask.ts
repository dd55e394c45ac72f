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

/**
 * The ordinary confirmation; the default is No. Throws UsageError NO_TTY when nobody can be asked, FlowError CANCELLED (130) on
 * Ctrl-C and Ctrl-D, and FlowError DECLINED on a no.
 */
export async function confirm(question: string, yes: boolean): Promise<void> {
  if (yes) return;
  if (!terminal().interactive) {
    const why = process.stdin.isTTY && process.stderr.isTTY ? 'CI or TERM=dumb is set' : 'there is no terminal';
    throw new UsageError(
      'NO_TTY',
      `Nobody can be asked "${question}", as ${why}. Nothing was changed. To answer it beforehand: --yes`,
    );
  }
  const { confirm: ask, isCancel } = await import('@clack/prompts');
  // The prompt takes no notice of Ctrl-D, and would leave its question open for ever when the input ends.
  const ended = new AbortController();
  const end = () => {
    ended.abort();
  };
  const onKey = (_text: unknown, key: { ctrl?: boolean; name?: string } | undefined) => {
    if (key?.ctrl === true && key.name === 'd') end();
  };
  process.stdin.on('keypress', onKey).on('end', end);
  try {
    const answer = await ask({ message: question, initialValue: false, output: process.stderr, signal: ended.signal });
    if (isCancel(answer)) throw new FlowError('CANCELLED', EXIT.interrupted, 'Cancelled. Nothing was changed.');
    if (!answer) throw new FlowError('DECLINED', EXIT.refused, 'Answered with no. Nothing was changed.');
  } finally {
    process.stdin.off('keypress', onKey).off('end', end);
  }
}

/**
 * Lets a person edit a text in $VISUAL or $EDITOR; lines that start with `;`, as the hints below it do, are dropped.
 * Throws UsageError EDITOR when the editor fails, and EMPTY_TEXT when nothing is left.
 */
export function edit(text: string, hints: readonly string[]): string {
  // An empty variable is as good as none.
  const editor = [process.env.VISUAL, process.env.EDITOR].find((name) => name !== undefined && name !== '') ?? 'vi';
  const folder = mkdtempSync(join(tmpdir(), 'flow-notes-'));
  const file = join(folder, 'ChangeLog-section.md');
  // Ctrl-C is the editor's while it runs: ours would leave it alone on the terminal.
  const ignore = () => undefined;
  process.on('SIGINT', ignore);
  try {
    writeFileSync(
      file,
      `${text}\n\n${[...hints, 'Lines that start with ";" are dropped.'].map((line) => `; ${line}\n`).join('')}`,
    );
    // $EDITOR is the person's own and may hold options ("code --wait"); the file's name is given as an argument of its own.
    const result = spawnSync('sh', ['-c', `exec ${editor} "$1"`, 'sh', file], { stdio: 'inherit' });
    if (result.status !== 0)
      throw new UsageError(
        'EDITOR',
        `The editor (${editor}) ended with ${result.signal ?? `status ${result.status ?? 'none'}`}. Nothing was changed. Try again, or give the text as a file: flow send NEXT --notes FILE`,
      );
    const edited = readFileSync(file, 'utf8')
      .split('\n')
      .filter((line) => !line.startsWith(';'))
      .join('\n')
      .trim();
    if (edited === '')
      throw new UsageError(
        'EMPTY_TEXT',
        'The ChangeLog section was left empty, so nothing was tagged. Nothing was changed. Try again, or give the text as a file: flow send NEXT --notes FILE',
      );
    return edited;
  } finally {
    process.off('SIGINT', ignore);
    rmSync(folder, { recursive: true, force: true });
  }
}
