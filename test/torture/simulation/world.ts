/**
 * A world in one process: a proxy, servers, tags, and a ledger of jobs that outlives every driver. It can be cut at each of its
 * moments, as a power cut would, and it watches the rules of the design while things are done to it.
 * Fixture of the simulation: the engine and the chart are the real ones, only the world is made up.
 */
import type { SwitchEvidence } from '../../../machines/contract.ts';
import type { Facts } from '../../../machines/events.ts';
import { sameServers } from '../../../machines/topology.ts';

/** Thrown where the process dies: nothing of it may be caught by flow. There is one, as a stack for each would take long. */
export class PowerCut extends Error {
  static readonly here = new PowerCut();
}

/** Where a life ends: at the n-th moment of the whole run, counted over all lives. */
export interface Moments {
  /** Throws PowerCut when this moment is one at which the driver dies. */
  pass(name: string): void;
}

export interface SimulatedServer {
  /** The version that is wholly installed and runs; null while it is being replaced, or after that went wrong. */
  version: string | null;
  healthy: boolean;
}

interface SimulatedJob {
  status: number;
  server: string;
  version: string;
}

interface Workers {
  pid: number;
  route: string[];
}

export class SimulatedWorld {
  readonly servers: Record<string, SimulatedServer>;
  /** The configuration that lies in the tree. */
  tree: string[];
  /** The workers that accept requests. */
  workers: Workers;
  /** Workers of earlier configurations that still finish requests. */
  finishing: Workers[] = [];
  readonly tags = new Set<string>();
  readonly pushed = new Set<string>();
  /** How many servers the load needs. All are healthy here, so that even a rollback always has them. */
  minimum = 1;
  testing: string | null = null;
  testServer: string | null = null;
  readonly jobs = new Map<string, SimulatedJob>();
  /** How often each job was really run. */
  readonly runs = new Map<string, number>();
  readonly broken: string[] = [];
  #pid = 1;

  /** `serving`: in rotation; the others run a version of which nobody knows anything good. */
  constructor(names: readonly string[], version: string, serving: readonly string[] = names) {
    this.servers = Object.fromEntries(
      names.map((name) => [name, { version: serving.includes(name) ? version : 'v0-bad', healthy: true }]),
    );
    this.tree = [...serving];
    this.workers = { pid: this.#pid, route: [...serving] };
    this.tags.add(version);
    this.pushed.add(version);
  }

  /** Nginx loads what lies in the tree. */
  reload(): SwitchEvidence {
    const before = [...this.finishing, this.workers];
    if (this.tree.length === 0) this.broken.push('a route without a server went live');
    for (const name of this.tree) {
      if ((this.servers[name]?.version ?? null) === null)
        this.broken.push(`${name} went into rotation while nobody can say what it runs`);
      if (this.servers[name]?.version === 'v0-bad')
        this.broken.push(`${name} went into rotation with what nobody trusts`);
    }
    if (this.tree.length < this.minimum)
      this.broken.push(`${this.tree.length} servers went live, of ${this.minimum} needed`);
    this.#pid += 1;
    this.finishing = before;
    this.workers = { pid: this.#pid, route: [...this.tree] };
    return {
      servers: [...this.tree],
      branch: this.tree.join('-'),
      commit: 'c',
      from: null,
      master: { pid: 1, startedAtTicks: 1 },
      workersBefore: before.map(({ pid }) => ({ pid, startedAtTicks: 1, shuttingDown: true })),
      workersAfter: [{ pid: this.#pid, startedAtTicks: 1, shuttingDown: false }],
      liveAfterMs: 1,
      testedOutput: '',
      reloadStatus: 0,
      provenBy: 'the simulation',
    };
  }

  /** Whether the workers of a switch are those that accept now, on the tree that lies there. */
  stands(switched: SwitchEvidence): boolean {
    return switched.workersAfter[0]?.pid === this.workers.pid && sameServers(this.tree, this.workers.route);
  }

  left(switched: SwitchEvidence): number {
    const pids = new Set(switched.workersBefore.map(({ pid }) => pid));
    return this.finishing.filter(({ pid }) => pids.has(pid)).length;
  }

  drained(): void {
    this.finishing = [];
  }

  /** Runs a job once for ever. It goes on without the driver: a cut after its start does not cut it. */
  run(
    id: string,
    server: string,
    version: string,
    ends: { status: number; becomes: string | null },
    waived: boolean,
  ): SimulatedJob {
    const known = this.jobs.get(id);
    if (known !== undefined) return known;
    this.runs.set(id, (this.runs.get(id) ?? 0) + 1);
    const reaches = [this.workers, ...(waived ? [] : this.finishing)].some(({ route }) => route.includes(server));
    if (server !== 'test') {
      if (reaches) this.broken.push(`${id}: ${server} was published while it had traffic`);
      if (!this.pushed.has(version)) this.broken.push(`${id}: ${version} was published and never pushed`);
      const there = this.servers[server];
      if (there !== undefined) there.version = ends.becomes;
    } else {
      this.testServer = ends.becomes;
    }
    const job = { status: ends.status, server, version };
    this.jobs.set(id, job);
    return job;
  }

  /** What a look at this world gives. */
  facts(): Facts {
    const left = this.finishing.length;
    return {
      proxy: {
        servers: this.tree,
        live: sameServers(this.tree, this.workers.route),
        because: `the tree is that of ${this.tree.join(' and ')}, the workers' that of ${this.workers.route.join(' and ')}`,
      },
      servers: Object.fromEntries(
        Object.entries(this.servers).map(([name, { version, healthy }]) => [
          name,
          { version, healthy, because: 'simulated' },
        ]),
      ),
      drained: Object.fromEntries(
        Object.keys(this.servers).map((name) => [name, { ok: left === 0, because: `${left} workers left` }]),
      ),
      testing: { commit: this.testing, serverCommit: this.testServer, because: 'simulated' },
      tag: { commit: 'tagged' },
      freeze: null,
      routes: { wrong: [], differ: [] },
      preflight: [],
    };
  }
}
