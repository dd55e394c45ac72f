/**
 * Bundles the command line into dist/: one entry, `flow.js`, with everything it needs, and a chunk for whatever is
 * imported lazily, so that `flow status` does not pay for what only `flow send` uses. Nothing is looked up in node_modules
 * at run time.
 */
import { defineConfig } from 'rolldown';

export default defineConfig({
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
