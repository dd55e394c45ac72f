/** `flow doctor`: everything a release needs, looked at before one is begun; changes nothing. */
import about from '../../package.json' with { type: 'json' };
import { EXIT, type ExitCode } from '../errors.ts';
import { examine } from '../release/doctor.ts';
import type { Place } from '../release/locate.ts';
import { doctorText } from '../views/doctor.ts';
import { terminal } from './terminal.ts';

export async function doctor(place: Place, options: { json?: boolean }): Promise<ExitCode> {
  const examined = await examine(place, { node: about.engines.node });
  process.stdout.write(
    `${options.json === true ? JSON.stringify(examined) : doctorText(examined, terminal().outPaint)}\n`,
  );
  return examined.findings.some(({ verdict }) => verdict === 'bad') ? EXIT.problemFound : EXIT.ok;
}
