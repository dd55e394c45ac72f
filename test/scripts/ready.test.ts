import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';

/** Stands where npm stands: notes what it is asked for and leaves behind what npm would. `npm-ci-fails` makes `ci` fail. */
const NPM = `#!/bin/sh
echo "$*" >> asked
case "$1" in
  ci) [ ! -e npm-ci-fails ] || { echo 'lock file refused' >&2; exit 1; } ;;
  run) [ ! -e build-fails ] || { echo 'src/main.ts: syntax error' >&2; exit 1; }; mkdir -p dist; touch dist/flow.js; exit 0 ;;
esac
mkdir -p node_modules && touch node_modules/.package-lock.json
`;

let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'flow-ready-'));
  for (const folder of ['scripts', 'src/git', 'machines', 'bin']) mkdirSync(join(root, folder), { recursive: true });
  copyFileSync(join(import.meta.dirname, '..', '..', 'scripts', 'ready.mjs'), join(root, 'scripts', 'ready.mjs'));
  writeFileSync(join(root, 'bin', 'npm'), NPM);
  chmodSync(join(root, 'bin', 'npm'), 0o755);
  for (const file of [
    'package-lock.json',
    'rolldown.config.ts',
    'src/main.ts',
    'src/git/tags.ts',
    'machines/release.ts',
  ]) {
    writeFileSync(join(root, file), '');
  }
});

function ready(path = `${join(root, 'bin')}:${process.env.PATH ?? ''}`): {
  status: number | null;
  said: string;
  asked: string[];
} {
  rmSync(join(root, 'asked'), { force: true });
  const script = join(root, 'scripts', 'ready.mjs');
  const { status, stderr } = spawnSync(process.execPath, [script], {
    cwd: tmpdir(),
    env: { PATH: path },
    encoding: 'utf8',
  });
  const asked = join(root, 'asked');
  return { status, said: stderr, asked: existsSync(asked) ? readFileSync(asked, 'utf8').trim().split('\n') : [] };
}

/** Makes a file newer than everything that was built or installed. */
function change(file: string): void {
  const later = Date.now() / 1000 + 60;
  utimesSync(join(root, file), later, later);
}

describe('making a clone ready', () => {
  it('installs and builds once, with a line for each, and then does and says nothing', () => {
    expect(ready()).toEqual({
      status: 0,
      said: 'ready: installing dependencies (npm ci) …\nready: building dist/ (npm run build) …\n',
      asked: ['ci --no-audit --no-fund', 'run build --silent'],
    });
    expect(ready()).toEqual({ status: 0, said: '', asked: [] });
  });

  it.each(['src/git/tags.ts', 'machines/release.ts', 'rolldown.config.ts'])('builds again when %s is newer', (file) => {
    ready();
    change(file);
    expect(ready().asked).toEqual(['run build --silent']);
  });

  it('installs again when the lock file is newer', () => {
    ready();
    change('package-lock.json');
    expect(ready().asked).toEqual(['ci --no-audit --no-fund', 'run build --silent']);
  });

  it('takes the locked versions in another way when npm ci refuses the lock file', () => {
    writeFileSync(join(root, 'npm-ci-fails'), '');
    const { status, asked } = ready();
    expect(status).toBe(0);
    expect(asked).toEqual(['ci --no-audit --no-fund', 'install --no-save --no-audit --no-fund', 'run build --silent']);
  });

  it('stops with what npm said when the build fails', () => {
    writeFileSync(join(root, 'build-fails'), '');
    const { status, said } = ready();
    expect(status).toBe(2);
    expect(said).toContain('src/main.ts: syntax error\nready: npm run build --silent failed');
  });

  it('says what to install when git is missing', () => {
    const { status, said, asked } = ready(join(root, 'bin'));
    expect({ status, asked }).toEqual({ status: 2, asked: [] });
    expect(said).toContain('git was not found. Install it: `apt-get install git`');
  });
});
