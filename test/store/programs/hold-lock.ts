/** Becomes the driver of the folder given, says so, and holds on until it is killed. Says `held` and why when it cannot. */
import { codeOf, messageOf } from '../../../src/errors.ts';
import { acquireLock } from '../../../src/store/lock.ts';

try {
  const lock = acquireLock(process.argv[2] ?? '', { who: process.argv[3] ?? 'alice', doing: 'publishing app1' });
  console.log(JSON.stringify({ won: true, epoch: lock.epoch }));
  setInterval(() => undefined, 1_000);
} catch (error) {
  console.log(JSON.stringify({ won: false, code: codeOf(error), message: messageOf(error) }));
}
