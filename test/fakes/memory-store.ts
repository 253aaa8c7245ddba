/**
 * An object store in memory under the contract of `store/object-store.ts`, with the versions of S3: the ledger bucket keeps every
 * version and every delete marker, head and personal keep one object a key.
 *
 * It enforces more than a store does: a record, a tile or an archived checkpoint has one content, so creating one again with
 * other bytes is a bug of the caller, and fails the test. (Commits may differ: two writers race for a slot.)
 */
import { createHash } from "node:crypto";
import { equalBytes } from "../../src/std/bytes.ts";
import { Fault } from "../../src/std/faults.ts";
import { parseKey } from "../../src/store/keys.ts";
import {
  type Bucket,
  type LockMode,
  NO_VERSION,
  type ObjectInfo,
  type ObjectStore,
  type ObjectVersion,
} from "../../src/store/object-store.ts";

interface Version {
  readonly versionId: string;
  /** Null for a delete marker. */
  readonly body: Uint8Array | null;
  readonly etag: string;
  readonly retainUntil: number | undefined;
  readonly lockMode: LockMode;
  readonly modifiedMs: number;
}

type Held = Version & { readonly body: Uint8Array };

export interface MemoryStoreOptions {
  readonly lock?: "compliance" | "advisory";
  /** Awaited before each call takes effect: where a simulation puts its scheduler. */
  readonly step?: (call: string) => Promise<void>;
  /** Writes beyond this many bytes in all find the disk full. */
  readonly capacityBytes?: number;
}

/** How a planted version is held; as the store's own objects are when absent. */
export interface PlantedLock {
  readonly retainUntil?: number;
  readonly lockMode?: LockMode;
}

export interface MemoryStore extends ObjectStore {
  readonly lock: "compliance" | "advisory";
  /** Calls that took effect. */
  readonly calls: number;
  keys(bucket: Bucket): string[];
  /** Loses an object with all its versions, as a power loss does. */
  forget(bucket: Bucket, key: string): void;
  /** Puts other bytes under a key, as an attacker who owns the disk does; null removes them, with all versions. */
  tamper(bucket: Bucket, key: string, body: Uint8Array | null): void;
  /** Lays a new version over a key, as whoever may write to the bucket can; its version id. */
  shadow(key: string, body: Uint8Array, lock?: PlantedLock): string;
  /** Lays a delete marker over a key, as a DELETE without version id does; its version id. */
  hide(key: string): string;
  /** Removes one version, as whoever owns the disk can. */
  removeVersion(key: string, versionId: string): void;
  /** Throws when an immutable key was created with two contents; call it at the end of a test that swallows errors. */
  assertSound(): void;
}

/** Types of the ledger bucket whose key fixes their content. */
const ONE_CONTENT = new Set<string>(["record", "tile", "checkpoint"]);
const PIECE_BYTES = 64 * 1024;

export function createMemoryStore(options: MemoryStoreOptions = {}): MemoryStore {
  /** Newest first; never empty. */
  const buckets: Record<Bucket, Map<string, readonly Version[]>> = {
    ledger: new Map(),
    head: new Map(),
    personal: new Map(),
  };
  const ownLock: LockMode = options.lock === "compliance" ? "COMPLIANCE" : "advisory";
  const broken: string[] = [];
  /** Versions that no create made. */
  const planted = new Set<string>();
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
  const versionsOf = (bucket: Bucket, key: string): readonly Version[] => buckets[bucket].get(key) ?? [];
  const hasBytes = (version: Version | undefined): version is Held => version !== undefined && version.body !== null;

  /** What a read finds: one version by its id, else the newest, unless that is a marker. */
  function find(bucket: Bucket, key: string, versionId?: string): Held | undefined {
    if (parseKey(bucket, key) === undefined) return undefined;
    const all = versionsOf(bucket, key);
    const found = versionId === undefined ? all[0] : all.find((v) => v.versionId === versionId);
    return hasBytes(found) ? found : undefined;
  }
  function lay(
    bucket: Bucket,
    key: string,
    body: Uint8Array | null,
    { retainUntil, lockMode = ownLock }: PlantedLock,
  ): Version {
    const stamp = ++etags;
    const version: Version = {
      versionId: bucket === "ledger" ? `v${stamp}` : NO_VERSION,
      body: body === null ? null : body.slice(),
      etag: body === null ? "" : `m${stamp}`,
      retainUntil,
      lockMode,
      modifiedMs: stamp,
    };
    buckets[bucket].set(key, bucket === "ledger" ? [version, ...versionsOf(bucket, key)] : [version]);
    return version;
  }
  function put(bucket: Bucket, key: string, body: Uint8Array, retainUntil?: number): Version {
    if (usedBytes + body.length > (options.capacityBytes ?? Number.POSITIVE_INFINITY))
      throw new Fault("STORE_UNAVAILABLE", "the disk is nearly full: free space or enlarge the volume");
    usedBytes += body.length;
    return lay(bucket, key, body, retainUntil === undefined ? {} : { retainUntil });
  }
  function change(bucket: Bucket, key: string, from: Version, to: Version): void {
    buckets[bucket].set(
      key,
      versionsOf(bucket, key).map((v) => (v === from ? to : v)),
    );
  }
  function refuseSecondContent(key: string, held: Held, body: Uint8Array): void {
    const type = parseKey("ledger", key)?.type ?? "";
    if (!ONE_CONTENT.has(type) || planted.has(held.versionId) || equalBytes(held.body, body)) return;
    broken.push(key);
    throw new Error(`assertion failed: ${key} was created before with other bytes`);
  }
  const infoOf = (bucket: Bucket, key: string, held: Held): ObjectInfo => ({
    key,
    sizeBytes: held.body.length,
    etag: held.etag,
    ...(held.retainUntil === undefined ? {} : { retainUntil: held.retainUntil, lockMode: held.lockMode }),
    ...(bucket === "ledger"
      ? { versionId: held.versionId, sha256: createHash("sha256").update(held.body).digest("hex") }
      : {}),
  });
  const keysFrom = (bucket: Bucket, prefix: string, after: string): string[] =>
    [...buckets[bucket].keys()].filter((k) => k.startsWith(prefix) && k > after).sort();

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
      const held = find(bucket, key);
      // A hidden key counts as absent, as it does on S3.
      if (held === undefined) {
        const { etag, versionId } = put(bucket, key, body, retainUntil);
        return { outcome: "created", etag, ...(bucket === "ledger" ? { versionId } : {}) };
      }
      if (bucket === "ledger") refuseSecondContent(key, held, body);
      return { outcome: "exists" };
    },
    async get(bucket, key, { signal, range, versionId } = {}) {
      await enter("get", signal);
      const held = find(bucket, key, versionId);
      if (held === undefined) return null;
      return {
        body: range === undefined ? held.body.slice() : held.body.slice(range.from, range.to),
        etag: held.etag,
        ...(bucket === "ledger" ? { versionId: held.versionId } : {}),
      };
    },
    async head(bucket, key, { signal, versionId } = {}) {
      await enter("head", signal);
      const held = find(bucket, key, versionId);
      return held === undefined ? null : infoOf(bucket, key, held);
    },
    async swap(bucket, key, body, etag, { signal } = {}) {
      writable(bucket, key);
      await enter("swap", signal);
      if ((find(bucket, key)?.etag ?? null) !== etag) return { outcome: "moved" };
      return { outcome: "swapped", etag: put(bucket, key, body).etag };
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
      let given = 0;
      for (const key of keysFrom(bucket, prefix, after)) {
        const [held] = versionsOf(bucket, key);
        if (!hasBytes(held)) continue;
        if (given++ >= limit) return;
        yield infoOf(bucket, key, held);
      }
    },
    async *versions(bucket, prefix, { after = "", limit = Number.POSITIVE_INFINITY, signal } = {}) {
      await enter("versions", signal);
      let given = 0;
      for (const key of keysFrom(bucket, prefix, after))
        for (const [i, version] of versionsOf(bucket, key).entries()) {
          if (given++ >= limit) return;
          yield {
            key,
            versionId: version.versionId,
            sizeBytes: version.body?.length ?? 0,
            etag: version.etag,
            isMarker: version.body === null,
            isLatest: i === 0,
            modifiedMs: version.modifiedMs,
          } satisfies ObjectVersion;
        }
    },
    async extend(bucket, key, retainUntil, { signal, versionId } = {}) {
      writable(bucket, key);
      await enter("extend", signal);
      const held = find(bucket, key, versionId);
      if (held === undefined) throw new Fault("NOT_FOUND", `${key} is not in the ${bucket} bucket`);
      change(bucket, key, held, {
        ...held,
        retainUntil: Math.max(held.retainUntil ?? 0, retainUntil),
        lockMode: ownLock,
      });
    },
    async open(bucket, key, { signal, versionId } = {}) {
      await enter("open", signal);
      const held = find(bucket, key, versionId);
      if (held === undefined) return null;
      const { body } = held;
      return {
        sizeBytes: body.length,
        stream: (async function* () {
          for (let at = 0; at < body.length; at += PIECE_BYTES) yield body.slice(at, at + PIECE_BYTES);
        })(),
      };
    },
    keys: (bucket) => [...buckets[bucket].keys()].filter((key) => hasBytes(versionsOf(bucket, key)[0])).sort(),
    forget(bucket, key) {
      buckets[bucket].delete(key);
    },
    tamper(bucket, key, body) {
      const [held] = versionsOf(bucket, key);
      if (body === null) buckets[bucket].delete(key);
      else if (held === undefined) lay(bucket, key, body, {});
      else change(bucket, key, held, { ...held, body: body.slice(), etag: `m${++etags}` });
    },
    shadow(key, body, lock = {}) {
      const { versionId } = lay("ledger", key, body, lock);
      planted.add(versionId);
      return versionId;
    },
    hide: (key) => lay("ledger", key, null, {}).versionId,
    removeVersion(key, versionId) {
      const rest = versionsOf("ledger", key).filter((v) => v.versionId !== versionId);
      if (rest.length === 0) buckets.ledger.delete(key);
      else buckets.ledger.set(key, rest);
    },
    assertSound() {
      if (broken.length > 0) throw new Error(`assertion failed: created with two contents: ${broken.join(", ")}`);
    },
  };
}
