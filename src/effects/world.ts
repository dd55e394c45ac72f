/** What effects work on: the config pinned into the release, and the parts of the world behind their seams. */
import type { Topology } from '../../machines/topology.ts';
import type { Config } from '../config/schema.ts';
import type { Repository } from '../git/repository.ts';
import type { Host } from '../hosts/host.ts';
import type { Ownership } from '../nginx/owner.ts';
import type { NamedProxy } from '../nginx/proxies.ts';
import type { Proxy, TrafficProxy } from '../nginx/proxy.ts';

export interface World {
  config: Config;
  /** The machine flow runs on. */
  host: Host;
  /** The host that a part of flow.yaml is on: the machine flow runs on, where it names none. */
  on(part: { on?: string | undefined }): Host;
  /** The line of a shell by which another program reaches a host as flow does. */
  sshCommand: string;
  repository: Repository;
  /** The proxy, or all of them as one. */
  proxy: TrafficProxy;
  /** Each of them alone: to be looked at, never to be switched. */
  proxies: readonly (NamedProxy & { on: string | undefined })[];
  /** The pre-release proxy (R4.4), where it is switched; null where there is none. */
  preview: Proxy | null;
  /** The servers of the release in their waves: what the steps are named after. */
  topology: Topology;
  /** Asked right before anything is switched, pushed or published: another control machine may have taken over. */
  ownership: Ownership;
  /** Folder of the worktree that is flow's own; the operator's tree is never switched. */
  worktree: string;
  /** Folder of the jobs on this machine. */
  jobs: string;
  /** The driver's epoch, which fences jobs of a deposed one. */
  epoch: number;
  /** What is released, and what ran before it: for the placeholders of commands. Empty before a release is planned. */
  versions: { version: string; previous: string };
  /** The id of the release; empty before it is planned. */
  release: string;
  now(): Date;
  /** Small checkpoints beside the state, per release; losing one only means observing or computing once more. */
  checkpoint: { read(name: string): unknown; write(name: string, value: unknown): void };
}
