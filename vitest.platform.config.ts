/** Tests that need more than Node and Go: a container engine, HAProxy. `make test-platform` runs them where both are. */
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    reporters: ["default", "./test/report.ts"],
    fileParallelism: false,
    hookTimeout: 20 * 60_000,
    include: ["test/platform/**/*.test.ts"],
    testTimeout: 120_000,
  },
});
