/**
 * An object store in memory under the contract of `store/object-store.ts`.
 *
 * It enforces more than a store does: a record, a tile or an archived checkpoint has one content, so creating one again with
 * other bytes is a bug of the caller, and fails the test. (Commits may differ: two writers race for a slot.)
 */
import { equalBytes } from "../../src/std/bytes.ts";
import { Fault } from "../../src/std/faults.ts";
import { parseKey } from "../../src/store/keys.ts";
import type { Bucket, ObjectInfo, ObjectStore } from "../../src/store/object-store.ts";

interface Held {
  readonly body: Uint8Array;
  readonly etag: string;
  readonly retainUntil: number | undefined;
}

export interface MemoryStoreOptions {
  readonly lock?: "compliance" | "advisory";
  /** Awaited before each call takes effect: where a simulation puts its scheduler. */
  readonly step?: (call: string) => Promise<void>;
  /** Writes beyond this many bytes in all find the disk full. */
  readonly capacityBytes?: number;
}

export interface MemoryStore extends ObjectStore {
  readonly lock: "compliance" | "advisory";
  /** Calls that took effect. */
  readonly calls: number;
  keys(bucket: Bucket): string[];
  /** Loses an object, as a power loss does. */
  forget(bucket: Bucket, key: string): void;
  /** Puts other bytes under a key, as an attacker who owns the disk does; null removes them. */
  tamper(bucket: Bucket, key: string, body: Uint8Array | null): void;
  /** Throws when an immutable key was created with two contents; call it at the end of a test that swallows errors. */
  assertSound(): void;
}

/** Types of the ledger bucket whose key fixes their content. */
const ONE_CONTENT = new Set<string>(["record", "tile", "checkpoint"]);
const PIECE_BYTES = 64 * 1024;

export function createMemoryStore(options: MemoryStoreOptions = {}): MemoryStore {
  const buckets: Record<Bucket, Map<string, Held>> = { ledger: new Map(), head: new Map(), personal: new Map() };
  const broken: string[] = [];
  let etags = 0;
  let calls = 0;
  let usedBytes = 0;

  async function enter(call: string, signal: AbortSignal | undefined): Promise<void> {
    const refuse = (): void => {
      if (signal?.aborted === true)
        throw new Fault("STORE_UNAVAILABLE", `${call} was cancelled`, { cause: signal.reason });
    };
    refuse();
    await (options.step?.(call) ?? Promise.resolve());
    refuse();
    calls++;
  }
  const writable = (bucket: Bucket, key: string): void => {
    if (parseKey(bucket, key) === undefined)
      throw new Fault("REQUEST_INVALID", `not a key of ${bucket}: ${JSON.stringify(key)}`);
  };
  function put(bucket: Bucket, key: string, body: Uint8Array, retainUntil?: number): string {
    if (usedBytes + body.length > (options.capacityBytes ?? Number.POSITIVE_INFINITY))
      throw new Fault("STORE_UNAVAILABLE", "the disk is nearly full: free space or enlarge the volume");
    usedBytes += body.length;
    const etag = `m${++etags}`;
    buckets[bucket].set(key, { body: body.slice(), etag, retainUntil });
    return etag;
  }
  function refuseSecondContent(key: string, held: Held, body: Uint8Array): void {
    const type = parseKey("ledger", key)?.type ?? "";
    if (!ONE_CONTENT.has(type) || equalBytes(held.body, body)) return;
    broken.push(key);
    throw new Error(`assertion failed: ${key} was created before with other bytes`);
  }
  const infoOf = (key: string, held: Held): ObjectInfo => ({
    key,
    sizeBytes: held.body.length,
    etag: held.etag,
    ...(held.retainUntil === undefined ? {} : { retainUntil: held.retainUntil }),
  });
  const find = (bucket: Bucket, key: string): Held | undefined =>
    parseKey(bucket, key) === undefined ? undefined : buckets[bucket].get(key);

  return {
    lock: options.lock ?? "advisory",
    get calls() {
      return calls;
    },
    async create(bucket, key, body, { retainUntil, signal }) {
      writable(bucket, key);
      const frozen = body.slice();
      await enter("create", signal);
      if (!equalBytes(frozen, body))
        throw new Error(`assertion failed: the bytes of ${key} changed while they were written`);
      const held = buckets[bucket].get(key);
      if (held === undefined) return { outcome: "created", etag: put(bucket, key, body, retainUntil) };
      if (bucket === "ledger") refuseSecondContent(key, held, body);
      return { outcome: "exists" };
    },
    async get(bucket, key, { signal, range } = {}) {
      await enter("get", signal);
      const held = find(bucket, key);
      if (held === undefined) return null;
      return { body: range === undefined ? held.body.slice() : held.body.slice(range.from, range.to), etag: held.etag };
    },
    async head(bucket, key, { signal } = {}) {
      await enter("head", signal);
      const held = find(bucket, key);
      return held === undefined ? null : infoOf(key, held);
    },
    async swap(bucket, key, body, etag, { signal } = {}) {
      writable(bucket, key);
      await enter("swap", signal);
      if ((buckets[bucket].get(key)?.etag ?? null) !== etag) return { outcome: "moved" };
      return { outcome: "swapped", etag: put(bucket, key, body) };
    },
    async replace(bucket, key, body, { signal } = {}) {
      writable(bucket, key);
      await enter("replace", signal);
      put(bucket, key, body);
    },
    async remove(bucket, key, { signal } = {}) {
      writable(bucket, key);
      await enter("remove", signal);
      buckets[bucket].delete(key);
    },
    async *list(bucket, prefix, { after = "", limit = Number.POSITIVE_INFINITY, signal } = {}) {
      await enter("list", signal);
      const keys = [...buckets[bucket].keys()].filter((k) => k.startsWith(prefix) && k > after).sort();
      let given = 0;
      for (const key of keys) {
        if (given++ >= limit) return;
        const held = buckets[bucket].get(key);
        if (held !== undefined) yield infoOf(key, held);
      }
    },
    async extend(bucket, key, retainUntil, { signal } = {}) {
      writable(bucket, key);
      await enter("extend", signal);
      const held = buckets[bucket].get(key);
      if (held === undefined) throw new Fault("NOT_FOUND", `${key} is not in the ${bucket} bucket`);
      buckets[bucket].set(key, { ...held, retainUntil: Math.max(held.retainUntil ?? 0, retainUntil) });
    },
    async open(bucket, key, { signal } = {}) {
      await enter("open", signal);
      const held = find(bucket, key);
      if (held === undefined) return null;
      const { body } = held;
      return {
        sizeBytes: body.length,
        stream: (async function* () {
          for (let at = 0; at < body.length; at += PIECE_BYTES) yield body.slice(at, at + PIECE_BYTES);
        })(),
      };
    },
    keys: (bucket) => [...buckets[bucket].keys()].sort(),
    forget(bucket, key) {
      buckets[bucket].delete(key);
    },
    tamper(bucket, key, body) {
      if (body === null) buckets[bucket].delete(key);
      else
        buckets[bucket].set(key, {
          body: body.slice(),
          etag: `m${++etags}`,
          retainUntil: buckets[bucket].get(key)?.retainUntil,
        });
    },
    assertSound() {
      if (broken.length > 0) throw new Error(`assertion failed: created with two contents: ${broken.join(", ")}`);
    },
  };
}
