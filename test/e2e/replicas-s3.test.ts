/** Replicas on a real MinIO: three servers, each with credentials of its own, and leaders that are killed. */
import { expect, it } from "vitest";
import { variables } from "../minio/environment.ts";
import { startMinio } from "../minio/minio.ts";
import { liveThrough } from "./replica-scenario.ts";
import { datapilot, initHome, startServer, temporaryFolder } from "./server.ts";

const NAME = "shared";

it(
  "answer reads, hand on the rest, and take over without losing what was acknowledged",
  async () => {
    await using minio = await startMinio();
    await using folder = await temporaryFolder();
    const env = {
      ...variables("DATAPILOT_S3_", await minio.as("writer", NAME)),
      ...variables("DATAPILOT_S3_PRESIGNER_", await minio.as("presigner", NAME)),
    };
    const administrator = { ...env, ...variables("DATAPILOT_S3_ADMIN_", minio.root) };
    const store = minio.address(NAME);
    const first = await liveThrough(
      {
        env,
        init: (dir) => initHome(dir, ["--store", store, "--retention-days", "30"], administrator),
        store: () => store,
      },
      folder.path,
    );
    const doctor = await datapilot(["doctor", "--dir", first], env);
    expect(doctor.code, doctor.stdout + doctor.stderr).toBe(0);
    await using last = await startServer(first, { env });
    expect(await last.stop()).toBe(0);
  },
  20 * 60_000,
);
