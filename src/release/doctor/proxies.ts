/** The proxy: whether traffic could be switched, to which routes, and what a reload of it cannot do. */
import { type ProxySettings, proxiesOf } from '../../config/settings.ts';
import type { World } from '../../effects/world.ts';
import { heldBy, ownerName, readOwner } from '../../nginx/owner.ts';
import type { Proxy } from '../../nginx/proxy.ts';
import { type Finding, look } from './finding.ts';

export async function lookAtProxies(world: World, stateDir: string): Promise<Finding[]> {
  const settings = proxiesOf(world.config);
  const findings = await Promise.all(
    world.proxies.map(async ({ name, proxy }) => {
      const own = settings.find((one) => one.name === name);
      return own === undefined ? [] : await lookAtProxy(world, stateDir, proxy, own);
    }),
  );
  return findings.flat();
}

async function lookAtProxy(world: World, stateDir: string, proxy: Proxy, nginx: ProxySettings): Promise<Finding[]> {
  const { config } = world;
  const { dir, name: about } = nginx;
  const host = world.on(nginx);
  const observed = proxy.observe();
  const seen = async () => await observed;
  // Both looks at it say what went wrong.
  observed.catch(() => undefined);
  return await Promise.all([
    look(about, 'master', async () => {
      const { problem, problemMend, workers } = await seen();
      return problem === undefined
        ? { verdict: 'ok', because: `runs, with ${workers.length} workers` }
        : { verdict: 'bad', because: problem, ...(problemMend === undefined ? {} : { mend: problemMend }) };
    }),
    look(about, 'traffic', async () => {
      const { servers, branch, treeProblem, treeMend } = await seen();
      if (servers === null) {
        return {
          verdict: 'bad',
          because: treeProblem ?? `${dir} equals no known route`,
          mend: treeMend ?? `git -C ${dir} status`,
        };
      }
      const serves = `${servers.join(' and ')} (branch ${branch ?? 'none'})`;
      return servers.length === Object.keys(config.servers).length
        ? { verdict: 'ok', because: serves }
        : { verdict: 'told', because: `only ${serves}: a release begins with those that are out of rotation` };
    }),
    look(about, 'routes', async () => {
      const { wrong, differ } = await proxy.routeProblems();
      const problems = [...wrong, ...differ];
      return problems.length === 0
        ? {
            verdict: 'ok',
            because:
              nginx.include === undefined
                ? `${proxy.routes.map(({ branch, servers }) => `${branch}: ${servers.join(' and ')}`).join('; ')}; they differ in nothing else`
                : `${nginx.include.file} is included, and says what flow would write`,
          }
        : {
            verdict: 'bad',
            because: problems.join('; '),
            mend: `git -C ${dir} ${nginx.include === undefined ? 'branch -v' : `log -p ${nginx.include.file}`}`,
          };
    }),
    look(about, 'configuration', async () => {
      const tested = await host.run(nginx.test, { cwd: dir, env: { LC_ALL: 'C' } });
      const said = `${tested.stderr}${tested.stdout}`.trim().split('\n');
      return tested.status === 0
        ? { verdict: 'ok', because: said.at(-1) ?? 'accepted' }
        : {
            verdict: 'bad',
            because: tested.notStarted ?? said.find((line) => line.includes('[emerg]')) ?? said.join('; '),
            mend: `cd ${dir} && ${nginx.test.join(' ')}`,
          };
    }),
    look(about, 'version', async () => {
      const { version, keepaliveMinTimeout } = await proxy.facts();
      if (version === null) return { verdict: 'told', because: 'it does not say' };
      return keepaliveMinTimeout === true
        ? { verdict: 'ok', because: `${version}; with keepalive_min_timeout a reload resets no idle connection` }
        : {
            verdict: 'told',
            because: `${version} has no keepalive_min_timeout (1.27.4 has): each reload resets about one idle keep-alive connection per switch, whatever the tool`,
          };
    }),
    look(about, 'owner', async () => {
      const owner = await readOwner(host, dir);
      return owner === null || owner.owner === ownerName(stateDir)
        ? { verdict: 'ok', because: 'no other control machine' }
        : { verdict: 'bad', because: heldBy(owner, dir), mend: 'flow lock show' };
    }),
    ...(['errorLog', 'accessLog'] as const).map((which) =>
      look(about, which === 'errorLog' ? 'error log' : 'access log', async () => {
        const path = nginx[which];
        const file = path.startsWith('/') ? path : `${dir}/${path}`;
        const slice = await host.readSlice(file, 0, 0);
        if (slice !== null) return { verdict: 'ok', because: file };
        return which === 'errorLog'
          ? {
              verdict: 'bad',
              because: `${file} is not there, and a reload is proven by it`,
              mend: 'correct nginx.errorLog in flow.yaml',
            }
          : {
              verdict: 'told',
              because: `${file} is not there: a soak counts no 5xx answers (nginx.accessLog in flow.yaml)`,
            };
      }),
    ),
  ]);
}
