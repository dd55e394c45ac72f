import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../src/config/load.ts';

const SERVERS = 'servers: { app1: { address: "a:1" }, app2: { address: "a:2" } }';

/** The issues, without positions, of a config made of these lines. */
function issuesOf(lines: string[], servers = SERVERS, test = 'test: { address: "a:9" }'): string[] {
  const result = parseConfig(['version: 1', 'project: quickpay', servers, test, ...lines].join('\n'));
  return 'issues' in result ? result.issues.map(({ message }) => message) : [];
}

const named = (...names: string[]) =>
  `servers: { ${names.map((name, index) => `${name}: { address: "a:${index}" }`).join(', ')} }`;

describe('servers', () => {
  it('have names that differ in more than case and "-"', () => {
    expect(issuesOf([], named('app-1', 'apP1'))).toContain(
      'servers.apP1: expected names that differ in more than case and "-"; here stand "app-1" and "apP1"',
    );
  });

  it('are never called "all", however it is written', () => {
    expect(issuesOf([], named('all', 'app1'))).toContainEqual(
      expect.stringMatching(/^servers\.all: expected a server name other/),
    );
    expect(issuesOf([], named('a-ll', 'app1'))).toContainEqual(
      expect.stringMatching(/^servers\.a-ll: .*"all" means every/),
    );
  });

  it('are at least two: one is published while another serves', () => {
    expect(issuesOf([], 'servers: {}')).toEqual([
      'servers: expected the servers to release, each with its address; there is none',
    ]);
    expect(issuesOf([], named('app1'))).toEqual([
      expect.stringMatching(/^servers: expected at least two servers; here stands 1\./),
    ]);
    expect(issuesOf([], named('a1', 'a2', 'a3'))).toEqual([]);
  });

  it('have addresses of their own, and the test server is none of them', () => {
    const shared = 'servers: { app1: { address: "a:1" }, app2: { address: "a:1" } }';
    expect(issuesOf([], shared)).toEqual([
      expect.stringMatching(/^servers\.app2\.address: expected an address of its own/),
    ]);
    expect(issuesOf([], SERVERS, 'test: { address: "a:2", name: App-1 }')).toEqual([
      expect.stringMatching(/^test\.address: .* is that of servers\.app2 too/),
      'test.name: expected a name that no production server has; here stands "App-1"',
    ]);
  });
});

describe('server names', () => {
  it.each([
    [['end', 'back-end'], /^servers\.back-end: .* would share drainingBackEnd with end$/],
    [['all', 'app1'], /^servers\.all: /],
    [['app1', 'wave2'], /^servers\.wave2: .* would share wave2Drained with the name of a wave$/],
  ])('give their steps names of their own: %j', (names, expected) => {
    expect(issuesOf([], named(...names))).toEqual(expect.arrayContaining([expect.stringMatching(expected)]));
  });

  it('may begin as a state does', () => {
    expect(issuesOf([], named('asking', 'drain', 'publishing'))).toEqual([]);
  });
});

describe('waves', () => {
  const four = named('a', 'b', 'c', 'd');
  const of = (...lines: string[]) => issuesOf(lines, four);

  it.each([
    'waves: [1, 25%, 100%]',
    'waves: [[a], [b, c], [d]]',
    'waves: [[c], 50%]',
    'waves: [{ servers: [a], soak: 30m }, { servers: 50%, soak: 5m }]',
    'waves: [2]',
  ])('are lists, counts or shares: %s', (line) => {
    expect(of(line)).toEqual([]);
  });

  it('hold every server once, by its name', () => {
    expect(of('waves: [[a], [b, e], [c, d]]')).toEqual([
      'waves[1][1]: expected the name of a server; here stands "e"; known: "a", "b", "c", "d"',
    ]);
    expect(of('waves: [[a], [b, a], [c, d]]')).toEqual([
      'waves[1][1]: expected each server in one wave; "a" stands twice',
    ]);
    expect(of('waves: [[a], [b]]')).toEqual([
      'waves: expected every server in a wave; "c", "d" are in none. Name them, or end with a size such as 25%',
    ]);
  });

  it('are at least two', () => {
    expect(of('waves: [[a, b, c, d]]', 'minimumHealthy: 1')).toEqual([
      expect.stringMatching(/^waves: expected at least two waves/),
    ]);
  });

  it('leave the load what it needs', () => {
    expect(of('waves: [[a], [b, c, d]]')).toEqual([
      'waves[1]: expected at most 2 servers in a wave, because the load needs 2 of 4 (minimumHealthy); wave 2 has 3',
    ]);
    expect(of('waves: [1, 3]')).toEqual([expect.stringMatching(/^waves\[1\]: expected at most 2 servers in a wave/)]);
    expect(of('waves: [[a], [b, c, d]]', 'minimumHealthy: 25%')).toEqual([]);
    expect(of('minimumHealthy: 100%')).toEqual([
      'minimumHealthy: expected less than all 4 servers, or none could leave the rotation; here stand 4',
    ]);
  });

  it('are exclusive only where the first wave carries the load', () => {
    expect(of('cutover: exclusive')).toEqual([
      expect.stringMatching(/^cutover: expected a first wave that carries the load alone.*"a" is 1\. Make the first/),
    ]);
    expect(of('cutover: exclusive', 'minimumHealthy: 1')).toEqual([]);
    expect(of('cutover: exclusive', 'waves: [[a, b], [c, d]]')).toEqual([]);
    expect(of('cutover: exclusive', 'waves: [[a, b, c], [d]]')).toEqual([
      expect.stringMatching(/^waves\[0\]: expected a first wave without which the others carry the load/),
    ]);
  });

  it.each(['waves: [0]', 'waves: [150%]', 'waves: [app 1]', 'minimumHealthy: 0%'])('are sizes: %s is none', (line) => {
    expect(of(line)).toEqual([expect.stringMatching(/a number of servers, or a share of them such as 25%/)]);
  });
});

describe('the pre-release proxy', () => {
  it('has something to check, and a route to the first wave alone', () => {
    expect(issuesOf(['preview: { checks: [] }'])).toEqual([expect.stringMatching(/^preview\.checks: /)]);
    const nginx = 'nginx: { dir: /opt/pre, routes: [{ servers: [app2], branch: x }] }';
    expect(issuesOf([`preview: { ${nginx}, checks: [{ http: "http://pre/{server}" }] }`])).toEqual([
      'preview.nginx.routes: expected a route for only "app1", which is looked at through it; there is none',
    ]);
    expect(issuesOf(['preview: { checks: [{ run: "check {serve}" }] }'])).toEqual([
      expect.stringMatching(/^preview\.checks\[0\]\.run: .*did you mean \{server\}/),
    ]);
  });
});

describe('routes', () => {
  const routes = (...rows: string[]) => issuesOf(['nginx:', '  routes:', ...rows.map((row) => `    - ${row}`)]);
  const ALL = '{ servers: [app2, app1], branch: master }';
  const ONE = '{ servers: [app1], branch: only1 }';
  const TWO = '{ servers: [app2], branch: only2 }';

  it('may be left out or given in any order', () => {
    expect(issuesOf([])).toEqual([]);
    expect(routes(ONE, ALL, TWO)).toEqual([]);
  });

  it('lead to servers that exist', () => {
    expect(routes(ALL, ONE, TWO, '{ servers: [app3], branch: x }')).toEqual([
      'nginx.routes[3].servers[0]: expected the name of a server; here stands "app3"; did you mean "app1"?',
    ]);
  });

  it('exist for all servers and for each single one', () => {
    expect(routes(ONE)).toEqual([
      expect.stringMatching(/^nginx\.routes: expected a route for all servers \("app1", "app2"\)/),
      expect.stringMatching(/^nginx\.routes: expected a route for only "app2"/),
    ]);
  });

  it('are one for each set of servers, each with a branch of its own', () => {
    expect(routes(ALL, ONE, TWO, '{ servers: [app1, app2], branch: only1 }')).toEqual([
      'nginx.routes[3].servers: expected one route for each set of servers; "app1", "app2" has one already',
      'nginx.routes[3].branch: expected a branch of its own; "only1" is that of another route',
    ]);
    expect(routes(ALL, TWO, '{ servers: [app1, app1], branch: only1 }')).toEqual([
      'nginx.routes[2].servers[1]: expected each server once; "app1" stands twice',
    ]);
  });
});

describe('placeholders', () => {
  it.each([
    ['publish: { run: "x {server} {tag} {previous} {commit} {version} {dir} {address}" }', []],
    [
      'publish: { run: "x {sever}" }',
      [expect.stringMatching(/^publish\.run: .*here stands \{sever\}; did you mean \{server\}\?$/)],
    ],
    ['rollback: { run: [x, "{taag}"] }', [expect.stringMatching(/^rollback\.run: .*did you mean \{tag\}\?$/)]],
    ['nginx: { reload: "x {server}" }', ['nginx.reload: expected no placeholder here; here stands {server}']],
    ['probes: { log: "{dir}/{tag}.log" }', [expect.stringMatching(/^probes\.log: \{tag\} has no value here/)]],
    ['probes: { dir: "/x/{dir}" }', [expect.stringMatching(/^probes\.dir: \{dir\} has no value here/)]],
    [
      'probes: { version: { http: "http://{adress}" } }',
      [expect.stringMatching(/^probes\.version\.http: .*\{address\}\?$/)],
    ],
    ['drain: { checks: [{ run: "x {nope}" }] }', [expect.stringMatching(/^drain\.checks\[0\]\.run: expected one of/)]],
    [
      'verify: { checks: [{ http: "http://{nope}" }] }',
      [expect.stringMatching(/^verify\.checks\[0\]\.http: expected/)],
    ],
    [
      'preflight: [{ run: "x {server}" }]',
      [expect.stringMatching(/^preflight\[0\]\.run: \{server\} has no value here/)],
    ],
    ['publish: { run: "awk {print$1} {} {{.State}}" }', []],
  ])('%s', (line, expected) => {
    expect(issuesOf([line])).toEqual(expected);
  });

  it('are checked in what a single server overrides', () => {
    const servers =
      'servers: { app1: { address: "a:1", log: "/{x}.log" }, app2: { address: "a:2", health: { http: "{y}" } } }';
    expect(issuesOf([], servers)).toEqual([
      expect.stringMatching(/^servers\.app1\.log: /),
      expect.stringMatching(/^servers\.app2\.health\.http: /),
    ]);
  });
});

describe('the other rules', () => {
  it.each([
    ['verify: { errors: ["a(b"] }', /^verify\.errors\[0\]: expected a regular expression; here stands "a\(b"/],
    ['verify: { errors: [ERROR, "panic|"] }', /^verify\.errors\[1\]: .*matches every line/],
    ['verify: { soak: 1s, every: 2s }', /^verify\.every: expected more than 0 and at most the soak \(1000 ms\)/],
    ['verify: { every: 0s }', /^verify\.every: /],
    ['drain: { deadline: 0s }', /^drain\.deadline: /],
    ['probes: { version: { cwd: /x } }', /^probes\.version: expected `run: COMMAND` or/],
    ['git: { branches: { testing: master } }', /^git\.branches\.master: .*"master" is git\.branches\.testing too/],
    ['git: { remote: "--upload-pack=x" }', /^git\.remote: expected a git name/],
    ['git: { branches: { develop: "a..b" } }', /^git\.branches\.develop: expected a git name/],
    [
      'freeze: [{ from: "Fri 16:00", to: "2026-12-20 18:00", because: x }]',
      /^freeze\[0\]\.to: expected both ends of one kind/,
    ],
    [
      'freeze: [{ from: "2026-12-20 18:00", to: "2026-12-20 17:00", because: x }]',
      /^freeze\[0\]\.to: expected an end after/,
    ],
    ['freeze: [{ from: "Fri 16:00", to: "Fri 16:00", because: x }]', /^freeze\[0\]\.to: expected an end after/],
  ])('refuse %s', (line, expected) => {
    expect(issuesOf([line])).toEqual([expect.stringMatching(expected)]);
  });

  it('do not repeat what may be a secret', () => {
    const [message, ...others] = issuesOf(['notify: [{ webhook: { env: "https://hooks.example/s3cret" } }]']);
    expect(others).toEqual([]);
    expect(message).toMatch(/^notify\[0\]\.webhook\.env: expected the name of an environment variable/);
    expect(message).not.toContain('s3cret');
  });
});

describe('hosts', () => {
  it.each(['-oProxyCommand=id', 'a b', 'host;id', '$(id)', 'user@-v', 'a@b@c', ''])(
    '%j could be taken for something else',
    (on) => {
      const expected = expect.stringContaining('expected a host as ssh knows it') as string;
      expect(issuesOf([`nginx: { on: ${JSON.stringify(on)} }`])).toEqual([expected]);
      expect(
        issuesOf([], `servers: { app1: { address: "a:1", on: ${JSON.stringify(on)} }, app2: { address: "a:2" } }`),
      ).toEqual([expected]);
      expect(issuesOf([`publish: { on: ${JSON.stringify(on)}, dir: /srv }`])).toHaveLength(1);
    },
  );

  it('are what ssh is called with: a name, a host, a user before it', () => {
    for (const on of ['app1', 'app-1.example.org', 'deploy@10.0.0.1', 'App_1'])
      expect(issuesOf([`nginx: { on: "${on}" }`]), on).toEqual([]);
    expect(issuesOf(['publish: { on: "{on}", dir: "{dir}/clone" }'])).toEqual([]);
  });

  it('have a folder for publishes, and only there', () => {
    expect(issuesOf(['publish: { on: build }'])).toEqual([
      expect.stringMatching(/^publish\.on: expected `dir` beside it/),
    ]);
    expect(issuesOf(['publish: { on: build, dir: clone }'])).toEqual([
      expect.stringMatching(/^publish\.dir: .* absolute folder/),
    ]);
    expect(issuesOf(['publish: { dir: /srv }'])).toEqual([
      expect.stringMatching(/^publish\.dir: expected `on` beside it/),
    ]);
  });
});

describe('further proxies', () => {
  it('are another folder or another host, with names of their own', () => {
    expect(issuesOf(['nginx: { also: [{ on: front2 }, { dir: /opt/nginx2 }] }'])).toEqual([]);
    expect(issuesOf(['nginx: { also: [{}] }'])).toEqual([
      expect.stringMatching(/^nginx\.also\[?\.?0.*\/opt\/nginx is that of another$/),
    ]);
    expect(issuesOf(['nginx: { also: [{ on: front2 }, { on: front2, dir: /opt/nginx2 }] }'])).toEqual([
      expect.stringContaining('"front2" is that of another proxy'),
    ]);
  });
});

describe('the time of an answer', () => {
  it('is limited to less than its timeout', () => {
    const check = (within: string) =>
      issuesOf(['verify:', `  checks: [{ http: "http://a/", timeout: 1s, within: ${within} }]`]);
    expect(check('500ms')).toEqual([]);
    for (const within of ['1s', '2s', '0s']) {
      expect(check(within)).toEqual([
        expect.stringMatching(/^verify\.checks\[0\]\.within: expected more than 0 and less than the timeout/),
      ]);
    }
    expect(issuesOf(['probes: { health: { http: "http://{address}/", within: 9s } }'])).toHaveLength(1);
  });
});

describe('routes in one file', () => {
  const include = (setting: string, more = '') => issuesOf([`nginx: { include: { ${setting} }${more} }`]);
  const FILE = 'file: conf/quickpay.servers';

  it('need no routes, and take none beside them', () => {
    expect(include(FILE)).toEqual([]);
    expect(include(FILE, ', routes: [{ servers: [app1], branch: x }]')).toEqual([
      'nginx.routes: expected either "routes" (a branch for each) or "include" (one file that flow writes), not both',
    ]);
  });

  it.each(['/etc/passwd', '../upstream', 'conf/../../x', 'conf/', '.', '', '"a\\"b"', '"a\\nb"'])(
    'lie inside of the folder: not at %s',
    (file) => {
      expect(include(`file: ${file === '' ? '""' : file}`)).toEqual([
        expect.stringContaining('expected the path of a file inside of nginx.dir'),
      ]);
    },
  );

  it.each(['max_fails=1; server evil', 'down', 'weight=2', 'max_fails=1 backup', 'a{b', '# no', '"a\\nb=1"'])(
    'hold words of Nginx alone: not %s',
    (parameters) => {
      expect(include(`${FILE}, parameters: ${parameters.startsWith('"') ? parameters : `"${parameters}"`}`)).toEqual([
        expect.stringContaining('expected parameters of a server line'),
      ]);
    },
  );

  it('give weights to servers that there are, and addresses that Nginx can read', () => {
    expect(include(`${FILE}, parameters: max_fails=2 fail_timeout=5s, weights: { app1: 2 }`)).toEqual([]);
    expect(include(`${FILE}, weights: { app3: 2 }`)).toEqual([
      'nginx.include.weights.app3: expected the name of a server; here stands "app3"; did you mean "app1"?',
    ]);
    const evil = 'servers: { app1: { address: "a:1; server b:1" }, app2: { address: "a:2" } }';
    expect(issuesOf([`nginx: { include: { ${FILE} } }`], evil)).toEqual([
      'servers.app1.address: expected host:port, as Nginx reads it in conf/quickpay.servers; here stands "a:1; server b:1"',
    ]);
  });
});
