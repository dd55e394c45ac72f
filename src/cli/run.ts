/** `flow run`: sends NEXT by itself until the release has ended, a milestone is reached, or a person has to decide. */
import { milestonesOf, type Topology } from '../../machines/topology.ts';
import { EXIT, type ExitCode, UsageError } from '../errors.ts';
import type { Driver } from '../release/drive.ts';
import type { Place } from '../release/locate.ts';
import type { ReleaseDocument } from '../store/document.ts';
import { readLatest } from '../release/read.ts';
import { thisSender } from '../release/sender.ts';
import { nearest } from '../views/nearest.ts';
import { phaseOf, placeOf } from '../views/states.ts';
import { confirm } from './ask.ts';
import { pastTheLock, showResult, statusOf, withDriver } from './driving.ts';
import { checkForce, noRelease, refused, type SendOptions } from './send.ts';

export async function runOn(place: Place, options: SendOptions & { until?: string }): Promise<ExitCode> {
  const { until } = options;
  // The one override that is planning's own.
  checkForce({ ...options, force: (options.force ?? []).filter((id) => id !== 'badVersion') });
  let document = readLatest(place.stateDir);
  if (document?.endedAt !== null) {
    // Loaded only here: planning needs the config's parser, and going on does not.
    const { start } = await import('./start.ts');
    const status = await start(place, options, ({ topology }) => {
      checkMilestone(until, topology);
    });
    if (status !== EXIT.ok) return status;
    document = readLatest(place.stateDir);
    if (document === null) throw noRelease(null);
  }
  const { value, context } = document.snapshot;
  checkMilestone(until, context.topology);
  // A person has to decide before anything can go on by itself.
  if (phaseOf(value, context) === 'asking') return showResult(place, options.json === true);
  if (until !== undefined && isPast(document, until)) {
    throw new UsageError(
      'PAST_MILESTONE',
      `The release is at ${value} already, so it cannot be stopped at ${until}. Nothing was changed. Where it stands: flow status`,
    );
  }
  await confirm(
    `Carry the release of ${document.snapshot.context.version} on from ${value} to ${until ?? 'allLive'} (revision ${document.rev})?`,
    options.yes === true,
  );
  const by = thisSender('command line, run');
  const planned = document;
  const carry = async (driver: Driver): Promise<ExitCode | null> => {
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
      if (!decision.accepted) return refused(place, decision, engine.document, 'NEXT');
      await driver.drive();
      if (statusOf(engine.document) !== EXIT.ok) break;
    }
    return null;
  };
  return await pastTheLock(
    options.wait === true,
    async () => await withDriver(place, planned, `running to ${until ?? 'allLive'}`, carry, options.json === true),
  );
}

/** Throws UsageError UNKNOWN_MILESTONE with the nearest one. */
function checkMilestone(until: string | undefined, topology: Topology): void {
  const milestones = milestonesOf(topology);
  if (until === undefined || milestones.includes(until)) return;
  const near = nearest(until, milestones);
  throw new UsageError(
    'UNKNOWN_MILESTONE',
    `There is no milestone "${until}".${near === null ? '' : ` Did you mean ${near}?`} Milestones: ${milestones.join(', ')}. Nothing was changed. Where the release stands: flow status`,
  );
}

/** Whether the release is beyond a milestone, or works towards a later one; on the way back it is beyond all of them. */
function isPast({ snapshot: { value, context } }: ReleaseDocument, until: string): boolean {
  const place = placeOf(value, context);
  return place === null || place > milestonesOf(context.topology).indexOf(until);
}
