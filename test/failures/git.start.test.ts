/** What planning refuses because of the project's repository; all on one stage. */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { planRelease } from '../../src/release/start.ts';
import { git, type Stage } from '../scenarios/stage.ts';
import { refusals } from './failure.ts';
import { gitStartRows } from './git.rows.ts';
import { project, remote, types } from './git.steps.ts';

async function expectPlanned(on: Stage, version: string, after = 'v1.3.7'): Promise<void> {
  const { input, previousTag } = await planRelease(on.place, {});
  expect([input.version, previousTag]).toEqual([version, after]);
}

/** While `work` is at work, flow.yaml has one line more. */
async function withConfig<T>(on: Stage, line: string, work: () => Promise<T>): Promise<T> {
  const file = join(on.sandbox.projectDir, 'flow.yaml');
  const text = readFileSync(file, 'utf8');
  writeFileSync(file, `${text}${line}\n`);
  try {
    return await work();
  } finally {
    writeFileSync(file, text);
  }
}

refusals(
  'git at the start',
  gitStartRows,
  { prepare: () => Promise.resolve() },
  {
    remoteAwayAtStart: {
      async trouble(on) {
        renameSync(remote(on), `${remote(on)}.away`);
        return await on.flow('start', '--yes');
      },
      async mended(on) {
        renameSync(`${remote(on)}.away`, remote(on));
        await expectPlanned(on, 'v1.3.8');
      },
    },
    tagTaken: (on) => on.flow('start', '--to', 'v1.3.7', '--yes'),
    tagsMissing: {
      async trouble(on) {
        project(on, 'tag', '--delete', 'v1.3.7');
        return await on.flow('start', '--yes');
      },
      async mended(on) {
        types(on, 'git fetch --tags cil');
        await expectPlanned(on, 'v1.3.8', 'v1.3.7');
      },
    },
    shallow: {
      async trouble(on) {
        const { projectDir, root } = on.sandbox;
        renameSync(projectDir, `${projectDir}.whole`);
        const url = `file://${remote(on)}`;
        git(root, 'clone', '--quiet', '--depth', '1', '--no-single-branch', '--origin', 'cil', url, projectDir);
        for (const branch of ['develop', 'testing']) project(on, 'branch', branch, `cil/${branch}`);
        return await on.flow('start', '--yes');
      },
      async mended(on) {
        types(on, 'git fetch --unshallow --tags cil');
        await expectPlanned(on, 'v1.3.8', 'v1.3.7');
        rmSync(on.sandbox.projectDir, { recursive: true });
        renameSync(`${on.sandbox.projectDir}.whole`, on.sandbox.projectDir);
      },
    },
    hostileBranch: (on) => {
      project(on, 'update-ref', 'refs/heads/-f', 'develop');
      return withConfig(on, 'git: { branches: { develop: "-f" } }', () => on.flow('start', '--yes'));
    },
  },
);
