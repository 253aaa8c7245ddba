/**
 * The contract of the object store port, run on every adapter. An adapter's own test adds only what no other has.
 */
import { createHash, randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Digest } from "../../src/std/brand.ts";
import { equalBytes, utf8 } from "../../src/std/bytes.ts";
import { Fault } from "../../src/std/faults.ts";
import {
  artifactKey,
  checkpointKey,
  commitKey,
  HEAD_CHECKPOINT,
  LEADER,
  partialTileKey,
  personalKey,
  recordKey,
  tileKey,
} from "../../src/store/keys.ts";
import type { Bucket, ListOptions, ObjectStore } from "../../src/store/object-store.ts";
import { probeStore } from "../../src/store/probes.ts";

export interface StoreSubject {
  /** Empty. */
  readonly store: ObjectStore;
  /** A store of the same kind without room for one more byte; for the trait `full`. */
  readonly full?: ObjectStore;
  /** What whoever may write to the ledger bucket can do to a key; for the trait `versions`. */
  readonly attacker?: {
    /** Lays other bytes over a key. */
    shadow(key: string, body: Uint8Array): Promise<void>;
    /** Lays a delete marker over a key. */
    hide(key: string): Promise<void>;
  };
  dispose?(): Promise<void>;
}

/** What an adapter has beyond what all have; each names tests of its own. */
export interface StoreTraits {
  readonly full?: boolean;
  readonly versions?: boolean;
  /** How long setting up may take, where a server is built and started for it. */
  readonly setUpMs?: number;
}

export const HOSTILE_KEYS: readonly string[] = [
  "",
  "/",
  ".",
  "..",
  "../ledger/commits/0000000000000000/0000",
  "commits/../../../etc/passwd",
  "commits/0000000000000000/../0000000000000000/0000",
  "commits//0000000000000000/0000",
  "/commits/0000000000000000/0000",
  "commits/0000000000000000/0000/",
  "commits/0000000000000000/0000\0",
  "commits/0000000000000000/0000\n",
  "commits\\0000000000000000\\0000",
  "commits/0000000000000000/\u202e0000",
  "commits/000000000000000\uff10/0000",
  "commits/0000000000000000/000",
  "commits/9999999999999999/9999",
  "Commits/0000000000000000/0000",
  `records/sha256/aa/bb/${"0".repeat(64)}`,
  `records/sha256/AA/AA/${"A".repeat(64)}`,
  `records/sha256/00/00/${"0".repeat(63)}`,
  `artifacts/../sha256/00/${"0".repeat(64)}`,
  "tile/0/x000/001",
  "tile/64/000",
  "tile/0/000.p/256",
  "tile/0/000.p/0",
  "tile/0/1",
  `tile/0/${"x001/".repeat(200)}001`,
  `commits/${"0".repeat(100_000)}/0000`,
  "%2e%2e/checkpoint",
  "leader/../checkpoint",
  "con",
];

/** `Array.fromAsync`, which the compiler's library does not know yet. */
export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

const BUCKETS: readonly Bucket[] = ["ledger", "head", "personal"];
const digestOf = (seed: string | Uint8Array): Digest => createHash("sha256").update(seed).digest("hex") as Digest;
const LATER = Date.UTC(2030, 0, 1);
const MUCH_LATER = Date.UTC(2040, 0, 1, 0, 0, 0, 123);

/** Each test takes commit numbers of its own, so that one store serves the whole suite. */
let nextCommit = 0;
const freshCommit = (): string => commitKey(nextCommit++);

export function describeObjectStore(
  name: string,
  factory: () => Promise<StoreSubject>,
  traits: StoreTraits = {},
): void {
  describe(`${name} as an object store`, () => {
    let subject: StoreSubject;
    let store: ObjectStore;
    const keysOf = async (bucket: Bucket, prefix: string, options?: ListOptions): Promise<string[]> =>
      (await collect(store.list(bucket, prefix, options))).map((i) => i.key);

    beforeAll(async () => {
      subject = await factory();
      store = subject.store;
    }, traits.setUpMs);
    afterAll(async () => {
      await subject.dispose?.();
    });

    it("creates, reads back and describes an object of each kind", async () => {
      const cases: readonly (readonly [Bucket, string])[] = [
        ["ledger", freshCommit()],
        ["ledger", recordKey(digestOf("record"))],
        ["ledger", artifactKey(digestOf("project"), digestOf("artifact"))],
        ["ledger", tileKey("tile/0/x001/234")],
        ["ledger", tileKey("tile/entries/000")],
        ["ledger", checkpointKey(7, "0123456789abcdef")],
        ["head", HEAD_CHECKPOINT],
        ["head", partialTileKey("tile/1/000.p/17")],
        ["personal", personalKey(digestOf("name"))],
      ];
      for (const [bucket, key] of cases) {
        expect(await store.get(bucket, key)).toBeNull();
        expect(await store.head(bucket, key)).toBeNull();
        expect(await store.open(bucket, key)).toBeNull();
        const put = await store.create(bucket, key, utf8(key), bucket === "ledger" ? { retainUntil: LATER } : {});
        expect(put.outcome, key).toBe("created");
        const etag = put.outcome === "created" ? put.etag : "";
        expect(await store.get(bucket, key)).toMatchObject({ body: utf8(key), etag });
        const info = await store.head(bucket, key);
        expect(info).toMatchObject({ key, sizeBytes: key.length, etag });
        expect([info?.retainUntil, info?.lockMode], key).toEqual(
          bucket === "ledger"
            ? [LATER, store.lock === "compliance" ? "COMPLIANCE" : "advisory"]
            : [undefined, undefined],
        );
        expect(info?.sha256 ?? digestOf(key)).toBe(digestOf(key));
      }
    });

    it("keeps the first bytes when a key is created again", async () => {
      const key = freshCommit();
      const first = await store.create("ledger", key, utf8("first"), { retainUntil: LATER });
      for (const body of ["first", "second", ""])
        expect(await store.create("ledger", key, utf8(body), { retainUntil: MUCH_LATER })).toEqual({
          outcome: "exists",
        });
      expect(await store.get("ledger", key)).toMatchObject({
        body: utf8("first"),
        etag: first.outcome === "created" ? first.etag : "",
      });
      expect((await store.head("ledger", key))?.retainUntil).toBe(LATER);
    });

    it("has one winner of 32 that create one key", async () => {
      for (let round = 0; round < 10; round++) {
        const key = freshCommit();
        const outcomes = await Promise.all(
          Array.from({ length: 32 }, (_, i) =>
            store.create("ledger", key, utf8(`writer ${i}`), { retainUntil: LATER }),
          ),
        );
        const winners = outcomes.flatMap((o, i) => (o.outcome === "created" ? [i] : []));
        expect(winners).toHaveLength(1);
        expect(outcomes.filter((o) => o.outcome === "exists")).toHaveLength(31);
        expect((await store.get("ledger", key))?.body).toEqual(utf8(`writer ${winners[0]}`));
      }
    });

    it("does not share memory with its callers", async () => {
      const key = freshCommit();
      const body = utf8("as it was");
      await store.create("ledger", key, body, { retainUntil: LATER });
      body.fill(0);
      (await store.get("ledger", key))?.body.fill(1);
      expect((await store.get("ledger", key))?.body).toEqual(utf8("as it was"));
    });

    it("takes bodies of no bytes and of 4 MiB", async () => {
      for (const sizeBytes of [0, 1, 65_536, 65_537, 4 * 1024 * 1024]) {
        const key = freshCommit();
        const body = new Uint8Array(randomBytes(sizeBytes));
        expect((await store.create("ledger", key, body, { retainUntil: LATER })).outcome).toBe("created");
        const found = await store.get("ledger", key);
        expect(found !== null && equalBytes(found.body, body), `${sizeBytes} bytes`).toBe(true);
        const opened = await store.open("ledger", key);
        expect(opened?.sizeBytes).toBe(sizeBytes);
        const hash = createHash("sha256");
        for await (const piece of opened?.stream ?? []) hash.update(piece);
        expect(hash.digest("hex")).toBe(digestOf(body));
      }
    });

    it("reads ranges, cut at the end", async () => {
      const key = freshCommit();
      await store.create("ledger", key, utf8("0123456789"), { retainUntil: LATER });
      const slice = async (from: number, to: number): Promise<string> =>
        Buffer.from((await store.get("ledger", key, { range: { from, to } }))?.body ?? []).toString();
      expect(await Promise.all([slice(0, 10), slice(3, 5), slice(9, 99), slice(10, 12), slice(5, 5)])).toEqual([
        "0123456789",
        "34",
        "9",
        "",
        "",
      ]);
    });

    it("lists in the order of keys, from a key, up to a limit", async () => {
      const paths = ["tile/2/x001/000", "tile/2/000", "tile/2/999", "tile/2/x001/001", "tile/2/001", "tile/3/000"];
      for (const path of paths) await store.create("ledger", tileKey(path), utf8(path), { retainUntil: LATER });
      const sorted = ["tile/2/000", "tile/2/001", "tile/2/999", "tile/2/x001/000", "tile/2/x001/001"];
      expect(await keysOf("ledger", "tile/2/")).toEqual(sorted);
      expect(await keysOf("ledger", "tile/2/x")).toEqual(sorted.slice(3));
      expect(await keysOf("ledger", "tile/2/99")).toEqual(["tile/2/999"]);
      expect(await keysOf("ledger", "tile/2/", { after: "tile/2/001", limit: 2 })).toEqual([
        "tile/2/999",
        "tile/2/x001/000",
      ]);
      expect(await keysOf("ledger", "tile/2/", { after: "tile/2/x001/001" })).toEqual([]);
      expect(await keysOf("ledger", "tile/2/", { limit: 0 })).toEqual([]);
      expect(await keysOf("ledger", "nothing/")).toEqual([]);
      const pages: string[] = [];
      for (
        let page = [""];
        page.length > 0;
        page = await keysOf("ledger", "tile/", { after: pages.at(-1) ?? "", limit: 2 })
      )
        pages.push(...page.filter(Boolean));
      expect(pages).toEqual(await keysOf("ledger", "tile/"));
      const all = await keysOf("ledger", "");
      expect(all).toEqual(all.toSorted());
      expect(all.length).toBeGreaterThan(sorted.length);
    });

    it("orders a partial tile's folder as a flat list does", async () => {
      const paths = ["tile/5/000.p/9", "tile/5/000.p/10", "tile/5/x001/000.p/3", "tile/5/001.p/1"];
      for (const path of paths) await store.replace("head", partialTileKey(path), utf8(path));
      expect(await keysOf("head", "tile/5/")).toEqual(paths.toSorted());
      for (const path of paths) await store.remove("head", path);
      expect(await keysOf("head", "tile/5/")).toEqual([]);
      await store.replace("head", partialTileKey("tile/5/000.p/9"), utf8("again"));
      expect(await keysOf("head", "tile/5/")).toEqual(["tile/5/000.p/9"]);
    });

    it("refuses hostile keys", async () => {
      for (const bucket of BUCKETS)
        for (const key of HOSTILE_KEYS) {
          const name = `${bucket} ${JSON.stringify(key.slice(0, 80))}`;
          await expect(store.create(bucket, key, utf8("x"), {}), name).rejects.toThrow(Fault);
          expect(await store.get(bucket, key), name).toBeNull();
          expect(await store.head(bucket, key), name).toBeNull();
          expect(await store.open(bucket, key), name).toBeNull();
          if (bucket === "ledger") await expect(store.extend(bucket, key, LATER), name).rejects.toThrow(Fault);
          else {
            await expect(store.replace(bucket, key, utf8("x")), name).rejects.toThrow(Fault);
            await expect(store.remove(bucket, key), name).rejects.toThrow(Fault);
          }
        }
      await expect(store.swap("head", "../leader", utf8("x"), null)).rejects.toThrow(Fault);
      await expect(store.create("ledger", LEADER, utf8("x"), {})).rejects.toThrow(Fault);
      await expect(store.create("head", commitKey(1), utf8("x"), {})).rejects.toThrow(Fault);
    });

    it("swaps only what the etag names", async () => {
      const first = await store.swap("head", LEADER, utf8("1"), null);
      expect(first.outcome).toBe("swapped");
      const firstEtag = first.outcome === "swapped" ? first.etag : "";
      expect(await store.swap("head", LEADER, utf8("2"), null)).toEqual({ outcome: "moved" });
      expect(await store.swap("head", LEADER, utf8("2"), "other")).toEqual({ outcome: "moved" });
      expect((await store.head("head", LEADER))?.etag).toBe(firstEtag);
      const second = await store.swap("head", LEADER, utf8("2"), firstEtag);
      expect(second.outcome).toBe("swapped");
      expect(await store.swap("head", LEADER, utf8("3"), firstEtag)).toEqual({ outcome: "moved" });
      expect(await store.get("head", LEADER)).toMatchObject({
        body: utf8("2"),
        etag: second.outcome === "swapped" ? second.etag : "",
      });
      await store.remove("head", LEADER);
      expect(await store.swap("head", LEADER, utf8("3"), firstEtag)).toEqual({ outcome: "moved" });
      expect(await store.get("head", LEADER)).toBeNull();
    });

    it("has one winner of each swap, and loses no increment", async () => {
      const increments = 20;
      const writers = 8;
      await Promise.all(
        Array.from({ length: writers }, async () => {
          for (let done = 0; done < increments; ) {
            const present = await store.get("head", LEADER);
            const value = present === null ? 0 : Number(Buffer.from(present.body).toString());
            const swapped = await store.swap("head", LEADER, utf8(String(value + 1)), present?.etag ?? null);
            if (swapped.outcome === "swapped") done++;
          }
        }),
      );
      expect((await store.get("head", LEADER))?.body).toEqual(utf8(String(increments * writers)));
    });

    it("replaces and removes, and forgives removing what is absent", async () => {
      const key = personalKey(digestOf("erased"));
      await store.replace("personal", key, utf8("one"));
      await store.replace("personal", key, utf8("two"));
      expect((await store.get("personal", key))?.body).toEqual(utf8("two"));
      await store.remove("personal", key);
      await store.remove("personal", key);
      expect(await store.get("personal", key)).toBeNull();
      expect((await store.create("personal", key, utf8("three"), {})).outcome).toBe("created");
    });

    it("records a lock and never shortens it", async () => {
      const key = freshCommit();
      await store.create("ledger", key, utf8("locked"), { retainUntil: LATER });
      const etag = (await store.head("ledger", key))?.etag;
      await store.extend("ledger", key, MUCH_LATER);
      expect((await store.head("ledger", key))?.retainUntil).toBe(MUCH_LATER);
      await store.extend("ledger", key, LATER);
      expect(await store.head("ledger", key)).toMatchObject({ retainUntil: MUCH_LATER, etag });
      await Promise.all([1, 5, 3, 4, 2].map((days) => store.extend("ledger", key, MUCH_LATER + days * 86_400_000)));
      expect((await store.head("ledger", key))?.retainUntil).toBe(MUCH_LATER + 5 * 86_400_000);
      await store.get("ledger", key);
      expect((await store.head("ledger", key))?.retainUntil).toBe(MUCH_LATER + 5 * 86_400_000);
      const [listed] = await collect(store.list("ledger", key, { locks: true }));
      expect(listed).toEqual(await store.head("ledger", key));
      await expect(store.extend("ledger", freshCommit(), LATER)).rejects.toMatchObject({ reason: "NOT_FOUND" });
    });

    it("writes nothing for a signal that was aborted before", async () => {
      const key = freshCommit();
      const signal = AbortSignal.abort(new Error("gone"));
      await expect(store.create("ledger", key, utf8("x"), { retainUntil: LATER, signal })).rejects.toMatchObject({
        reason: "STORE_UNAVAILABLE",
      });
      await expect(store.get("ledger", key, { signal })).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
      await expect(store.swap("head", HEAD_CHECKPOINT, utf8("x"), null, { signal })).rejects.toMatchObject({
        reason: "STORE_UNAVAILABLE",
      });
      expect(await store.get("ledger", key)).toBeNull();
    });

    it("takes 64 creates in flight", async () => {
      const keys = Array.from({ length: 512 }, (_, i) => recordKey(digestOf(`record ${i}`)));
      const waiting = keys.values();
      await Promise.all(
        Array.from({ length: 64 }, async () => {
          for (const key of waiting)
            expect((await store.create("ledger", key, utf8(key), { retainUntil: LATER })).outcome).toBe("created");
        }),
      );
      for (const key of keys) expect((await store.get("ledger", key))?.body).toEqual(utf8(key));
    });

    it("passes the start-up probes, with and without genesis", async () => {
      const options = {
        random: { bytes: (n: number) => new Uint8Array(randomBytes(n)) },
        doubleCreates: 16,
        createRaces: 16,
        swapRaces: 8,
      };
      await store.create("ledger", commitKey(0), utf8("genesis"), { retainUntil: LATER });
      const results = await probeStore(store, options);
      expect(results.filter((r) => !r.ok)).toEqual([]);
      expect(results.map((r) => r.name)).toEqual(["double-create", "create-race", "swap-race", "genesis"]);
      expect(await keysOf("head", "probe/")).toEqual([]);
    });

    it("gives every version, by key, from a key, up to a limit", async () => {
      const paths = ["tile/6/000", "tile/6/001", "tile/6/x001/000"];
      for (const path of paths.toReversed())
        await store.create("ledger", tileKey(path), utf8(path), { retainUntil: LATER });
      const all = await collect(store.versions("ledger", "tile/6/"));
      expect(all.map((v) => v.key)).toEqual(paths);
      for (const version of all) {
        const { etag, key, versionId } = version;
        const read = await store.get("ledger", key, { versionId });
        expect(read).toMatchObject({ body: utf8(key), etag });
        expect(version).toMatchObject({ isLatest: true, isMarker: false, sizeBytes: key.length });
        expect(version.modifiedMs).toBeGreaterThan(0);
        expect((await store.head("ledger", key, { versionId }))?.etag).toBe(etag);
        expect((await store.open("ledger", key, { versionId }))?.sizeBytes).toBe(key.length);
      }
      const keys = async (options: ListOptions): Promise<string[]> =>
        (await collect(store.versions("ledger", "tile/6/", options))).map((v) => v.key);
      expect(await keys({ after: "tile/6/000" })).toEqual(paths.slice(1));
      expect(await keys({ limit: 2 })).toEqual(paths.slice(0, 2));
      expect(await keys({ limit: 0 })).toEqual([]);
      await store.replace("head", HEAD_CHECKPOINT, utf8("one"));
      await store.replace("head", HEAD_CHECKPOINT, utf8("two"));
      expect(await collect(store.versions("head", HEAD_CHECKPOINT))).toMatchObject([{ isLatest: true, sizeBytes: 3 }]);
    });

    it("has no version of another id", async () => {
      const key = freshCommit();
      await store.create("ledger", key, utf8("one"), { retainUntil: LATER });
      const versionId = "2f0c59a4-93f5-4e51-9e05-4a1a5c3c8d3e";
      expect(await store.get("ledger", key, { versionId })).toBeNull();
      expect(await store.head("ledger", key, { versionId })).toBeNull();
      expect(await store.open("ledger", key, { versionId })).toBeNull();
      await expect(store.extend("ledger", key, MUCH_LATER, { versionId })).rejects.toMatchObject({
        reason: "NOT_FOUND",
      });
    });

    if (traits.versions === true)
      it("keeps what a shadow and a delete marker lie over, and lets it be read and locked by its version", async () => {
        const { attacker } = subject;
        if (attacker === undefined) throw new Error("assertion failed: the trait `versions` comes with an attacker");
        const key = freshCommit();
        await store.create("ledger", key, utf8("first"), { retainUntil: LATER });
        const versionId = (await store.head("ledger", key))?.versionId ?? "";
        await attacker.shadow(key, utf8("shadow"));
        expect((await store.get("ledger", key))?.body).toEqual(utf8("shadow"));
        expect(await store.create("ledger", key, utf8("first"), { retainUntil: LATER })).toEqual({ outcome: "exists" });
        await attacker.hide(key);
        expect([await store.get("ledger", key), await store.head("ledger", key)]).toEqual([null, null]);
        expect(await store.open("ledger", key)).toBeNull();
        expect(await keysOf("ledger", key)).toEqual([]);
        const versions = await collect(store.versions("ledger", key));
        expect(versions).toMatchObject([
          { key, isMarker: true, isLatest: true, sizeBytes: 0, etag: "" },
          { key, isMarker: false, isLatest: false, sizeBytes: 6 },
          { key, isMarker: false, isLatest: false, sizeBytes: 5, versionId },
        ]);
        expect(await collect(store.versions("ledger", key, { limit: 2 }))).toEqual(versions.slice(0, 2));
        const times = versions.map((v) => v.modifiedMs);
        expect(times).toEqual(times.toSorted((a, b) => b - a));
        expect((await store.get("ledger", key, { versionId }))?.body).toEqual(utf8("first"));
        await store.extend("ledger", key, MUCH_LATER, { versionId });
        expect(await store.head("ledger", key, { versionId })).toMatchObject({ retainUntil: MUCH_LATER, versionId });
        await expect(store.extend("ledger", key, MUCH_LATER)).rejects.toMatchObject({ reason: "NOT_FOUND" });
      });

    if (traits.full === true)
      it("refuses writes on a full disk before anything is written", async () => {
        const { full } = subject;
        if (full === undefined) throw new Error("assertion failed: the trait `full` comes with a full store");
        const refused = {
          reason: "STORE_UNAVAILABLE",
          message: expect.stringMatching(/full.*(free|enlarge)/) as string,
        };
        await expect(full.create("ledger", commitKey(1), utf8("x"), { retainUntil: LATER })).rejects.toMatchObject(
          refused,
        );
        await expect(full.swap("head", LEADER, utf8("x"), null)).rejects.toMatchObject(refused);
        await expect(full.replace("head", HEAD_CHECKPOINT, utf8("x"))).rejects.toMatchObject(refused);
        for (const bucket of BUCKETS) expect(await collect(full.list(bucket, ""))).toEqual([]);
      });
  });
}
