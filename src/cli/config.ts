/** `flow config check|print|schema`: looks at flow.yaml and touches nothing. */
import { UsageError, EXIT, type ExitCode } from '../errors.ts';
import { configJsonSchema, findConfigFile, loadConfig } from '../config/load.ts';

export function config(what: 'check' | 'print' | 'schema', given: string | undefined): ExitCode {
  if (what === 'schema') {
    process.stdout.write(`${JSON.stringify(configJsonSchema(), null, 2)}\n`);
    return EXIT.ok;
  }
  const file = given ?? findConfigFile(process.cwd());
  if (file === null)
    throw new UsageError('NO_CONFIG', 'There is no flow.yaml here or above. Name it: flow config check --config FILE');
  const loaded = loadConfig(file);
  process.stdout.write(
    what === 'print'
      ? `${JSON.stringify(loaded.config, null, 2)}\n`
      : `${loaded.file} is right: ${loaded.config.project}, ${Object.keys(loaded.config.servers).join(' and ')}\n`,
  );
  return EXIT.ok;
}
