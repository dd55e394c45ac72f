/**
 * What must be true of the world after a demo, each line looked at for real: git, Nginx's tree, who answers through Nginx, the
 * servers, the programs. What the release says of itself is deliberately not asked.
 */
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
  tagsBefore: readonly string[];
  /** Confirmed runs of the publish command, by production server. */
  published: Readonly<Record<string, number>>;
  /** Whether develop should contain master: only after a release that went all the way. */
  mergedBack: boolean;
}

const ASKED_THROUGH_NGINX = 20;
const host = localHost();

async function git(dir: string, ...args: [string, ...string[]]): Promise<string> {
  const { status, stdout, stderr } = await host.run(['git', '-C', dir, ...args]);
  return status === 0 ? stdout.trim() : `git ${args[0]} failed: ${stderr.trim()}`;
}

/** The tags of the sandbox's remote. */
export async function remoteTags(sandbox: Sandbox): Promise<string[]> {
  return (await git(`${sandbox.root}/cil.git`, 'tag', '--list')).split('\n').filter((tag) => tag !== '');
}

/** Looks at everything and says what it saw. Throws nothing: what cannot be looked at is a proof that fails. */
export async function proveWorld(sandbox: Sandbox, expected: Expected): Promise<Proof[]> {
  const { projectDir, nginxDir } = sandbox;
  const proofs: Proof[] = [];
  const add = (what: string, ok: boolean, saw: string) => proofs.push({ what, ok, saw });

  const section = sectionOf(await git(projectDir, 'show', 'master:ChangeLog.md'), expected.tag);
  add(
    `ChangeLog.md on master has the section of ${expected.tag}`,
    section !== null && section.changes > 0,
    section === null ? 'no such heading' : `${section.heading}, ${section.changes} changes`,
  );

  const fresh = (await remoteTags(sandbox)).filter((tag) => !expected.tagsBefore.includes(tag));
  add(
    `the remote has ${expected.tag} and no other new tag`,
    fresh.join() === expected.tag,
    fresh.join(', ') || 'no new tag',
  );
  const bare = `${sandbox.root}/cil.git`;
  const [tagged, pushed] = await Promise.all([
    git(bare, 'rev-parse', '--verify', `refs/tags/${expected.tag}^{commit}`),
    git(bare, 'rev-parse', '--verify', 'refs/heads/master'),
  ]);
  add(
    `${expected.tag} is the remote's master`,
    tagged === pushed,
    `tag ${tagged.slice(0, 10)}, master ${pushed.slice(0, 10)}`,
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
    differs === '' && untracked === '' ? 'equal, clean' : [differs, untracked].join(' ').trim(),
  );
  const names = Object.keys(expected.published);
  const answered = await answeringThrough(sandbox.url);
  add(
    'requests through Nginx are answered by every server, and by no other',
    [...answered.keys()].sort().join() === [...names].sort().join(),
    [...answered].map(([name, count]) => `${name} ${count}`).join(', '),
  );

  for (const [name, wanted] of Object.entries(expected.published)) {
    const running = await sandbox.runningVersion(name);
    const { stdout } = await host.run([`${sandbox.server(name).dir}/quickpay`, '-version']);
    add(
      `${name} serves ${expected.runs}, and -version says so`,
      running === expected.runs && stdout.split(/\s+/).includes(expected.runs),
      `${running ?? 'nothing'}; ${stdout.trim() || 'no answer'}`,
    );
    const count = await sandbox.publishCount(name);
    add(`${name} was published ${times(wanted)}`, count === wanted, times(count));
  }
  return proofs;
}

const times = (count: number): string =>
  ['not once', 'exactly once', 'exactly twice'][count] ?? `exactly ${count} times`;

/** The heading of a version's section and how many changes stand under it; null when there is none. */
function sectionOf(changelog: string, tag: string): { heading: string; changes: number } | null {
  const lines = changelog.split('\n');
  const at = lines.findIndex((line) => line.startsWith('#') && line.split(/\s+/).includes(tag));
  const heading = lines[at];
  if (heading === undefined) return null;
  const rest = lines.slice(at + 1);
  const end = rest.findIndex((line) => line.startsWith('#'));
  const changes = (end === -1 ? rest : rest.slice(0, end)).filter((line) => /^[*-] /.test(line));
  return { heading, changes: changes.length };
}

/** Which servers answer requests through Nginx, with how many answers each; what was no good answer stands under its status. */
async function answeringThrough(url: string): Promise<Map<string, number>> {
  const seen = new Map<string, number>();
  for (let asked = 0; asked < ASKED_THROUGH_NGINX; asked++) {
    const who = await fetch(`${url}/pay/proof`, {
      headers: { connection: 'close' },
      signal: AbortSignal.timeout(5_000),
    })
      .then(async (answer) => {
        await answer.arrayBuffer();
        return answer.ok ? (answer.headers.get('x-server') ?? 'an unnamed server') : `status ${answer.status}`;
      })
      .catch(() => 'no answer');
    seen.set(who, (seen.get(who) ?? 0) + 1);
  }
  return seen;
}
