/** Routes by one file that flow writes: a real Nginx whose upstream block includes it, in a real repository. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { IncludeConfig } from '../../src/config/schema.ts';
import { createProxy, type Proxy } from '../../src/nginx/proxy.ts';
import { readNote } from '../../src/nginx/switch-note.ts';
import { createPrefix, failure, host, type Prefix, start, until } from './prefix.ts';
import { holdSwitches } from './repository.ts';

const FILE = 'conf/quickpay.servers';
let prefix: Prefix;
let proxy: Proxy;

const proxyWith = (include: Partial<IncludeConfig> = {}): Proxy =>
  createProxy(
    host,
    { ...prefix.config, include: { file: FILE, weights: {}, drained: 'leave out', ...include } },
    prefix.addresses,
  );
const text = async () => await readFile(join(prefix.dir, FILE), 'utf8');
const head = async () => (await prefix.git('rev-parse', 'HEAD')).trim();
const count = async () => Number(await prefix.git('rev-list', '--count', 'master'));
const isClean = async () => (await prefix.git('status', '--porcelain')) === '';

async function commit(path: string, content: string): Promise<void> {
  await writeFile(join(prefix.dir, path), content);
  await prefix.git('add', '--all');
  await prefix.git('commit', '--quiet', '--message=By hand');
}

/** Replaces the server lines of the upstream block. */
async function upstream(block: string): Promise<void> {
  const conf = await readFile(join(prefix.dir, 'conf/nginx.conf'), 'utf8');
  await commit('conf/nginx.conf', conf.replace(/(upstream quickpay \{\n)[^}]*/, `$1${block}\n  `));
}

beforeEach(async () => {
  prefix = await createPrefix();
  const { app1, app2 } = prefix.addresses;
  await writeFile(join(prefix.dir, FILE), `server ${app1};\nserver ${app2};\n`);
  await upstream('include quickpay.servers;');
  await start(prefix);
  proxy = proxyWith();
});
afterEach(() => prefix.remove());

describe('a route in one file', () => {
  it('is written, committed under the name of the release, proven live, and alone in its commit', async () => {
    const before = await head();
    const told: string[] = [];
    const evidence = await proxy.switchTo(['app2'], {
      purpose: 'v1.3.8 (r-0001, drainingApp1)',
      onProgress: (line) => told.push(line),
    });
    expect(evidence).toMatchObject({ servers: ['app2'], branch: 'master', commit: await head(), reloadStatus: 0 });
    expect(await prefix.git('log', '-1', '--format=%s|%an|%P')).toBe(
      `v1.3.8 (r-0001, drainingApp1): traffic to app2|Operator|${before}\n`,
    );
    expect(await prefix.git('diff', '--name-only', before, 'HEAD')).toBe(`${FILE}\n`);
    expect(await isClean()).toBe(true);
    expect(told.join('\n')).toContain(
      `${FILE}: server ${prefix.addresses.app2}; (commit ${(await head()).slice(0, 10)})`,
    );
    await until(async () => (await proxy.remaining(evidence)).length === 0);
    for (let request = 0; request < 10; request++) expect(await prefix.ask()).toBe('app2');
    expect(await proxy.observe()).toMatchObject({ servers: ['app2'], branch: 'master' });
    const back = await proxy.switchTo(['app1', 'app2']);
    expect(back).toMatchObject({ servers: ['app1', 'app2'] });
    expect(await count()).toBe(4);
    const pids = (await readdir(join(prefix.dir, '.git'))).filter((name) => name.startsWith('flow-'));
    expect(pids).toEqual([]);
  });

  it('is reloaded again where it is there already, and nothing is committed twice', async () => {
    await proxy.switchTo(['app1']);
    const [before, commits] = [await head(), await count()];
    const evidence = await proxy.switchTo(['app1']);
    expect([evidence.commit, await count()]).toEqual([before, commits]);
    expect(evidence.workersAfter).toHaveLength(2);
  });

  it('says weights and parameters, and marks the drained ones down where that is asked for', async () => {
    const { app1, app2 } = prefix.addresses;
    await proxyWith({ weights: { app2: 3 }, parameters: 'max_fails=2 fail_timeout=5s' }).switchTo(['app2']);
    expect(await text()).toMatch(new RegExp(`^#.*\\nserver ${app2} weight=3 max_fails=2 fail_timeout=5s;\\n$`));
    const down = proxyWith({ drained: 'down' });
    await down.switchTo(['app2']);
    expect((await text()).split('\n').slice(1)).toEqual([`server ${app1} down;`, `server ${app2};`, '']);
    expect(await down.observe()).toMatchObject({ servers: ['app2'] });
    for (let request = 0; request < 6; request++) expect(await prefix.ask()).toBe('app2');
  });

  it('is committed where git knows nobody on that host', async () => {
    await prefix.git('config', '--unset', 'user.name');
    await prefix.git('config', '--unset', 'user.email');
    await prefix.git('config', 'user.useConfigOnly', 'true');
    await proxy.switchTo(['app1']);
    expect(await prefix.git('log', '-1', '--format=%an')).toMatch(/\S/);
  });
});

describe('a route in one file that goes wrong', () => {
  it('leaves no commit and no change where Nginx refuses it', async () => {
    const before = await head();
    const refused = proxyWith({ parameters: 'max_fialures=2' });
    const error = await failure(refused.switchTo(['app2']));
    expect([error.code, error.kind]).toEqual(['NGINX_TEST_FAILED', 'rejected']);
    expect(error.message).toContain('refuses the configuration of the route to app2');
    expect(error.message).toContain('max_fialures=2');
    expect(error.message).toContain('traffic stays on app1 and app2');
    expect([await head(), await isClean()]).toEqual([before, true]);
    expect(await proxy.observe()).toMatchObject({ servers: ['app1', 'app2'] });
  });

  it('goes back to the route that is believed, where a run that was killed left its commit', async () => {
    // Killed between the commit and the reload: the file says app1, and Nginx has loaded both.
    await commit(FILE, `server ${prefix.addresses.app1};\n`);
    const error = await failure(proxyWith({ parameters: 'wrong=1' }).switchTo(['app1'], { from: ['app1', 'app2'] }));
    expect(error.message).toContain('traffic stays on app1 and app2');
    // What goes back is written with the same settings; only the tree matters, and it is clean.
    expect(await isClean()).toBe(true);
    expect(await proxy.observe()).toMatchObject({ servers: ['app1', 'app2'] });
  });

  it('takes no commit of a person off the branch', async () => {
    const conf = await readFile(join(prefix.dir, 'conf/nginx.conf'), 'utf8');
    // Somebody commits while Nginx tests the configuration.
    const test = `sh -c "echo '# mine' >> conf/nginx.conf && git commit --quiet --all --message=Mine && false"`;
    const busy = createProxy(
      host,
      {
        ...prefix.config,
        include: { file: FILE, weights: {}, drained: 'leave out' },
        test: ['sh', '-c', `exec ${test}`],
      },
      prefix.addresses,
    );
    const error = await failure(busy.switchTo(['app2']));
    expect([error.code, error.kind]).toEqual(['CONFIG_TREE_NOT_RESTORED', 'unknownOutcome']);
    expect(error.message).toMatch(/somebody committed to master/i);
    expect(await prefix.git('log', '-1', '--format=%s')).toBe('Mine\n');
    expect(await readFile(join(prefix.dir, 'conf/nginx.conf'), 'utf8')).toBe(`${conf}# mine\n`);
  });

  it('is put back when it was cut in the middle of writing the file', async () => {
    const before = await head();
    const hold = await holdSwitches(prefix.dir, FILE);
    const switching = proxy.switchTo(['app2']).catch((error: unknown) => error);
    await hold.reached();
    const { group = 0 } = (await readNote(host, join(prefix.dir, '.git/index.lock'))) ?? {};
    process.kill(-group, 'SIGKILL');
    expect(await switching).toMatchObject({ kind: 'unknownOutcome' });
    await hold.end();
    const told: string[] = [];
    const evidence = await proxy.switchTo(['app2'], { onProgress: (line) => told.push(line) });
    expect(told[0]).toMatch(/on master, from .* to .*, was cut in half .* those of/);
    expect(told[0]).toContain(before.slice(0, 10));
    expect(evidence.servers).toEqual(['app2']);
    expect(await prefix.git('rev-list', '--count', `${before}..HEAD`)).toBe('1\n');
    expect(await isClean()).toBe(true);
  });

  it('is not begun where the tree is not clean, and the file is not overwritten', async () => {
    const edited = `server ${prefix.addresses.app1};\n# mine\n`;
    await writeFile(join(prefix.dir, FILE), edited);
    expect((await proxy.observe()).treeProblem).toContain(`${FILE} is changed and not committed`);
    const error = await failure(proxy.switchTo(['app2']));
    expect([error.code, error.kind, await text()]).toEqual(['CONFIG_TREE_DIRTY', 'unsafe', edited]);
  });
});

describe('what a route in one file relies on', () => {
  it.each([
    ['an upstream block that includes it', 'server 127.0.0.1:1;', 'no upstream block'],
    ['no other line that names a server', 'include quickpay.servers; server APP1;', 'conf/nginx.conf names app1'],
  ])('is %s', async (_what, block, because) => {
    await upstream(block.replace('APP1', prefix.addresses.app1));
    expect((await proxy.routeProblems()).wrong.join('\n')).toContain(because);
    const error = await failure(proxy.switchTo(['app2']));
    expect(error.kind).toBe('unsafe');
    expect(error.message.toLowerCase()).toContain(because);
    expect(await proxy.observe()).toMatchObject({
      servers: null,
      treeProblem: expect.stringContaining(because) as string,
    });
  });

  it('is no note or old copy that lies beside the configuration', async () => {
    const block = `upstream quickpay { server ${prefix.addresses.app1}; }\n`;
    await commit('NOTES.md', block);
    await commit('conf/nginx.conf.before', block);
    expect(await proxy.routeProblems()).toEqual({ wrong: [], differ: [] });
  });

  it('is the file itself, with servers of the project alone', async () => {
    await commit(FILE, `server ${prefix.addresses.app1};\nserver 10.0.0.9:80;\n`);
    expect((await proxy.routeProblems()).wrong.join('\n')).toContain('10.0.0.9:80, which flow.yaml does not name');
    await prefix.git('rm', '--quiet', FILE);
    await prefix.git('commit', '--quiet', '--message=Gone');
    const missing = (await proxy.routeProblems()).wrong.join('\n');
    expect(missing).toContain(`no file ${FILE}`);
    expect(missing).toContain(`server ${prefix.addresses.app1}; server ${prefix.addresses.app2};`);
    expect((await failure(proxy.switchTo(['app2']))).code).toBe('CONFIG_INCLUDE_MISSING');
  });

  it('is that the next switch changes nothing besides: weights and parameters written by hand are told', async () => {
    expect(await proxy.routeProblems()).toEqual({ wrong: [], differ: [] });
    await commit(FILE, `# ours\n  server ${prefix.addresses.app1}  weight=2;\nserver ${prefix.addresses.app2};\n`);
    const { wrong, differ } = await proxy.routeProblems();
    expect(wrong).toEqual([]);
    expect(differ.join()).toContain(`-server ${prefix.addresses.app1} weight=2`);
    expect(await proxyWith({ weights: { app1: 2 } }).routeProblems()).toEqual({ wrong: [], differ: [] });
  });

  it.each([
    ['./quickpay.servers', true],
    ['*.servers', true],
    ['quickpay.server?', true],
    ['*', true],
    ['other.servers', false],
    ['pay.servers', false],
  ])('takes an include of %s for the file: %s', async (pattern, isMeant) => {
    await upstream(`include ${pattern};`);
    const { wrong } = await proxy.routeProblems();
    expect(wrong.some((line) => line.includes('no upstream block'))).toBe(!isMeant);
  });
});
