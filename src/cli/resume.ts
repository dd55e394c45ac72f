/**
 * `flow resume`: compares what is on record with the world, names each difference, and goes on with the step that was interrupted.
 * A proxy that is not as believed stops it until somebody has answered.
 */
import { effectStepsOn, type Difference, differences } from '../release/differences.ts';
import { EXIT, type ExitCode } from '../errors.ts';
import type { Place } from '../release/locate.ts';
import { readLatest } from '../release/read.ts';
import { thisSender } from '../release/sender.ts';
import { plainLine } from '../views/text.ts';
import { showResult, withDriver } from './driving.ts';
import { noRelease } from './send.ts';
import { terminal } from './terminal.ts';

export async function resume(place: Place, options: { yes?: boolean; json?: boolean }): Promise<ExitCode> {
  const document = readLatest(place.stateDir);
  if (document?.endedAt !== null) throw noRelease(document);
  return await withDriver(place, document, 'resuming', async (driver) => {
    const { engine, world } = driver;
    const found = await differences(world, place, engine.document);
    show(found);
    const moved = found.find((difference) => difference.stops);
    if (moved !== undefined && !engine.isWorking) {
      await driver.decide({ event: { type: 'RECHECK' }, by: thisSender('resume'), expect: null });
    } else if (moved !== undefined && effectStepsOn(engine.state) === 'watches') {
      process.stderr.write(
        `Not resumed: ${engine.state} watches the servers, and the proxy is not where it should be. Put it back by hand, then flow resume; or: flow send ROLLBACK\n`,
      );
      return EXIT.stepFailed;
    }
    await driver.drive();
    return showResult(place, options.json === true);
  });
}

function show(found: readonly Difference[]): void {
  const paint = terminal().errPaint;
  const lines = found.map(
    ({ what, because, stops }) =>
      `${stops ? paint.red(paint.icons.bad) : paint.yellow('!')} ${what}: ${plainLine(because)}`,
  );
  process.stderr.write(
    lines.length === 0
      ? `${paint.green(paint.icons.ok)} The world is as the record says.\n`
      : `What differs from the record:\n${lines.join('\n')}\n`,
  );
}
