/** Every proof holds on a world that is as it should be, and exactly the right one fails when one thing is not. */
import { execFileSync } from 'node:child_process';
import { appendFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Expected, proveWorld, remoteTags } from '../../../src/cli/demo/world-proof.ts';
import { createSandbox, type Sandbox } from '../../../src/sandbox/world.ts';

let parent = '';
let sandbox: Sandbox;
let expected: Expected;

beforeAll(async () => {
  parent = await mkdtemp(join(tmpdir(), 'flow-proof-'));
  sandbox = await createSandbox({ root: join(parent, 'world'), startMs: 50 });
  // The world after the release of v1.3.7, which the sandbox begins with.
  expected = {
    runs: 'v1.3.7',
    tag: 'v1.3.7',
    tagsBefore: ['v1.3.5', 'v1.3.6'],
    published: { app1: 0, app2: 0 },
    mergedBack: true,
  };
});
afterAll(async () => {
  await sandbox.stop();
  await rm(parent, { recursive: true, force: true });
});

const git = (dir: string, ...args: string[]): string =>
  execFileSync('git', ['-C', dir, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
const bare = (): string => join(sandbox.root, 'cil.git');
const failing = async (changes: Partial<Expected> = {}): Promise<string[]> =>
  (await proveWorld(sandbox, { ...expected, ...changes })).filter(({ ok }) => !ok).map(({ what }) => what);

test('holds on a world that is as it should be', async () => {
  expect(await remoteTags(sandbox)).toEqual(['v1.3.5', 'v1.3.6', 'v1.3.7']);
  const proofs = await proveWorld(sandbox, expected);
  expect(proofs.filter(({ ok }) => !ok)).toEqual([]);
  expect(proofs).toHaveLength(11);
});

test('sees a release that was never made', async () => {
  const missing = await failing({
    runs: 'v1.3.8',
    tag: 'v1.3.8',
    tagsBefore: ['v1.3.5', 'v1.3.6', 'v1.3.7'],
    published: { app1: 1, app2: 1 },
  });
  expect(missing).toEqual([
    'ChangeLog.md on master has the section of v1.3.8',
    'the remote has v1.3.8 and no other new tag',
    "v1.3.8 is the remote's master",
    'app1 serves v1.3.8, and -version says so',
    'app1 was published exactly once',
    'app2 serves v1.3.8, and -version says so',
    'app2 was published exactly once',
  ]);
});

interface Wrong {
  what: string;
  make: () => unknown;
  mend: () => unknown;
  fails: string;
}

test.each<Wrong>([
  {
    what: 'a private tag that was pushed along',
    make: () => git(bare(), 'tag', 'wip', 'master'),
    mend: () => git(bare(), 'tag', '-d', 'wip'),
    fails: 'the remote has v1.3.7 and no other new tag',
  },
  {
    what: 'a master that was pushed on after the tag',
    make: () => git(bare(), 'update-ref', 'refs/heads/master', 'develop'),
    mend: () => git(bare(), 'update-ref', 'refs/heads/master', 'v1.3.7'),
    fails: "v1.3.7 is the remote's master",
  },
  {
    what: "a change left in the operator's tree",
    make: () => writeFile(join(sandbox.projectDir, 'left.txt'), 'left'),
    mend: () => rm(join(sandbox.projectDir, 'left.txt')),
    fails: "the operator's tree is clean and on develop",
  },
  {
    what: "the operator's tree on another branch",
    make: () => git(sandbox.projectDir, 'switch', '-q', 'testing'),
    mend: () => git(sandbox.projectDir, 'switch', '-q', 'develop'),
    fails: "the operator's tree is clean and on develop",
  },
  {
    what: 'a route of one server in the tree of Nginx that is not live yet',
    make: () => git(sandbox.nginxDir, 'switch', '-q', 'yun-app1'),
    mend: () => git(sandbox.nginxDir, 'switch', '-q', 'master'),
    fails: "Nginx's tree equals its branch master",
  },
  {
    what: 'a file in the tree of Nginx that nobody committed',
    make: () => appendFile(join(sandbox.nginxDir, 'conf/extra.conf'), '# left\n'),
    mend: () => rm(join(sandbox.nginxDir, 'conf/extra.conf')),
    fails: "Nginx's tree equals its branch master",
  },
  {
    what: 'a server that answers with errors',
    make: () => sandbox.misbehaveServer('app2', { status5xxEvery: 1 }),
    mend: () => sandbox.misbehaveServer('app2', null),
    fails: 'requests through Nginx are answered by every server, and by no other',
  },
  {
    what: 'a program that says another version than its server',
    make: () => writeFile(join(sandbox.server('app1').dir, 'version'), 'v1.3.70 abc\n'),
    mend: () =>
      writeFile(
        join(sandbox.server('app1').dir, 'version'),
        `v1.3.7 ${git(sandbox.projectDir, 'rev-parse', '--short', 'v1.3.7')}\n`,
      ),
    fails: 'app1 serves v1.3.7, and -version says so',
  },
])('sees $what, and nothing else', async ({ make, mend, fails }) => {
  await make();
  try {
    expect(await failing()).toEqual([fails]);
  } finally {
    await mend();
  }
  expect(await failing()).toEqual([]);
});

test('sees a route that is live although the tree is on master', async () => {
  git(sandbox.nginxDir, 'switch', '-q', 'yun-app1');
  execFileSync('sbin/nginx', ['-s', 'reload'], { cwd: sandbox.nginxDir });
  // The command only sends a signal: the master reads the files when it comes to it.
  const answering = async () =>
    await Promise.all(
      Array.from({ length: 8 }, async () => (await fetch(`${sandbox.url}/version`)).headers.get('x-server')),
    );
  await expect.poll(async () => [...new Set(await answering())], { timeout: 10_000 }).toEqual(['app1']);
  git(sandbox.nginxDir, 'switch', '-q', 'master');
  await expect
    .poll(failing, { timeout: 5_000 })
    .toEqual(['requests through Nginx are answered by every server, and by no other']);
  execFileSync('sbin/nginx', ['-s', 'reload'], { cwd: sandbox.nginxDir });
  await expect.poll(failing, { timeout: 5_000 }).toEqual([]);
});

test('sees a develop that lacks master', async () => {
  const before = git(sandbox.projectDir, 'rev-parse', 'develop');
  git(sandbox.projectDir, 'switch', '-q', '-C', 'develop', 'v1.3.6');
  expect(await failing()).toEqual(['develop contains master']);
  expect(await failing({ mergedBack: false })).toEqual([]);
  git(sandbox.projectDir, 'switch', '-q', '-C', 'develop', before);
});
