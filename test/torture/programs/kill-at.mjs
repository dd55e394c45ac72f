/**
 * Loaded before flow (`node --import`), in the tests only: ends the process with SIGKILL at a chosen commit of a release, as a
 * power cut or the kernel would. Nothing in flow knows of it.
 *
 * FLOW_TEST_KILL: `before` or `after`, and the generations at which it dies, `before:3,9`; `*` for each one. It dies once at each:
 * FLOW_TEST_KILLED names a file that remembers.
 */
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const [when = '', list = ''] = (process.env.FLOW_TEST_KILL ?? '').split(':');
const memory = process.env.FLOW_TEST_KILLED ?? '';
const { renameSync, fsyncSync, readFileSync, appendFileSync } = fs;
let committed = null;

function dieOnce(generation) {
  if (list !== '*' && !list.split(',').includes(String(generation))) return;
  const sign = `${when}:${generation}\n`;
  const known = fs.existsSync(memory) ? readFileSync(memory, 'utf8') : '';
  if (known.includes(sign)) return;
  appendFileSync(memory, sign);
  process.kill(process.pid, 'SIGKILL');
  // The signal is taken at the latest when this returns to the kernel; nothing more may be done until then.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10_000);
}

fs.renameSync = (from, to) => {
  const isState = String(to).endsWith('state.json');
  const generation = isState ? Number(/"gen":(\d+)/.exec(readFileSync(from, 'latin1').slice(0, 200))?.[1]) : 0;
  if (isState && when === 'before') dieOnce(generation);
  renameSync(from, to);
  if (isState) committed = generation;
};
// A commit is durable when the folder is synced after the rename.
fs.fsyncSync = (fd) => {
  fsyncSync(fd);
  if (committed === null) return;
  const generation = committed;
  committed = null;
  if (when === 'after') dieOnce(generation);
};
syncBuiltinESMExports();
