/** What would be answered to an event now, without the lock and without changing anything: for `why` and before a prompt. */
import type { Facts, ReleaseEvent } from '../../machines/events.ts';
import type { Config } from '../config/schema.ts';
import { StateError } from '../errors.ts';
import type { ReleaseDocument } from '../store/document.ts';
import { type Decision, Engine } from './engine.ts';
import { gatherFacts } from './facts.ts';
import type { Place } from './locate.ts';
import { openWorld } from './world.ts';

/** Judges events on a stored release. The facts are gathered anew for each. */
export async function judge(
  place: Place,
  document: ReleaseDocument,
  events: readonly ReleaseEvent[],
): Promise<Decision[]> {
  const world = openWorld(place, document.config.pinned as Config, document);
  const engine = new Engine({
    file: {
      data: document,
      generation: 0,
      commit: () => {
        throw new StateError('READ_ONLY', 'nothing is stored while an event is only judged');
      },
    },
    clock: { now: () => new Date() },
  });
  return await Promise.all(
    events.map(async (event) =>
      engine.judge(
        // No guard of another event looks at the world, and a ROLLBACK must not wait for a server that does not answer.
        event.type === 'NEXT'
          ? { ...event, facts: await gatherFacts(world, engine.state, engine.context, event.type) }
          : event,
      ),
    ),
  );
}

/** What NEXT would be judged by, looked at now. */
export async function lookNow(place: Place, document: ReleaseDocument): Promise<Facts> {
  const world = openWorld(place, document.config.pinned as Config, document);
  return await gatherFacts(world, document.snapshot.value, document.snapshot.context, 'NEXT');
}
