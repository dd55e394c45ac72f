/**
 * The real command line in a real terminal: script(1) of util-linux gives it one, and a test types into it. What is typed goes
 * through the terminal's line discipline, so that Ctrl-C is a signal to the foreground group, as it is for a person.
 */
import { spawn } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { type Ended, FLOW } from './terminal.ts';

export const CTRL_C = '\u0003';
export const CTRL_D = '\u0004';
export const ENTER = '\r';

const COLUMNS = 160;
const PATIENCE_MS = 20_000;

export interface TypedInto {
  /** Presses keys. */
  type(keys: string): void;
  /** Waits until the terminal has shown a text; throws when the command ends without. */
  shows(text: string): Promise<void>;
  /** All that the terminal has shown, escape sequences included. */
  screen(): string;
  /** Takes the terminal away, as closing its window does. */
  hangUp(): void;
  /** How the command ended; both streams are the terminal, so all is in `out`. */
  ended: Promise<Ended>;
}

const quoted = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;

/** Starts `flow` in a terminal of its own. Ends with the command; `hangUp` ends both. */
export function beginInTerminal(cwd: string, args: readonly string[], env: Record<string, string> = {}): TypedInto {
  const line = `stty cols ${COLUMNS} rows 50; exec ${[process.execPath, FLOW, ...args].map(quoted).join(' ')}`;
  const { NO_COLOR: _plain, FORCE_COLOR: _coloured, CI: _ci, ...inherited } = process.env;
  const child = spawn('script', ['--quiet', '--return', '--command', line, '/dev/null'], {
    cwd,
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...inherited, SHELL: '/bin/sh', TERM: 'xterm-256color', ...env },
  });
  let out = '';
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString();
  });
  child.stdin.on('error', () => undefined);
  let isOver = false;
  const ended = new Promise<Ended>((resolve) => {
    child.on('close', (status) => {
      isOver = true;
      resolve({ status, out, err: '' });
    });
  });
  return {
    ended,
    screen: () => out,
    type: (keys) => {
      child.stdin.write(keys);
    },
    shows: async (text) => {
      const until = performance.now() + PATIENCE_MS;
      while (!out.includes(text)) {
        if (isOver || performance.now() > until) throw new Error(`the terminal did not show "${text}":\n${out}`);
        await delay(10);
      }
    },
    hangUp: () => {
      child.kill('SIGKILL');
    },
  };
}
