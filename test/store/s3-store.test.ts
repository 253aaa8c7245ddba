/** The S3 adapter on a real MinIO: the contract of the port, with the credentials that a server would have. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createCommitSlots } from "../../src/log/slots.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { commitKey, probeKey } from "../../src/store/keys.ts";
import { parseS3Address } from "../../src/store/s3/address.ts";
import { makeBuckets } from "../../src/store/s3/buckets.ts";
import { createS3Store, type S3Store } from "../../src/store/s3/s3-store.ts";
import type { S3Credentials } from "../../src/store/s3/transport.ts";
import { createIdentity } from "../api/certificate.ts";
import { collect, describeObjectStore } from "../contract/object-store.ts";
import { type Minio, startMinio } from "../minio/minio.ts";
import { machineClock } from "./machine.ts";

const MINIO_MS = 20 * 60_000;
const LATER = Date.UTC(2035, 0, 1);

describeObjectStore(
  "the S3 store",
  async () => {
    const minio = await startMinio();
    const address = parseS3Address(minio.address("contract"));
    await makeBuckets({ address, credentials: minio.root }, 3_650);
    const store = createS3Store({ address, clock: machineClock, credentials: await minio.as("writer", "contract") });
    // Whoever may write to the bucket; only deleting takes an administrator.
    const attacker = createS3Store({ address, clock: machineClock, credentials: minio.root });
    const path = (key: string): string => `contract-ledger/${key}`;
    return {
      attacker: {
        async hide(key) {
          expect((await attacker.transport.send({ method: "DELETE", path: path(key) })).status).toBe(204);
        },
        async shadow(key, body) {
          expect((await attacker.transport.send({ body, method: "PUT", path: path(key) })).status).toBe(200);
        },
      },
      async dispose() {
        for (const owned of [store, attacker, minio]) await owned[Symbol.asyncDispose]();
      },
      store,
    };
  },
  { setUpMs: MINIO_MS, versions: true },
);

describe("the S3 store on MinIO", () => {
  let minio: Minio;
  let writer: S3Credentials;
  let store: S3Store;
  const open = (credentials = writer, parameters = ""): S3Store =>
    createS3Store({
      address: parseS3Address(minio.address("alone", parameters)),
      clock: machineClock,
      credentials,
    });

  beforeAll(async () => {
    minio = await startMinio();
    await makeBuckets({ address: parseS3Address(minio.address("alone")), credentials: minio.root }, 1);
    writer = await minio.as("writer", "alone");
    store = open();
  }, MINIO_MS);
  afterAll(async () => {
    await store[Symbol.asyncDispose]();
    await minio[Symbol.asyncDispose]();
  });

  it("takes a second create over a delete marker, and the slots do not", async () => {
    const slots = createCommitSlots(store, () => LATER);
    const n = 7_000;
    expect(await slots.create(n, utf8("the first"))).toBe("created");
    expect(await slots.create(n, utf8("the second"))).toBe("exists");
    const attacker = open(minio.root);
    expect((await attacker.transport.send({ method: "DELETE", path: `alone-ledger/${commitKey(n)}` })).status).toBe(
      204,
    );
    expect(await slots.read(n)).toBeNull();
    const { outcome } = await store.create("ledger", commitKey(n), utf8("the second"), { retainUntil: LATER });
    expect(outcome).toBe("created");
    expect((await attacker.transport.send({ method: "DELETE", path: `alone-ledger/${commitKey(n)}` })).status).toBe(
      204,
    );
    expect(await slots.create(n, utf8("the third"))).toBe("exists");
    expect(await slots.history(n)).toEqual({
      contents: ["the first", "the second", "the third"].map(utf8),
      hasMarker: true,
    });
    await attacker[Symbol.asyncDispose]();
  });

  it("locks in COMPLIANCE until the date that it was told, not the bucket's", async () => {
    await store.create("ledger", commitKey(0), utf8("x"), { retainUntil: LATER });
    expect(await store.head("ledger", commitKey(0))).toMatchObject({ lockMode: "COMPLIANCE", retainUntil: LATER });
    await expect(store.create("ledger", commitKey(1), utf8("x"), {})).rejects.toThrow("assertion failed");
  });

  it("lists beyond a page, and gives keys that are no keys as they are", async () => {
    const run = "0".repeat(32);
    const keys = Array.from({ length: 1_100 }, (_, n) => probeKey(run, n));
    const waiting = keys.values();
    await Promise.all(
      Array.from({ length: 32 }, async () => {
        for (const key of waiting) await store.replace("head", key, utf8("x"));
      }),
    );
    const listed = async (options = {}) => (await collect(store.list("head", "probe/", options))).map((i) => i.key);
    const versions = async (options = {}) =>
      (await collect(store.versions("head", "probe/", options))).map((v) => v.key);
    for (const list of [listed, versions]) {
      expect(await list()).toEqual(keys);
      expect(await list({ after: keys[1_049] })).toEqual(keys.slice(1_050));
      expect(await list({ limit: 1_001 })).toEqual(keys.slice(0, 1_001));
    }
    const odd = ["commits/a b", "commits/<Key>&amp;</Key>", "commits/ü+%2B", "commits/'\"()*!~"];
    await using root = open(minio.root);
    for (const key of odd)
      expect((await root.transport.send({ body: utf8("x"), method: "PUT", path: `alone-ledger/${key}` })).status).toBe(
        200,
      );
    const found = (await collect(store.list("ledger", "commits/", { locks: true }))).filter((i) => odd.includes(i.key));
    expect(found.map((i) => i.key)).toEqual(odd.toSorted());
    expect(found.every((i) => i.lockMode === "COMPLIANCE")).toBe(true);
    const odder = (await collect(store.versions("ledger", "commits/"))).map((v) => v.key);
    expect(odder.filter((key) => odd.includes(key))).toEqual(odd.toSorted());
  });

  it("says why it is refused: unknown key, wrong secret, ended session, missing bucket, no connection", async () => {
    const ended = { ...(await minio.as("writer", "alone")), sessionToken: "x" };
    const cases: readonly (readonly [S3Store, RegExp])[] = [
      [open({ accessKey: "nobody", secretKey: "secret-secret" }), /InvalidAccessKeyId.*DATAPILOT_S3_ACCESS_KEY/],
      [open({ ...minio.root, secretKey: "wrong-secret" }), /SignatureDoesNotMatch.*secret key/],
      [open(ended), /session.*expired/],
      [open(await minio.as("reader", "alone")), /deploy\/iam/],
    ];
    for (const [refused, message] of cases) {
      await using used = refused;
      await expect(used.create("ledger", commitKey(5), utf8("x"), { retainUntil: LATER })).rejects.toMatchObject({
        message: expect.stringMatching(message) as string,
        reason: "STORE_UNAVAILABLE",
      });
    }
    expect(await store.get("ledger", commitKey(5))).toBeNull();
    const address = parseS3Address(minio.address("absent"));
    await using absent = createS3Store({ address, clock: machineClock, credentials: minio.root });
    for (const work of [
      () => absent.get("ledger", commitKey(0)),
      () => absent.create("ledger", commitKey(0), utf8("x"), { retainUntil: LATER }),
      () => absent.swap("head", "leader", utf8("x"), "etag"),
      () => absent.list("ledger", "")[Symbol.asyncIterator]().next(),
    ])
      await expect(work()).rejects.toThrow(/(?:NoSuchBucket|InvalidRequest).*does not exist.*datapilot init/);
  });

  it("refuses a clock that is an hour off, in the store's words", async () => {
    const late = { ...machineClock, now: () => machineClock.now() - 3_600_000 };
    await using off = createS3Store({
      address: parseS3Address(minio.address("alone")),
      clock: late,
      credentials: writer,
    });
    await expect(off.get("ledger", commitKey(0))).rejects.toThrow(/RequestTimeTooSkewed.*NTP/);
  });

  it("is the same over TLS with a private authority, and says what is wrong without it", async () => {
    const identity = createIdentity("127.0.0.1");
    await using secure = await startMinio({ tls: identity });
    const address = parseS3Address(secure.address("tls"));
    const ca = identity.cert.toString();
    await makeBuckets({ address, ca, credentials: secure.root }, 1);
    const credentials = secure.root;
    await using trusting = createS3Store({ address, ca, clock: machineClock, credentials });
    expect((await trusting.create("ledger", commitKey(0), utf8("x"), { retainUntil: LATER })).outcome).toBe("created");
    expect((await trusting.get("ledger", commitKey(0)))?.body).toEqual(utf8("x"));
    await using doubting = createS3Store({ address, clock: machineClock, credentials });
    await expect(doubting.get("ledger", commitKey(0))).rejects.toThrow(/SELF_SIGNED.*\?ca=FILE/);
    // Nothing was sent, so nothing is unknown.
    await expect(doubting.create("ledger", commitKey(1), utf8("x"), { retainUntil: LATER })).rejects.toThrow("ca=FILE");
  });

  it("comes back after a store that was killed", async () => {
    await store.create("ledger", commitKey(10), utf8("before"), { retainUntil: LATER });
    await minio.kill();
    await expect(store.create("ledger", commitKey(11), utf8("x"), { retainUntil: LATER })).rejects.toMatchObject({
      reason: "STORE_UNAVAILABLE",
    });
    await expect(store.get("ledger", commitKey(10))).rejects.toThrow(/ECONNREFUSED.*runs/);
    await minio.restart();
    expect((await store.get("ledger", commitKey(10)))?.body).toEqual(utf8("before"));
    expect(await store.get("ledger", commitKey(11))).toBeNull();
  });
});
