/** What the parts of a bucket's verification share: the copy, what is trusted, what was found so far. */
import type { HashStore } from "../../merkle/proofs.ts";
import type { RecordId } from "../../std/brand.ts";
import type { ObjectInfo, ObjectStore } from "../../store/object-store.ts";
import type { Trust } from "../checkpoint.ts";
import type { Stage } from "../report.ts";
import type { Bundles } from "./bundles.ts";

/** What is asked of a listing: dates of locks where the store has them. */
export type Listed = Pick<ObjectInfo, "key" | "retainUntil">;

/** What verification asks of a store. */
export interface BucketReader extends Pick<ObjectStore, "get" | "head" | "lock"> {
  list(bucket: "ledger", prefix: string): AsyncIterable<Listed>;
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
  readonly genesis?: RecordId;
  /** How many objects are read at once. */
  readonly concurrency: number;
  readonly nowMs: number;
  readonly progress?: (done: number, of: number, what: string) => void;
  readonly signal?: AbortSignal;
}

export type BucketStage = "checkpoints" | "commits" | "kept" | "records" | "seals" | "tiles";

export interface Audit {
  readonly store: BucketReader;
  readonly trust: Trust;
  readonly options: BucketOptions;
  readonly stages: Readonly<Record<BucketStage, Stage>>;
  readonly notes: string[];
  /** Leaves of all valid commits. */
  readonly hashes: HashStore;
  readonly bundles: Bundles;
  /** Indexes of entries at which something is absent. */
  readonly absent: { readonly records: number[]; readonly tiles: number[] };
}

export const DAY_MS = 86_400_000;

/** Runs `work` on items, at most `limit` at once. The first failure stops it, when what was begun has ended. */
export async function each<T>(
  items: AsyncIterable<T> | Iterable<T>,
  limit: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const iterator = Symbol.asyncIterator in items ? items[Symbol.asyncIterator]() : items[Symbol.iterator]();
  const failures: unknown[] = [];
  const worker = async (): Promise<void> => {
    while (failures.length === 0) {
      const next = await iterator.next();
      if (next.done === true) return;
      await work(next.value);
    }
  };
  const guarded = (): Promise<void> => worker().catch((error: unknown) => void failures.push(error));
  await Promise.all(Array.from({ length: limit }, guarded));
  if (failures.length > 0) throw failures[0];
}

export async function listed(store: BucketReader, prefix: string): Promise<Listed[]> {
  const all: Listed[] = [];
  for await (const info of store.list("ledger", prefix)) all.push(info);
  return all;
}

/** Whether an object is locked until `expectedMs`, as far as the store tells. What should have ended by now may have. */
export function checkLock({ key, retainUntil }: Listed, expectedMs: number, audit: Audit, stage: Stage): void {
  const { options, store } = audit;
  if (expectedMs <= options.nowMs || (retainUntil === undefined && store.lock === "advisory")) return;
  if (retainUntil === undefined || retainUntil < expectedMs)
    stage.fail(
      "object.retention",
      key,
      `is ${retainUntil === undefined ? "not locked" : `locked until ${new Date(retainUntil).toISOString()}`}, expected ${new Date(expectedMs).toISOString()}`,
    );
}
