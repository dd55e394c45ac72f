/** What must be true of the world after a demo, each line looked at for real: git, Nginx's tree, the servers, the programs. */
import { localHost } from '../../hosts/local.ts';
import type { Sandbox } from '../../sandbox/world.ts';

export interface Proof {
  what: string;
  ok: boolean;
  saw: string;
}

export interface Expected {
  /** What the servers should run. */
  runs: string;
  /** The tag that the release pushed. */
  tag: string;
  /** Tags in the remote before the release. */
  tagsBefore: string[];
  /** Confirmed runs of the publish command on every production server. */
  published: number | null;
  /** Whether develop should contain master: only after a release that went all the way. */
  mergedBack: boolean;
}

const host = localHost();

async function git(dir: string, ...args: [string, ...string[]]): Promise<string> {
  const { status, stdout, stderr } = await host.run(['git', '-C', dir, ...args]);
  return status === 0 ? stdout.trim() : `git ${args[0]} failed: ${stderr.trim()}`;
}

/** The tags of the sandbox's remote. */
export async function remoteTags(sandbox: Sandbox): Promise<string[]> {
  return (await git(`${sandbox.root}/cil.git`, 'tag', '--list')).split('\n').filter((tag) => tag !== '');
}

/** Looks at everything and says what it saw. */
export async function proveWorld(sandbox: Sandbox, expected: Expected): Promise<Proof[]> {
  const { projectDir, nginxDir } = sandbox;
  const proofs: Proof[] = [];
  const add = (what: string, ok: boolean, saw: string) => proofs.push({ what, ok, saw });

  const changelog = await git(projectDir, 'show', 'master:ChangeLog.md');
  const section = changelog.split('\n').find((line) => line.includes(expected.tag)) ?? '';
  add(`ChangeLog.md on master has the section of ${expected.tag}`, section !== '', section || 'no such line');

  const tags = await remoteTags(sandbox);
  const fresh = tags.filter((tag) => !expected.tagsBefore.includes(tag));
  add(
    `the remote has ${expected.tag} and no other new tag`,
    fresh.join() === expected.tag,
    fresh.join(', ') || 'no new tag',
  );

  if (expected.mergedBack) {
    const base = await git(projectDir, 'merge-base', 'master', 'develop');
    const master = await git(projectDir, 'rev-parse', 'master');
    add('develop contains master', base === master, `merge base ${base.slice(0, 10)}, master ${master.slice(0, 10)}`);
  }
  const branch = await git(projectDir, 'branch', '--show-current');
  const dirty = await git(projectDir, 'status', '--porcelain');
  add(
    "the operator's tree is clean and on develop",
    branch === 'develop' && dirty === '',
    `${branch}, ${dirty === '' ? 'clean' : dirty}`,
  );

  const differs = await git(nginxDir, 'diff', '--stat', 'master');
  const untracked = await git(nginxDir, 'status', '--porcelain');
  add(
    "Nginx's tree equals its branch master",
    differs === '' && untracked === '',
    differs === '' && untracked === '' ? 'equal, clean' : `${differs}${untracked}`,
  );

  for (const name of ['app1', 'app2']) {
    const running = await sandbox.runningVersion(name);
    const { stdout } = await host.run([`${sandbox.server(name).dir}/quickpay`, '-version']);
    add(
      `${name} serves ${expected.runs}, and -version says so`,
      running === expected.runs && stdout.includes(`${expected.runs} `),
      `${running ?? 'nothing'}; ${stdout.trim()}`,
    );
    if (expected.published !== null) {
      const count = await sandbox.publishCount(name);
      add(
        `publish ran exactly ${expected.published === 1 ? 'once' : `${expected.published} times`} on ${name}`,
        count === expected.published,
        `${count}`,
      );
    }
  }
  return proofs;
}
