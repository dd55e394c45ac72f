/**
 * Tests run real git, real Nginx and real processes: in forks, so that a test that changes its folder or environment
 * stays alone, and few at a time, because their timing is part of what is tested.
 */
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 3,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    allowOnly: false,
    restoreMocks: true,
    reporters: ['default', './test/reporter.ts'],
  },
});
