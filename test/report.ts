/** Prints the plain closing line, `N passed, N failed[, N skipped]`, after every other reporter. */
import type { Reporter, TestModule } from "vitest/node";

export default class ClosingLine implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly unknown[]): void {
    const count = { passed: 0, failed: unhandled.length, skipped: 0 };
    for (const module of modules) {
      // A module that could not be loaded holds no tests, yet it failed.
      if (module.state() === "failed" && module.errors().length > 0) count.failed++;
      // What a group's setting up threw: its tests were not run, and it failed.
      for (const suite of module.children.allSuites()) if (suite.errors().length > 0) count.failed++;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        if (state !== "pending") count[state]++;
      }
    }
    const { passed, failed, skipped } = count;
    const line = `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
    // In CI a skipped test is a hole in what the run proves.
    if (skipped > 0 && process.env["CI"]) process.exitCode = 1;
    process.once("exit", () => process.stdout.write(`\n${line}\n`));
  }
}
