/**
 * Taking a release over from a driver that does not answer any more: on this machine, or on another control machine.
 * Invariant: the epoch is raised before anything else, so that whoever is deposed writes and starts nothing more, even if it wakes
 * up later; only then its process is ended, where it is one of this machine and still the same.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { hostname } from 'node:os';
import type { Config } from '../config/schema.ts';
import { LockHeldError } from '../errors.ts';
import { localHost } from '../hosts/local.ts';
import { claim, giveUp, type Owner, ownerName, readOwner } from '../nginx/owner.ts';
import { type Driver, isRunning } from '../store/driver.ts';
import { acquireLock, depose } from '../store/lock.ts';
import { createStateFolder } from '../store/state-folder.ts';
import type { ReleaseDocument } from '../store/document.ts';
import type { Place } from './locate.ts';
import { latestEpoch, readLiveDriver } from './read.ts';
import { thisSender } from './sender.ts';
import { hostsOf } from './world.ts';

/** Who drives here, and who owns the proxy; null where nobody does. Reads only. */
export async function whoHolds(
  place: Place,
  config: Config,
): Promise<{ driver: Driver | null; owner: Owner | null; ours: string }> {
  const owner = await readOwner(proxyHost(place, config), config.nginx.dir);
  return { driver: readLiveDriver(place.stateDir), owner, ours: ownerName(place.stateDir) };
}

const proxyHost = (place: Place, config: Config) => hostsOf(localHost(), config, place.configFile)(config.nginx);

const PATIENCE_MS = 5_000;

/**
 * Raises the epoch, ends a driver on this machine that still runs, and makes this state folder the owner of the proxy; without a
 * running release here (null) the proxy has no owner afterwards. Returns the new epoch. Throws LockHeldError when the lock is not
 * free even then, StateError when it cannot be stored.
 */
export async function takeOver(place: Place, config: Config, document: ReleaseDocument | null): Promise<number> {
  createStateFolder(place.stateDir);
  const driver = readLiveDriver(place.stateDir);
  if (driver !== null) {
    depose(place.stateDir);
    if (driver.host === hostname() && isRunning(driver)) process.kill(driver.pid, 'SIGKILL');
  }
  const by = thisSender('command line');
  for (const until = performance.now() + PATIENCE_MS; ; ) {
    try {
      const lock = acquireLock(place.stateDir, {
        who: by.user,
        doing: 'taking over',
        minEpoch: latestEpoch(place.stateDir),
      });
      try {
        const mine = {
          owner: ownerName(place.stateDir),
          epoch: lock.epoch,
          who: by.user,
          since: new Date().toISOString(),
          release: document === null ? 'nothing' : `${document.id} (${document.snapshot.context.version})`,
        };
        await claim(proxyHost(place, config), config.nginx.dir, mine, { force: true });
        if (document === null) await giveUp(proxyHost(place, config), config.nginx.dir, mine.owner);
        return lock.epoch;
      } finally {
        lock.release();
      }
    } catch (error) {
      if (!(error instanceof LockHeldError) || performance.now() > until) throw error;
      await delay(50);
    }
  }
}
