/**
 * Writing bytes so that a reader sees the old file or the new one, never a part. The building blocks of the store.
 *
 * `replaceFile` uses a fixed temporary name: its callers hold the driver's lock, so there is one writer.
 */
import { closeSync, fsyncSync, openSync, renameSync, unlinkSync, writeSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

/** Writes all bytes: write(2) may take only a part of them, on a nearly full disk in particular. */
export function writeAll(fd: number, bytes: Buffer): void {
  for (let at = 0; at < bytes.length; ) {
    const written = writeSync(fd, bytes, at, bytes.length - at);
    if (written <= 0) throw new Error('write made no progress');
    at += written;
  }
}

/** Makes renames, links and new files in a folder survive a power cut. */
export function syncFolder(dir: string): void {
  const fd = openSync(dir, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Replaces `file` (mode 0600). `durable`: it also survives a power cut once this returns. Throws the system's errors. */
export function replaceFile(file: string, bytes: Buffer, { durable }: { durable: boolean }): void {
  const dir = dirname(file);
  const temporary = join(dir, `.${basename(file)}.tmp`);
  try {
    const fd = openSync(temporary, 'w', 0o600);
    try {
      writeAll(fd, bytes);
      if (durable) fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, file);
  } catch (error) {
    removeQuietly(temporary);
    throw error;
  }
  if (durable) syncFolder(dir);
}

/** Removes a file, if it is there and can be removed. */
export function removeQuietly(file: string): void {
  try {
    unlinkSync(file);
  } catch {
    // Gone already, or left over: the next writer replaces it.
  }
}
