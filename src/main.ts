/** The process: argv in, exit status out; nothing else lives here. */
import { dispatch } from './cli/dispatch.ts';

process.exitCode = await dispatch(process.argv.slice(2));
