/**
 * What the files of a proxy say of its route, and how they come to say something else. There are two ways: a branch of the
 * configuration's repository for each set of servers (branch-routes.ts), and one file that flow writes (include-route.ts). The
 * proxy (proxy.ts) does everything that is the same for both: it tests, reloads, proves, and goes back.
 */
import { messageOf, StepError } from '../errors.ts';
import type { TreeProblem } from './config-repository.ts';

/** A set of servers and the branch that sends traffic to exactly these. */
export interface Route {
  servers: string[];
  branch: string;
}

export interface RouteObservation {
  /** Servers of the route that the files say; null when they say none, or are not clean. */
  servers: string[] | null;
  /** The branch HEAD names; null when detached or unreadable. */
  branch: string | null;
  /** Why `servers` is null. */
  treeProblem?: string;
  /** What a person does about it, where switching to a route again would not help. */
  treeMend?: string;
}

/** What is not as it should be with the files of the routes. */
export interface RouteProblems {
  /** Sentences: a route that is missing, or that sends traffic to other servers than those it is for. */
  wrong: string[];
  /** Sentences: what the first switch would change besides who gets the traffic. */
  differ: string[];
}

/** The files of one route: where a switch goes, or goes back to. */
export interface FilesOfRoute {
  /** Null where nobody can say. */
  servers: readonly string[] | null;
  branch: string;
  /** As messages call them after "on". */
  name: string;
  /** As messages call them after "the configuration of". */
  called: string;
  /** What a person corrects where Nginx refuses them, as a sentence without its full stop. */
  correct: string;
  /** Brings the files there; answers the commit. Twice is safe. Throws as `switchTree` does. */
  enter(): Promise<string>;
}

export interface PlanOptions {
  /** The route that the traffic is believed to be on; left out: the one that the files hold. */
  believed?: readonly string[];
  /** The command that tries it again, for messages. */
  again: string;
  /** What the switch is for, as the history of the files is to name it. */
  purpose?: string;
  tell: (text: string) => void;
}

export interface RouteFiles {
  /** The routes that have a name each; none where every set of servers is one. */
  readonly routes: readonly Route[];
  /** Whether traffic can be sent to exactly these servers, in whatever order. */
  hasRoute(servers: readonly string[]): boolean;
  /** What a person runs to bring the files there by hand. */
  byHand(servers: readonly string[]): string;
  /** Whether every route can be switched to, and differs in nothing but its servers. Reads only. */
  problems(): Promise<RouteProblems>;
  /** How the files stand. Reads only; never throws for what a person did to them. */
  observe(): Promise<RouteObservation>;
  /**
   * The way there and the way back. A switch of flow's own that was cut in half is put right first; everything else only reads.
   * Throws StepError `unsafe` (nothing was touched) when it may not be gone.
   */
  plan(servers: readonly string[], options: PlanOptions): Promise<{ to: FilesOfRoute; back: FilesOfRoute }>;
}

/** Files that git cannot read are told of, and are no reason to know nothing else. */
export async function observed(look: () => Promise<RouteObservation>): Promise<RouteObservation> {
  try {
    return await look();
  } catch (error) {
    return { servers: null, branch: null, treeProblem: messageOf(error), treeMend: 'Put that right' };
  }
}

export const toldAs = ({ why, mend }: TreeProblem): Pick<RouteObservation, 'treeProblem' | 'treeMend'> => ({
  treeProblem: why,
  ...(mend === undefined ? {} : { treeMend: mend }),
});

export const problemSentence = ({ why, mend }: TreeProblem): string =>
  [why, mend].filter((part) => part !== undefined).join('. ');

/** Work before anything was touched: not being able to look is then a reason to touch nothing. */
export async function untouched<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof StepError) || error.kind !== 'unreachable') throw error;
    throw new StepError(error.code, 'unsafe', error.message, { cause: error });
  }
}

/** Whether both name the same servers, in whatever order. */
export function sameSet(a: readonly string[], b: readonly string[]): boolean {
  const wanted = new Set(a);
  return new Set(b).size === wanted.size && b.every((server) => wanted.has(server));
}
