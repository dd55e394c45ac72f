/** How a person gets to the page: its address, the browser, or the line that leads there from another machine. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { messageOf } from '../../errors.ts';

const REDIRECT_MS = 30_000;

/** Whether a browser on this machine would be seen by whoever sits at the terminal. */
export function hasDesktop(): boolean {
  const { SSH_CONNECTION = '', DISPLAY = '', WAYLAND_DISPLAY = '' } = process.env;
  return SSH_CONNECTION === '' && (process.platform !== 'linux' || DISPLAY !== '' || WAYLAND_DISPLAY !== '');
}

/** The address, and how to get there where this machine has no desktop. */
export function addressLines(url: string, port: number): string[] {
  const way = `  ssh -L ${port}:127.0.0.1:${port} ${userInfo().username}@${hostname()}`;
  return [
    `Inspector  ${url}`,
    ...(hasDesktop()
      ? []
      : ['There is no desktop here. On the machine you sit at, run this, then open the address above there:', way]),
  ];
}

/** Through a file that only its user can read: what stands in a command can be read by everybody on the machine. */
export async function openInBrowser(url: string): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'flow-inspect-'));
  const remove = () => {
    rmSync(dir, { recursive: true, force: true });
  };
  const file = join(dir, 'inspector.html');
  try {
    const text = `<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=${url}">\n`;
    writeFileSync(file, text, { mode: 0o600 });
    const { default: open } = await import('open');
    const child = await open(file);
    child.on('error', () => undefined);
  } catch (error) {
    process.stderr.write(`No browser could be started (${messageOf(error)}). Open the address above by hand.\n`);
  }
  setTimeout(remove, REDIRECT_MS).unref();
  process.once('exit', remove);
}
