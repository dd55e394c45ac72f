import { appendFile, copyFile, mkdir, mkdtemp, open, rename, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Host } from '../../src/hosts/host.ts';
import { localHost } from '../../src/hosts/local.ts';
import { createLogFollower, type LogFollower, type LogReading } from '../../src/logs/follow.ts';

const host = localHost();
const errors = [/ERROR/g, /panic:/];
let folder: string;
let log: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'flow-log-'));
  log = join(folder, 'app.log');
});
afterEach(() => rm(folder, { recursive: true }));

/** A follower that stands at the end of the log as it is. */
async function following(on: Host = host): Promise<LogFollower> {
  const follower = createLogFollower(on, log, { errors });
  await follower.poll();
  return follower;
}

const calm: Partial<LogReading> = { problem: null, rotated: false, truncated: false, gap: false };

describe('following a log', () => {
  it('starts at its end and counts lines and errors from there', async () => {
    await writeFile(log, 'old\nERROR old\n');
    const follower = createLogFollower(host, log, { errors });
    expect(follower.position()).toBe('end');
    expect(await follower.poll()).toMatchObject({ lines: 0, errors: 0, ...calm });
    await appendFile(log, 'a\nERROR b\nERROR c\npanic: d\n');
    expect(await follower.poll()).toEqual({
      lines: 4,
      errors: 3,
      samples: ['ERROR b', 'ERROR c', 'panic: d'],
      ...calm,
    });
    expect(await follower.poll()).toMatchObject({ lines: 0, errors: 0, samples: [] });
  });

  it('counts a line when it is complete, and sees an error that lies across two polls', async () => {
    await writeFile(log, 'begun ER');
    const follower = await following();
    await appendFile(log, 'RO');
    expect(await follower.poll()).toMatchObject({ lines: 0, errors: 0 });
    await appendFile(log, 'R\nnext');
    expect(await follower.poll()).toMatchObject({ lines: 1, errors: 1, samples: ['begun ERROR'] });
  });

  it('counts all of a file that appears later', async () => {
    const follower = await following();
    expect(await follower.poll()).toMatchObject({ problem: 'missing' });
    await writeFile(log, 'a\nb\n');
    expect(await follower.poll()).toMatchObject({ lines: 2, ...calm });
  });

  it('counts only the lines it is asked for', async () => {
    await writeFile(log, '');
    const follower = createLogFollower(host, log, { errors, only: /^(?:a|ERROR)/ });
    await follower.poll();
    await appendFile(log, 'a\nb\nERROR c\nd ERROR\n');
    expect(await follower.poll()).toMatchObject({ lines: 2, errors: 1, samples: ['ERROR c'] });
  });

  it('goes on where it stood when the log could not be read for a while', async () => {
    await writeFile(log, 'a\n');
    const follower = await following();
    await rename(log, `${log}.aside`);
    await mkdir(log);
    expect(await follower.poll()).toMatchObject({ lines: 0, problem: 'unreadable', rotated: false });
    await rm(log, { recursive: true });
    await rename(`${log}.aside`, log);
    await appendFile(log, 'b\n');
    expect(await follower.poll()).toMatchObject({ lines: 1, ...calm });
  });

  it('says that a log cannot be read, and starts at the end once it can', async () => {
    await mkdir(log);
    const follower = await following();
    expect(await follower.poll()).toMatchObject({ lines: 0, problem: 'unreadable' });
    await rm(log, { recursive: true });
    await writeFile(log, 'a\n');
    expect(await follower.poll()).toMatchObject({ lines: 0, problem: null });
    await appendFile(log, 'b\n');
    expect(await follower.poll()).toMatchObject({ lines: 1 });
  });

  it('is not disturbed by binary data and invalid UTF-8', async () => {
    await writeFile(log, '');
    const follower = await following();
    await appendFile(log, Buffer.from([0xff, 0xfe, 0x00, 0x0a, 0xc3, 0x0a]));
    await appendFile(log, Buffer.concat([Buffer.from([0x80, 0x00]), Buffer.from('ERROR é\n')]));
    const reading = await follower.poll();
    expect(reading).toMatchObject({ lines: 3, errors: 1 });
    expect(reading.samples).toEqual(['\ufffd?ERROR é']);
  });

  it('makes samples safe to print, few and short', async () => {
    await writeFile(log, '');
    const follower = await following();
    await appendFile(log, '\u001b[31mERROR\u001b[0m\u001b]0;title\u0007 a\tb\rc \u202egnp \u009bX\r\n');
    await appendFile(log, `ERROR ${'😀'.repeat(1_000)}\n`);
    await appendFile(log, 'ERROR\n'.repeat(10));
    const { samples, errors: counted } = await follower.poll();
    expect(counted).toBe(12);
    expect(samples).toHaveLength(5);
    expect(samples[0]).toBe('ERROR a b?c ?gnp ?X');
    expect(Array.from(samples[1] ?? '')).toHaveLength(300);
    expect(samples[1]).toMatch(/^ERROR 😀+…$/u);
  });

  it('never holds a line of 100 MB, and counts it once', async () => {
    await writeFile(log, 'first\n');
    const follower = await following();
    const file = await open(log, 'a');
    const part = Buffer.alloc(10 * 1024 * 1024, 'x');
    await file.write('ERROR ');
    let largest = 0;
    const watching: Host = {
      ...host,
      readSlice: async (path, offset, maxBytes) => {
        const slice = await host.readSlice(path, offset, maxBytes);
        largest = Math.max(largest, slice?.bytes.length ?? 0);
        return slice;
      },
    };
    const bounded = createLogFollower(watching, log, { errors, from: follower.position() });
    for (let written = 0; written < 10; written++) {
      await file.write(part);
      expect(await bounded.poll()).toMatchObject({ lines: 0 });
    }
    expect(JSON.stringify(bounded.position()).length).toBeLessThan(200);
    await file.write('\nERROR short\n');
    await file.close();
    const reading = await bounded.poll();
    expect(reading).toMatchObject({ lines: 2, errors: 2 });
    expect(reading.samples[0]).toHaveLength(300);
    expect(reading.samples[1]).toBe('ERROR short');
    expect(largest).toBeLessThanOrEqual(1024 * 1024);
  });
});

describe('rotation', () => {
  it('by rename loses nothing of the file before, even what is written to it late', async () => {
    await writeFile(log, 'old\n');
    const follower = await following();
    const writer = await open(log, 'a');
    await writer.write('a\nb');
    expect(await follower.poll()).toMatchObject({ lines: 1 });
    await rename(log, `${log}.1`);
    await writer.write(' still b\nc\n');
    expect(await follower.poll()).toMatchObject({ lines: 2, rotated: true, problem: 'missing', gap: false });
    await writer.write('d\n');
    await writeFile(log, 'e\n');
    expect(await follower.poll()).toMatchObject({ lines: 2, rotated: false, problem: null });
    await writer.write('f\n');
    await writer.close();
    expect(await follower.poll()).toMatchObject({ lines: 1, ...calm });
  });

  it('more than once between two looks loses nothing that still lies there', async () => {
    await writeFile(log, 'old\n');
    const follower = await following();
    await appendFile(log, 'a\n');
    await rename(log, `${log}.1`);
    await writeFile(log, 'ERROR b\nc\n');
    await rename(`${log}.1`, `${log}.2`);
    await rename(log, `${log}.1`);
    await writeFile(log, 'd\n');
    expect(await follower.poll()).toMatchObject({ lines: 4, errors: 1, rotated: true, gap: false });
    // The writer of the one between has not let go of it yet.
    await appendFile(`${log}.1`, 'e\n');
    expect(await follower.poll()).toMatchObject({ lines: 1, ...calm });
  });

  it.each(['-20261123', '-2026-11-23', '.20261123-0001', '-20261123.1', '-2026-11-23_00-00-01'])(
    'to a name with a date (%s) loses nothing, and takes nothing else for it',
    async (suffix) => {
      await writeFile(log, 'old\n');
      await writeFile(`${log}-20261122`, 'much older\n');
      const follower = await following();
      await appendFile(log, 'a\n');
      await rename(log, `${log}${suffix}`);
      await writeFile(`${log}.errors`, 'of another program\n');
      await writeFile(`${log}-20261122.gz`, 'packed\n');
      await writeFile(log, 'b\n');
      expect(await follower.poll()).toMatchObject({ lines: 2, rotated: true, gap: false });
      await appendFile(log, 'c\n');
      await copyFile(log, `${log}-20261124`);
      await truncate(log, 0);
      expect(await follower.poll()).toMatchObject({ lines: 1, truncated: true, gap: false });
    },
  );

  it('is followed where the host cannot list files, under the usual name', async () => {
    await writeFile(log, 'old\n');
    const run: Host['run'] = async (argv, options) =>
      argv[0] === 'find' ? { status: 127, stdout: '', stderr: '', timedOut: false } : await host.run(argv, options);
    const follower = await following({ ...host, run });
    await appendFile(log, 'a\n');
    await rename(log, `${log}.1`);
    await writeFile(log, 'b\n');
    expect(await follower.poll()).toMatchObject({ lines: 2, rotated: true, gap: false });
  });

  it('says so when the file before is gone', async () => {
    await writeFile(log, 'old\n');
    const follower = await following();
    await rename(log, join(folder, 'elsewhere.log'));
    expect(await follower.poll()).toMatchObject({ problem: 'missing', rotated: false });
    await writeFile(log, 'new\n');
    expect(await follower.poll()).toMatchObject({ lines: 1, rotated: true, gap: true, problem: null });
    expect(await follower.poll()).toMatchObject({ lines: 0, ...calm });
  });

  it('by copying and emptying goes on from the beginning', async () => {
    await writeFile(log, 'old one\n');
    const follower = await following();
    await appendFile(log, 'a\n');
    expect(await follower.poll()).toMatchObject({ lines: 1 });
    await copyFile(log, `${log}.1`);
    await truncate(log, 0);
    await appendFile(log, 'b\n');
    expect(await follower.poll()).toMatchObject({ lines: 1, truncated: true, rotated: false });
    await appendFile(log, 'c\n');
    expect(await follower.poll()).toMatchObject({ lines: 1, ...calm });
  });

  it('by copying and emptying loses nothing that the copy holds', async () => {
    await writeFile(log, 'old one\n');
    const follower = await following();
    await appendFile(log, 'a\nERR');
    expect(await follower.poll()).toMatchObject({ lines: 1 });
    await appendFile(log, 'OR b\nc\n');
    await copyFile(log, `${log}.1`);
    await truncate(log, 0);
    await appendFile(log, 'd\n');
    expect(await follower.poll()).toMatchObject({ lines: 3, errors: 1, truncated: true, gap: false });
    expect(await follower.poll()).toMatchObject({ lines: 0, ...calm });
  });

  it('that empties the log without a copy of it is said, whatever lies beside it', async () => {
    await writeFile(log, 'old one\n');
    await writeFile(`${log}.1`, 'much older, and of the same length or longer\n');
    const follower = await following();
    await truncate(log, 0);
    expect(await follower.poll()).toMatchObject({ lines: 0, truncated: true, gap: true });
  });

  it('forgets a file before that was overwritten', async () => {
    await writeFile(log, 'old\n');
    const follower = await following();
    await rename(log, `${log}.1`);
    await writeFile(log, 'a\n');
    expect(await follower.poll()).toMatchObject({ lines: 1, rotated: true });
    await copyFile(log, `${log}.1`);
    await appendFile(`${log}.1`, 'b\nc\n');
    expect(await follower.poll()).toMatchObject({ lines: 0, ...calm });
  });

  it('at any moment, with crashes between, neither loses nor repeats a line', async () => {
    let seed = 12_345;
    const random = (below: number) => {
      seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
      return Math.floor((seed / 2_147_483_648) * below);
    };
    await writeFile(log, '');
    let follower = await following();
    let writer = await open(log, 'a');
    let written = 0;
    let counted = 0;
    let pending = '';
    let copied = 0;
    let renamed = 0;
    for (let step = 0; step < 400; step++) {
      switch (random(7)) {
        case 0:
          // A rotation that finds everything read can be asked to lose nothing by either method.
          if (pending === '' && random(2) === 0) {
            counted += (await follower.poll()).lines;
            await copyFile(log, `${log}.copy`);
            await truncate(log, 0);
            // A poll in between: otherwise a file that regrew past the old length hides that it was emptied.
            counted += (await follower.poll()).lines;
            copied += 1;
          } else if (pending === '') {
            for (let name = 6; name > 0; name--) await rename(`${log}.${name}`, `${log}.${name + 1}`).catch(() => null);
            await rename(log, `${log}.1`);
            if (random(2) === 0) counted += (await follower.poll()).lines;
            await writer.close();
            writer = await open(log, 'a');
            // Sometimes the next rotation comes before the next look.
            if (random(3) > 0) counted += (await follower.poll()).lines;
            renamed += 1;
          }
          break;
        case 1:
          follower = createLogFollower(host, log, {
            errors,
            from: JSON.parse(JSON.stringify(follower.position())) as ReturnType<LogFollower['position']>,
          });
          break;
        case 2:
          counted += (await follower.poll()).lines;
          break;
        default: {
          const text = pending + Array.from({ length: random(20) }, () => `line ${written++}\n`).join('');
          const cut = random(2) === 0 ? text.length : random(text.length + 1);
          await writer.write(text.slice(0, cut));
          pending = text.slice(cut);
        }
      }
    }
    await writer.write(pending);
    await writer.close();
    counted += (await follower.poll()).lines;
    expect(counted).toBe(written);
    expect(written).toBeGreaterThan(500);
    expect(copied).toBeGreaterThan(3);
    expect(renamed).toBeGreaterThan(3);
  });
});

describe('a position', () => {
  it('survives a crash in the middle of a line', async () => {
    await writeFile(log, 'old\n');
    const first = await following();
    await appendFile(log, 'a\nERR');
    await first.poll();
    const saved = JSON.stringify(first.position());
    await appendFile(log, 'OR b\nc\n');
    const second = createLogFollower(host, log, {
      errors,
      from: JSON.parse(saved) as ReturnType<LogFollower['position']>,
    });
    expect(await second.poll()).toMatchObject({ lines: 2, errors: 1, samples: ['ERROR b'] });
  });

  it('goes on in a file that was rotated meanwhile', async () => {
    await writeFile(log, 'old\n');
    const from = (await following()).position();
    await appendFile(log, 'a\n');
    await rename(log, `${log}.1`);
    await writeFile(log, 'b\n');
    const { ino } = await stat(log);
    const follower = createLogFollower(host, log, { errors, from });
    expect(await follower.poll()).toMatchObject({ lines: 2, rotated: true, gap: false });
    expect(JSON.stringify(follower.position())).toContain(`:${ino}"`);
  });
});
