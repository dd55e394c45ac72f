/**
 * Tests run real git, real Nginx and real processes: in forks, so that a test that changes its folder or environment
 * stays alone, and few at a time, because their timing is part of what is tested.
 */
import { configDefaults, defineConfig } from 'vitest/config';

/** Suites whose quick form is something else: rows of test/failures show Ctrl-C and a terminal that is gone. */
const ONLY_IN_FULL = process.env.TORTURE === 'full' ? [] : ['test/torture/leaving.test.ts'];

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: [...configDefaults.exclude, ...ONLY_IN_FULL],
    pool: 'forks',
    maxWorkers: 3,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    allowOnly: false,
    restoreMocks: true,
    reporters: ['default', './test/reporter.ts'],
  },
});
