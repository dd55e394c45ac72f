/** `npm run bench`: figures, not verdicts. One at a time, so that nothing measured shares the machine with another measurement. */
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: { include: ['test/**/*.bench.ts'], pool: 'forks', maxWorkers: 1, testTimeout: 300_000, hookTimeout: 300_000 },
});
