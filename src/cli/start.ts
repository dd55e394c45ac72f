/** `flow start`: plans a release, says what it would be, asks, and stores it. */
import { EXIT, type ExitCode, UsageError } from '../errors.ts';
import type { Place } from '../release/locate.ts';
import { type Bump, type Plan, planRelease, storeRelease } from '../release/start.ts';
import { plainLine } from '../views/text.ts';
import { confirm } from './ask.ts';
import { pastTheLock, showResult } from './driving.ts';
import { terminal } from './terminal.ts';

export interface StartOptions {
  to?: string;
  bump?: Bump;
  backTo?: string | null;
  yes?: boolean;
  reason?: string;
  force?: string[];
  json?: boolean;
  wait?: boolean;
}

/** `inspect` sees the plan before anybody is asked, and may refuse it by throwing. */
export async function start(
  place: Place,
  options: StartOptions,
  inspect: (input: Plan['input']) => void = () => undefined,
): Promise<ExitCode> {
  if ((options.force?.length ?? 0) > 0 && options.reason === undefined) {
    throw new UsageError('NO_REASON', 'An override needs its reason: --force=WHAT --reason "…". Nothing was changed.');
  }
  const plan = await pastTheLock(options.wait === true, () => planRelease(place, options));
  inspect(plan.input);
  const paint = terminal().errPaint;
  const { version, before, topology } = plan.input;
  const lines = [
    `${paint.bold(plan.loaded.config.project)}: ${plan.input.kind === 'rollback' ? 'back to' : 'release'} ${paint.bold(version)}${plan.input.kind === 'rollback' ? '' : plan.previousTag === null ? ', the first one' : ` after ${plan.previousTag}`}`,
    ...topology.servers.map((server) => `  ${server} runs ${before[server] ?? 'nothing that names its version'}`),
    ...plan.warnings.map((warning) => `  ${paint.yellow('!')} ${plainLine(warning)}`),
  ];
  process.stderr.write(`${lines.join('\n')}\n`);
  await confirm(
    plan.input.kind === 'rollback' ? `Plan the way back to ${version}?` : `Plan the release of ${version}?`,
    options.yes === true,
  );
  await pastTheLock(options.wait === true, () => storeRelease(place, plan));
  showResult(place, options.json === true);
  return EXIT.ok;
}
