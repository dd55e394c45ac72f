/** Who is at the keyboard: recorded with every event. */
import { hostname, userInfo } from 'node:os';
import type { Sender } from '../store/document.ts';

/** The user and host of this process. `SUDO_USER` is named, because "root" says nothing about who it was. */
export function thisSender(via: string): Sender {
  const { username } = userInfo();
  const sudo = process.env.SUDO_USER;
  return { user: sudo === undefined || sudo === '' ? username : `${sudo} (as ${username})`, host: hostname(), via };
}
