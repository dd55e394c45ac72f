/**
 * A power cut at every system call of real commits, traced with strace: what was not synced is lost, cut or zeroed, and what happened
 * to a folder since its last sync is there up to any point. Whatever disk that leaves, the release is found whole and no
 * acknowledged commit is lost. lowdb's own adapter has to fail the same test.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { peek } from '../../src/store/envelope.ts';
import { createStateFolder, releasePaths } from '../../src/store/state-folder.ts';
import { bundleProgram } from '../store/programs/bundle.ts';
import { FULL, report } from './report.ts';

const COMMITS = FULL ? 12 : 5;
const CALLS = 'trace=openat,write,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat,close';

let dir = '';
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'flow-power-'));
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

const traces = (() => {
  try {
    execFileSync('strace', ['-o', '/dev/null', 'true'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();

interface Inode {
  data: Buffer;
  /** What a sync has brought to the disk; null before the first. */
  synced: Buffer | null;
}
type Names = Map<string, Inode>;
interface Change {
  folder: string;
  apply: (names: Names) => void;
}

/** Every disk that a power cut at some moment of the trace could have left, with what had been acknowledged by then. */
function* disks(trace: string): Generator<{ files: Map<string, Buffer>; acknowledged: number }> {
  const now: Names = new Map();
  const durable: Names = new Map();
  let pending: Change[] = [];
  const descriptors = new Map<number, { path: string; inode: Inode }>();
  let acknowledged = 0;
  const change = (path: string, apply: (names: Names) => void) => {
    apply(now);
    pending.push({ folder: dirname(path), apply });
  };
  for (const line of trace.split('\n')) {
    const [, call = '', args = '', result = ''] = /^(\w+)\((.*)\)\s+= (-?\d+)/.exec(line) ?? [];
    if (call === '' || Number(result) < 0) continue;
    const texts = [...args.matchAll(/"((?:\\x[0-9a-f]{2})*)"/g)].map(([, hex = '']) =>
      Buffer.from(hex.replaceAll('\\x', ''), 'hex'),
    );
    const path = texts[0]?.toString() ?? '';
    const fd = Number(/^\d+/.exec(args)?.[0] ?? -1);
    if (call === 'openat') {
      const known = now.get(path);
      if (args.includes('O_CREAT') && (known === undefined || args.includes('O_EXCL'))) {
        const inode: Inode = { data: Buffer.alloc(0), synced: null };
        change(path, (names) => names.set(path, inode));
        descriptors.set(Number(result), { path, inode });
      } else {
        if (known !== undefined && args.includes('O_TRUNC')) known.data = Buffer.alloc(0);
        descriptors.set(Number(result), { path, inode: known ?? { data: Buffer.alloc(0), synced: null } });
      }
    } else if (call === 'close') descriptors.delete(fd);
    else if (call === 'write' && fd === 1) {
      acknowledged = Number(texts[0]?.toString().trim() ?? acknowledged);
    } else if (call === 'write') {
      const open = descriptors.get(fd);
      if (open !== undefined) open.inode.data = Buffer.concat([open.inode.data, texts[0] ?? Buffer.alloc(0)]);
    } else if (call === 'fsync' || call === 'fdatasync') {
      const open = descriptors.get(fd);
      if (open === undefined) continue;
      open.inode.synced = open.inode.data;
      // Synced as a folder: all that was done in it so far is on the disk.
      for (const { apply } of pending.filter(({ folder }) => folder === open.path)) apply(durable);
      pending = pending.filter(({ folder }) => folder !== open.path);
    } else if (call.startsWith('rename')) {
      const to = texts[1]?.toString() ?? '';
      change(path, (names) => {
        const inode = names.get(path);
        if (inode === undefined || inode === names.get(to)) return;
        names.delete(path);
        names.set(to, inode);
      });
    } else if (call.startsWith('link')) {
      const to = texts[1]?.toString() ?? '';
      change(to, (names) => {
        const inode = names.get(path);
        if (inode !== undefined) names.set(to, inode);
      });
    } else if (call.startsWith('unlink')) change(path, (names) => names.delete(path));
    for (let upTo = 0; upTo <= pending.length; upTo++) {
      const names: Names = new Map(durable);
      for (const { apply } of pending.slice(0, upTo)) apply(names);
      for (const lost of ['all', 'half', 'zeros', 'nothing'] as const) {
        const files = new Map([...names].map(([name, inode]) => [name, surviving(inode, lost)]));
        yield { files, acknowledged };
      }
    }
  }
}

function surviving({ data, synced }: Inode, lost: 'all' | 'half' | 'zeros' | 'nothing'): Buffer {
  if (lost === 'nothing' || synced?.equals(data) === true) return data;
  if (lost === 'all') return synced ?? Buffer.alloc(0);
  return lost === 'half' ? data.subarray(0, Math.floor(data.length / 2)) : Buffer.alloc(data.length);
}

/** Runs a program that commits for ever, under strace, for some commits. */
async function traceOf(program: string, folder: string): Promise<string> {
  const bundled = await bundleProgram(program, dir);
  const trace = join(dir, 'trace');
  execFileSync(
    'sh',
    [
      '-c',
      'strace -xx -s 40000 -e "$1" -o "$2" node "$3" "$4" | head -n "$5"',
      'sh',
      CALLS,
      trace,
      bundled,
      folder,
      String(COMMITS),
    ],
    { stdio: 'ignore', timeout: 60_000 },
  );
  return readFileSync(trace, 'utf8');
}

/** How many of the disks are bad: read as nothing, as damaged, or as older than what was acknowledged. */
function judged(trace: string, file: string, read: (file: string) => number | null): { disks: number; bad: number } {
  const seen = new Set<string>();
  const folder = join(dir, 'disk');
  mkdirSync(folder);
  let bad = 0;
  for (const { files, acknowledged } of disks(trace)) {
    const [current, previous] = [files.get(file), files.get(`${file}.prev`)];
    const key = `${acknowledged} ${current?.toString('latin1') ?? 'none'} ${previous?.toString('latin1') ?? 'none'}`;
    if (seen.has(key)) continue;
    seen.add(key);
    const at = join(folder, String(seen.size));
    mkdirSync(at);
    const copy = join(at, basename(file));
    if (current !== undefined) writeFileSync(copy, current);
    if (previous !== undefined) writeFileSync(`${copy}.prev`, previous);
    let count: number | null;
    try {
      count = read(copy);
    } catch {
      bad += 1;
      continue;
    }
    if ((count ?? 0) < acknowledged) bad += 1;
  }
  return { disks: seen.size, bad };
}

test.runIf(traces)('no power cut leaves a disk on which an acknowledged commit is lost or damaged', async () => {
  const state = join(dir, 'state');
  createStateFolder(state);
  const trace = await traceOf('commit-forever.ts', state);
  const found = judged(
    trace,
    releasePaths(state, 'r-0001').state,
    (file) => peek<{ count: number }>(file)?.data.count ?? null,
  );
  expect(found.disks).toBeGreaterThan(COMMITS * 2);
  expect(found.bad).toBe(0);
  report('power-cut', `${found.disks} disks after a power cut at each call of ${COMMITS} commits: ${found.bad} bad`);
});

test.runIf(traces)("lowdb's own adapter fails the same test", async () => {
  const state = join(dir, 'lowdb');
  mkdirSync(state);
  const trace = await traceOf('commit-lowdb.ts', state);
  const found = judged(trace, join(state, 'state.json'), (file) =>
    existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as { count: number }).count : null,
  );
  expect(found.bad).toBeGreaterThan(COMMITS / 2);
  report('power-cut', `control, lowdb's own adapter: ${found.bad} of ${found.disks} disks bad`);
});
