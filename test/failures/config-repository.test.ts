/** Trouble in the git repository of the Nginx folder: named, and HEAD, files and traffic stay as they were. */
import { execFileSync } from 'node:child_process';
import { appendFile, chmod, mkdir, readFile, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { localHost } from '../../src/hosts/local.ts';
import { judge } from '../../src/release/judge.ts';
import { planRelease } from '../../src/release/start.ts';
import { readNote } from '../../src/nginx/switch-note.ts';
import { holdSwitches } from '../nginx/repository.ts';
import { OVER_SSH, git, type Stage } from '../scenarios/stage.ts';
import type { Ended } from '../scenarios/terminal.ts';
import { beforeStart, beforeTheFirstSwitch, inMidRelease } from './config-repository.rows.ts';
import { failures, refusals } from './failure.ts';

const inNginx = (on: Stage, ...args: string[]): string => git(on.sandbox.nginxDir, ...args);
const file = (on: Stage, path: string): string => join(on.sandbox.nginxDir, path);

/** Runs the command that is refused, and holds HEAD, branches, files and Nginx's workers to what they were before. */
async function unmoved(on: Stage, ...command: string[]): Promise<Ended> {
  const look = async () => [
    await readFile(file(on, '.git/HEAD'), 'utf8'),
    inNginx(on, 'for-each-ref'),
    inNginx(on, 'status', '--porcelain'),
    inNginx(on, 'diff'),
    execFileSync('pgrep', ['-P', String(await on.sandbox.nginxPid())], { encoding: 'utf8' }),
  ];
  const before = await look();
  const ended = await on.flow(...command);
  expect(await look()).toEqual(before);
  return ended;
}

/** Walks the way back to an older version, which begins before the first switch: the switches are those of every release. */
async function walkTo(on: Stage, milestone: string): Promise<void> {
  const driver = await on.start({ backTo: 'v1.3.6' });
  expect(driver.engine.state).toBe('tagged');
  await on.walkTo(driver, milestone);
  await on.leave();
}

const start = (on: Stage) => unmoved(on, 'start', '--yes');
const next = (on: Stage) => unmoved(on, 'send', 'NEXT', '--yes');

async function expectStartPasses(on: Stage): Promise<void> {
  expect((await planRelease(on.place, {})).input.version).toBe('v1.3.8');
}
async function expectNextPasses(on: Stage, ...force: string[]): Promise<void> {
  const [decision] = await judge(on.place, on.document(), [{ type: 'NEXT', force }]);
  expect(decision?.accepted, JSON.stringify(decision)).toBe(true);
}
async function expectNextIsRefused(on: Stage, because: string): Promise<void> {
  const [decision] = await judge(on.place, on.document(), [{ type: 'NEXT' }]);
  expect(decision?.accepted).toBe(false);
  expect(JSON.stringify(decision)).toContain(because);
}

/** Commits a change on a branch without touching the files that lie there; answers how to take it back. */
async function commitOn(
  on: Stage,
  branch: string,
  path: string,
  change: (text: string) => string,
): Promise<() => void> {
  const before = inNginx(on, 'rev-parse', branch);
  const tree = join(on.sandbox.root, 'by-hand');
  inNginx(on, 'worktree', 'add', '--quiet', tree, branch);
  await mkdir(join(tree, path, '..'), { recursive: true });
  await writeFile(join(tree, path), change(await readFile(join(tree, path), 'utf8').catch(() => '')));
  git(tree, 'add', '--force', path);
  git(tree, 'commit', '--quiet', '-m', `Change ${path}`);
  inNginx(on, 'worktree', 'remove', tree);
  return () => inNginx(on, 'branch', '--force', branch, before);
}

/** Changes a file on every branch, and leaves the tree on master. */
async function commitEverywhere(on: Stage, path: string, change: (text: string) => string): Promise<void> {
  for (const branch of ['yun-app1', 'yun-app2', 'master']) {
    inNginx(on, 'switch', '--quiet', branch);
    await writeFile(file(on, path), change(await readFile(file(on, path), 'utf8').catch(() => '')));
    inNginx(on, 'add', path);
    inNginx(on, 'commit', '--quiet', '-m', `Change ${path}`);
  }
}

const extraLocation = (conf: string): string =>
  conf.replace('        location / {', '        location /only-here { return 204; }\n        location / {');

function swapBranches(on: Stage): void {
  inNginx(on, 'branch', '-m', 'yun-app1', 'other');
  inNginx(on, 'branch', '-m', 'yun-app2', 'yun-app1');
  inNginx(on, 'branch', '-m', 'other', 'yun-app2');
}

/** Gives the Nginx folder to another user, as git sees it. Answers how to undo it. */
async function giveAway(on: Stage): Promise<() => void> {
  const { nginxDir, root } = on.sandbox;
  const { uid } = userInfo();
  const { PATH } = process.env;
  process.env.GIT_CONFIG_GLOBAL = join(root, 'gitconfig');
  if (uid === 0) execFileSync('chown', ['-R', '12345', nginxDir]);
  else {
    // Only root can give a folder away; git itself can be told to see it so, here for this folder alone.
    const program = execFileSync('sh', ['-c', 'command -v git'], { encoding: 'utf8' }).trim();
    await mkdir(join(root, 'bin'));
    await writeFile(
      join(root, 'bin/git'),
      `#!/bin/sh\ncase " $* " in *" ${nginxDir} "*) export GIT_TEST_ASSUME_DIFFERENT_OWNER=1 ;; esac\nexec '${program}' "$@"\n`,
    );
    await chmod(join(root, 'bin/git'), 0o755);
    process.env.PATH = `${join(root, 'bin')}:${PATH ?? ''}`;
  }
  return () => {
    delete process.env.GIT_CONFIG_GLOBAL;
    process.env.PATH = PATH;
    if (uid === 0) execFileSync('chown', ['-R', '0', nginxDir]);
  };
}

/** Kills flow, and then its git, when half of the files are written: as a machine that goes down. */
async function killInSwitch(on: Stage): Promise<void> {
  await walkTo(on, 'tagged');
  const hold = await holdSwitches(on.sandbox.nginxDir);
  const sending = on.begin('send', 'NEXT', '--yes');
  await hold.reached();
  sending.child.kill('SIGKILL');
  const { group = 0 } = (await readNote(localHost(), file(on, '.git/index.lock'))) ?? {};
  process.kill(-group, 'SIGKILL');
  await sending.ended;
  await hold.end();
  expect(inNginx(on, '--no-optional-locks', 'status', '--porcelain')).not.toBe('');
}

let undo: () => void = () => undefined;

refusals(
  'the config repository, before a release',
  beforeStart,
  { prepare: () => Promise.resolve() },
  {
    dirMissing: {
      async trouble(on) {
        const yaml = join(on.sandbox.projectDir, 'flow.yaml');
        const { nginxDir } = on.sandbox;
        await writeFile(yaml, (await readFile(yaml, 'utf8')).replace(nginxDir, `${nginxDir}/nowhere`));
        return await start(on);
      },
      async mended(on) {
        git(on.sandbox.projectDir, 'restore', 'flow.yaml');
        expect((await on.flow('config', 'check')).status).toBe(0);
        await expectStartPasses(on);
      },
    },
    notARepository: {
      async trouble(on) {
        await rename(file(on, '.git'), file(on, '.git-away'));
        return await on.flow('start', '--yes');
      },
      async mended(on) {
        await rename(file(on, '.git-away'), file(on, '.git'));
        await expectStartPasses(on);
      },
    },
    otherOwner: {
      async trouble(on) {
        undo = await giveAway(on);
        return await on.flow('start', '--yes');
      },
      async mended(on) {
        try {
          // On another host it would be the settings of whoever runs these tests.
          if (OVER_SSH) undo();
          else execFileSync('git', ['config', '--global', '--add', 'safe.directory', on.sandbox.nginxDir]);
          await expectStartPasses(on);
        } finally {
          undo();
        }
      },
    },
    branchMissing: {
      async trouble(on) {
        inNginx(on, 'branch', '-D', 'yun-app1');
        return await start(on);
      },
      async mended(on) {
        const [last = ''] = inNginx(on, 'reflog', '--format=%h %gs')
          .split('\n')
          .filter((line) => line.endsWith('commit: Only app1'));
        inNginx(on, 'branch', 'yun-app1', last.slice(0, last.indexOf(' ')));
        await expectStartPasses(on);
      },
    },
    branchesSwapped: {
      async trouble(on) {
        swapBranches(on);
        return await start(on);
      },
      async mended(on) {
        swapBranches(on);
        await expectStartPasses(on);
      },
    },
    routesDiffer: {
      async trouble(on) {
        await commitOn(on, 'yun-app2', 'conf/nginx.conf', extraLocation);
        return await start(on);
      },
      async mended(on) {
        const ended = await on.flow('start', '--yes', '--force=routesDiffer', '--reason', 'wanted there');
        expect(ended.status, ended.err).toBe(0);
        const [started] = on.document().history;
        expect(started?.reason).toBe('wanted there');
        expect(started?.forced.map(({ id }) => id)).toEqual(['routesDiffer']);
      },
    },
  },
);

refusals(
  'the config repository, before the first switch',
  beforeTheFirstSwitch,
  {
    async prepare(on) {
      await commitEverywhere(on, 'conf/nginx.conf', (conf) =>
        conf.replace('include upstream.conf;', 'include upstream.conf; include conf.d/*.conf;'),
      );
      await walkTo(on, 'tagged');
    },
  },
  {
    dirty: {
      async trouble(on) {
        await appendFile(file(on, 'conf/nginx.conf'), '# looked at by night\n');
        return await next(on);
      },
      async mended(on) {
        inNginx(on, 'restore', '--staged', '--worktree', 'conf/nginx.conf');
        await expectNextPasses(on);
      },
    },
    untrackedIncluded: {
      async trouble(on) {
        await mkdir(file(on, 'conf/conf.d'));
        await writeFile(file(on, 'conf/conf.d/debug.conf'), 'server_tokens off;\n');
        return await next(on);
      },
      async mended(on) {
        await rm(file(on, 'conf/conf.d/debug.conf'));
        await expectNextPasses(on);
      },
    },
    untrackedElsewhere: {
      async trouble(on) {
        await writeFile(file(on, 'notes.txt'), 'ask about the certificate\n');
        return await next(on);
      },
      async mended(on) {
        await appendFile(file(on, '.git/info/exclude'), 'notes.txt\n');
        await expectNextPasses(on);
      },
    },
    ignoredInTheWay: {
      async trouble(on) {
        undo = await commitOn(on, 'yun-app2', 'logs/notes.txt', () => 'theirs\n');
        await writeFile(file(on, 'logs/notes.txt'), 'mine\n');
        return await next(on);
      },
      async mended(on) {
        expect(await readFile(file(on, 'logs/notes.txt'), 'utf8')).toBe('mine\n');
        await rename(file(on, 'logs/notes.txt'), file(on, 'logs/my-notes.txt'));
        await expectNextPasses(on, 'routesDiffer');
        undo();
      },
    },
    staleLock: {
      async trouble(on) {
        const lock = file(on, '.git/index.lock');
        await writeFile(lock, '');
        const then = new Date(Date.now() - 3.5 * 3_600_000);
        await utimes(lock, then, then);
        return await next(on);
      },
      async mended(on) {
        execFileSync('rm', [file(on, '.git/index.lock')]);
        await expectNextPasses(on);
      },
    },
    detached: {
      async trouble(on) {
        inNginx(on, 'switch', '--quiet', '--detach');
        return await next(on);
      },
      async mended(on) {
        expect(inNginx(on, 'branch', '--points-at', 'HEAD', '--format=%(refname:short)')).toContain('master');
        inNginx(on, 'switch', '--quiet', 'master');
        await expectNextPasses(on);
      },
    },
    unfinishedMerge: {
      async trouble(on) {
        inNginx(on, 'merge', '--quiet', '--no-ff', '--no-commit', '--strategy=ours', 'yun-app2');
        expect(inNginx(on, 'status', '--porcelain')).toBe('');
        return await next(on);
      },
      async mended(on) {
        inNginx(on, 'merge', '--abort');
        await expectNextPasses(on);
        expect(() => inNginx(on, 'rebase', '--quiet', '--force-rebase', '--exec', 'false', 'HEAD~1')).toThrow();
        await expectNextIsRefused(on, 'a git rebase was begun');
        inNginx(on, 'rebase', '--abort');
        await expectNextPasses(on);
      },
    },
    branchInUse: {
      async trouble(on) {
        inNginx(on, 'worktree', 'add', '--quiet', join(on.sandbox.root, 'elsewhere'), 'yun-app1');
        return await next(on);
      },
      async mended(on) {
        const elsewhere = join(on.sandbox.root, 'elsewhere');
        git(elsewhere, 'switch', '--quiet', '--detach');
        await expectNextPasses(on);
        git(elsewhere, 'switch', '--quiet', 'yun-app1');
        await rm(elsewhere, { recursive: true });
        await expectNextIsRefused(on, `git -C ${on.sandbox.nginxDir} worktree prune`);
        inNginx(on, 'worktree', 'prune');
        await expectNextPasses(on);
      },
    },
    branchDeleted: {
      async trouble(on) {
        const commit = inNginx(on, 'rev-parse', 'yun-app2');
        undo = () => inNginx(on, 'branch', 'yun-app2', commit);
        inNginx(on, 'branch', '-D', 'yun-app2');
        return await next(on);
      },
      async mended(on) {
        undo();
        await expectNextPasses(on);
      },
    },
    editedSinceStart: {
      async trouble(on) {
        await commitOn(on, 'yun-app2', 'conf/nginx.conf', extraLocation);
        return await next(on);
      },
      async mended(on) {
        const ended = await on.flow('send', 'NEXT', '--yes', '--force=routesDiffer', '--reason', 'wanted there');
        expect(ended.status, ended.err).toBe(0);
        expect(on.document().history.flatMap(({ forced }) => forced.map(({ id }) => id))).toEqual(['routesDiffer']);
      },
    },
  },
);

failures('the config repository, in mid-release', inMidRelease, {
  swappedInMidRelease: {
    async trouble(on) {
      await walkTo(on, 'app1Published');
      swapBranches(on);
      return await next(on);
    },
    async mended(on) {
      swapBranches(on);
      expect((await on.flow('send', 'NEXT', '--yes')).status).toBe(0);
    },
  },
  dirtyInRollback: {
    async trouble(on) {
      await walkTo(on, 'app1Drained');
      await appendFile(file(on, 'conf/nginx.conf'), '# looked at by night\n');
      return await unmoved(on, 'send', 'ROLLBACK', '--yes');
    },
    async mended(on) {
      inNginx(on, 'restore', '--staged', '--worktree', 'conf/nginx.conf');
      expect((await on.flow('send', 'ROLLBACK', '--yes')).status).toBe(7);
    },
  },
  killedInSwitch: {
    async trouble(on) {
      await killInSwitch(on);
      return await on.flow('resume', '--yes');
    },
  },
  killedInSwitchAndEdited: {
    async trouble(on) {
      await killInSwitch(on);
      await writeFile(file(on, 'conf/upstream.conf'), '# mine\n');
      const ended = await on.flow('resume', '--yes');
      expect(await readFile(file(on, 'conf/upstream.conf'), 'utf8')).toBe('# mine\n');
      return ended;
    },
    async mended(on) {
      execFileSync('rm', [file(on, '.git/index.lock')]);
      inNginx(on, 'switch', '--discard-changes', 'master');
      await expectNextPasses(on);
    },
  },
  fileNamedLikeABranch: {
    async trouble(on) {
      await commitEverywhere(on, 'yun-app2', () => 'a file\n');
      await walkTo(on, 'tagged');
      return await on.flow('send', 'NEXT', '--yes');
    },
  },
});
