/** A real project in a temporary folder: a bare remote called `cil`, and a clone of it with a first commit on `master`. */
import { mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { localHost } from '../../src/hosts/local.ts';

export interface Project {
  /** The folder that holds everything. */
  root: string;
  dir: string;
  remote: string;
  git(...args: string[]): Promise<string>;
  /** Commits a file on the branch that is checked out; answers the commit. */
  commit(file: string, text: string, subject?: string): Promise<string>;
  remove(): Promise<void>;
}

export async function createProject(): Promise<Project> {
  const root = await realpath(await mkdtemp(join(tmpdir(), 'flow-git-')));
  const dir = join(root, 'project');
  const remote = join(root, 'cil.git');
  const run = async (cwd: string, args: string[]) => {
    const result = await localHost().run(['git', ...args], { cwd });
    if (result.status !== 0) throw new Error(`git ${args.join(' ')}: ${result.stderr}`);
    return result.stdout.trim();
  };
  const git = (...args: string[]) => run(dir, args);
  const commit = async (file: string, text: string, subject = `Change ${file}`) => {
    await mkdir(dirname(join(dir, file)), { recursive: true });
    await writeFile(join(dir, file), text);
    await git('add', '--', file);
    await git('commit', '--quiet', '-m', subject);
    return git('rev-parse', 'HEAD');
  };
  await run(root, ['init', '--quiet', '--bare', '--initial-branch=master', remote]);
  await run(root, ['init', '--quiet', '--initial-branch=master', dir]);
  await git('config', 'user.name', 'Operator');
  await git('config', 'user.email', 'operator@example.com');
  await git('remote', 'add', 'cil', remote);
  await commit('a.txt', 'one\n', 'First');
  await git('push', '--quiet', 'cil', 'master');
  return { root, dir, remote, git, commit, remove: () => rm(root, { recursive: true, force: true }) };
}
