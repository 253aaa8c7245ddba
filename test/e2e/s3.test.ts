/**
 * The ledger on a real MinIO: made by `init --store`, written through gRPC, its server killed, started again, and verified from a
 * copy of its buckets. Every process has the credentials of its duty and no others.
 */
import { createHash } from "node:crypto";
import { chmod, cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { RunService } from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import type { Digest } from "../../src/std/brand.ts";
import { artifactKey, parseKey } from "../../src/store/keys.ts";
import { parseS3Address } from "../../src/store/s3/address.ts";
import { makeBuckets } from "../../src/store/s3/buckets.ts";
import { createS3Store, type S3Store } from "../../src/store/s3/s3-store.ts";
import type { S3Credentials } from "../../src/store/s3/transport.ts";
import { collect } from "../contract/object-store.ts";
import { variables } from "../minio/environment.ts";
import { type Minio, startMinio } from "../minio/minio.ts";
import { machineClock } from "../store/machine.ts";
import {
  clientOf,
  datapilot,
  enrol,
  grpcTransport,
  initHome,
  startRun,
  startServer,
  temporaryFolder,
} from "./server.ts";

const DAY_MS = 86_400_000;
let minio: Minio;

beforeAll(async () => {
  minio = await startMinio();
}, 20 * 60_000);
afterAll(async () => {
  await minio[Symbol.asyncDispose]();
});

const administrator = (): Record<string, string> => variables("DATAPILOT_S3_ADMIN_", minio.root);
const server = async (name: string): Promise<Record<string, string>> => ({
  ...variables("DATAPILOT_S3_", await minio.as("writer", name)),
  ...variables("DATAPILOT_S3_PRESIGNER_", await minio.as("presigner", name)),
});
const storeOf = (name: string, credentials: S3Credentials): S3Store =>
  createS3Store({ address: parseS3Address(minio.address(name)), clock: machineClock, credentials });

/** Copies what the buckets hold, as `datapilot verify bucket` reads it. */
async function copyBuckets(store: S3Store, to: string): Promise<void> {
  for (const bucket of ["ledger", "head"] as const)
    for await (const { key } of store.list(bucket, "")) {
      expect(parseKey(bucket, key), key).toBeDefined();
      const found = await store.get(bucket, key);
      const path = join(to, bucket, key);
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, found?.body ?? "");
    }
}

it("records runs, survives a kill of the server and of the store, and verifies", async () => {
  await using folder = await temporaryFolder();
  const dir = join(folder.path, "home");
  const env = await server("runs");
  const { token } = await initHome(dir, ["--store", minio.address("runs"), "--retention-days", "30"], {
    ...env,
    ...administrator(),
  });
  const acknowledged: string[] = [];
  {
    await using first = await startServer(dir, { env });
    const worker = await enrol(first, token, "vision");
    const transport = grpcTransport(first, worker.token);
    for (let i = 0; i < 5; i++) acknowledged.push((await startRun(transport, "vision", `before-${i}`)).run);
    await first.kill();
  }
  {
    await using second = await startServer(dir, { env });
    const transport = grpcTransport(second, token);
    for (const record of acknowledged) {
      const { run } = await clientOf(RunService, transport).getRun({ name: record, project: "vision" });
      expect(run?.record).toBe(record);
    }
    await minio.restart();
    const worker = await enrol(second, token, "speech");
    await startRun(grpcTransport(second, worker.token), "speech", "after");
    expect(await second.stop()).toBe(0);
  }
  await using reader = storeOf("runs", await minio.as("reader", "runs"));
  for await (const info of reader.list("ledger", "", { locks: true })) {
    expect(info.lockMode, info.key).toBe("COMPLIANCE");
    expect(info.retainUntil, info.key).toBeGreaterThan(Date.now() + 29 * DAY_MS);
    expect(info.sha256, info.key).toBeDefined();
  }
  const copy = join(folder.path, "copy");
  await copyBuckets(reader, copy);
  const verified = await datapilot(["verify", "bucket", copy, "--policy", join(dir, "trust", "policy.txt"), "--json"]);
  expect(JSON.parse(verified.stdout)).toMatchObject({ verdict: "COMPLETE" });
  const doctor = await datapilot(["doctor", "--dir", dir], env);
  expect(doctor.code, doctor.stdout + doctor.stderr).toBe(0);
  for (const name of [
    "clock",
    "reach",
    "ledger",
    "head",
    "personal",
    "delete-version",
    "newest-commit",
    "double-create",
    "create-race",
    "swap-race",
    "genesis",
    "keys",
    "log",
  ])
    expect(doctor.stdout).toMatch(new RegExp(`^ok {4}${name}: `, "m"));
});

it("is read with a reader's credentials, and written on by a replica when its leader is killed", async () => {
  await using folder = await temporaryFolder();
  const [first, second, third] = ["first", "second", "third"].map((name) => join(folder.path, name)) as [
    string,
    string,
    string,
  ];
  const env = await server("replicas");
  const { token } = await initHome(first, ["--store", minio.address("replicas"), "--retention-days", "30"], {
    ...env,
    ...administrator(),
  });
  await cp(join(first, "keys"), join(second, "keys"), { recursive: true });
  await mkdir(third);
  const store = ["--store", minio.address("replicas")];
  await using leader = await startServer(first, { env });
  await using replica = await startServer(second, { args: [...store, "--replica"], env });
  await using mirror = await startServer(third, {
    args: [...store, "--read-only"],
    env: variables("DATAPILOT_S3_READER_", await minio.as("reader", "replicas")),
  });
  const worker = await enrol(leader, token, "vision");
  const before = await startRun(grpcTransport(replica, worker.token), "vision", "before");
  await leader.kill();
  // The replica may take over only after some seconds of silence; until then it refuses, and the same request may be repeated.
  const after = await (async () => {
    for (let tries = 1; ; tries++) {
      try {
        return await startRun(grpcTransport(replica, worker.token), "vision", "after");
      } catch (error) {
        if (tries >= 60) throw error;
        await sleep(1_000);
      }
    }
  })();
  for (const { run } of [before, after])
    for (const server of [replica, mirror])
      await expect
        .poll(
          async () => {
            const found = clientOf(RunService, grpcTransport(server, worker.token)).getRun({
              name: run,
              project: "vision",
            });
            return (await found.catch(() => undefined))?.run?.record;
          },
          { interval: 200, timeout: 60_000 },
        )
        .toBe(run);
});

it("stores artifacts without a byte through the server, locked as long as the ledger", async () => {
  await using folder = await temporaryFolder();
  const dir = join(folder.path, "home");
  const env = await server("files");
  const { token } = await initHome(dir, ["--store", minio.address("files"), "--retention-days", "30"], {
    ...env,
    ...administrator(),
  });
  await using running = await startServer(dir, { env });
  const worker = await enrol(running, token, "vision");
  const client = { DATAPILOT_PROJECT: "vision", DATAPILOT_TOKEN: worker.token, DATAPILOT_URL: running.url };
  const file = join(folder.path, "model.bin");
  const bytes = createHash("sha256").update("seed").digest();
  await writeFile(file, Buffer.concat(Array.from({ length: 100_000 }, () => bytes)));
  const empty = join(folder.path, "empty");
  await writeFile(empty, "");
  const put = await datapilot(["artifact", "put", file, empty, "--json"], client);
  expect(put.code, put.stderr).toBe(0);
  const digest = createHash("sha256")
    .update(await readFile(file))
    .digest("hex");
  await using reader = storeOf("files", await minio.as("reader", "files"));
  const artifacts: string[] = [];
  for await (const info of reader.list("ledger", "artifacts/", { locks: true })) {
    artifacts.push(info.sha256 ?? "");
    expect(info.retainUntil).toBeGreaterThan(Date.now() + 29 * DAY_MS);
  }
  expect(artifacts).toContain(digest);
  expect(artifacts).toHaveLength(2);
  const get = async (name: string): Promise<Buffer> => {
    const output = join(folder.path, name);
    const got = await datapilot(["artifact", "get", `sha256:${digest}`, "--output", output], client);
    expect(got.code, got.stderr).toBe(0);
    return readFile(output);
  };
  expect(await get("again.bin")).toEqual(await readFile(file));
  // Somebody who may write lays other bytes over it and hides it, and takes the place of what is uploaded next.
  const [first] = await collect(reader.list("ledger", "artifacts/"));
  const project = first?.key.split("/")[1] as Digest;
  await using attacker = storeOf("files", minio.root);
  const lay = (key: string, body: string) =>
    attacker.transport.send({ body: Buffer.from(body), method: "PUT", path: `files-ledger/${key}` });
  expect((await lay(artifactKey(project, digest as Digest), "foreign")).status).toBe(200);
  expect(await get("shadowed.bin")).toEqual(await readFile(file));
  const hidden = { method: "DELETE", path: `files-ledger/${artifactKey(project, digest as Digest)}` } as const;
  expect((await attacker.transport.send(hidden)).status).toBe(204);
  expect(await get("hidden.bin")).toEqual(await readFile(file));
  const next = createHash("sha256").update("next").digest("hex") as Digest;
  expect((await lay(artifactKey(project, next), "squatter")).status).toBe(200);
  await writeFile(join(folder.path, "next"), "next");
  const over = await datapilot(["artifact", "put", join(folder.path, "next"), "--json"], client);
  expect(over.code, over.stderr).toBe(0);
});

it("refuses to make a ledger where it cannot be kept, and says what to do", async () => {
  await using folder = await temporaryFolder();
  const home = (name: string): string => join(folder.path, name);
  const init = (name: string, env: Record<string, string>, address = minio.address(name)) =>
    datapilot(["init", "--dir", home(name), "--solo", "--store", address], env);
  const env = await server("taken");
  expect((await init("taken", { ...env, ...administrator() })).code).toBe(0);
  const credentials = join(folder.path, "credentials.json");
  await writeFile(credentials, JSON.stringify({ writer: { access_key: "a", secret_key: "b" } }), { mode: 0o644 });
  for (const [name, given, address, words] of [
    ["again", { ...env, ...administrator() }, minio.address("taken"), /holds the ledger .* already.*another name/s],
    ["none", {}, undefined, /set DATAPILOT_S3_ACCESS_KEY and DATAPILOT_S3_SECRET_KEY/],
    ["half", { DATAPILOT_S3_ACCESS_KEY: "a" }, undefined, /go together/],
    ["open", { DATAPILOT_S3_CREDENTIALS_FILE: credentials }, undefined, /chmod 600/],
    ["root", { ...administrator(), ...variables("DATAPILOT_S3_", minio.root) }, undefined, /writer\.json/],
    ["nobuckets", await server("nobuckets"), undefined, /NoSuchBucket.*DATAPILOT_S3_ADMIN_ACCESS_KEY/s],
    ["http", env, "http://127.0.0.1:9000/x", /s3:\/\/minio\.example\.org/],
    ["upper", env, "s3://127.0.0.1:9000/UPPER", /lower-case/],
    ["secret", env, "s3://key:secret@127.0.0.1/x", /environment or a credentials file/],
    ["odd", env, "s3://127.0.0.1/x?tls=off", /parameter tls/],
  ] as const) {
    const { code, stderr } = await init(name, given, address);
    expect(code, name).not.toBe(0);
    expect(stderr, name).toMatch(words);
    // Nothing is left in the way of the next try.
    await expect(readFile(join(home(name), "keys", "log.pem")), name).rejects.toThrow("ENOENT");
  }
  await chmod(credentials, 0o600);
  const other = await server("other");
  expect((await init("other", { ...other, ...administrator() })).code).toBe(0);
  const crossed = await datapilot(
    [
      "server",
      "--dir",
      home("other"),
      "--store",
      minio.address("taken"),
      "--listen",
      "127.0.0.1:0",
      "--grpc-listen",
      "127.0.0.1:0",
    ],
    env,
  );
  expect(crossed.code).not.toBe(0);
  expect(crossed.stderr + crossed.stdout).toMatch(/holds the ledger .*, and .* is the home of .*Correct --store/s);
});

it("has buckets that were made before, and credentials from a file", async () => {
  await using folder = await temporaryFolder();
  await makeBuckets({ address: parseS3Address(minio.address("prepared")), credentials: minio.root }, 1);
  const { accessKey, secretKey, sessionToken } = await minio.as("writer", "prepared");
  const credentials = join(folder.path, "credentials.json");
  const entry = { access_key: accessKey, secret_key: secretKey, session_token: sessionToken };
  await writeFile(credentials, JSON.stringify({ writer: entry }), { mode: 0o600 });
  const env = { DATAPILOT_S3_CREDENTIALS_FILE: credentials };
  await initHome(join(folder.path, "home"), ["--store", minio.address("prepared")], env);
  await using running = await startServer(join(folder.path, "home"), { env });
  expect((await fetch(`${running.url}/readyz`)).status).toBe(200);
});
