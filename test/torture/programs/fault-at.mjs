/**
 * Loaded before flow (`node --import`), in the tests only: once at every system call with which the store writes, the disk fails or
 * the process dies. Nothing in flow knows of it.
 *
 * FLOW_TEST_FAULT: EIO, ENOSPC or SIGKILL. FLOW_TEST_STATE: the state folder. FLOW_TEST_FAULTS: a file that remembers where it
 * happened already, a line each: the generation on disk, the call, the file, and which of its calls it was.
 */
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const fault = process.env.FLOW_TEST_FAULT ?? '';
const state = process.env.FLOW_TEST_STATE ?? '';
const memory = process.env.FLOW_TEST_FAULTS ?? '';
const real = { ...fs };
const opened = new Map();
const counted = new Map();
const ERRNO = { EIO: -5, ENOSPC: -28 };

/** Files whose loss is allowed: figures and descriptions of the moment. */
const BEST_EFFORT = /^\.?(?:live|driver)\.json/;

function generation() {
  try {
    const [latest] = real.readdirSync(`${state}/releases`).sort().reverse();
    return (
      /"gen":(\d+)/.exec(real.readFileSync(`${state}/releases/${latest}/state.json`, 'latin1').slice(0, 200))?.[1] ??
      '0'
    );
  } catch {
    return '0';
  }
}

function meet(call, path) {
  if (typeof path !== 'string' || !path.startsWith(`${state}/`) || path.startsWith(`${state}/jobs`)) return;
  if (path.startsWith(`${state}/worktree`)) return;
  // Temporary names hold the process's number and chance.
  const file = path.slice(state.length + 1).replace(/\.\d+\.[0-9a-f]{8}\./, '.');
  if (BEST_EFFORT.test(file.split('/').at(-1) ?? '')) return;
  const place = `${generation()} ${call} ${file}`;
  const nth = (counted.get(place) ?? 0) + 1;
  counted.set(place, nth);
  // A soak writes its checkpoint again and again: once each is enough.
  if (nth > 2) return;
  const sign = `${place} ${nth}\n`;
  const known = real.existsSync(memory) ? real.readFileSync(memory, 'utf8') : '';
  if (known.includes(sign)) return;
  real.appendFileSync(memory, sign);
  if (fault === 'SIGKILL') {
    process.kill(process.pid, 'SIGKILL');
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10_000);
  }
  throw Object.assign(new Error(`${fault}: the disk fails, ${call} '${path}'`), {
    code: fault,
    errno: ERRNO[fault],
    syscall: call,
    path,
  });
}

fs.openSync = (path, flags, mode) => {
  const writes = typeof flags === 'string' && flags !== 'r';
  if (writes) meet('open', String(path));
  const fd = real.openSync(path, flags, mode);
  opened.set(fd, String(path));
  return fd;
};
fs.closeSync = (fd) => {
  opened.delete(fd);
  real.closeSync(fd);
};
fs.writeSync = (fd, ...rest) => {
  meet('write', opened.get(fd));
  return real.writeSync(fd, ...rest);
};
fs.fsyncSync = (fd) => {
  const path = opened.get(fd);
  meet('fsync', path === state ? `${state}/.` : path);
  real.fsyncSync(fd);
};
fs.linkSync = (from, to) => {
  meet('link', String(to));
  real.linkSync(from, to);
};
fs.renameSync = (from, to) => {
  meet('rename', String(to));
  real.renameSync(from, to);
};
syncBuiltinESMExports();
