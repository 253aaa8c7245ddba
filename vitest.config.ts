import { defineConfig } from "vitest/config";

/** One after the other; those of S3 need a MinIO, which is built on first use. */
const slow = ["test/e2e/**/*.test.ts", "test/sim/**/*.test.ts", "test/store/s3-*.test.ts", "test/minio/**/*.test.ts"];

export default defineConfig({
  test: {
    reporters: ["default", "./test/report.ts"],
    testTimeout: 30_000,
    projects: [
      { extends: true, test: { name: "unit", include: ["test/**/*.test.ts"], exclude: [...slow, "test/platform/**"] } },
      {
        extends: true,
        test: { name: "e2e", include: slow, testTimeout: 300_000, hookTimeout: 120_000, fileParallelism: false },
      },
    ],
  },
});
