/**
 * Routes as the runbook has them (R3.1): a branch of the configuration's repository for each set of servers. A branch is trusted
 * for what its upstream blocks name, and never for its name.
 */
import { StepError } from '../errors.ts';
import type { Host } from '../hosts/host.ts';
import {
  assertSwitchable,
  branchesEqualToHead,
  notSwitchable,
  otherDifferences,
  readTree,
  routeProblem,
  switchTree,
  treeProblem,
  wrongServers,
} from './config-repository.ts';
import { mendCutSwitch } from './cut-switch.ts';
import type { FilesOfRoute, PlanOptions, Route, RouteFiles, RouteObservation, RouteProblems } from './route-files.ts';
import { observed, problemSentence, sameSet, toldAs, untouched } from './route-files.ts';

const DIFFERENCES_SHOWN = 6;

export class BranchRoutes implements RouteFiles {
  readonly routes: readonly Route[];
  readonly #host: Host;
  readonly #dir: string;
  readonly #addresses: Readonly<Record<string, string>>;

  constructor(host: Host, dir: string, routes: readonly Route[], addresses: Readonly<Record<string, string>>) {
    this.#host = host;
    this.#dir = dir;
    this.routes = routes;
    this.#addresses = addresses;
  }

  hasRoute(servers: readonly string[]): boolean {
    return this.#branchFor(servers) !== null;
  }

  byHand(servers: readonly string[]): string {
    return `git -C ${this.#dir} switch ${this.#branchFor(servers) ?? 'BRANCH'}`;
  }

  #branchFor(servers: readonly string[]): string | null {
    return this.routes.find((route) => sameSet(route.servers, servers))?.branch ?? null;
  }

  async observe(): Promise<RouteObservation> {
    const dir = this.#dir;
    const host = this.#host;
    return await observed(async () => {
      const [tree, equal] = await Promise.all([readTree(host, dir), branchesEqualToHead(host, dir)]);
      const { branch } = tree;
      const problem = await treeProblem(host, dir, tree);
      if (problem !== null) return { servers: null, branch, ...toldAs(problem) };
      // The branch HEAD names is asked first: two branches of equal content are one route under two names.
      const inOrder = this.routes.toSorted((a, b) => Number(b.branch === branch) - Number(a.branch === branch));
      const route = inOrder.find((candidate) => equal.has(candidate.branch));
      if (route === undefined) {
        return { servers: null, branch, treeProblem: `the files in ${dir} equal none of the routes' branches` };
      }
      // A branch that was renamed or edited serves others than its name says.
      const wrong = await wrongServers(host, dir, route, this.#addresses);
      if (wrong !== null) return { servers: null, branch, ...toldAs(wrong) };
      return { servers: [...route.servers], branch };
    });
  }

  async problems(): Promise<RouteProblems> {
    const dir = this.#dir;
    const wrong: string[] = [];
    const sound: string[] = [];
    // One after the other: git starts as many processes as there are questions.
    for (const route of this.routes) {
      const problem = await routeProblem(this.#host, dir, route, this.#addresses);
      if (problem === null) sound.push(route.branch);
      else wrong.push(problemSentence(problem));
    }
    const [first, ...others] = sound;
    const differ: string[] = [];
    for (const branch of first === undefined ? [] : others) {
      const found = await otherDifferences(this.#host, dir, first ?? '', branch);
      if (found.length === 0) continue;
      const shown = found.slice(0, DIFFERENCES_SHOWN).join('; ');
      const rest = found.length > DIFFERENCES_SHOWN ? `; and ${found.length - DIFFERENCES_SHOWN} more lines` : '';
      differ.push(
        `${branch} differs from ${first ?? ''} in more than its upstream servers: ${shown}${rest} (git -C ${dir} diff ${first ?? ''} ${branch})`,
      );
    }
    return { wrong, differ };
  }

  async plan(
    servers: readonly string[],
    { believed, again, tell }: PlanOptions,
  ): Promise<{ to: FilesOfRoute; back: FilesOfRoute }> {
    const host = this.#host;
    const dir = this.#dir;
    const branch = this.#branchFor(servers);
    if (branch === null) {
      throw new StepError(
        'ROUTE_UNKNOWN',
        'unsafe',
        `No route sends traffic to exactly ${servers.join(', ') || 'no server'}. Nothing was changed. ` +
          `Name its branch under nginx.routes in flow.yaml, then run: flow config check`,
      );
    }
    const mended = await mendCutSwitch(host, dir);
    if (mended !== null) tell(mended);
    const { branch: current } = await untouched(() => assertSwitchable(host, dir, branch, again));
    // The last look at what the branch says: one that was edited or renamed would send traffic to the wrong server.
    const wrong = await untouched(() => wrongServers(host, dir, { servers, branch }, this.#addresses));
    if (wrong !== null) throw notSwitchable(wrong, again);
    // A run that was cut in the middle of a switch may have left the tree on the very branch that Nginx refuses now.
    const from = (believed === undefined ? null : this.#branchFor(believed)) ?? current;
    const serves = believed ?? this.routes.find((route) => route.branch === from)?.servers ?? null;
    return {
      to: this.#filesOf(branch, servers, { from, asserted: true, tell }),
      back: this.#filesOf(from, serves, { from, asserted: false, tell: () => undefined }),
    };
  }

  #filesOf(
    branch: string,
    servers: readonly string[] | null,
    { from, asserted, tell }: { from: string; asserted: boolean; tell: (text: string) => void },
  ): FilesOfRoute {
    return {
      servers,
      branch,
      name: branch,
      called: `branch ${branch}`,
      correct: `Correct it on the branch ${branch} of ${this.#dir}, leave the files on ${from}`,
      enter: async () => {
        tell(`git switch ${branch}`);
        return (await switchTree(this.#host, this.#dir, branch, asserted)).head;
      },
    };
  }
}
