/** What the tests of Nginx's failures share: how the proxy stands, changes to its branches, and clients that take their time. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { type IncomingMessage, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import { git, type Stage } from '../scenarios/stage.ts';
import type { Ended } from '../scenarios/terminal.ts';

export const nginx = (on: Stage, ...args: string[]) => execFileSync('sbin/nginx', args, { cwd: on.sandbox.nginxDir });
export const inNginx = (on: Stage, path: string): string => join(on.sandbox.nginxDir, path);

export async function walkTo(on: Stage, milestone: string): Promise<void> {
  await on.walkTo(await on.start(), milestone);
  await on.leave();
}

/** A stage that waits before its first switch, which is where the way back to an older version begins. */
export async function toTagged(on: Stage): Promise<void> {
  await on.start({ backTo: 'v1.3.6' });
  expect(on.document().snapshot.value).toBe('tagged');
  await on.leave();
}

/** The workers of a master, by their ids. */
export const workersOf = (master: number | null): string =>
  execFileSync('pgrep', ['-P', String(master)], { encoding: 'utf8' });

/** The branch and commit of the Nginx folder, what is not clean there, and who works. */
export async function proxyOf(on: Stage) {
  const dir = on.sandbox.nginxDir;
  return {
    branch: git(dir, 'branch', '--show-current'),
    head: git(dir, 'rev-parse', 'HEAD'),
    dirty: git(dir, 'status', '--porcelain'),
    workers: workersOf(await on.sandbox.nginxPid()),
  };
}

/** Runs a command that must leave the proxy as it was: branch, commit, files and workers. */
export async function unmoved(on: Stage, ...command: string[]): Promise<Ended> {
  const before = await proxyOf(on);
  const ended = await on.flow(...command);
  expect(await proxyOf(on)).toEqual(before);
  return ended;
}

/** Commits a change to a file on branches, without touching the files that lie there. */
export async function commitOn(
  on: Stage,
  branches: readonly string[],
  path: string,
  edit: (text: string) => string,
): Promise<void> {
  const { nginxDir, root } = on.sandbox;
  const tree = join(root, 'by-hand');
  for (const branch of branches) {
    git(nginxDir, 'worktree', 'add', '--quiet', tree, branch);
    const before = await readFile(join(tree, path), 'utf8');
    const after = edit(before);
    expect(after).not.toBe(before);
    await writeFile(join(tree, path), after);
    git(tree, 'commit', '--quiet', '--all', '-m', `Change ${path}`);
    git(nginxDir, 'worktree', 'remove', tree);
  }
}
/** Takes back the last commit of a branch that is not checked out. */
export const dropCommit = (on: Stage, branch: string): string =>
  git(on.sandbox.nginxDir, 'branch', '--force', branch, `${branch}~1`);

export async function expectFlow(on: Stage, status: number, state: string, ...command: string[]): Promise<Ended> {
  const ended = await on.flow(...command);
  expect([ended.status, on.latest()?.snapshot.value], `${ended.err}\n${ended.out}`).toEqual([status, state]);
  return ended;
}
export const rollsBack = async (on: Stage): Promise<void> => {
  await expectFlow(on, 7, 'rolledBack', 'send', 'ROLLBACK', '--yes');
  expect(on.document().snapshot.context.runs).toEqual({ app1: 'old', app2: 'old' });
  expect(git(on.sandbox.nginxDir, 'branch', '--show-current')).toBe('master');
};

/** One answer, and when it came. */
export interface Answered {
  status: number;
  server: string;
  version: string;
  at: number;
}

/** A request that is answered after so long, or (`upload`) whose body takes so long to arrive. */
export async function slow(on: Stage, how: 'get' | 'upload', ms: number): Promise<Answered> {
  const url = how === 'get' ? `${on.sandbox.url}/slow?ms=${ms}` : `${on.sandbox.url}/upload`;
  const sent = request(url, { method: how === 'get' ? 'GET' : 'POST', agent: false, headers: { connection: 'close' } });
  if (how === 'upload') {
    sent.write('first half');
    await delay(ms);
  }
  sent.end();
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  response.resume();
  await once(response, 'end');
  const { statusCode = 0, headers } = response;
  return {
    status: statusCode,
    server: String(headers['x-server']),
    version: String(headers['x-version']),
    at: performance.now(),
  };
}

/** A connection through the proxy that was upgraded, as a websocket is, by that server. Destroy it when done. */
export async function openSocket(on: Stage, server: string): Promise<Socket> {
  const { hostname, port } = new URL(on.sandbox.url);
  for (;;) {
    const socket = connect(Number(port), hostname);
    socket.write('GET /live HTTP/1.1\r\nHost: quickpay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n');
    const [head] = (await once(socket, 'data')) as [Buffer];
    expect(head.toString()).toContain('101 Switching Protocols');
    if (/x-server: (\S+)/i.exec(head.toString())?.[1] === server) return socket;
    socket.destroy();
  }
}

/** Whether the connection still carries something in both directions. */
export async function echoes(socket: Socket): Promise<boolean> {
  socket.write('ping');
  const answer = once(socket, 'data').then(([text]) => String(text) === 'ping');
  return await Promise.race([answer, delay(2_000, false)]);
}
