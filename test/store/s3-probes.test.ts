/** A probe that cannot fail proves nothing: each of S3's meets, on a real MinIO, what it is there to find. */
import { Client } from "minio";
import { afterAll, beforeAll, expect, it } from "vitest";
import { utf8 } from "../../src/std/bytes.ts";
import type { Clock } from "../../src/std/ports.ts";
import { commitKey } from "../../src/store/keys.ts";
import { type ProbeResult, probeStore } from "../../src/store/probes.ts";
import { parseS3Address } from "../../src/store/s3/address.ts";
import { probeBuckets } from "../../src/store/s3/bucket-probes.ts";
import { makeBuckets } from "../../src/store/s3/buckets.ts";
import { createS3Store } from "../../src/store/s3/s3-store.ts";
import type { S3Credentials } from "../../src/store/s3/transport.ts";
import { type Minio, startMinio } from "../minio/minio.ts";
import { machineClock, machineRandom } from "./machine.ts";

const HOUR_MS = 3_600_000;
const DAYS = 3;
let minio: Minio;
let admin: Client;

beforeAll(async () => {
  minio = await startMinio();
  const { accessKey, secretKey } = minio.root;
  admin = new Client({
    accessKey,
    secretKey,
    endPoint: "127.0.0.1",
    port: minio.port,
    region: "us-east-1",
    useSSL: false,
  });
}, 20 * 60_000);
afterAll(async () => {
  await minio[Symbol.asyncDispose]();
});

interface Given {
  readonly credentials?: S3Credentials;
  readonly clock?: Clock;
}

async function probe(name: string, { clock = machineClock, credentials }: Given = {}): Promise<ProbeResult[]> {
  const address = parseS3Address(minio.address(name));
  const access = { address, credentials: credentials ?? (await minio.as("writer", name)) };
  await using store = createS3Store({ ...access, clock });
  return await probeBuckets({ access, clock, store });
}

const failed = async (name: string, given?: Given): Promise<ProbeResult[]> =>
  (await probe(name, given)).filter((r) => !r.ok);
const make = async (name: string): Promise<void> => {
  await makeBuckets({ address: parseS3Address(minio.address(name)), credentials: minio.root }, DAYS);
};
/** The client's types know its older form, which took a callback. */
const setDefault = async (bucket: string, lock: ReturnType<typeof retention> | undefined): Promise<void> => {
  await (admin.setObjectLockConfig(bucket, lock ?? ({} as never)) as unknown as Promise<void>);
};
const retention = (mode: "COMPLIANCE" | "GOVERNANCE") =>
  ({ mode, unit: "Days", validity: DAYS }) as unknown as Parameters<Client["setObjectLockConfig"]>[1];
const rule = {
  Rule: [{ Expiration: { Days: 1 }, Filter: { Prefix: "" }, ID: "expire", Status: "Enabled" }],
} as unknown as Parameters<Client["setBucketLifecycle"]>[1];

it("passes what init makes, with and without commits, and names every probe", async () => {
  await make("right");
  const names = ["clock", "reach", "ledger", "head", "personal", "delete-version", "newest-commit"];
  expect((await probe("right")).map((r) => [r.name, r.ok])).toEqual(names.map((n) => [n, true]));
  await using store = createS3Store({
    address: parseS3Address(minio.address("right")),
    clock: machineClock,
    credentials: await minio.as("writer", "right"),
  });
  for (let n = 0; n < 6; n++)
    await store.create("ledger", commitKey(n), utf8(String(n)), { retainUntil: Date.now() + HOUR_MS });
  const results = await probe("right");
  expect(results.filter((r) => !r.ok)).toEqual([]);
  expect(results.at(-1)?.detail).toContain("commit 5 is held in COMPLIANCE until");
  expect(
    (await probeStore(store, { createRaces: 4, doubleCreates: 4, random: machineRandom, swapRaces: 4 })).every(
      (r) => r.ok,
    ),
  ).toBe(true);
});

it("finds wrong credentials, an ended session, and credentials of another duty", async () => {
  await make("right");
  for (const [credentials, detail] of [
    [{ accessKey: "nobody", secretKey: "not-a-secret" }, /InvalidAccessKeyId/],
    [{ ...minio.root, secretKey: "not-a-secret" }, /SignatureDoesNotMatch/],
    [{ ...(await minio.as("writer", "right")), sessionToken: "ended" }, /session.*expired/],
    [await minio.as("presigner", "right"), /AccessDenied.*deploy\/iam/],
    [await minio.as("writer", "other"), /AccessDenied.*deploy\/iam/],
  ] as const) {
    const found = await failed("right", { credentials });
    expect(found.map((r) => r.name)).toEqual(["reach"]);
    expect(found[0]?.detail).toMatch(detail);
  }
});

it("finds buckets that are missing, and who may delete", async () => {
  const missing = await failed("missing", { credentials: minio.root });
  expect(missing).toMatchObject([{ name: "reach" }]);
  expect(missing[0]?.remedy).toMatch(/datapilot init --store.*DATAPILOT_S3_ADMIN_ACCESS_KEY/);
  await admin.makeBucket("half-ledger", "us-east-1", { ObjectLocking: true });
  await setDefault("half-ledger", retention("COMPLIANCE"));
  expect((await failed("half")).map((r) => r.name)).toEqual(["head", "personal"]);
  await make("right");
  const found = await failed("right", { credentials: minio.root });
  expect(found.map((r) => r.name)).toEqual(["delete-version"]);
  expect(found[0]?.remedy).toContain("deploy/iam/writer.json");
});

it("finds a ledger bucket without lock, also one with its versions suspended", async () => {
  await admin.makeBucket("plain-ledger", "us-east-1");
  await make("plain");
  for (const versioning of [undefined, "Enabled", "Suspended"] as const) {
    if (versioning !== undefined) await admin.setBucketVersioning("plain-ledger", { Status: versioning });
    const found = await failed("plain");
    expect(found.map((r) => r.name)).toEqual(["ledger"]);
    expect(found[0]?.detail).toContain("has no object lock");
    expect(found[0]?.remedy).toContain("only when it is made");
  }
});

it("finds another default than COMPLIANCE, and lifecycle rules", async () => {
  await make("soft");
  for (const [lock, detail] of [
    [retention("GOVERNANCE"), "is GOVERNANCE"],
    [undefined, "is not set"],
  ] as const) {
    await setDefault("soft-ledger", lock);
    const found = await failed("soft");
    expect(found.map((r) => r.name)).toEqual(["ledger"]);
    expect(found[0]?.detail).toContain(detail);
    expect(found[0]?.remedy).toContain("COMPLIANCE");
  }
  await make("expiring");
  await admin.setBucketLifecycle("expiring-ledger", rule);
  await admin.setBucketLifecycle("expiring-head", rule);
  const found = await failed("expiring");
  expect(found.map((r) => r.name)).toEqual(["ledger", "head"]);
  expect(found[0]?.remedy).toContain("mc ilm rule remove");
});

it("finds a personal bucket from which nothing can be erased", async () => {
  await make("kept");
  await admin.setBucketVersioning("kept-personal", { Status: "Enabled" });
  const found = await failed("kept");
  expect(found.map((r) => r.name)).toEqual(["personal"]);
  expect(found[0]?.detail).toContain("nothing in it can be erased");
});

it("finds a newest commit without its lock", async () => {
  await make("unlocked");
  await setDefault("unlocked-ledger", undefined);
  await admin.putObject("unlocked-ledger", commitKey(0), Buffer.from("x"), 1);
  await setDefault("unlocked-ledger", retention("COMPLIANCE"));
  const found = await failed("unlocked");
  expect(found.map((r) => r.name)).toEqual(["newest-commit"]);
  expect(found[0]?.detail).toContain("is not locked");
});

it("finds a clock that is an hour off, whichever way, and one that is ten seconds off", async () => {
  await make("right");
  for (const [offMs, words] of [
    [HOUR_MS, "ahead of"],
    [-HOUR_MS, "behind"],
    [-10_000, "behind"],
  ] as const) {
    const clock = { ...machineClock, now: () => machineClock.now() + offMs };
    const found = await failed("right", { clock });
    expect(found.map((r) => r.name)).toEqual(["clock"]);
    expect(found[0]?.detail).toContain(words);
    expect(found[0]?.remedy).toContain("NTP");
  }
});

it("finds nobody at an address", async () => {
  const address = parseS3Address("s3+http://127.0.0.1:9/nobody");
  const access = { address, credentials: minio.root };
  await using store = createS3Store({ ...access, clock: machineClock });
  expect(await probeBuckets({ access, clock: machineClock, store })).toMatchObject([
    { detail: expect.stringContaining("ECONNREFUSED") as string, name: "reach", ok: false },
  ]);
});

it("finds a MinIO of two server pools, whose conditions hold only within one", async () => {
  await using pools = await startMinio({ pools: 2 });
  const address = parseS3Address(pools.address("pools"));
  await makeBuckets({ address, credentials: pools.root }, DAYS);
  await using store = createS3Store({ address, clock: machineClock, credentials: await pools.as("writer", "pools") });
  const found = (await probeStore(store, { random: machineRandom })).filter((r) => !r.ok);
  expect(found.map((r) => r.name)).toContain("double-create");
  expect(found[0]?.remedy).toContain("one server pool");
});
