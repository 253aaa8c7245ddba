/** The proxy configuration that is shipped, run by HAProxy before a real MinIO: what it lets through and what it ends. */
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Digest } from "../../src/std/brand.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { artifactKey, commitKey } from "../../src/store/keys.ts";
import { parseS3Address } from "../../src/store/s3/address.ts";
import { makeBuckets } from "../../src/store/s3/buckets.ts";
import { createS3Store, type S3Store } from "../../src/store/s3/s3-store.ts";
import { collect, describeObjectStore } from "../contract/object-store.ts";
import { freePort, type Minio, startMinio } from "../minio/minio.ts";
import { machineClock } from "../store/machine.ts";

const CONFIGURATION = fileURLToPath(new URL("../../deploy/proxy/haproxy.cfg", import.meta.url));
const LATER = Date.UTC(2035, 0, 1);
const BODY = utf8("what was announced");
const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

interface Filter extends AsyncDisposable {
  readonly port: number;
}

async function startFilter(minio: Minio): Promise<Filter> {
  const port = await freePort();
  const child: ChildProcess = spawn("haproxy", ["-f", CONFIGURATION], {
    env: { ...process.env, PROXY_BIND: `127.0.0.1:${port}`, PROXY_STORE: `127.0.0.1:${minio.port}` },
    stdio: ["ignore", "inherit", "inherit"],
  });
  const gone = once(child, "close");
  for (let i = 0; ; i++) {
    const answer = await fetch(`http://127.0.0.1:${port}/minio/health/ready`).catch(() => undefined);
    if (answer?.status === 200) break;
    if (i > 100 || child.exitCode !== null)
      throw new Error("HAProxy did not start: install it (apt-get install haproxy)");
    await sleep(100);
  }
  return {
    port,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await gone;
    },
  };
}

describeObjectStore(
  "the S3 store through the proxy",
  async () => {
    const minio = await startMinio();
    const filter = await startFilter(minio);
    await makeBuckets({ address: parseS3Address(minio.address("filtered")), credentials: minio.root }, 1);
    const store = createS3Store({
      address: parseS3Address(`s3+http://127.0.0.1:${filter.port}/filtered`),
      clock: machineClock,
      credentials: await minio.as("writer", "filtered"),
    });
    return {
      async dispose() {
        for (const owned of [store, filter, minio]) await owned[Symbol.asyncDispose]();
      },
      store,
    };
  },
  { setUpMs: 20 * 60_000 },
);

describe("the proxy", () => {
  let minio: Minio;
  let filter: Filter;
  let direct: S3Store;
  let filtered: S3Store;
  let keys = 0;
  const freshKey = (): string => artifactKey("ab".repeat(32) as Digest, sha256(utf8(String(keys++))) as Digest);
  const present = async (key: string): Promise<boolean> => (await direct.head("ledger", key)) !== null;

  beforeAll(async () => {
    minio = await startMinio();
    filter = await startFilter(minio);
    await makeBuckets({ address: parseS3Address(minio.address("clients")), credentials: minio.root }, 1);
    const address = parseS3Address(minio.address("clients", `?public=http://127.0.0.1:${filter.port}`));
    direct = createS3Store({ address, clock: machineClock, credentials: minio.root });
    filtered = createS3Store({
      address: parseS3Address(`s3+http://127.0.0.1:${filter.port}/clients`),
      clock: machineClock,
      credentials: minio.root,
    });
  });
  afterAll(async () => {
    for (const owned of [direct, filtered, filter, minio]) await owned[Symbol.asyncDispose]();
  });

  /** By the administrator's credentials, so that it is the proxy that refuses. */
  const upload = async (key: string, extra: Readonly<Record<string, string>> = {}): Promise<number> => {
    const { headers, url } = await direct.presignPut({
      ifAbsent: true,
      key,
      retainUntil: LATER,
      seconds: 60,
      sha256: sha256(BODY),
      sizeBytes: BODY.length,
    });
    const own = headers.filter((h) => h.name !== "content-length").map((h): [string, string] => [h.name, h.value]);
    const answer = await fetch(url, { body: BODY, headers: { ...Object.fromEntries(own), ...extra }, method: "PUT" });
    await answer.arrayBuffer();
    return answer.status;
  };

  it("hands on uploads and downloads by presigned addresses", async () => {
    const key = freshKey();
    expect(await upload(key)).toBe(200);
    const versionId = (await direct.head("ledger", key))?.versionId ?? "";
    const { url } = await direct.presignGet({ key, seconds: 60, versionId });
    expect(url).toContain(`127.0.0.1:${filter.port}/`);
    expect(new Uint8Array(await (await fetch(url)).arrayBuffer())).toEqual(BODY);
  });

  it("ends presigned uploads to which something was added", async () => {
    await direct.create("ledger", commitKey(0), utf8("a commit"), { retainUntil: LATER });
    for (const extra of [
      { "x-amz-copy-source": `/clients-ledger/${commitKey(0)}` },
      { "X-Amz-Copy-Source": `/clients-ledger/${commitKey(0)}` },
      { "x-amz-object-lock-legal-hold": "OFF" },
      { "x-amz-tagging": "a=b" },
      { "x-amz-meta-a": "b" },
      { "x-amz-meta-snowball-auto-extract": "true" },
      { "x-minio-source-mtime": "2001-01-01T00:00:00Z" },
      { "X-Minio-Source-ETag": "x" },
      { "x-minio-replication-actual-object-size": "1" },
      { "x-amz-bucket-replication-status": "REPLICA" },
      { "x-amz-bypass-governance-retention": "true" },
      { "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER" },
    ]) {
      const key = freshKey();
      expect(await upload(key, extra), JSON.stringify(extra)).toBe(403);
      expect(await present(key), JSON.stringify(extra)).toBe(false);
    }
  });

  it("ends what is forged also when it is signed, and form uploads", async () => {
    const path = (key: string): string => `clients-ledger/${key}`;
    for (const headers of [
      { "x-amz-meta-snowball-auto-extract": "true" },
      { "x-minio-source-replication-request": "true" },
      { "x-amz-bypass-governance-retention": "true" },
    ] as Readonly<Record<string, string>>[]) {
      const key = freshKey();
      const request = { body: BODY, headers, method: "PUT", path: path(key) } as const;
      expect((await filtered.transport.send(request)).status, JSON.stringify(headers)).toBe(403);
      expect(await present(key)).toBe(false);
    }
    const posted = await fetch(`http://127.0.0.1:${filter.port}/clients-ledger`, {
      body: "--x--",
      headers: { "content-type": "multipart/form-data; boundary=x" },
      method: "POST",
    });
    expect(posted.status).toBe(403);
    expect((await collect(direct.list("ledger", "artifacts/"))).length).toBe(1);
  });
});
