/**
 * `quickpay`, the small server that the sandbox publishes, as the text of the files that travel with a release.
 * It is light (hundreds of requests a second beside Nginx and a load client on two cores) and behaves well, unless
 * the release it came with, or a file beside it, tells it to misbehave.
 *
 * Invariant: `quickpay` below refers to nothing outside itself, because its text is what is written to disk. It is a
 * function, and not a string, so that the compiler checks it.
 */

/** Trouble a version carries with it (misbehave.json in its tree) or a running server is told of (misbehave.json in its folder). */
export interface Misbehaviour {
  /** It reports a version that is not the published one. Over HTTP only, when told to a running server. */
  wrongVersion?: boolean;
  /** It ends with status 1 before it listens. */
  crashOnStart?: boolean;
  /** It stays, and never listens. */
  neverStarts?: boolean;
  /** Milliseconds until it listens, instead of the sandbox's own figure. */
  startMs?: number;
  /** It writes a panic to its log and ends, this long after it was told. */
  dieAfterMs?: number;
  /** Each answer takes this much longer. */
  slowMs?: number;
  /** Every n-th request writes an ERROR line to the log; the answer stays good. */
  errorEvery?: number;
  /** `/health` answers 503. */
  unhealthy?: boolean;
  /** Every n-th `/health` answers 503. */
  healthFailEvery?: number;
  /** Every n-th request is answered with 500. */
  status5xxEvery?: number;
}

/** The program's text. `quickpay.cjs` by name, so that it is CommonJS whatever package.json stands above it. */
export function programText(): string {
  return `'use strict';\n(${quickpay.toString()})();\n`;
}

/**
 * The text of the executable `quickpay`: answers `-version` at once, as a compiled program would, and becomes the
 * server otherwise. `node` is the absolute path of the Node that made the sandbox.
 */
export function launcherText(node: string): string {
  return `#!/bin/sh
# quickpay -version | quickpay --name NAME --port PORT
dir=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd -P)
if [ "\${1:-}" = -version ]; then
  read -r version build < "$dir/version" || exit 1
  echo "quickpay $version (build $build)"
  exit 0
fi
exec '${node.replaceAll("'", "'\\''")}' "$dir/quickpay.cjs" "$@"
`;
}

function quickpay(): void {
  const fs = process.getBuiltinModule('node:fs');
  const http = process.getBuiltinModule('node:http');
  const path = process.getBuiltinModule('node:path');
  const args = process.argv.slice(2);
  const dir = path.dirname(process.argv[1] ?? '.');
  const option = (name: string, fallback: string) => {
    const at = args.indexOf(`--${name}`);
    return (at === -1 ? undefined : args[at + 1]) ?? fallback;
  };

  if (args[0] === '-wait') waitFor(Number(args[1]), Number(args[2]), Number(args[3]));
  else serve();

  /** Ends with 0 when the port answers `/health` (whatever it says), with 1 when the process is gone or time is up. */
  function waitFor(port: number, pid: number, patienceMs: number): void {
    const until = Date.now() + patienceMs;
    const running = () => {
      try {
        // A process that ended but was not waited for still accepts signal 0; its state tells.
        const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
        return stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3) !== 'Z';
      } catch {
        return false;
      }
    };
    const again = () => {
      if (!running()) process.exit(1);
      if (Date.now() > until) process.exit(1);
      setTimeout(ask, 30);
    };
    const ask = () => {
      const request = http.get({ host: '127.0.0.1', port, path: '/health', agent: false, timeout: 1000 }, (answer) => {
        process.stdout.write(`/health answers ${answer.statusCode}\n`);
        process.exit(0);
      });
      request.on('timeout', () => request.destroy(new Error('timed out')));
      request.on('error', again);
    };
    ask();
  }

  function serve(): void {
    const name = option('name', 'quickpay');
    const port = Number(option('port', process.env.PORT ?? '8080'));
    const log = path.join(dir, 'logs', 'quickpay.log');
    const [stamped = 'v0.0.0', build = 'unknown'] = fs
      .readFileSync(path.join(dir, 'version'), 'utf8')
      .trim()
      .split(' ');
    const released = readJson('settings.json', readJson('release-misbehave.json', {}));
    let override: Misbehaviour = {};
    let trouble: Misbehaviour = released;
    let requests = 0;
    let healths = 0;
    let closing = false;

    // One append for all lines of the last moment. By path, so that a rotated log goes on in the new file.
    let lines = '';
    let flushing: NodeJS.Timeout | undefined;
    const flush = () => {
      clearTimeout(flushing);
      flushing = undefined;
      const chunk = lines;
      lines = '';
      try {
        if (chunk !== '') fs.appendFileSync(log, chunk);
      } catch {
        // As other programs do: payments are more than their log. The lines are lost.
      }
    };
    const write = (line: string) => {
      lines += `${new Date().toISOString()} ${line}\n`;
      flushing ??= setTimeout(flush, 20);
    };
    const every = (n: number | undefined, count: number) => n !== undefined && n > 0 && count % n === 0;

    function readJson(file: string, over: Misbehaviour): Misbehaviour {
      try {
        return { ...(JSON.parse(fs.readFileSync(path.join(dir, file), 'utf8')) as Misbehaviour), ...over };
      } catch {
        // Missing, or half written by someone this very moment: the next look will see it whole.
        return over;
      }
    }
    let death: NodeJS.Timeout | undefined;
    const look = () => {
      const now = readJson('misbehave.json', {});
      if (JSON.stringify(now) === JSON.stringify(override)) return;
      override = now;
      trouble = { ...released, ...override };
      scheduleDeath();
    };
    const scheduleDeath = () => {
      clearTimeout(death);
      if (trouble.dieAfterMs === undefined) return;
      death = setTimeout(() => {
        write('panic: runtime error: invalid memory address');
        flush();
        process.exit(2);
      }, trouble.dieAfterMs);
    };

    const server = http.createServer({ keepAliveTimeout: 75_000 }, (request, response) => {
      const startedAt = Date.now();
      const url = request.url ?? '/';
      const shown = override.wrongVersion === true ? 'v0.0.0' : stamped;
      const answer = (status: number, text: string) => {
        const headers: Record<string, string | number> = {
          'content-type': 'text/plain',
          'content-length': Buffer.byteLength(text),
          'x-server': name,
          'x-version': shown,
        };
        if (closing) headers.connection = 'close';
        response.writeHead(status, headers);
        response.end(text);
      };
      // The questions of monitoring are left out of the log, so that its silence means: no customers.
      if (url === '/health') {
        healths += 1;
        const well = trouble.unhealthy !== true && !every(trouble.healthFailEvery, healths);
        response.setHeader('x-misbehave', JSON.stringify(override));
        answer(well ? 200 : 503, well ? 'ok\n' : 'unhealthy\n');
        return;
      }
      if (url === '/version') {
        answer(200, `quickpay ${shown} (build ${build})\n`);
        return;
      }
      const finish = () => {
        requests += 1;
        const bad = every(trouble.status5xxEvery, requests);
        if (every(trouble.errorEvery, requests)) write(`ERROR ${request.method} ${url} ledger did not answer, retried`);
        write(
          `${bad ? 'ERROR' : 'INFO'} ${request.method} ${url} ${bad ? 500 : 200} ${Date.now() - startedAt}ms ${shown}`,
        );
        answer(bad ? 500 : 200, bad ? 'payment failed\n' : `quickpay ${shown} on ${name}\n`);
      };
      // `?ms=` makes a long request on demand.
      const asked = Number(/[?&]ms=(\d+)/.exec(url)?.[1] ?? 0);
      const delayMs = Math.min(asked, 120_000) + (trouble.slowMs ?? 0);
      request.resume();
      request.on('end', () => {
        if (delayMs > 0) setTimeout(finish, delayMs);
        else finish();
      });
    });

    // As a websocket: a connection that stays open for as long as the client wants, and says back what it is told.
    const upgraded = new Set<{ destroy(): void }>();
    server.on('upgrade', (_request, socket) => {
      upgraded.add(socket);
      socket.on('close', () => upgraded.delete(socket));
      socket.on('error', () => socket.destroy());
      socket.on('data', (chunk: Buffer) => socket.write(chunk));
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Server: ${name}\r\n\r\n`,
      );
    });

    const leave = () => {
      if (closing) return;
      closing = true;
      for (const socket of upgraded) socket.destroy();
      const gone = () => {
        flush();
        process.exit(0);
      };
      if (!server.listening) gone();
      server.close(gone);
      server.closeIdleConnections();
    };
    process.on('SIGTERM', leave);
    process.on('SIGINT', leave);
    process.on('SIGHUP', look);
    override = readJson('misbehave.json', {});
    trouble = { ...released, ...override };
    // Also keeps a version alive that never starts.
    setInterval(look, 500);
    if (trouble.crashOnStart === true) {
      write('panic: cannot read the configuration');
      flush();
      process.stderr.write('panic: cannot read the configuration\n');
      process.exit(1);
    }
    if (trouble.neverStarts === true) return;
    setTimeout(() => {
      if (closing) return;
      server.on('error', (error) => {
        process.stderr.write(`panic: ${error.message}\n`);
        process.exit(1);
      });
      server.listen(port, '127.0.0.1', 1024, () => {
        write(`INFO listening on ${port}, ${stamped} (build ${build})`);
        scheduleDeath();
      });
    }, trouble.startMs ?? 0);
  }
}
