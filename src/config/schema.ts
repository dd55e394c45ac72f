/**
 * The shape of flow.yaml, once: types, validation and the editor's JSON schema all come from here.
 * Everything the runbook fixes (branches, remote, publish.sh, Nginx folder …) is a default that can be left out.
 */
import { z } from 'zod';

const UNIT_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 } as const;
const LONGEST_MS = 7 * 24 * UNIT_MS.h;
const DURATION = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/;
const expectedDuration = 'a duration with its unit, for instance "30s" or "10m"';

/** A duration with its unit (`30s`, `10m`, `250ms`, `1h`); becomes milliseconds. A bare number is refused: `10` would be 10 ms. */
const duration = z
  .string({ error: expectedDuration })
  .regex(DURATION, { error: expectedDuration })
  .transform((text) => {
    const [, amount = '', unit = 'ms'] = DURATION.exec(text) ?? [];
    return Math.round(Number(amount) * UNIT_MS[unit as keyof typeof UNIT_MS]);
  })
  // A longer wait overflows the timers of the runtime, which would then not wait at all.
  .refine((ms) => ms <= LONGEST_MS, { error: 'a duration of at most 168h' });

/** A command: a list of arguments, or one string split at spaces. Never given to a shell. */
const command = z
  .union([z.string().trim().min(1), z.array(z.string()).min(1)], {
    error: 'a command: "./publish.sh {server}" or a list of arguments',
  })
  .transform((value) => (typeof value === 'string' ? value.split(/\s+/) : value) as [string, ...string[]]);

const text = z.string().min(1);
const seconds = (value: string) => duration.prefault(value);

/** A host as ssh knows it. Nothing that ssh could take for an option, a command or another host can stand here. */
const destination = z.string().regex(/^(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9_][A-Za-z0-9_.-]*$/, {
  error: 'a host as ssh knows it: a name of ~/.ssh/config, a host name, or user@host',
});
const on = destination.optional().describe('the host it is on, as ssh knows it. Left out: the machine flow runs on');

const serverName = z
  .string()
  .regex(/^[a-z][A-Za-z0-9-]*$/, { error: 'a server name: a small letter, then letters, digits and "-"' })
  .refine((name) => name !== 'all', { error: 'a server name other than "all", which means every server' });

const expectedSize = 'a number of servers, or a share of them such as 25%';
const share = z
  .string({ error: expectedSize })
  .regex(/^(?!0+(?:\.0+)?%)(?:100|[1-9]?\d(?:\.\d+)?)%$/, { error: expectedSize });
/** A number of servers, or a share of all of them. */
const size = z.union([z.int({ error: expectedSize }).min(1, { error: expectedSize }), share], { error: expectedSize });
const names = z.array(serverName, { error: 'the names of servers' }).min(1);
const expectedWave = `${expectedSize}, or a list of their names`;
const wave = z.union(
  [
    size,
    names,
    z.strictObject({
      servers: z.union([size, names], { error: expectedWave }),
      soak: duration.optional().describe('how long it is observed once it serves, when it is not the usual time'),
    }),
  ],
  { error: `a wave: ${expectedWave}` },
);

/** What tells a server's version; when both are given they must agree. */
const versionProbe = z.strictObject({
  run: command.optional().describe('a command that prints the version, for instance ./quickpay -version'),
  http: text.optional().describe('an address that answers with the version'),
  cwd: text.optional(),
});

const httpCheck = z.strictObject({
  name: text.optional(),
  http: text,
  on: destination.optional().describe('the host it is asked from, over ssh. Left out: the machine flow runs on'),
  status: z.int().default(200),
  contains: text.optional(),
  timeout: seconds('5s'),
  within: duration.optional().describe('a good answer that takes longer than this fails the check, for instance 500ms'),
});
const commandCheck = z.strictObject({
  name: text.optional(),
  run: command,
  on,
  cwd: text.optional(),
  timeout: seconds('30s'),
});
/** A check: passes when the HTTP answer is as expected or the command exits with 0. */
const check = z.union([httpCheck, commandCheck], {
  error: 'a check: `http: ADDRESS` or `run: COMMAND`',
});

const server = z.strictObject({
  on,
  address: text.describe('host:port the server listens on, and how the Nginx upstream names it'),
  dir: text.optional().describe('folder of the program on this server, when it is not probes.dir; {dir} in commands'),
  log: text.optional(),
  version: versionProbe.optional(),
  health: httpCheck.optional(),
});

/** Routes without a branch for each: one file of `server` lines that flow writes and commits. */
const include = z.strictObject({
  file: z
    .string()
    .regex(/^(?!\/)(?!(?:.*\/)?\.{1,2}(?:\/|$))[^\p{Cc}"\\]*[^\p{Cc}"\\/]$/u, {
      error: 'the path of a file inside of nginx.dir, such as conf/quickpay.servers',
    })
    .describe('the file of server lines, relative to dir; the upstream block includes it'),
  parameters: z
    .string()
    .regex(/^(?!.*\b(?:down|backup|weight)\b)[a-z_]+(?:=[A-Za-z0-9._:-]+)?(?: +[a-z_]+(?:=[A-Za-z0-9._:-]+)?)*$/, {
      error:
        'parameters of a server line as Nginx has them, such as max_fails=2 fail_timeout=5s (weights stand under "weights")',
    })
    .optional()
    .describe('what every server line says besides its address, such as max_fails=2 fail_timeout=5s'),
  weights: z
    .record(serverName, z.int().min(1))
    .default({})
    .describe('the weight of a server; left out: that of Nginx, 1'),
  drained: z
    .enum(['leave out', 'down'])
    .default('leave out')
    .describe('how a server without traffic stands there: not at all, or marked down, as ip_hash and hash need it'),
});

const nginx = z.strictObject({
  on,
  dir: text.default('/opt/nginx'),
  test: command.prefault('sbin/nginx -t'),
  reload: command.prefault('sbin/nginx -s reload'),
  pidFile: text.default('logs/nginx.pid'),
  errorLog: text.default('logs/error.log'),
  accessLog: text
    .default('logs/access.log')
    .describe(
      'watched in a soak for 5xx answers; relative to dir. Any format with the status after "$request", or JSON',
    ),
  routes: z
    .array(z.strictObject({ servers: z.array(serverName).min(1), branch: text }))
    .optional()
    .describe('default: master for all servers, yun-NAME for only NAME, without-NAME for all but NAME'),
  include: include
    .optional()
    .describe('instead of routes: no branch for each set of servers, but one file that flow writes'),
});

/** Another Nginx that serves the same route. What is left out is as the first one's. */
const furtherNginx = z.strictObject({
  name: text.optional().describe('how messages call it; left out: the host it is on, else nginx2, nginx3 …'),
  on,
  dir: text.optional(),
  test: command.optional(),
  reload: command.optional(),
  pidFile: text.optional(),
  errorLog: text.optional(),
  accessLog: text.optional(),
});

export const configSchema = z.strictObject({
  version: z.literal(1),
  project: text,
  state: text.optional().describe('folder for state; default: the flow folder of the git common directory'),
  git: z
    .strictObject({
      dir: text.default('.'),
      remote: text.default('cil'),
      branches: z
        .strictObject({
          develop: text.default('develop'),
          testing: text.default('testing'),
          master: text.default('master'),
        })
        .prefault({}),
      changelog: text.default('ChangeLog.md'),
    })
    .prefault({}),
  ssh: z
    .strictObject({
      config: text.optional().describe("another configuration for ssh than the user's own; relative to flow.yaml"),
      connect: seconds('10s').describe('how long a connection may take to be made'),
    })
    .prefault({}),
  servers: z.record(serverName, server),
  test: z.strictObject({ ...server.shape, address: text, name: text.default('test') }),
  publish: z
    .strictObject({
      run: command.prefault('./publish.sh {server}'),
      on: z
        .union([destination, z.literal('{on}')], {
          error: 'a host as ssh knows it, or {on}: the host of the server that is published to',
        })
        .optional()
        .describe('the host it runs on; {on} is that of the server. Left out: here, in a tree of the released commit'),
      dir: text
        .optional()
        .describe(
          'with `on`: the clone of the project that it runs in there. flow brings {commit} into it; the command checks it out',
        ),
      answer: z.string().default('y\n').describe('given to the command as its standard input: the confirmation'),
      silence: seconds('3m').describe('a publish that prints nothing for so long is named'),
      sideBySide: z
        .int()
        .min(1)
        .default(1)
        .describe(
          'how many servers of a wave are published at the same time; the command then runs so often in one folder',
        ),
      settle: seconds('30s').describe(
        'how long a freshly published server may take until it reports the version and is healthy',
      ),
    })
    .prefault({}),
  probes: z
    .strictObject({
      dir: text.default('/opt/quickpay').describe('folder of the program on its server; {dir} in commands'),
      version: versionProbe.prefault({ run: '{dir}/quickpay -version' }),
      health: httpCheck.prefault({ http: 'http://{address}/health' }),
      from: z
        .enum(['here', 'host'])
        .default('here')
        .describe("where health and version addresses are asked from: here, or the server's own host, over ssh"),
      log: text.default('{dir}/logs/quickpay.log'),
    })
    .prefault({}),
  nginx: z
    .strictObject({
      ...nginx.shape,
      also: z
        .array(furtherNginx)
        .default([])
        .describe('further proxies: each route is switched on all of them, or on none'),
    })
    .prefault({}),
  cutover: z
    .enum(['exclusive', 'rolling'])
    .optional()
    .describe(
      'exclusive: after the first wave only that one serves until the end; rolling: each wave joins the others. Default: exclusive for two servers, else rolling',
    ),
  waves: z
    .array(wave)
    .min(1)
    .optional()
    .describe('which servers are published together, first to last; the last size is repeated. Default: [1, 25%]'),
  minimumHealthy: size
    .default('50%')
    .describe('how many servers the load needs at any time; no wave takes more out of rotation'),
  preview: z
    .strictObject({
      nginx: z
        .strictObject({ ...nginx.shape, dir: text })
        .optional()
        .describe('a second Nginx that no customer reaches; its routes lead to the server that was just published'),
      checks: z.array(check).min(1),
    })
    .optional()
    .describe('what is checked on the first wave before any customer reaches it'),
  drain: z
    .strictObject({ deadline: seconds('5m'), watch: seconds('2s'), checks: z.array(check).default([]) })
    .prefault({}),
  verify: z
    .strictObject({
      soak: seconds('10m'),
      waveSoak: seconds('2m').describe('how long each later wave of a rolling release is observed once it serves'),
      every: seconds('5s'),
      onBad: z.enum(['rollback', 'hold']).default('rollback'),
      checks: z.array(check).default([]),
      failuresTolerated: z.int().min(0).default(1).describe('failed checks in a row that are tolerated'),
      errors: z.array(text).default(['ERROR', 'panic:']).describe('regular expressions for bad lines in the log'),
      errorFactor: z
        .number()
        .min(0)
        .default(2)
        .describe("bad when the share of error lines exceeds the old version's share times this"),
      errorsTolerated: z.int().min(0).default(0).describe('error lines in a soak that are always tolerated'),
      proxyErrorFactor: z
        .number()
        .min(0)
        .default(2)
        .describe("bad when the share of 5xx answers through Nginx exceeds the old version's share times this"),
      proxyErrorsTolerated: z.int().min(0).default(0).describe('5xx answers in a soak that are always tolerated'),
      blind: seconds('5s').describe('how long a log may be missing or unreadable before the soak asks'),
    })
    .prefault({}),
  watch: z.strictObject({ soak: seconds('1m') }).prefault({}),
  preflight: z.array(check).default([]),
  freeze: z.array(z.strictObject({ from: text, to: text, because: text })).default([]),
  notify: z.array(z.strictObject({ webhook: z.strictObject({ env: text }) })).default([]),
  secrets: z
    .array(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, { error: 'the name of an environment variable' }))
    .default([])
    .describe('environment variables whose values are taken out of everything that is stored or shown'),
  rollback: z.strictObject({ restore: z.enum(['auto', 'hold']).default('auto'), run: command.optional() }).prefault({}),
});

/** flow.yaml after validation: every default filled in, durations in milliseconds, commands as argument lists. */
export type Config = z.output<typeof configSchema>;
export type Check = z.output<typeof check>;
export type HttpCheck = z.output<typeof httpCheck>;
export type IncludeConfig = z.output<typeof include>;
export type VersionProbe = z.output<typeof versionProbe>;
export type ServerConfig = z.output<typeof server>;
