/**
 * The processes around an inspector: the `flow send` that it starts for its page, and the inspector that `flow send --inspect`
 * starts beside itself. Each has a session and files of its own, so that neither takes the other with it.
 */
import { spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { EXIT } from '../../errors.ts';
import type { SendAnswer, SendRequest } from '../../inspector/wire.ts';
import type { Place } from '../../release/locate.ts';
import { addressLines } from './address.ts';
import { readInspector, urlOf } from './running.ts';

/** An answer is waited for so long: after it, the event was taken and is being carried out. */
const SAID_AT_ONCE_MS = 1_500;
const STARTING_MS = 5_000;
const STARTING_EVERY_MS = 25;

const flow = (): string => process.argv[1] ?? '';

/**
 * Sends an event as the command line does: by the command line, with the same guards, lock and record. Resolves when it has ended,
 * or after a moment in which it was not refused.
 */
export async function sendAsCommand(place: Place, { event, expect, reason }: SendRequest): Promise<SendAnswer> {
  const args = ['--config', place.configFile, 'send', event, '--yes', '--via', 'inspector'];
  // As on the command line: a ROLLBACK is meant whatever happened since the page was drawn.
  if (event !== 'ROLLBACK') args.push('--expect', String(expect));
  const why = reason === null ? [] : ['--reason', reason];
  const dir = mkdtempSync(join(tmpdir(), 'flow-inspect-'));
  const file = join(dir, 'said');
  // To a file and not through a pipe: what it says must not break off when the inspector ends before it.
  const out = openSync(file, 'w', 0o600);
  const child = spawn(process.execPath, [flow(), ...args, ...why], {
    cwd: place.projectDir,
    detached: true,
    stdio: ['ignore', out, out],
    env: { ...process.env, NO_COLOR: '1', CI: '1' },
  });
  closeSync(out);
  const ended = new Promise<{ status: number; said: string }>((resolve) => {
    const end = (status: number | null) => {
      resolve({ status: status ?? EXIT.defect, said: saidIn(file) });
      rmSync(dir, { recursive: true, force: true });
    };
    child.once('error', () => end(EXIT.defect));
    child.once('exit', end);
  });
  const answer = await Promise.race([ended, delay(SAID_AT_ONCE_MS, null)]);
  if (answer === null) {
    child.unref();
    return { accepted: true, said: `${event} was taken and is being carried out.` };
  }
  const refused: readonly number[] = [EXIT.refused, EXIT.usage, EXIT.noRelease, EXIT.locked, EXIT.defect];
  if (refused.includes(answer.status)) return { accepted: false, said: answer.said };
  return {
    accepted: true,
    said:
      answer.status === EXIT.ok || answer.status === EXIT.rolledBack
        ? `${event} was carried out.`
        : `${event} was taken, and what follows needs you: see where the release stands.`,
  };
}

function saidIn(file: string): string {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    return '';
  }
}

/** Starts an inspector that outlives this command, unless one runs, and says where it is. Never a reason for a release to fail. */
export async function inspectBeside(place: Place): Promise<void> {
  const known = readInspector(place.stateDir);
  if (known?.isLive !== true) {
    const child = spawn(process.execPath, [flow(), '--config', place.configFile, 'inspect', '--beside-send'], {
      cwd: place.projectDir,
      detached: true,
      stdio: 'ignore',
    });
    child.on('error', () => undefined);
    child.unref();
  }
  for (let waitedMs = 0; waitedMs < STARTING_MS; waitedMs += STARTING_EVERY_MS) {
    const running = readInspector(place.stateDir);
    if (running?.isLive === true) {
      process.stderr.write(`${addressLines(urlOf(running), running.port).join('\n')}\n`);
      return;
    }
    await delay(STARTING_EVERY_MS);
  }
  process.stderr.write('The inspector did not start; the release goes on without it. Try: flow inspect\n');
}
