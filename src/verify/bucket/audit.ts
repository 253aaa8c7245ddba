/** What the parts of a bucket's verification share: the copy, what is trusted, what was found so far. */
import type { HashStore } from "../../merkle/proofs.ts";
import type { RecordId } from "../../std/brand.ts";
import type { LockInfo, ObjectInfo, ObjectStore, StoredObject } from "../../store/object-store.ts";
import { dataVersions, hasVersions } from "../../store/right-version.ts";
import type { Trust } from "../checkpoint.ts";
import type { Stage } from "../report.ts";
import type { Bundles } from "./bundles.ts";
import type { Resumed } from "./resume.ts";
import type { Sweep } from "./sweep.ts";

/** What verification asks of a store; versions are known where the store keeps them. */
export interface BucketReader
  extends Pick<ObjectStore, "get" | "head" | "lock" | "open">,
    Partial<Pick<ObjectStore, "versions">> {
  list(bucket: "ledger", prefix: string): AsyncIterable<Pick<ObjectInfo, "key">>;
}

/**
 * How far records are checked. `objects`: what they say, and each one's own object byte for byte. `commits`: what they say, as the
 * commits hold them. `digests`: that the commits hold what the log names, and of what they say only that which moves keys and seals.
 */
export type RecordCheck = "objects" | "commits" | "digests";

export interface BucketOptions {
  /** How far records are checked. */
  readonly records: RecordCheck;
  /** Whether the state is folded again, and compared with what seals say of it. */
  readonly state?: boolean;
  /** Whether the bytes of artifacts are read and hashed. */
  readonly artifacts?: boolean;
  /** How far an earlier verification came, and where to keep how far this one comes. */
  readonly resume?: { readonly from: Resumed | undefined; save(resumed: Resumed): Promise<void> };
  readonly genesis?: RecordId;
  /** How many objects are read at once. */
  readonly concurrency: number;
  readonly nowMs: number;
  readonly progress?: (done: number, of: number, what: string) => void;
  readonly signal?: AbortSignal;
}

export type BucketStage = "artifacts" | "checkpoints" | "commits" | "kept" | "records" | "seals" | "tiles";

export interface Audit {
  readonly store: BucketReader;
  readonly trust: Trust;
  readonly options: BucketOptions;
  readonly stages: Readonly<Record<BucketStage, Stage>>;
  readonly notes: string[];
  /** Leaves of all valid commits. */
  readonly hashes: HashStore;
  readonly bundles: Bundles;
  readonly sweep: Sweep;
  /** Indexes of entries at which something is absent. */
  readonly absent: { readonly records: number[]; readonly tiles: number[] };
}

export const DAY_MS = 86_400_000;

export async function listed(audit: Audit, prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const key of audit.sweep.keys(audit, prefix)) keys.push(key);
  return keys;
}

/**
 * What a store that enforces locks says of the lock of a version that was read; of others nothing binds. Where that version is not
 * held, one with the same bytes may be: anybody may lay another over it.
 */
export async function lockOf(
  { options, store }: Audit,
  key: string,
  read: Omit<StoredObject, "body" | "etag">,
): Promise<LockInfo | null> {
  if (store.lock !== "compliance") return null;
  if (isHeld(read, options.nowMs)) return read;
  const info = await store.head("ledger", key, { versionId: read.versionId });
  if (info === null || isHeld(info, options.nowMs) || !hasVersions(store)) return info;
  for (const version of await dataVersions(store, key, { signal: options.signal })) {
    const other = await store.head("ledger", key, { versionId: version.versionId });
    const isSame = other?.etag === info.etag || (other?.sha256 === info.sha256 && info.sha256 !== undefined);
    if (other !== null && isSame && isHeld(other, options.nowMs)) return other;
  }
  return info;
}

const isHeld = ({ lockMode, retainUntil = 0 }: LockInfo, untilMs: number): boolean =>
  lockMode === "COMPLIANCE" && retainUntil >= untilMs;

/** Whether an object is locked until `expectedMs`, as far as the store tells. What should have ended by now may have. */
export function checkLock(
  key: string,
  info: LockInfo | null,
  expectedMs: number,
  { options, store }: Audit,
  stage: Pick<Stage, "fail">,
): boolean {
  if (store.lock !== "compliance" || expectedMs <= options.nowMs) return true;
  if (info !== null && isHeld(info, expectedMs)) return true;
  const { lockMode, retainUntil } = info ?? {};
  const is =
    retainUntil === undefined
      ? "not locked"
      : `locked in ${lockMode ?? "no"} mode until ${new Date(retainUntil).toISOString()}`;
  stage.fail("object.retention", key, `is ${is}, expected is COMPLIANCE until ${new Date(expectedMs).toISOString()}`);
  return false;
}
