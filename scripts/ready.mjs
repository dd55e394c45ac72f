/**
 * Makes a fresh clone ready to run: dependencies installed, bundle built. Each is done only when it is missing or stale,
 * and says so in one line. Plain Node without dependencies, because it runs before there are any.
 * It also runs under a Node that is too old for the rest, in order to say so.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const OLDEST_NODE = [20, 19];
const root = join(dirname(fileURLToPath(import.meta.url)), '..');

/** Modification time in milliseconds; 0 when there is no such file. */
function changedAt(path) {
  return statSync(join(root, path), { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

/** The newest modification time of a file or of anything below a folder. Folders count too: a removed file changes them. */
function newestIn(path) {
  const stats = statSync(join(root, path), { throwIfNoEntry: false });
  if (stats === undefined) return 0;
  if (!stats.isDirectory()) return stats.mtimeMs;
  return readdirSync(join(root, path)).reduce(
    (newest, name) => Math.max(newest, newestIn(join(path, name))),
    stats.mtimeMs,
  );
}

function stop(message) {
  process.stderr.write(`${message}\n`);
  process.exit(2);
}

/** Runs npm. Null when it succeeded, else what it said. */
function npm(...args) {
  const { status, stderr } = spawnSync('npm', args, {
    cwd: root,
    stdio: ['ignore', 'ignore', 'pipe'],
    encoding: 'utf8',
  });
  return status === 0
    ? null
    : `${stderr ?? ''}ready: npm ${args.join(' ')} failed (see above). Mend it, then try again.`;
}

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor < OLDEST_NODE[1])) {
  stop(
    `ready: this is Node ${process.versions.node}, and flow needs ${OLDEST_NODE.join('.')} or newer. ` +
      'Install one: `nvm install 22`, or https://nodejs.org/en/download',
  );
}
if (spawnSync('git', ['--version'], { stdio: 'ignore' }).status !== 0) {
  stop('ready: git was not found. Install it: `apt-get install git`, `dnf install git` or `brew install git`.');
}

// npm writes this file at the end of every install, so it is the time of the last complete one.
if (changedAt('node_modules/.package-lock.json') < changedAt('package-lock.json')) {
  process.stderr.write('ready: installing dependencies (npm ci) …\n');
  // npm ci refuses a lock file without the builds for other systems, which a registry that mirrors only some of them
  // leaves out. The second form takes the same locked versions, and changes no file of the repository either.
  if (npm('ci', '--no-audit', '--no-fund') !== null) {
    process.stderr.write('ready: npm ci refused; installing the locked versions (npm install --no-save) …\n');
    const failure = npm('install', '--no-save', '--no-audit', '--no-fund');
    if (failure !== null) stop(failure);
  }
}

const sources = ['src', 'machines', 'rolldown.config.ts', 'package-lock.json'];
if (changedAt('dist/flow.js') < Math.max(...sources.map(newestIn))) {
  process.stderr.write('ready: building dist/ (npm run build) …\n');
  const failure = npm('run', 'build', '--silent');
  if (failure !== null) stop(failure);
}
