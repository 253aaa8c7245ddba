/**
 * The store port: what the ledger asks of disks and object stores. Every adapter passes one contract suite.
 *
 * - `create` is the only way into the ledger bucket: exactly one of many concurrent creates of a key wins, and what it wrote never
 *   changes. An outcome that is not known is said to be unknown, never guessed.
 * - What was answered is on stable storage.
 * - Keys are those of `keys.ts`; an adapter refuses every other.
 */
export type Bucket = "ledger" | "head" | "personal";
export type MutableBucket = Exclude<Bucket, "ledger">;

export type CreateOutcome =
  | { readonly outcome: "created"; readonly etag: string }
  | { readonly outcome: "exists" }
  /** It may have been written, or may yet be. */
  | { readonly outcome: "unknown"; readonly cause: unknown };

export type SwapOutcome =
  | { readonly outcome: "swapped"; readonly etag: string }
  | { readonly outcome: "moved" }
  | { readonly outcome: "unknown"; readonly cause: unknown };

export interface ObjectInfo {
  readonly key: string;
  readonly sizeBytes: number;
  readonly etag: string;
  /** End of the lock, in milliseconds since the epoch. */
  readonly retainUntil?: number;
}

export interface Deadline {
  readonly signal?: AbortSignal;
}

export interface CreateOptions extends Deadline {
  /** Locks the object until then, in milliseconds since the epoch. */
  readonly retainUntil?: number;
}

export interface StoredObject {
  readonly body: Uint8Array;
  readonly etag: string;
}

export interface OpenedObject {
  readonly sizeBytes: number;
  readonly stream: AsyncIterable<Uint8Array>;
}

/** Every other failure is a Fault STORE_UNAVAILABLE whose message names the remedy. */
export interface ObjectStore {
  /** Whether the store enforces locks, or only notes them. */
  readonly lock: "compliance" | "advisory";
  create(bucket: Bucket, key: string, body: Uint8Array, options?: CreateOptions): Promise<CreateOutcome>;
  /** Null when there is no such object. `range` is [from, to) in bytes. */
  get(bucket: Bucket, key: string, options?: Deadline & { readonly range?: { readonly from: number; readonly to: number } }): Promise<StoredObject | null>;
  open(bucket: Bucket, key: string, options?: Deadline): Promise<OpenedObject | null>;
  head(bucket: Bucket, key: string, options?: Deadline): Promise<ObjectInfo | null>;
  /** Replaces the object of that etag; with null, creates it. */
  swap(bucket: "head", key: string, body: Uint8Array, etag: string | null, options?: Deadline): Promise<SwapOutcome>;
  replace(bucket: MutableBucket, key: string, body: Uint8Array, options?: Deadline): Promise<void>;
  remove(bucket: MutableBucket, key: string, options?: Deadline): Promise<void>;
  /** Objects whose key begins with `prefix`, ascending by key, after `after`. */
  list(bucket: Bucket, prefix: string, options?: Deadline & { readonly after?: string; readonly limit?: number }): AsyncIterable<ObjectInfo>;
  /** Extends a lock; a shorter one changes nothing. */
  extend(bucket: "ledger", key: string, retainUntil: number, options?: Deadline): Promise<void>;
}
