/**
 * The closing line of a test run: `N passed, N failed`, alone on its line and without colour, for scripts that read it.
 * A file that could not be loaded and an error outside of any test count as failed: a run that lost tests is not green.
 * A test that was skipped is not passed either; there should be none.
 */
import type { Reporter, TestModule } from 'vitest/node';

export default class ClosingLine implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly unknown[]): void {
    let passed = 0;
    let failed = unhandled.length;
    for (const module of modules) {
      if (module.errors().length > 0) failed += 1;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        if (state === 'passed') passed += 1;
        else failed += 1;
      }
    }
    // After the default reporter's summary, which is written synchronously in the same hook.
    process.stdout.write(`${passed} passed, ${failed} failed\n`);
  }
}
