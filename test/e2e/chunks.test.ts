/**
 * A file in chunks, end to end, on the embedded store and on a real MinIO: its client is killed in the middle of the upload and of the
 * download, and goes on where it was; the server reads it whole; it is verified, copied, and handed out as evidence.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { chmodSync, existsSync, globSync, readFileSync, rmSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ArtifactService } from "../../gen/ts/animus/datapilot/v1/artifact_pb.ts";
import { parseS3Address } from "../../src/store/s3/address.ts";
import { createS3Store } from "../../src/store/s3/s3-store.ts";
import type { S3Credentials } from "../../src/store/s3/transport.ts";
import { collect } from "../contract/object-store.ts";
import { freePort, type Minio, startMinio } from "../minio/minio.ts";
import { machineClock } from "../store/machine.ts";
import { type Gate, openGate } from "./gate.ts";
import {
  clientOf,
  datapilot,
  enrol,
  grpcTransport,
  initHome,
  type NewHome,
  type ServerProcess,
  startServer,
  temporaryFolder,
} from "./server.ts";

const MAIN = fileURLToPath(new URL("../../src/main.ts", import.meta.url));
const DAY_MS = 86_400_000;
const MIB = 1_024 ** 2;
const PROJECT = "vision";
const NAME = "chunks";
const SPLIT = { DATAPILOT_CHUNK_ABOVE: String(MIB), DATAPILOT_CHUNK_SIZE: String(MIB) };
/** Four chunks and a part of one, all different. */
const CONTENT = Buffer.concat(
  Array.from({ length: (4 * MIB + 4_096) / 32 }, (_, i) => createHash("sha256").update(String(i)).digest()),
);
const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
const CHUNKS = Array.from({ length: 5 }, (_, i) => CONTENT.subarray(i * MIB, (i + 1) * MIB));

interface Stored {
  readonly digest: string;
  readonly sizeBytes: number;
  readonly lockDays: number;
}

/** Where the ledger's objects are, and who may do what with them. */
interface Place {
  readonly env: Readonly<Record<string, string>>;
  readonly init: Readonly<Record<string, string>>;
  readonly readerEnv: Readonly<Record<string, string>>;
  readonly args: readonly string[];
  readonly initArgs: readonly string[];
  /** For `verify` and `replicate`. */
  readonly buckets: string;
  artifacts(): Promise<Stored[]>;
  /** Of the server, where its own word leads to the gate. */
  readonly url?: string;
}

let minio: Minio;
beforeAll(async () => {
  minio = await startMinio();
}, 20 * 60_000);
afterAll(() => minio[Symbol.asyncDispose]());

const variables = (prefix: string, { accessKey, secretKey, sessionToken }: S3Credentials): Record<string, string> => ({
  [`${prefix}ACCESS_KEY`]: accessKey,
  [`${prefix}SECRET_KEY`]: secretKey,
  ...(sessionToken === undefined ? {} : { [`${prefix}SESSION_TOKEN`]: sessionToken }),
});

async function onMinio(gate: Gate): Promise<Place> {
  gate.target(`http://127.0.0.1:${minio.port}`);
  const env = {
    ...variables("DATAPILOT_S3_", await minio.as("writer", NAME)),
    ...variables("DATAPILOT_S3_PRESIGNER_", await minio.as("presigner", NAME)),
  };
  const address = minio.address(NAME, `?public=${gate.url}`);
  const reader = await minio.as("reader", NAME);
  return {
    args: ["--store", address],
    async artifacts() {
      const options = { address: parseS3Address(minio.address(NAME)), clock: machineClock, credentials: reader };
      await using store = createS3Store(options);
      const found = await collect(store.list("ledger", "artifacts/", { locks: true }));
      return found.map(({ lockMode, retainUntil = 0, sha256: digest = "", sizeBytes }) => {
        expect(lockMode).toBe("COMPLIANCE");
        return { digest, lockDays: (retainUntil - Date.now()) / DAY_MS, sizeBytes };
      });
    },
    buckets: minio.address(NAME),
    env,
    init: { ...env, ...variables("DATAPILOT_S3_ADMIN_", minio.root) },
    initArgs: ["--store", address],
    readerEnv: variables("DATAPILOT_S3_READER_", reader),
  };
}

async function embedded(dir: string, gate: Gate): Promise<Place> {
  const port = await freePort();
  gate.target(`http://127.0.0.1:${port}`);
  return {
    args: ["--listen", `127.0.0.1:${port}`, "--public-url", gate.url],
    url: `http://127.0.0.1:${port}`,
    async artifacts() {
      const files = globSync(join(dir, "ledger/artifacts/*/sha256/*/*"));
      const { stat } = await import("node:fs/promises");
      return Promise.all(
        files.map(async (file) => {
          const { atimeMs, size } = await stat(file);
          return { digest: file.slice(-64), lockDays: (atimeMs - Date.now()) / DAY_MS, sizeBytes: size };
        }),
      );
    },
    buckets: dir,
    env: {},
    init: {},
    initArgs: [],
    readerEnv: {},
  };
}

/** Starts a command and kills it once `when` holds. */
async function killed(args: readonly string[], env: Record<string, string>, when: () => boolean): Promise<void> {
  const child = spawn(process.execPath, [MAIN, ...args], { env: { ...process.env, ...env }, stdio: "ignore" });
  const gone = once(child, "close");
  await expect.poll(when, { interval: 20, timeout: 60_000 }).toBe(true);
  child.kill("SIGKILL");
  await gone;
}

describe.each(["embedded", "minio"] as const)("a file in chunks on %s", (kind) => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  let gate: Gate;
  let place: Place;
  let home: NewHome;
  let server: ServerProcess;
  let client: Record<string, string>;
  let token: string;
  let file: string;
  let digest = "";

  beforeAll(async () => {
    folder = await temporaryFolder();
    gate = await openGate();
    const dir = join(folder.path, "home");
    place = kind === "minio" ? await onMinio(gate) : await embedded(dir, gate);
    home = await initHome(dir, [...place.initArgs, "--retention-days", "30"], place.init);
    server = await startServer(dir, { args: place.args, env: place.env });
    ({ token } = await enrol(server, home.token, PROJECT));
    client = { ...SPLIT, DATAPILOT_PROJECT: PROJECT, DATAPILOT_TOKEN: token, DATAPILOT_URL: place.url ?? server.url };
    file = join(folder.path, "big.bin");
    await writeFile(file, CONTENT);
  }, 120_000);
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
    await gate[Symbol.asyncDispose]();
    await folder[Symbol.asyncDispose]();
  });

  const artifacts = () => clientOf(ArtifactService, grpcTransport(server, token));
  const trust = () => ["--policy", join(home.dir, "trust/policy.txt"), "--genesis", join(home.dir, "trust/genesis")];
  const json = async (args: readonly string[], env: Record<string, string>, code = 0) => {
    const ended = await datapilot([...args, "--json"], env);
    expect(ended.code, ended.stderr + ended.stdout).toBe(code);
    return JSON.parse(ended.stdout) as never;
  };

  it("goes on where its client was killed, and sends nothing twice", async () => {
    gate.open();
    gate.holdAfter(2);
    await killed(["artifact", "put", file], client, () => gate.held > 0 && gate.passed.length === 2);
    await expect.poll(async () => (await place.artifacts()).length, { timeout: 30_000 }).toBe(2);
    // Nobody said that it is whole, so nothing is recorded, and the store holds it for a week.
    expect((await artifacts().listArtifacts({ pageSize: 10, project: PROJECT })).resources).toEqual([]);
    for (const { lockDays } of await place.artifacts()) expect(lockDays).toSatisfy((d: number) => d > 6.9 && d <= 7.1);
    gate.open();
    const [put] = (await json(["artifact", "put", file], client)) as [
      { digest: string; size_bytes: number; content: object },
    ];
    expect(put.content).toEqual({
      chunk_bytes: MIB,
      chunk_count: 5,
      sha256_claimed: `sha256:${sha256(CONTENT)}`,
      size_bytes: CONTENT.length,
    });
    expect(gate.passed).toEqual(["PUT", "PUT", "PUT", "PUT"]);
    ({ digest } = put);
    const stored = await place.artifacts();
    expect(stored.map((s) => s.digest).toSorted()).toEqual([...CHUNKS.map(sha256), digest.slice(7)].toSorted());
    // Prolonged before it was recorded.
    for (const { lockDays } of stored) expect(lockDays).toBeGreaterThan(29.9);
    gate.open();
    const [again] = (await json(["artifact", "put", file], client)) as [{ digest: string }];
    expect([again.digest, gate.passed]).toEqual([digest, []]);
  });

  it("is downloaded from where the client was killed, and appears when it is whole", async () => {
    const output = join(folder.path, "copy.bin");
    const args = ["artifact", "get", digest.slice(7), "--output", output];
    const whole = (): number => {
      if (!existsSync(`${output}.partial`)) return 0;
      const bytes = readFileSync(`${output}.partial`);
      return CHUNKS.filter((c, i) => c.equals(bytes.subarray(i * MIB, (i + 1) * MIB))).length;
    };
    gate.open();
    gate.holdAfter(3);
    await killed(args, client, () => gate.held > 0 && whole() === 2);
    expect(existsSync(output)).toBe(false);
    gate.open();
    const ended = await datapilot(args, client);
    expect(ended.code, ended.stderr).toBe(0);
    expect(ended.stdout).toContain("5 chunks and the whole, verified");
    expect(gate.passed).toHaveLength(4);
    expect((await readFile(output)).equals(CONTENT)).toBe(true);
    expect(existsSync(`${output}.partial`)).toBe(false);
  });

  it("and one in a piece are sent again from their beginnings when connections break", async () => {
    gate.open();
    const small = join(folder.path, "small.bin");
    await writeFile(small, CONTENT.subarray(0, MIB - 1));
    gate.cut(2);
    await json(["artifact", "put", small], client);
    expect(gate.passed).toEqual(["PUT"]);
    const other = join(folder.path, "other.bin");
    await writeFile(other, Buffer.concat([CONTENT.subarray(MIB), Buffer.from("another end")]));
    gate.cut(1);
    await json(["artifact", "put", other], client);
    // Three chunks are those of the first file; the last one, and the manifest, are not.
    expect(gate.passed).toEqual(["PUT", "PUT", "PUT"]);
  });

  it("is read whole by the server, which records what it read", async () => {
    await expect
      .poll(
        async () =>
          (await artifacts().batchGetDownloadUrls({ artifacts: [digest], project: PROJECT })).urls[0]?.content
            ?.sha256Read,
        { interval: 500, timeout: 60_000 },
      )
      .toBe(`sha256:${sha256(CONTENT)}`);
    const metrics = await (await fetch(`${place.url ?? server.url}/metrics`)).text();
    expect(metrics).toMatch(/datapilot_chunked_reads_total\{outcome="verified"\} [12]\n/);
    expect(metrics).toContain("datapilot_uploads_outstanding 0");
  });

  it("is an input, an output and a file of a version as any other", async () => {
    await json(["dataset", "create", "frames"], client);
    const made = (await json(["dataset", "register", "frames", file], client)) as {
      resource: { dataset_version: { files: object[] } };
    };
    expect(made.resource.dataset_version.files).toEqual([expect.objectContaining({ digest, path: "big.bin" })]);
    const ran = await datapilot(
      ["run", "--dataset", `frames@v1:train=${file}`, "--receipts", join(folder.path, "receipts"), "--", "true"],
      client,
    );
    expect(ran.code, ran.stderr).toBe(0);
  });

  it("is verified and copied with all its chunks, and handed out as evidence", async () => {
    const pack = join(folder.path, "frames.dpevidence");
    await json(["evidence", "export", "frames@v1", "--blobs", "--purpose", "test", "--output", pack], client);
    const checked = (await json(["verify", "pack", pack, ...trust()], {})) as { verdict: string };
    expect(checked.verdict).toBe("pass");
    expect((await readFile(pack)).length).toBeGreaterThan(CONTENT.length);
    const verified = (await json(["verify", "bucket", place.buckets, ...trust(), "--artifacts"], {
      ...place.readerEnv,
    })) as { artifacts: object; verdict: string };
    expect(verified).toMatchObject({ artifacts: { missing: 0 }, verdict: "COMPLETE" });
    const copy = join(folder.path, "copy");
    const copied = (await json(["replicate", place.buckets, copy, ...trust()], { ...place.readerEnv })) as object;
    expect(copied).toMatchObject({ verdict: "COPIED" });
    const there = globSync(join(copy, "ledger/artifacts/*/sha256/*/*"));
    expect(there.map((f) => f.slice(-64))).toEqual(expect.arrayContaining(CHUNKS.map(sha256)));
    const lost = there.find((f) => f.endsWith(sha256(CHUNKS[0] ?? CONTENT))) ?? "";
    chmodSync(lost, 0o644);
    rmSync(lost);
    const holed = (await json(["verify", "bucket", copy, ...trust(), "--artifacts"], {}, 1)) as {
      checks: { failures: { code: string; at: string }[] }[];
    };
    expect(holed.checks.flatMap((c) => c.failures).map((f) => f.code)).toEqual(["artifact.missing"]);
  });

  it("that has other bytes than its manifest says is given to nobody", async () => {
    const output = join(folder.path, "never.bin");
    if (kind === "embedded") {
      const [path = ""] = globSync(join(home.dir, `ledger/artifacts/*/sha256/*/${sha256(CHUNKS[4] ?? CONTENT)}`));
      chmodSync(path, 0o644);
      await writeFile(path, "x".repeat(4_096));
    } else {
      // Only the administrator can lay other bytes over a chunk, and the right version is found below.
      const options = { address: parseS3Address(minio.address(NAME)), clock: machineClock, credentials: minio.root };
      await using root = createS3Store(options);
      const [{ key } = { key: "" }] = (await collect(root.list("ledger", "artifacts/"))).filter((o) =>
        o.key.endsWith(sha256(CHUNKS[4] ?? CONTENT)),
      );
      const { status } = await root.transport.send({
        body: Buffer.from("x".repeat(4_096)),
        method: "PUT",
        path: `${NAME}-ledger/${key}`,
      });
      expect(status).toBe(200);
    }
    const ended = await datapilot(["artifact", "get", digest, "--output", output, "--json"], client);
    expect([ended.code, existsSync(output)]).toEqual(kind === "embedded" ? [1, false] : [0, true]);
    if (kind === "embedded") expect(ended.stdout + ended.stderr).toContain("DIGEST_MISMATCH");
    else expect((await readFile(output)).equals(CONTENT)).toBe(true);
  });
});
