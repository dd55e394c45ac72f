/**
 * Bundles one of the programs beside this file, so that a plain `node` can run it as a process of its own: processes that
 * are killed in the middle of something are what the tests of the store and of jobs are about.
 */
import { join } from 'node:path';
import { rolldown } from 'rolldown';

/** Path of the bundled program, written into `outDir`. */
export async function bundleProgram(name: string, outDir: string): Promise<string> {
  const bundle = await rolldown({ input: join(import.meta.dirname, name), platform: 'node', logLevel: 'silent' });
  const file = join(outDir, name.replace(/\.ts$/, '.mjs'));
  await bundle.write({ file, format: 'esm', codeSplitting: false });
  await bundle.close();
  return file;
}
