/**
 * `flow resume`: compares what is on record with the world, names each difference, and goes on with the step that was interrupted.
 * A world that is not as recorded stops it until a person has mended it, answered, or said why it may go on all the same.
 */
import { EXIT, type ExitCode, UsageError } from '../errors.ts';
import { AS_RECORDED, type Difference, differences } from '../release/differences.ts';
import type { Driver } from '../release/drive.ts';
import type { Place } from '../release/locate.ts';
import { readLatest } from '../release/read.ts';
import { thisSender } from '../release/sender.ts';
import { plainLine } from '../views/text.ts';
import { confirm } from './ask.ts';
import { pastTheLock, withDriver } from './driving.ts';
import { noRelease } from './send.ts';
import { terminal } from './terminal.ts';

export interface ResumeOptions {
  yes?: boolean;
  force?: string[];
  reason?: string;
  json?: boolean;
  wait?: boolean;
}

export async function resume(place: Place, options: ResumeOptions): Promise<ExitCode> {
  const document = readLatest(place.stateDir);
  if (document?.endedAt !== null) throw noRelease(document);
  const { force = [], reason, json = false } = options;
  const unknown = force.find((id) => id !== AS_RECORDED);
  if (unknown !== undefined)
    throw new UsageError(
      'UNKNOWN_GUARD',
      `resume can override only ${AS_RECORDED}, not "${unknown}". Nothing was changed.`,
    );
  if (force.length > 0 && reason === undefined)
    throw new UsageError(
      'NO_REASON',
      `An override needs its reason: --force=${AS_RECORDED} --reason "…". Nothing was changed.`,
    );
  const goOn = async (driver: Driver): Promise<ExitCode | null> => {
    const { engine, world } = driver;
    const found = await differences(world, place, engine.document);
    show(found);
    const stopping = found.filter(({ weight }) => weight === 'stops');
    if (stopping.some(({ what }) => what === 'proxy') && !engine.isWorking) {
      await driver.decide({ event: { type: 'RECHECK' }, by: thisSender('resume'), expect: null });
    } else if (stopping.length > 0 && force.length === 0) {
      process.stderr.write(`${notResumed(engine.state, engine.isWorking)}\n`);
      return EXIT.stepFailed;
    }
    if (found.length > stopping.length) await confirm(`Go on at ${engine.state}?`, options.yes === true);
    if (stopping.length > 0 && force.length > 0) {
      const forced = stopping.map(({ what, because }) => ({
        id: AS_RECORDED,
        ok: false,
        because: `${what}: ${because}`,
      }));
      engine.record({ event: 'RESUME', by: thisSender('resume'), reason: reason ?? null, forced });
    }
    await driver.drive();
    return null;
  };
  return await pastTheLock(
    options.wait === true,
    async () => await withDriver(place, document, 'resuming', goOn, json),
  );
}

function notResumed(state: string, isWorking: boolean): string {
  if (!isWorking) return `Nothing was changed. ${state} rests; see what stands in the way of NEXT: flow why NEXT`;
  return (
    `Not resumed: nothing was started, and ${state} waits. Put right what differs, then: flow resume. ` +
    `Or go back: flow send ROLLBACK. Or go on all the same: flow resume --force=${AS_RECORDED} --reason "…"`
  );
}

function show(found: readonly Difference[]): void {
  const paint = terminal().errPaint;
  const lines = found.map(
    ({ what, because, weight }) =>
      `${weight === 'stops' ? paint.red(paint.icons.bad) : paint.yellow('!')} ${what}: ${plainLine(because)}`,
  );
  process.stderr.write(
    lines.length === 0
      ? `${paint.green(paint.icons.ok)} The world is as the record says.\n`
      : `What differs from the record:\n${lines.join('\n')}\n`,
  );
}
