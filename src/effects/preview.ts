/**
 * R4.4: the new version is looked at through the pre-release proxy before any customer reaches it.
 * Twice is safe: the pre-release proxy serves no customer, its switch reloads again as every switch does, and the checks only look.
 */
import type { CheckResult } from '../../machines/contract.ts';
import { serverSettings } from '../config/settings.ts';
import { StepError } from '../errors.ts';
import type { Effects } from './effect.ts';
import { placeholderValues } from './placeholder-values.ts';
import { runCheck } from './probes.ts';
import { purposeOf, tryAgain } from './try-again.ts';
import { listOf } from './way-out.ts';
import type { World } from './world.ts';

/** Throws StepError PREVIEW_FAILED (rejected) with the checks that failed, and what the switch of the pre-release proxy throws. */
export function preview(world: World): Effects['preview'] {
  return async (input, tools) => {
    const { servers } = input;
    const again = tryAgain(world, input.step);
    const through =
      world.preview === null
        ? null
        : await world.preview.switchTo(servers, {
            again,
            purpose: purposeOf(world, input.step),
            signal: tools.signal,
            onProgress: (text) => {
              tools.report({ kind: 'note', text: `pre-release proxy: ${text}` });
            },
          });
    const checks: CheckResult[] = [];
    for (const server of servers) {
      const values = await placeholderValues(world, serverSettings(world.config, server));
      for (const check of world.config.preview?.checks ?? []) {
        tools.signal.throwIfAborted();
        const result = await runCheck(world, check, values);
        tools.report({ kind: 'note', text: `${result.ok ? 'passes' : 'fails'} for ${server}: ${result.name}` });
        checks.push(servers.length === 1 ? result : { ...result, name: `${result.name} (${server})` });
      }
    }
    const red = checks.filter(({ ok }) => !ok);
    if (red.length > 0) {
      throw new StepError(
        'PREVIEW_FAILED',
        'rejected',
        `Before any customer reaches it, ${input.release.version} on ${servers.join(' and ')} fails: ` +
          `${listOf(red.map(({ name, because }) => `${name}: ${because}`))}. Traffic was not touched. ` +
          `Mend it, then: ${again}, or go back: flow send ROLLBACK`,
      );
    }
    const seen =
      through === null
        ? null
        : { ...through, workersBefore: [...through.workersBefore], workersAfter: [...through.workersAfter] };
    return { outcome: 'done', evidence: { previewed: [...servers], through: seen, checks } };
  };
}
