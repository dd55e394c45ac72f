/**
 * Several proxies that have to serve the same route: one is never on the new one while another stays on the old.
 *
 * Invariants: every proxy's configuration is switched and tested before the first is told to load it; where one refuses, or does not
 * become live, all go back; a route is live, and a server drained, only when every proxy proves it. In between two reloads some
 * proxies serve the old route and some the new: both are routes that the release calls possible until it is proven.
 */
import { messageOf, StepError } from '../errors.ts';
import type {
  ForeignReload,
  Prepared,
  Proxy,
  ProxyObservation,
  SwitchEvidence,
  SwitchOptions,
  TrafficProxy,
} from './proxy.ts';
import type { RouteProblems } from './route-files.ts';

/** A proxy, and how messages call it. */
export interface NamedProxy {
  name: string;
  proxy: Proxy;
}

type Worker = SwitchEvidence['workersBefore'][number];

/** One proxy out of several. Throws where there is none: a defect of the caller. */
export function allOf(proxies: readonly NamedProxy[]): TrafficProxy {
  const [first, ...others] = proxies;
  if (first === undefined) throw new Error('there is no proxy');
  return others.length === 0 ? first.proxy : new Proxies(first, others);
}

class Proxies implements TrafficProxy {
  readonly #first: NamedProxy;
  readonly #others: readonly NamedProxy[];

  constructor(first: NamedProxy, others: readonly NamedProxy[]) {
    this.#first = first;
    this.#others = others;
  }

  get #all(): readonly NamedProxy[] {
    return [this.#first, ...this.#others];
  }

  hasRoute(servers: readonly string[]): boolean {
    return this.#first.proxy.hasRoute(servers);
  }

  byHand(servers: readonly string[]): string {
    return this.#all.map(({ name, proxy }) => `on ${name}: ${proxy.byHand(servers)}`).join('; ');
  }

  /** As one proxy is observed. The servers are those that every proxy serves; where they differ, each is named. */
  async observe(): Promise<ProxyObservation> {
    const seen = await Promise.all(
      this.#all.map(async ({ name, proxy }) => ({ name, ...(await named(name, () => proxy.observe())) })),
    );
    const [first] = seen;
    if (first === undefined) throw new Error('there is no proxy');
    const problem = seen.find((one) => one.problem !== undefined);
    const workers = seen.flatMap((one) => one.workers);
    const troubled = {
      ...(problem?.problem === undefined ? {} : { problem: `${problem.name}: ${problem.problem}` }),
      ...(problem?.problemMend === undefined ? {} : { problemMend: problem.problemMend }),
    };
    const master = problem === undefined && first.master !== undefined ? { master: first.master } : {};
    const unclean = seen.find((one) => one.servers === null);
    if (unclean !== undefined) {
      const mend = unclean.treeMend === undefined ? {} : { treeMend: unclean.treeMend };
      const why = `${unclean.name}: ${unclean.treeProblem ?? 'its files equal no route'}`;
      return { servers: null, branch: unclean.branch, treeProblem: why, ...mend, ...master, workers, ...troubled };
    }
    const branches = new Set(seen.map(({ servers }) => servers?.join(' ')));
    if (branches.size > 1) {
      const each = seen.map((one) => `${one.name} serves ${one.servers?.join(' and ') ?? 'nobody knows whom'}`);
      const treeProblem = `the proxies differ: ${each.join(', ')}`;
      return { servers: null, branch: null, treeProblem, ...master, workers, ...troubled };
    }
    return { servers: first.servers, branch: first.branch, ...master, workers, ...troubled };
  }

  async routeProblems(): Promise<RouteProblems> {
    const all = await Promise.all(
      this.#all.map(async ({ name, proxy }) => {
        const { wrong, differ } = await named(name, () => proxy.routeProblems());
        return { wrong: wrong.map((line) => `${name}: ${line}`), differ: differ.map((line) => `${name}: ${line}`) };
      }),
    );
    return { wrong: all.flatMap(({ wrong }) => wrong), differ: all.flatMap(({ differ }) => differ) };
  }

  /**
   * As one proxy is switched, on all or on none. Twice is safe: each tests and reloads again. Throws what the proxy that failed
   * throws, with its name and how the others stand; `unknownOutcome` where another could not be brought back.
   */
  async switchTo(servers: readonly string[], options: SwitchOptions = {}): Promise<SwitchEvidence> {
    const ready: { name: string; prepared: Prepared }[] = [];
    for (const { name, proxy } of this.#all) {
      try {
        ready.push({ name, prepared: await proxy.prepare(servers, telling(name, options)) });
      } catch (error) {
        await takeBack(ready, error, name);
        throw withName(error, name, ready.length > 0 ? ' No proxy was reloaded.' : '');
      }
    }
    // Side by side: as long as they differ, customers of one are served by other servers than those of another.
    const ends = await Promise.allSettled(ready.map(({ prepared }) => prepared.load()));
    const live = ends.flatMap((end, index) => (end.status === 'fulfilled' ? [{ index, switched: end.value }] : []));
    const failed = ends.findIndex((end) => end.status === 'rejected');
    const failure = ends[failed];
    if (failure?.status === 'rejected') {
      const name = this.#all[failed]?.name ?? '';
      const kept = await this.#backTogether(
        live.map(({ index, switched }) => ({ index, switched, before: ready[index]?.prepared.servedBefore })),
        options,
      );
      throw withName(failure.reason, name, kept);
    }
    const [own, ...further] = live;
    if (own === undefined) throw new Error('no proxy was switched');
    const also = further.map(({ index, switched }) => ({ proxy: this.#all[index]?.name ?? '', switched }));
    const proofs = [{ proxy: this.#first.name, switched: own.switched }, ...also];
    return {
      ...own.switched,
      liveAfterMs: Math.max(...proofs.map(({ switched }) => switched.liveAfterMs)),
      provenBy: proofs.map(({ proxy, switched }) => `${proxy}: ${switched.provenBy}`).join('; '),
      also,
    };
  }

  /** Brings the proxies that are live on the new route back to the one before; says so. Throws `unknownOutcome` where that fails. */
  async #backTogether(
    live: readonly { index: number; switched: SwitchEvidence; before: readonly string[] | null | undefined }[],
    options: SwitchOptions,
  ): Promise<string> {
    const names: string[] = [];
    for (const { index, switched, before = options.from ?? null } of live) {
      const one = this.#all[index];
      if (one === undefined || before === null) continue;
      try {
        await one.proxy.switchTo(before, { ...telling(one.name, options), ...withoutSignal });
      } catch (error) {
        throw new StepError(
          'PROXIES_DIFFER',
          'unknownOutcome',
          `The proxies differ: ${one.name} was switched to ${switched.servers.join(' and ')}, another was not, and it could not be brought back: ${messageOf(error)}`,
          { cause: error },
        );
      }
      names.push(one.name);
    }
    return names.length === 0
      ? ''
      : ` ${names.join(' and ')} ${names.length === 1 ? 'was' : 'were'} live already, and ${names.length === 1 ? 'is' : 'are'} back.`;
  }

  async remaining(evidence: Parameters<TrafficProxy['remaining']>[0]): Promise<Worker[]> {
    const left = await Promise.all(
      this.#all.map(async ({ name, proxy }) => {
        const own = name === this.#first.name ? evidence : furtherOf(evidence, name);
        return own === null ? [] : await named(name, () => proxy.remaining(own));
      }),
    );
    return left.flat();
  }

  async reloadedByOthers(evidence: Parameters<TrafficProxy['reloadedByOthers']>[0]): Promise<ForeignReload | null> {
    const all = await Promise.all(
      this.#all.map(async ({ name, proxy }) => {
        const own = name === this.#first.name ? evidence : furtherOf(evidence, name);
        return own === null ? null : await named(name, () => proxy.reloadedByOthers(own));
      }),
    );
    const foreign = all.filter((one) => one !== null);
    // What says most about what a proxy serves by now.
    return (
      foreign.find(({ how }) => how === 'restart') ?? foreign.find(({ how }) => how === 'reload') ?? foreign[0] ?? null
    );
  }
}

/** What a further proxy was seen to do; null where it was not there yet. */
const furtherOf = ({ also }: { also?: SwitchEvidence['also'] }, name: string): SwitchEvidence | null =>
  also?.find(({ proxy }) => proxy === name)?.switched ?? null;

/** A way back is gone to its end, also by somebody who has to leave. */
const withoutSignal = { signal: new AbortController().signal };

const telling = (name: string, options: SwitchOptions): SwitchOptions => ({
  ...options,
  ...(options.onProgress === undefined
    ? {}
    : { onProgress: (text: string) => options.onProgress?.(`${name}: ${text}`) }),
});

/** The files of those that were prepared go back. Throws StepError `unknownOutcome` where that fails. */
async function takeBack(
  ready: readonly { name: string; prepared: Prepared }[],
  error: unknown,
  failed: string,
): Promise<void> {
  for (const { name, prepared } of ready) {
    try {
      await prepared.takeBack();
    } catch (second) {
      throw new StepError(
        'CONFIG_TREE_NOT_RESTORED',
        'unknownOutcome',
        `${failed}: ${messageOf(error)} ${name}: ${messageOf(second)}`,
        { cause: error },
      );
    }
  }
}

async function named<T>(name: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw withName(error, name, '');
  }
}

function withName(error: unknown, name: string, more: string): unknown {
  if (!(error instanceof StepError)) return error;
  return new StepError(error.code, error.kind, `${name}: ${error.message}${more}`, { cause: error });
}
