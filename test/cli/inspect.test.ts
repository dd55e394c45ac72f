/** `flow inspect` and `flow send --inspect` as an operator starts them. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { stage, type Stage } from '../scenarios/stage.ts';

let on: Stage;
beforeEach(async () => {
  on = await stage();
});
afterEach(async () => {
  const { pid } = running();
  if (pid !== null) process.kill(pid, 'SIGKILL');
  await on.close();
});

const file = () => join(on.place.stateDir, 'inspector.json');
function running(): { pid: number | null; token: string; port: number } {
  try {
    const { pid, token, port } = JSON.parse(readFileSync(file(), 'utf8')) as {
      pid: number;
      token: string;
      port: number;
    };
    process.kill(pid, 0);
    return { pid, token, port };
  } catch {
    return { pid: null, token: '', port: 0 };
  }
}
const commandLines = (): string =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'latin1');
      } catch {
        return '';
      }
    })
    .join('\n');

describe('flow inspect', () => {
  test('says how to get there where there is no desktop, keeps its token to itself, and ends on Ctrl-C', async () => {
    const inspecting = on.begin('inspect');
    const out: string[] = [];
    inspecting.child.stdout?.on('data', (chunk: Buffer) => out.push(chunk.toString()));
    await vi.waitUntil(() => out.join('').includes('Ctrl-C'), { timeout: 10_000 });
    const { token, port } = running();
    expect(out.join('')).toContain(`http://127.0.0.1:${port}/#token=${token}`);
    expect(out.join('')).toContain(`ssh -L ${port}:127.0.0.1:${port} `);
    expect(statSync(file()).mode & 0o777).toBe(0o600);
    expect(commandLines()).not.toContain(token);
    const again = await on.flow('inspect');
    expect([again.status, again.out]).toEqual([0, expect.stringContaining(`:${port}/`)]);
    const taken = await on.flow('inspect', '--port', String(port));
    expect([taken.status, taken.err]).toEqual([2, expect.stringContaining('EADDRINUSE')]);
    inspecting.child.kill('SIGINT');
    expect((await inspecting.ended).status).toBe(0);
  }, 60_000);

  test('waits for a first release where there is none yet', async () => {
    const inspecting = on.begin('inspect', '--json');
    await vi.waitUntil(() => running().pid !== null, { timeout: 10_000 });
    const { token, port } = running();
    const response = await fetch(`http://127.0.0.1:${port}/events`, { headers: { authorization: `Bearer ${token}` } });
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    const { value } = await reader.read();
    expect(new TextDecoder().decode(value)).toContain('"type":"hello"');
    await reader.cancel();
    inspecting.child.kill('SIGTERM');
    expect((await inspecting.ended).status).toBe(0);
  }, 60_000);

  test('is started beside a send, and outlives it', async () => {
    await on.start();
    await on.leave();
    const sent = await on.flow('send', 'NEXT', '--yes', '--inspect');
    expect(sent.status, sent.err).toBe(0);
    const { pid, port, token } = running();
    expect(pid).not.toBeNull();
    expect(sent.err).toContain(`http://127.0.0.1:${port}/#token=${token}`);
    expect((await fetch(`http://127.0.0.1:${port}/`)).status).toBe(200);
    const next = await on.flow('send', 'NEXT', '--yes', '--inspect');
    expect([next.status, running().pid], next.err).toEqual([0, pid]);
  }, 60_000);
});
