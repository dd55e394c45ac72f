/**
 * The closing line of a test run: `N passed, N failed`, alone on its line and without colour, for scripts that read it.
 * A file that could not be loaded and an error outside of any test count as failed: a run that lost tests is not green.
 * A test that was skipped is neither, and is said: the ones that follow a process with strace, where there is none.
 */
import type { Reporter, TestModule } from 'vitest/node';

export default class ClosingLine implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly unknown[]): void {
    let passed = 0;
    let failed = unhandled.length;
    let skipped = 0;
    for (const module of modules) {
      failed += [module, ...module.children.allSuites()].filter((each) => each.errors().length > 0).length;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        if (state === 'passed') passed += 1;
        else if (state === 'skipped') skipped += 1;
        else failed += 1;
      }
    }
    // After the default reporter's summary, which is written synchronously in the same hook.
    const apart = skipped === 0 ? '' : `, ${skipped} skipped`;
    process.stdout.write(`${passed} passed, ${failed} failed${apart}\n`);
  }
}
