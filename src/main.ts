/** The process: argv in, exit status out; nothing else lives here. */
import { run } from './cli/program.ts';

process.exitCode = await run(process.argv.slice(2));
