/**
 * The load client: clients of the sandbox, in a process of their own, so that whatever the driver does cannot disturb
 * the pace or hide a failure. Requests are sent at a fixed rate whether answers come or not, and never a second time.
 *
 * Invariant: `loadClient` refers to nothing outside itself, because its text is handed to `node -e`. It is a function,
 * and not a string, so that the compiler checks it.
 */

export interface LoadClientOptions {
  url: string;
  ratePerSecond: number;
  keepAlive: boolean;
  /** Share of POSTs among the requests, 0 to 1. */
  postShare: number;
  requestTimeoutMs: number;
  maxSeconds: number;
}

export interface LoadFailure {
  /** ISO 8601. */
  at: string;
  /** `status 502`, `reset`, or the code of the error (`ECONNREFUSED`, `TIMEOUT` …). */
  kind: string;
  method: string;
}

/** What became of the requests that have ended: `requests = ok + failed + resets`. */
export interface LoadTotals {
  requests: number;
  ok: number;
  /** `status5xx + otherErrors`: what a customer would have seen and no browser repeats by itself. */
  failed: number;
  status5xx: number;
  /** A kept connection that the other side closed just as it was used again: never reached a server, counted apart. */
  resets: number;
  /** Refused, cut, too late, or an answer that is neither 2xx nor 5xx. */
  otherErrors: number;
  /** Sent and not ended yet. */
  inFlight: number;
  /** Requests that were due and not sent, because the client itself came too late. */
  notSent: number;
  seconds: number;
  /** Good answers by the server that gave them. */
  byServer: Record<string, number>;
  byVersion: Record<string, number>;
  /** The first 20. Resets are among them. */
  failures: LoadFailure[];
}

/** The text for `node -e`. */
export function loadClientText(options: LoadClientOptions): string {
  return `'use strict';\n(${loadClient.toString()})(${JSON.stringify(options)});\n`;
}

function loadClient(options: LoadClientOptions): void {
  const http = process.getBuiltinModule('node:http');
  const totals: LoadTotals = {
    requests: 0,
    ok: 0,
    failed: 0,
    status5xx: 0,
    resets: 0,
    otherErrors: 0,
    inFlight: 0,
    notSent: 0,
    seconds: 0,
    byServer: {},
    byVersion: {},
    failures: [],
  };
  // Without a limit of sockets: one that waits for a free socket would not be sent at its time.
  const agent = options.keepAlive ? new http.Agent({ keepAlive: true }) : false;
  const target = new URL(options.url);
  const maxInFlight = Math.max(200, options.ratePerSecond * 4);
  const body = 'order=4711&amount=1200';
  const startedAt = performance.now();
  let due = 0;
  let posts = 0;
  let stopping = false;

  const report = () => {
    totals.seconds = Math.round(performance.now() - startedAt) / 1000;
    process.stdout.write(`${JSON.stringify(totals)}\n`);
  };
  const fail = (method: string, kind: string) => {
    if (totals.failures.length < 20) totals.failures.push({ at: new Date().toISOString(), kind, method });
  };

  const send = (serial: number) => {
    const post = Math.floor((serial + 1) * options.postShare) > posts;
    if (post) posts += 1;
    const method = post ? 'POST' : 'GET';
    totals.inFlight += 1;
    let ended = false;
    const end = (count: () => void) => {
      if (ended) return;
      ended = true;
      totals.inFlight -= 1;
      totals.requests += 1;
      count();
      if (stopping && totals.inFlight === 0) finish();
    };
    const broken = (kind: string) =>
      end(() => {
        totals.failed += 1;
        totals.otherErrors += 1;
        fail(method, kind);
      });
    const request = http.request({
      agent,
      host: target.hostname,
      port: target.port,
      path: `/pay/${serial}`,
      method,
      headers: {
        connection: options.keepAlive ? 'keep-alive' : 'close',
        ...(post ? { 'content-type': 'application/x-www-form-urlencoded', 'content-length': body.length } : {}),
      },
    });
    // By the clock and not by the socket's silence: a trickling answer is too late as well.
    const timer = setTimeout(() => {
      broken('TIMEOUT');
      request.destroy();
    }, options.requestTimeoutMs);
    request.on('close', () => clearTimeout(timer));
    request.on('response', (response) => {
      const status = response.statusCode ?? 0;
      response.resume();
      response.on('end', () => {
        if (!response.complete) return;
        if (status >= 200 && status < 300) {
          end(() => {
            totals.ok += 1;
            const server = String(response.headers['x-server'] ?? 'unknown');
            const version = String(response.headers['x-version'] ?? 'unknown');
            totals.byServer[server] = (totals.byServer[server] ?? 0) + 1;
            totals.byVersion[version] = (totals.byVersion[version] ?? 0) + 1;
          });
        } else if (status >= 500) {
          end(() => {
            totals.failed += 1;
            totals.status5xx += 1;
            fail(method, `status ${status}`);
          });
        } else {
          broken(`status ${status}`);
        }
      });
      response.on('error', () => broken('CUT'));
      response.on('close', () => broken('CUT'));
    });
    request.on('error', (error: Error & { code?: string }) => {
      const code = error.code ?? error.message;
      if (request.reusedSocket && (code === 'ECONNRESET' || code === 'EPIPE')) {
        end(() => {
          totals.resets += 1;
          fail(method, 'reset');
        });
      } else {
        broken(code);
      }
    });
    request.end(post ? body : undefined);
  };

  // Open loop: what is due by the clock is sent, however slow the answers are.
  const pace = setInterval(() => {
    const owed = Math.floor(((performance.now() - startedAt) / 1000) * options.ratePerSecond);
    // After a pause of this very process the backlog is no load that customers make; it is dropped, and counted.
    const burst = Math.max(1, Math.ceil(options.ratePerSecond / 4));
    if (owed - due > burst) {
      totals.notSent += owed - due - burst;
      due = owed - burst;
    }
    while (due < owed) {
      if (totals.inFlight < maxInFlight) send(due);
      else totals.notSent += 1;
      due += 1;
    }
  }, 5);
  const ticking = setInterval(report, 250);

  const finish = () => {
    clearInterval(ticking);
    report();
    process.stdout.write('', () => process.exit(0));
  };
  const stop = () => {
    if (stopping) return;
    stopping = true;
    clearInterval(pace);
    if (totals.inFlight === 0) finish();
  };
  setTimeout(stop, options.maxSeconds * 1000);
  // The end of standard input means stop; it comes as well when whoever started us is gone.
  process.stdin.resume();
  process.stdin.on('end', stop);
  process.stdin.on('error', stop);
  process.stdout.on('error', () => process.exit(0));
  // Ctrl-C at the terminal is for the driver, which then ends our input.
  process.on('SIGINT', () => undefined);
  report();
}
