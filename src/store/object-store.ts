/**
 * The object store port: what the ledger asks of disks and of S3. Owns the contract that every adapter keeps; the suite in
 * `test/contract/object-store.ts` checks it on each.
 *
 * - A key of the ledger bucket is written once. Whoever creates it second learns that it exists, however many race, and the
 *   bytes never change afterwards.
 * - `created`, and `exists`, mean durable: neither is said before the object outlives a power loss (as far as the store can
 *   promise it, `docs/operating.md`).
 * - `unknown` means that the write may have happened or may still happen later. Only the same bytes may be sent again.
 * - A lock holds a version, not a key: on a store with versions, whoever may write can lay a new one, or a delete marker, over
 *   what is locked. Reads without a version id give the newest version, or null under a marker; `versions` shows the rest.
 * - A key that `keys.ts` does not parse names no object: reads answer null, writes throw `Fault("REQUEST_INVALID")`.
 * - A store that cannot answer throws `Fault("STORE_UNAVAILABLE")`. When `create` or `swap` throw it, nothing was written and
 *   nothing will be: so does a full disk, before anything is written, and a signal that was aborted before the write took
 *   effect. `replace`, `remove` and `extend` may be repeated after it.
 */

export type Bucket = "ledger" | "head" | "personal";
/** Buckets whose objects may be replaced and removed. */
export type MutableBucket = "head" | "personal";

export type PutOutcome =
  /** With the id of the version on a store that keeps versions: there a create may succeed over a delete marker. */
  | { readonly outcome: "created"; readonly etag: string; readonly versionId?: string }
  | { readonly outcome: "exists" }
  | { readonly outcome: "unknown"; readonly cause: unknown };

export type SwapOutcome =
  | { readonly outcome: "swapped"; readonly etag: string }
  | { readonly outcome: "moved" }
  | { readonly outcome: "unknown"; readonly cause: unknown };

/** What holds an object: nobody shortens COMPLIANCE; GOVERNANCE and an advisory lock hold only those who keep to them. */
export type LockMode = "COMPLIANCE" | "GOVERNANCE" | "advisory";

export interface ObjectInfo {
  readonly key: string;
  readonly sizeBytes: number;
  /** Opaque; equal for two reads of one object. */
  readonly etag: string;
  /** Milliseconds since the epoch until which the store holds the object; absent without a lock. */
  readonly retainUntil?: number;
  /** Absent without a lock. */
  readonly lockMode?: LockMode;
  /** Absent on a store without versions. */
  readonly versionId?: string;
  /** SHA-256 of the whole object in hex, where the store checked it at the upload and keeps it. */
  readonly sha256?: string;
}

export interface ObjectVersion {
  readonly key: string;
  /** `NO_VERSION` on a store without versions. */
  readonly versionId: string;
  readonly sizeBytes: number;
  /** Empty for a delete marker. */
  readonly etag: string;
  /** A delete marker: it has no bytes, and hides the versions below it. */
  readonly isMarker: boolean;
  readonly isLatest: boolean;
  /** Milliseconds since the epoch, by the store's clock. */
  readonly modifiedMs: number;
}

/** The version id, by S3's convention, of an object that was stored without versioning. */
export const NO_VERSION = "null";

/** Until when an object is held, and by what. */
export type LockInfo = Pick<ObjectInfo, "lockMode" | "retainUntil">;

/** The lock is told where the store tells it with the bytes; `head` always does. */
export interface StoredObject extends LockInfo {
  readonly body: Uint8Array;
  readonly etag: string;
  /** Absent on a store without versions. */
  readonly versionId?: string;
}

export interface OpenedObject {
  readonly sizeBytes: number;
  /** May be read once. */
  readonly stream: AsyncIterable<Uint8Array>;
}

export interface StoreOptions {
  readonly signal?: AbortSignal | undefined;
}

export interface VersionOptions extends StoreOptions {
  /** One version, whatever lies over it; the newest when absent. */
  readonly versionId?: string | undefined;
}

export interface CreateOptions extends StoreOptions {
  /** Milliseconds since the epoch; locks the object until then. */
  readonly retainUntil?: number | undefined;
}

export interface GetOptions extends VersionOptions {
  /** Bytes from `from` up to, not including, `to`; cut at the object's end. */
  readonly range?: { readonly from: number; readonly to: number } | undefined;
}

export interface PageOptions extends StoreOptions {
  /** Only keys greater than this one. */
  readonly after?: string | undefined;
  readonly limit?: number | undefined;
}

export interface ListOptions extends PageOptions {
  /** Whether locks and checksums are asked for as `head` gives them; on S3 that is a request for each object. */
  readonly locks?: boolean | undefined;
}

export interface ObjectStore {
  /** Creates if absent, whole or not at all. */
  create(bucket: Bucket, key: string, body: Uint8Array, options: CreateOptions): Promise<PutOutcome>;
  /** Null when the key holds nothing. */
  get(bucket: Bucket, key: string, options?: GetOptions): Promise<StoredObject | null>;
  head(bucket: Bucket, key: string, options?: VersionOptions): Promise<ObjectInfo | null>;
  /** Compare-and-swap. `etag` null: the key must hold nothing. */
  swap(
    bucket: "head",
    key: string,
    body: Uint8Array,
    etag: string | null,
    options?: StoreOptions,
  ): Promise<SwapOutcome>;
  /** Writes whatever the key held before. */
  replace(bucket: MutableBucket, key: string, body: Uint8Array, options?: StoreOptions): Promise<void>;
  /** Removing what is absent succeeds. */
  remove(bucket: MutableBucket, key: string, options?: StoreOptions): Promise<void>;
  /** Objects whose key starts with `prefix`, ascending by the bytes of the key; also keys that `keys.ts` does not parse. */
  list(bucket: Bucket, prefix: string, options?: ListOptions): AsyncIterable<ObjectInfo>;
  /**
   * Every version of the objects whose key starts with `prefix`, delete markers included: by key, then newest first. A store
   * without versions has one of each object. `limit` counts versions.
   */
  versions(bucket: Bucket, prefix: string, options?: PageOptions): AsyncIterable<ObjectVersion>;
  /** Prolongs the lock; an earlier time than the present one changes nothing. Throws `Fault("NOT_FOUND")` when absent. */
  extend(bucket: "ledger", key: string, retainUntil: number, options?: VersionOptions): Promise<void>;
  /** Reads an object of any size piece by piece. */
  open(bucket: Bucket, key: string, options?: VersionOptions): Promise<OpenedObject | null>;
  /** `compliance`: nobody can shorten a lock. `advisory`: the lock is recorded, and whoever owns the disk can ignore it. */
  readonly lock: "compliance" | "advisory";
}

export interface UploadMismatch {
  readonly outcome: "mismatch";
  readonly field: "length" | "sha256";
  readonly expected: string;
  /** What came; a body that is too long is cut off, and then this is a lower bound. */
  readonly received: string;
}

export type ReceiveOutcome = PutOutcome | UploadMismatch;

/** A store that also takes artifacts in pieces. */
export interface ReceivingStore extends ObjectStore {
  /**
   * Streams an artifact into the ledger: created only when exactly `sizeBytes` bytes with SHA-256 `sha256` (hex) came.
   * Reads no byte beyond `sizeBytes`.
   */
  receive(
    key: string,
    sha256: string,
    sizeBytes: number,
    stream: AsyncIterable<Uint8Array>,
    options: CreateOptions,
  ): Promise<ReceiveOutcome>;
}
