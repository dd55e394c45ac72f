/**
 * Bundles the command line into dist/: one entry, `flow.js`, with everything it needs, and a chunk for whatever is
 * imported lazily, so that `flow status` does not pay for what only `flow send` uses. Nothing is looked up in node_modules
 * at run time.
 */
import { readFileSync } from 'node:fs';
import { defineConfig } from 'rolldown';

const program = defineConfig({
  input: { flow: 'src/main.ts' },
  platform: 'node',
  transform: { target: 'node20' },
  tsconfig: true,
  output: {
    dir: 'dist',
    format: 'esm',
    entryFileNames: '[name].js',
    chunkFileNames: 'chunk-[name]-[hash].js',
    minify: true,
    cleanDir: true,
    banner: (chunk) => (chunk.isEntry ? '#!/usr/bin/env node' : ''),
  },
});

/** The inspector's page: one script without a request to anywhere, beside its shell and its looks. */
const page = defineConfig({
  input: { page: 'src/inspector/page/main.tsx' },
  platform: 'browser',
  tsconfig: 'src/inspector/page/tsconfig.json',
  transform: { target: 'es2022', define: { 'process.env.NODE_ENV': '"production"' } },
  plugins: [
    {
      name: 'shell',
      generateBundle() {
        for (const name of ['index.html', 'page.css']) {
          const source = readFileSync(new URL(`src/inspector/page/${name}`, import.meta.url), 'utf8');
          this.emitFile({ type: 'asset', fileName: name, source });
        }
      },
    },
  ],
  output: { dir: 'dist/inspector', format: 'esm', entryFileNames: 'page.js', minify: true },
});

export default [program, page];
