/** `flow lock show` says who may drive; `flow lock take-over` deposes a driver that does not answer any more. */
import type { Config } from '../config/schema.ts';
import { EXIT, type ExitCode } from '../errors.ts';
import type { Place } from '../release/locate.ts';
import { readLatest } from '../release/read.ts';
import { takeOver, whoHolds } from '../release/take-over.ts';
import type { ReleaseDocument } from '../store/document.ts';
import { plainLine } from '../views/text.ts';
import { confirm } from './ask.ts';

export interface LockCommandOptions {
  yes?: boolean;
  json?: boolean;
}

export async function lock(place: Place, what: 'show' | 'take-over', options: LockCommandOptions): Promise<ExitCode> {
  const document = readLatest(place.stateDir);
  const config =
    document === null ? (await import('../config/load.ts')).loadConfig(place.configFile).config : pinned(document);
  const { driver, owner, ours } = await whoHolds(place, config);
  const here =
    driver === null
      ? 'Nobody drives here.'
      : `${driver.who} drives here (process ${driver.pid} on ${driver.host}, since ${driver.since}, epoch ${driver.epoch}) and is ${driver.doing}.`;
  const there =
    owner === null
      ? 'Nobody owns the proxy.'
      : `${owner.owner === ours ? 'This state folder owns the proxy' : `Another control machine or state folder owns the proxy (${owner.owner})`}: ${owner.who}, ${owner.release}, since ${owner.since}, epoch ${owner.epoch}.`;
  if (what === 'show') {
    process.stdout.write(
      options.json === true
        ? `${JSON.stringify({ schemaVersion: 1, driver, owner, ours })}\n`
        : `${plainLine(here)}\n${plainLine(there)}\n`,
    );
    return EXIT.ok;
  }
  const running = document?.endedAt === null ? document : null;
  if (driver === null && (owner === null || owner.owner === ours)) {
    process.stdout.write(
      `There is nobody to take over from. ${running === null ? 'Plan a release: flow start' : 'Go on with: flow resume'}\n`,
    );
    return EXIT.ok;
  }
  process.stderr.write(`${plainLine(here)}\n${plainLine(there)}\n`);
  await confirm(
    'Take over? Whoever drives now starts nothing more, and a driver on this machine is ended.',
    options.yes === true,
  );
  const epoch = await takeOver(place, config, running);
  const next =
    running === null
      ? 'What the other machine left half done stays as it is: look at the proxy and at what every server runs, then: flow start'
      : 'A publish that was started goes on as a job. Go on with: flow resume';
  process.stdout.write(`Taken over, epoch ${epoch}. ${next}\n`);
  return EXIT.ok;
}

const pinned = (document: ReleaseDocument): Config => document.config.pinned as Config;
