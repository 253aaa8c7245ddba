/** The S3 adapter on a bad network and before a store in trouble: what it says of a write is what it can know. */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { utf8 } from "../../src/std/bytes.ts";
import { commitKey, LEADER, personalKey } from "../../src/store/keys.ts";
import { parseS3Address } from "../../src/store/s3/address.ts";
import { makeBuckets } from "../../src/store/s3/buckets.ts";
import { createS3Store, type S3Store } from "../../src/store/s3/s3-store.ts";
import { collect } from "../contract/object-store.ts";
import { type Minio, startMinio } from "../minio/minio.ts";
import { type Proxy, startProxy } from "../minio/proxy.ts";
import { machineClock } from "./machine.ts";

const LATER = Date.UTC(2035, 0, 1);
const locked = { retainUntil: LATER };
const unavailable = { reason: "STORE_UNAVAILABLE" };
let next = 0;
const freshKey = (): string => commitKey(next++);

describe("behind a proxy that cuts", () => {
  let minio: Minio;
  let proxy: Proxy;
  let direct: S3Store;
  let store: S3Store;
  const big = new Uint8Array(randomBytes(2_000_000));

  beforeAll(async () => {
    minio = await startMinio();
    proxy = await startProxy(minio.port);
    const address = parseS3Address(minio.address("cut"));
    await makeBuckets({ address, credentials: minio.root }, 1);
    const credentials = await minio.as("writer", "cut");
    direct = createS3Store({ address, clock: machineClock, credentials });
    store = createS3Store({
      address: parseS3Address(`s3+http://127.0.0.1:${proxy.port}/cut`),
      attemptMs: 1_500,
      clock: machineClock,
      credentials,
    });
  }, 20 * 60_000);
  afterEach(() => proxy.breakAt("none"));
  afterAll(async () => {
    for (const owned of [store, direct, proxy, minio]) await owned[Symbol.asyncDispose]();
  });

  it("does not know of a write whose answer was lost, and finds it when it asks again", async () => {
    const key = freshKey();
    proxy.breakAt("after-request");
    expect((await store.create("ledger", key, utf8("x"), locked)).outcome).toBe("unknown");
    expect((await store.swap("head", LEADER, utf8("1"), null)).outcome).toBe("unknown");
    proxy.breakAt("none");
    expect((await direct.get("ledger", key))?.body).toEqual(utf8("x"));
    expect(await store.create("ledger", key, utf8("x"), locked)).toEqual({ outcome: "exists" });
    expect(await store.swap("head", LEADER, utf8("1"), null)).toEqual({ outcome: "moved" });
  });

  it("does not know of a write that was cut in its body; nothing of it is there, and it can be sent again", async () => {
    const key = freshKey();
    proxy.breakAt("in-request");
    expect((await store.create("ledger", key, big, locked)).outcome).toBe("unknown");
    proxy.breakAt("none");
    expect(await direct.get("ledger", key)).toBeNull();
    expect((await store.create("ledger", key, big, locked)).outcome).toBe("created");
    expect((await direct.get("ledger", key))?.body).toEqual(big);
  });

  it("reads again what was cut, and says so when it stays cut; a stream breaks with a fault", async () => {
    const key = freshKey();
    await direct.create("ledger", key, big, locked);
    proxy.breakAt("in-answer", 2);
    expect((await store.get("ledger", key))?.body).toEqual(big);
    proxy.breakAt("in-answer");
    await expect(store.get("ledger", key)).rejects.toMatchObject(unavailable);
    const opened = await store.open("ledger", key);
    expect(opened?.sizeBytes).toBe(big.length);
    await expect(collect(opened?.stream ?? (async function* () {})())).rejects.toMatchObject(unavailable);
  });

  it("knows since when the store does nothing, and what it says, until it is answered again", async () => {
    expect(store.trouble).toBeUndefined();
    proxy.breakAt("after-request");
    const beganMs = machineClock.monotonic();
    await expect(store.get("ledger", freshKey())).rejects.toMatchObject(unavailable);
    const { sinceMs = 0, what } = store.trouble ?? {};
    expect(sinceMs).toBeGreaterThanOrEqual(beganMs);
    expect(what).toMatch(/GET .* failed: .*check that the store runs/);
    await expect(store.get("ledger", freshKey())).rejects.toMatchObject(unavailable);
    expect(store.trouble?.sinceMs).toBe(sinceMs);
    proxy.breakAt("none");
    expect(await store.get("ledger", freshKey())).toBeNull();
    expect(store.trouble).toBeUndefined();
    await expect(store.remove("ledger" as never, freshKey())).rejects.toMatchObject(unavailable);
    expect(store.trouble?.what).toContain("AccessDenied");
    await store.get("ledger", freshKey());
  });

  it("waits no longer than its deadline, and no longer than its caller", async () => {
    proxy.breakAt("hang");
    // Until the client has noticed that its kept connections are gone.
    await new Promise((resolve) => setTimeout(resolve, 200));
    const late = await store.create("ledger", freshKey(), utf8("x"), locked);
    expect(late).toMatchObject({
      cause: { message: expect.stringContaining("no answer within 1500 ms") as string },
      outcome: "unknown",
    });
    const caller = new AbortController();
    const create = store.create("ledger", freshKey(), utf8("x"), { ...locked, signal: caller.signal });
    const get = store.get("ledger", freshKey(), { signal: caller.signal });
    setTimeout(() => caller.abort(new Error("the caller left")), 50);
    expect((await create).outcome).toBe("unknown");
    await expect(get).rejects.toMatchObject({
      ...unavailable,
      message: expect.stringContaining("cancelled") as string,
    });
  });

  it("repeats what may be repeated", async () => {
    const key = personalKey("a".repeat(64) as never);
    proxy.breakAt("after-request", 1);
    await store.replace("personal", key, utf8("x"));
    expect((await direct.get("personal", key))?.body).toEqual(utf8("x"));
    proxy.breakAt("after-request", 1);
    await store.remove("personal", key);
    expect(await direct.get("personal", key)).toBeNull();
    const held = freshKey();
    await direct.create("ledger", held, utf8("x"), locked);
    proxy.breakAt("after-request", 1);
    await store.extend("ledger", held, LATER + 86_400_000);
    expect((await direct.head("ledger", held))?.retainUntil).toBe(LATER + 86_400_000);
  });
});

describe("before a store in trouble", () => {
  let answer: (response: ServerResponse) => void = () => undefined;
  let requests = 0;
  const connections = new Set<unknown>();
  const server = createServer((request, response) => {
    requests++;
    request.resume().on("end", () => answer(response));
  });
  server.on("connection", (socket) => {
    connections.add(socket);
    socket.on("close", () => connections.delete(socket));
  });
  let store: S3Store;

  beforeAll(async () => {
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    store = createS3Store({
      address: parseS3Address(`s3+http://127.0.0.1:${(server.address() as AddressInfo).port}/trouble`),
      clock: machineClock,
      credentials: { accessKey: "key", secretKey: "secret" },
    });
  });
  afterAll(async () => {
    await store[Symbol.asyncDispose]();
    server.close();
  });

  it("takes 408, 409, 429 and 5xx for unknown, sends a write once and a read three times", async () => {
    for (const status of [408, 409, 429, 500, 502, 503, 504, 507]) {
      answer = (response) => response.writeHead(status).end("<Error><Code>SlowDown</Code></Error>");
      requests = 0;
      expect((await store.create("ledger", freshKey(), utf8("x"), locked)).outcome, String(status)).toBe("unknown");
      expect((await store.swap("head", LEADER, utf8("x"), "e")).outcome, String(status)).toBe("unknown");
      expect(requests).toBe(2);
    }
    answer = (response) => response.writeHead(503).end();
    requests = 0;
    await expect(store.get("ledger", freshKey())).rejects.toMatchObject(unavailable);
    expect(requests).toBe(3);
  });

  it("holds no connection of a store that answers 503 with a long body, a thousand times", async () => {
    const page = "x".repeat(50_000);
    answer = (response) => response.writeHead(503).end(page);
    const waiting = Array.from({ length: 1_000 }, freshKey).values();
    await Promise.all(
      Array.from({ length: 64 }, async () => {
        for (const key of waiting)
          expect((await store.create("ledger", key, utf8("x"), locked)).outcome).toBe("unknown");
      }),
    );
    expect(connections.size).toBeLessThanOrEqual(128);
    answer = (response) => response.writeHead(200, { etag: '"e"' }).end();
    expect(await store.create("ledger", freshKey(), utf8("x"), locked)).toEqual({ etag: "e", outcome: "created" });
  });

  it("refuses listings that are cut, malformed, or no listing", async () => {
    const entry = "<Contents><Key>a%2Fb</Key><ETag>&#34;e&#34;</ETag><Size>3</Size></Contents>";
    const whole = `<ListBucketResult><IsTruncated>false</IsTruncated>${entry}</ListBucketResult>`;
    const listing = async (xml: string) => {
      answer = (response) => response.writeHead(200).end(xml);
      return collect(store.list("ledger", ""));
    };
    expect(await listing(whole)).toEqual([{ etag: "e", key: "a/b", sizeBytes: 3 }]);
    for (const bad of [
      "",
      "<html>login</html>",
      whole.slice(0, -20),
      whole.replace("<IsTruncated>false</IsTruncated>", ""),
      whole.replace("false", "true"),
      whole.replace("<Size>3</Size>", ""),
      whole.replace("3</Size>", "-3</Size>"),
      whole.replace("a%2Fb", "a%2"),
    ])
      await expect(listing(bad), bad).rejects.toMatchObject(unavailable);
  });
});
