/** A real Chromium: Debian's, installed where it is missing, because playwright's own builds come from a place that CI cannot reach. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { type Browser, chromium } from 'playwright-core';

const PROGRAM = '/usr/bin/chromium';

/** Starts it without a window. Throws with what to install where that cannot be done. */
export async function startChromium(): Promise<Browser> {
  if (!existsSync(PROGRAM)) install();
  return await chromium.launch({
    executablePath: process.env.CHROMIUM ?? PROGRAM,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
}

function install(): void {
  if (process.env.CHROMIUM !== undefined) return;
  try {
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    const apt = (...args: string[]) => execFileSync('apt-get', args, { stdio: 'pipe', env, timeout: 240_000 });
    try {
      apt('install', '-y', '--no-install-recommends', 'chromium');
    } catch {
      apt('update');
      apt('install', '-y', '--no-install-recommends', 'chromium');
    }
  } catch (error) {
    throw new Error(
      `There is no ${PROGRAM}, and it could not be installed. Install Chromium (apt-get install chromium), or say where one is: CHROMIUM=/path npm test`,
      { cause: error },
    );
  }
}
