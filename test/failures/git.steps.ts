/** What operators, colleagues, hooks and accidents do to a project's repository. */
import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect } from 'vitest';
import { git, type Stage } from '../scenarios/stage.ts';
import type { Ended } from '../scenarios/terminal.ts';

export const project = (on: Stage, ...args: string[]): string => git(on.sandbox.projectDir, ...args);
export const remote = (on: Stage): string => join(on.sandbox.root, 'cil.git');
export const onRemote = (on: Stage, ref: string): string =>
  git(remote(on), 'for-each-ref', '--format=%(objectname)', ref);
export const next = (on: Stage): Promise<Ended> => on.flow('send', 'NEXT', '--yes');

/** What an operator types at a shell, in the project. */
export const types = (on: Stage, line: string): string =>
  execFileSync('sh', ['-ec', line], { cwd: on.sandbox.projectDir, encoding: 'utf8', stdio: 'pipe' });

export function conflicts(on: Stage, line: string, file: string): void {
  expect(() => types(on, line)).toThrow();
  expect(project(on, 'diff', '--name-only', '--diff-filter=U')).toBe(file);
}

export async function rest(on: Stage, milestone: string): Promise<void> {
  await on.walkTo(await on.start(), milestone);
  await on.leave();
}

export async function expectNext(on: Stage, event: 'NEXT' | 'RETEST', milestone: string): Promise<void> {
  const ended = await on.flow('send', event, '--yes');
  expect(ended.status, ended.err).toBe(0);
  expect(on.document().snapshot.value).toBe(milestone);
}

export function commit(on: Stage, file: string, text: string, subject: string): void {
  appendFileSync(join(on.sandbox.projectDir, file), text);
  project(on, 'add', '--', file);
  project(on, 'commit', '--quiet', '-m', subject);
}

export function onBranch(on: Stage, branch: string, work: () => void): void {
  project(on, 'switch', '--quiet', branch);
  work();
  project(on, 'switch', '--quiet', 'develop');
}

export function hook(dir: string, name: string, ...lines: string[]): string {
  const path = join(dir, 'hooks', name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `#!/bin/sh\n${lines.join('\n')}\n`, { mode: 0o755 });
  return path;
}
export const hookHere = (on: Stage, name: string, ...lines: string[]): string =>
  hook(join(on.sandbox.projectDir, '.git'), name, ...lines);

/** Somebody else's clone. */
export function colleague(on: Stage, branch: string): (...args: string[]) => string {
  const dir = join(on.sandbox.root, 'colleague');
  git(on.sandbox.root, 'clone', '--quiet', '--branch', branch, 'cil.git', dir);
  git(dir, 'config', 'user.name', 'Colleague');
  git(dir, 'config', 'user.email', 'colleague@example.com');
  return (...args) => git(dir, ...args);
}

export const notPushed = (on: Stage): void => {
  expect(onRemote(on, 'refs/tags/v1.3.8')).toBe('');
  expect(onRemote(on, 'refs/heads/master')).toBe(project(on, 'rev-parse', 'v1.3.7'));
};
/** As if tagging had never been tried. */
export const putBack = (on: Stage): void => {
  notPushed(on);
  expect(project(on, 'tag', '--list', 'v1.3.8')).toBe('');
  expect(project(on, 'rev-parse', 'master')).toBe(project(on, 'rev-parse', 'v1.3.7'));
};
export const pushed = (on: Stage): void => {
  const master = project(on, 'rev-parse', 'master');
  expect([onRemote(on, 'refs/tags/v1.3.8'), onRemote(on, 'refs/heads/master')]).toEqual([master, master]);
  expect(git(remote(on), 'log', '--format=%s', 'v1.3.7..v1.3.8').match(/ChangeLog for/g)).toHaveLength(1);
};
export const sectionOf = (on: Stage, version: string): string =>
  project(on, 'show', 'master:ChangeLog.md')
    .split(/^## /m)
    .find((section) => section.startsWith(version)) ?? '';

/** Takes away what runs on a server, and every trace of it. */
export async function emptyServer(on: Stage, name: string): Promise<void> {
  const pid = await on.sandbox.serverPid(name);
  if (pid !== null) process.kill(pid, 'SIGKILL');
  await expect.poll(() => on.sandbox.serverPid(name)).toBeNull();
  const { dir } = on.sandbox.server(name);
  rmSync(dir, { recursive: true });
  mkdirSync(dir);
}
