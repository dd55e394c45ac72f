import { chmod, copyFile, mkdir, mkdtemp, readdir, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FlowError } from '../../src/errors.ts';
import { localHost } from '../../src/hosts/local.ts';
import { findNginx } from '../../src/sandbox/nginx-binary.ts';

const host = localHost();
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flow-nginx-binary-'));
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

async function script(file: string, text: string): Promise<string> {
  await mkdir(join(file, '..'), { recursive: true });
  await writeFile(file, `#!/bin/sh\n${text}\n`);
  await chmod(file, 0o755);
  return file;
}

/**
 * A package archive of our own: an apt-get that "downloads" a real .deb made of the Nginx of this machine, so that the
 * test needs neither the network nor a distribution's mirror.
 */
async function archive(name: string): Promise<{ env: Record<string, string>; cache: string; calls: string }> {
  const base = join(folder, name);
  const binary = await realProgram(await findNginx());
  const tree = join(base, 'deb');
  await mkdir(join(tree, 'DEBIAN'), { recursive: true });
  await mkdir(join(tree, 'usr/sbin'), { recursive: true });
  await copyFile(binary, join(tree, 'usr/sbin/nginx'));
  await writeFile(
    join(tree, 'DEBIAN/control'),
    'Package: nginx\nVersion: 1\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: a\n',
  );
  const deb = join(base, 'nginx.deb');
  const built = await host.run(['dpkg-deb', '-b', tree, deb]);
  expect(built.stderr + built.stdout).toContain('nginx');
  const calls = join(base, 'calls');
  await script(
    join(base, 'bin/apt-get'),
    `echo "$*" >> '${calls}'
case " $* " in
  *" update "*) exit 0 ;;
  *" download nginx "*) cp '${deb}' ./nginx_1_all.deb ;;
  *) exit 100 ;;
esac`,
  );
  const cache = join(base, 'cache');
  // The PATH must not offer an installed Nginx, so it holds the programs of /usr/bin and /bin by link only.
  for (const program of ['cp', 'dpkg-deb', 'sh', 'tar', 'dirname', 'rm', 'xz', 'gzip', 'zstd']) {
    const found = await host.run(['sh', '-c', 'command -v "$1"', 'sh', program]);
    if (found.status === 0) await script(join(base, 'bin', program), `exec '${found.stdout.trim()}' "$@"`);
  }
  return { env: { PATH: join(base, 'bin'), XDG_CACHE_HOME: cache }, cache, calls };
}

/** The program itself, behind the launcher that a cached copy has. */
async function realProgram(found: string): Promise<string> {
  const head = (await readFile(found)).subarray(0, 2).toString('latin1');
  return head === '#!' ? join(found, '..', 'usr/sbin/nginx') : realpath(found);
}

describe('finding an Nginx', () => {
  it('answers an absolute path that runs', async () => {
    const nginx = await findNginx();
    const result = await host.run([nginx, '-v']);
    expect(result.status).toBe(0);
    expect(result.stderr).toMatch(/nginx version: nginx\/\d+\.\d+/);
  });

  it('takes FLOW_NGINX before the PATH', async () => {
    const mine = await script(join(folder, 'mine', 'my-nginx'), 'exit 0');
    const other = await script(join(folder, 'other', 'nginx'), 'exit 0');
    expect(await findNginx({ env: { FLOW_NGINX: mine, PATH: join(folder, 'other') } })).toBe(mine);
    expect(await findNginx({ env: { PATH: join(folder, 'other') } })).toBe(other);
  });

  it('refuses a FLOW_NGINX that does not run, instead of taking another', async () => {
    const broken = await script(join(folder, 'broken', 'nginx'), 'exit 1');
    const attempt = findNginx({ env: { FLOW_NGINX: broken, PATH: process.env.PATH } });
    await expect(attempt).rejects.toMatchObject({ code: 'NGINX_UNUSABLE', exitCode: 2 });
  });

  it('passes over an Nginx on the PATH that does not run', async () => {
    const env = { PATH: [join(folder, 'broken2'), join(folder, 'sound')].join(':') };
    await script(join(folder, 'broken2', 'nginx'), 'exit 127');
    const sound = await script(join(folder, 'sound', 'nginx'), 'exit 0');
    expect(await findNginx({ env })).toBe(sound);
  });

  it('fetches a copy into the cache, twice at once without harm, and does not fetch again', async () => {
    const { env, cache, calls } = await archive('twice');
    const [one, two] = await Promise.all([
      findNginx({ env, systemFolders: [] }),
      findNginx({ env, systemFolders: [] }),
    ]);
    expect(one).toBe(two);
    expect(one.startsWith(join(cache, 'flow/nginx/'))).toBe(true);
    expect((await host.run([one, '-v'])).stderr).toMatch(/nginx version/);
    // Nothing half done stays behind.
    expect((await readdir(join(cache, 'flow/nginx'))).filter((name) => name.startsWith('.'))).toEqual([]);
    const before = await readFile(calls, 'utf8');
    expect(await findNginx({ env, systemFolders: [] })).toBe(one);
    expect(await readFile(calls, 'utf8')).toBe(before);
  });

  it('replaces a cached copy that no longer runs', async () => {
    const { env } = await archive('replaced');
    const cached = await findNginx({ env, systemFolders: [] });
    await writeFile(cached, '#!/bin/sh\nexit 1\n');
    expect(await findNginx({ env, systemFolders: [] })).toBe(cached);
    expect((await host.run([cached, '-v'])).status).toBe(0);
  });

  it('says what to install when there is neither Nginx nor apt-get', async () => {
    const cache = join(folder, 'nothing');
    const attempt = findNginx({ env: { PATH: join(folder, 'empty'), XDG_CACHE_HOME: cache }, systemFolders: [] });
    const error = await attempt.catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(FlowError);
    expect(error).toMatchObject({ code: 'NGINX_MISSING', exitCode: 8 });
    for (const line of ['apt-get install', 'dnf install nginx', 'apk add nginx', 'brew install nginx', 'FLOW_NGINX']) {
      expect(String(error)).toContain(line);
    }
    expect(await readdir(join(cache, 'flow/nginx'))).toEqual([]);
  });
});
