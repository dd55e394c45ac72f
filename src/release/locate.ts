/**
 * Finds the project and its state folder from wherever flow was called. Node's own modules only: `flow status` starts here, so
 * the config is not parsed unless it says something about where the state is.
 */
import { existsSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { UsageError } from '../errors.ts';

export interface Place {
  /** Absolute path of flow.yaml. */
  configFile: string;
  /** Folder of the project's repository. */
  projectDir: string;
  /** Folder of the state; need not exist yet. */
  stateDir: string;
}

const CONFIG_NAME = 'flow.yaml';
/** Settings that move the project or its state; a config with one of them is read properly. */
const MOVES = /^(?:state:|git:[^\n]*\bdir\b|git:(?:\n[ \t]+[^\n]*)*?\n[ \t]+dir:|\s*\{)/m;

/**
 * Where the project of this folder is. `config` names another flow.yaml than the nearest one above.
 * Throws UsageError NO_CONFIG, NO_REPOSITORY, or what a broken flow.yaml throws.
 */
export async function locate(cwd: string, config?: string): Promise<Place> {
  const configFile = config === undefined ? nearestAbove(cwd) : resolve(cwd, config);
  if (configFile === null || !existsSync(configFile)) {
    throw new UsageError(
      'NO_CONFIG',
      `There is no ${config ?? CONFIG_NAME} in ${cwd} or above it. Write one beside the project, then: flow config check. To see flow at work first: flow demo`,
    );
  }
  const base = dirname(realpathSync(configFile));
  let projectDir = base;
  let state: string | undefined;
  if (MOVES.test(readFileSync(configFile, 'utf8'))) {
    const { loadConfig } = await import('../config/load.ts');
    const loaded = loadConfig(configFile).config;
    projectDir = resolve(base, loaded.git.dir);
    state = loaded.state === undefined ? undefined : resolve(base, loaded.state);
  }
  return { configFile, projectDir, stateDir: state ?? join(commonDir(projectDir), 'flow') };
}

function nearestAbove(start: string): string | null {
  for (let dir = resolve(start); ; dir = dirname(dir)) {
    const file = join(dir, CONFIG_NAME);
    if (existsSync(file)) return file;
    if (dir === dirname(dir)) return null;
  }
}

/** The repository's common git directory: the same for all its worktrees, so that all of them share one state. */
function commonDir(projectDir: string): string {
  for (let dir = projectDir; ; dir = dirname(dir)) {
    const git = join(dir, '.git');
    if (existsSync(git)) {
      if (statSync(git).isDirectory()) return realpathSync(git);
      const gitDir = resolve(
        dir,
        readFileSync(git, 'utf8')
          .replace(/^gitdir:\s*/, '')
          .trim(),
      );
      const common = join(gitDir, 'commondir');
      return realpathSync(existsSync(common) ? resolve(gitDir, readFileSync(common, 'utf8').trim()) : gitDir);
    }
    if (dir === dirname(dir))
      throw new UsageError(
        'NO_REPOSITORY',
        `${projectDir} is in no git repository. flow works in the repository of the project: cd there, or set git.dir in ${CONFIG_NAME}`,
      );
  }
}
