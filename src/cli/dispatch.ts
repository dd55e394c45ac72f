/**
 * The shortest way to `flow status`, which is asked all the time, and by scripts and prompts: a plain `status` goes there
 * without loading the parser of the whole command line. Everything else is program.ts.
 */
import type { ExitCode } from '../errors.ts';
import { ending } from './ending.ts';

/** Runs one command line and returns the exit status. Never throws. */
export async function dispatch(argv: string[]): Promise<ExitCode> {
  // Whoever reads may go away at any time (`flow history | head`), which is no defect; who drives or watches listens as well.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
  const [command, option, ...rest] = argv;
  const isPlain = (command === undefined || command === 'status') && rest.length === 0;
  if (!isPlain || (option !== undefined && option !== '--json')) return await (await import('./program.ts')).run(argv);
  try {
    const [{ locate }, { status }] = await Promise.all([import('../release/locate.ts'), import('./status.ts')]);
    return await status(await locate(process.cwd()), { json: option === '--json' });
  } catch (error) {
    return ending(error);
  }
}
