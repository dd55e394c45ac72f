/**
 * What a bystander sees of a release while somebody else drives it: how much each server is asked, what is printed, and what NEXT
 * would be judged by. Reads only, holds no lock, and needs no driver.
 */
import { join } from 'node:path';
import type { EventName, Facts } from '../../machines/events.ts';
import { OPERATOR_EVENTS } from '../../machines/events.ts';
import type { Config } from '../config/schema.ts';
import { type ServerSettings, serverSettings, testServerSettings } from '../config/settings.ts';
import { watchLogs } from '../effects/log-rates.ts';
import { jobId, publishPlace } from '../effects/server-job.ts';
import { followLines, type LineFollower } from '../logs/lines.ts';
import type { ReleaseDocument } from '../store/document.ts';
import { planOf, type PlanStep } from '../views/plan.ts';
import { stateOf } from '../views/states.ts';
import { whyView, type WhyView } from '../views/verdicts.ts';
import { lookNow } from './judge.ts';
import type { Place } from './locate.ts';
import { redactor } from './secrets.ts';
import { openWorld } from './world.ts';

export interface Bystander {
  /** Log lines per second of every server since the last call; null where its log cannot be read. Calls must not overlap. */
  rates(): Promise<Record<string, number | null>>;
  /** What the job at work and the servers' logs have printed since the last call. Calls must not overlap. */
  texts(): Promise<{ source: string; lines: string[]; dropped: number }[]>;
  /** What can be sent now, what stands in its way, and what it would run. Asks the world, so it takes its time. */
  next(): Promise<WhyView & { plan: Partial<Record<EventName, PlanStep[]>>; health: Facts['servers'] }>;
}

/** Looks on at one release; `current` is what is stored of it at the moment. */
export function standBy(place: Place, current: () => ReleaseDocument): Bystander {
  const document = current();
  const config = document.config.pinned as Config;
  const world = openWorld(place, config, document);
  const { servers } = document.snapshot.context.topology;
  const redact = redactor(config, process.env);
  const logs = watchLogs(world, servers);
  const sources = new Map<string, LineFollower>(
    servers.map((name) => {
      const server = serverSettings(config, name);
      return [`${name} log`, followLines(world.on(server), server.log, 'end')];
    }),
  );
  let askedAt = performance.now();
  return {
    async rates() {
      const seen = await logs.poll();
      const elapsedMs = performance.now() - askedAt;
      askedAt = performance.now();
      return Object.fromEntries(
        Object.entries(seen).map(([server, { lines, problem }]) => [
          server,
          problem === null ? Math.round((lines / elapsedMs) * 10_000) / 10 : null,
        ]),
      );
    },
    async texts() {
      for (const { id, server } of jobsAtWork(config, current())) {
        if (sources.has(id)) continue;
        const { host, jobs } = publishPlace(world, server);
        sources.set(id, followLines(host, join(jobs, id, 'out'), 'beginning'));
      }
      const polled = await Promise.all(
        [...sources].map(async ([source, lines]) => ({ source, ...(await lines.poll()) })),
      );
      return redact(polled).filter(({ lines, dropped }) => lines.length > 0 || dropped > 0);
    },
    async next() {
      const now = current();
      const facts = await lookNow(place, now);
      const view = whyView({ document: now, event: null, facts });
      const plan = Object.fromEntries(
        OPERATOR_EVENTS.filter((event) => event !== 'ANSWER').map((event) => [event, planOf(now, event)]),
      );
      return { ...view, plan, health: facts.servers };
    },
  };
}

/** The jobs that the step of this moment runs, or may run: of a wave one for each server. */
function jobsAtWork(
  config: Config,
  { id: release, snapshot: { value: step, context } }: ReleaseDocument,
): { id: string; server: ServerSettings }[] {
  const known = stateOf(step, context.topology);
  const ofWave = () => (known?.servers ?? []).map((name) => serverSettings(config, name));
  const servers =
    known?.kind === 'testing'
      ? [testServerSettings(config)]
      : known?.kind === 'publishing' || known?.kind === 'restoring'
        ? ofWave()
        : [];
  const attempt = context.attempts[step] ?? 1;
  return servers.map((server) => ({ id: jobId({ release: { id: release }, step, attempt, server }), server }));
}
