/** The machines that commands, files and jobs are on: whether each can be reached, has what flow calls there, and has room. */
import { setTimeout as delay } from 'node:timers/promises';
import { serverSettings } from '../../config/settings.ts';
import type { World } from '../../effects/world.ts';
import { type Finding, look } from './finding.ts';
