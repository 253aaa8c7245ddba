/**
 * MinIO in a container, by testcontainers, from an image that holds its static binary and nothing else: the contract of the port as a
 * deployment in containers meets it. Needs an engine (`DOCKER_HOST`, or the usual socket) and no registry.
 */
import { copyFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GenericContainer, Wait } from "testcontainers";
import { afterAll, expect, it } from "vitest";
import { parseS3Address } from "../../src/store/s3/address.ts";
import { probeBuckets } from "../../src/store/s3/bucket-probes.ts";
import { makeBuckets } from "../../src/store/s3/buckets.ts";
import { createS3Store } from "../../src/store/s3/s3-store.ts";
import { describeObjectStore } from "../contract/object-store.ts";
import { minioBinary, policyOf } from "../minio/minio.ts";
import { assumeRole } from "../minio/sts.ts";
import { machineClock } from "../store/machine.ts";

const DOCKERFILE = `FROM scratch
COPY minio /minio
ENV MINIO_UPDATE=off MINIO_BROWSER=off MINIO_IDLE_TIMEOUT=10s
VOLUME /data
ENTRYPOINT ["/minio"]
`;
const ROOT = { accessKey: "administrator", secretKey: "administrator-secret" };

async function startContainer() {
  const context = await mkdtemp(join(tmpdir(), "datapilot-image-"));
  try {
    await copyFile(await minioBinary(), join(context, "minio"));
    await writeFile(join(context, "Dockerfile"), DOCKERFILE);
    const image = await GenericContainer.fromDockerfile(context).build("datapilot-test/minio", { deleteOnExit: false });
    return await image
      .withCommand(["server", "--quiet", "/data", "--address", ":9000"])
      .withEnvironment({ MINIO_ROOT_PASSWORD: ROOT.secretKey, MINIO_ROOT_USER: ROOT.accessKey })
      .withExposedPorts(9000)
      .withTmpFs({ "/data": "rw" })
      .withWaitStrategy(Wait.forHttp("/minio/health/ready", 9000))
      .withStartupTimeout(60_000)
      .start();
  } finally {
    await rm(context, { force: true, recursive: true });
  }
}

const container = await startContainer();
const endpoint = `http://${container.getHost()}:${container.getMappedPort(9000)}`;
const address = parseS3Address(`${endpoint.replace("http:", "s3+http:")}/contained`);
afterAll(async () => {
  await container.stop();
});

describeObjectStore("the S3 store in a container", async () => {
  await makeBuckets({ address, credentials: ROOT }, 1);
  const credentials = await assumeRole({ endpoint, policy: await policyOf("writer", "contained"), root: ROOT });
  const store = createS3Store({ address, clock: machineClock, credentials });
  return {
    async dispose() {
      await store[Symbol.asyncDispose]();
    },
    store,
  };
});

it("passes the probes of the buckets", async () => {
  const credentials = await assumeRole({ endpoint, policy: await policyOf("writer", "contained"), root: ROOT });
  await using store = createS3Store({ address, clock: machineClock, credentials });
  const results = await probeBuckets({ access: { address, credentials }, clock: machineClock, store });
  expect(results.filter((r) => !r.ok)).toEqual([]);
});
