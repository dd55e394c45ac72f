/** `flow run`: sends NEXT by itself until the release has ended, a milestone is reached, or a person has to decide. */
import { milestonesOf } from '../../machines/topology.ts';
import { EXIT, type ExitCode, UsageError } from '../errors.ts';
import type { Place } from '../release/locate.ts';
import { readLatest } from '../release/read.ts';
import { thisSender } from '../release/sender.ts';
import { nearest } from '../views/nearest.ts';
import { confirm } from './ask.ts';
import { showResult, statusOf, withDriver } from './driving.ts';
import { noRelease, refused, type SendOptions } from './send.ts';

export async function runOn(place: Place, options: SendOptions & { until?: string }): Promise<ExitCode> {
  let document = readLatest(place.stateDir);
  if (document?.endedAt !== null) {
    // Loaded only here: planning needs the config's parser, and going on does not.
    const { start } = await import('./start.ts');
    const status = await start(place, options);
    if (status !== EXIT.ok) return status;
    document = readLatest(place.stateDir);
    if (document === null) throw noRelease(null);
  }
  const { until } = options;
  const milestones = milestonesOf(document.snapshot.context.topology);
  if (until !== undefined && !milestones.includes(until)) {
    const near = nearest(until, milestones);
    throw new UsageError(
      'UNKNOWN_MILESTONE',
      `There is no milestone "${until}".${near === null ? '' : ` Did you mean ${near}?`} Milestones: ${milestones.join(', ')}. Nothing was changed.`,
    );
  }
  const { value } = document.snapshot;
  await confirm(
    `Carry the release of ${document.snapshot.context.version} on from ${value} to ${until ?? 'allLive'} (revision ${document.rev})?`,
    options.yes === true,
  );
  const by = thisSender('command line, run');
  return await withDriver(place, document, `running to ${until ?? 'allLive'}`, async (driver) => {
    const { engine } = driver;
    // A step that was interrupted is finished first.
    await driver.drive();
    while (!engine.isParked && engine.document.endedAt === null && engine.state !== until) {
      const decision = await driver.decide({
        event: {
          type: 'NEXT',
          ...(options.force === undefined ? {} : { force: options.force }),
          ...(options.reason === undefined ? {} : { reason: options.reason }),
        },
        by,
        expect: null,
      });
      if (!decision.accepted) return refused(decision, engine.document, 'NEXT');
      await driver.drive();
      if (statusOf(engine.document) !== EXIT.ok) break;
    }
    return showResult(place, options.json === true);
  });
}
