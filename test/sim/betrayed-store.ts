/**
 * A store that breaks its promises: what somebody with write access, an operator's mistake, a power loss or a cluster of two pools
 * does to it.
 */
import { utf8 } from "../../src/std/bytes.ts";
import { parseCommitKey } from "../../src/store/keys.ts";
import type { Bucket, ObjectStore } from "../../src/store/object-store.ts";
import type { MemoryStore } from "../fakes/memory-store.ts";
import type { Scheduler } from "./scheduler.ts";

export type Betrayal =
  /** Somebody deletes a commit: a version lies below, and a read finds nothing. */
  | "delete-marker"
  /** Somebody puts another version over a commit. */
  | "shadow"
  /** The newest objects are forgotten, as a power loss leaves a store that does not sync. */
  | "amnesia"
  /** From now on the store has two pools, and a create looks into one of them. */
  | "two-pools";

/** Of 100 creates of what is there, so many succeed in a cluster of two pools. */
const SECOND_CREATES = 0.44;
/** Of commits, one of so many newest ones is struck; of objects, at most so many are forgotten. */
const NEWEST = 3;
const FORGOTTEN = 6;

export interface Betrayals {
  readonly store: ObjectStore;
  /** Betrays, when there are commits enough. */
  strike(betrayal: Betrayal): void;
  /** How often it betrayed. */
  readonly times: number;
  /** Whether objects are gone. */
  readonly hasForgotten: boolean;
}

export function betrayable(inner: MemoryStore, scheduler: Scheduler): Betrayals {
  const created: string[] = [];
  let pools = 1;
  let times = 0;
  let hasForgotten = false;

  const isThere = async (bucket: Bucket, key: string): Promise<boolean> => (await inner.head(bucket, key)) !== null;

  const store: ObjectStore = {
    ...inner,
    async create(bucket, key, body, options) {
      if (pools > 1 && (await isThere(bucket, key)) && scheduler.chance(SECOND_CREATES)) {
        const { retainUntil } = options;
        const etag = "in the other pool";
        if (bucket === "ledger")
          return {
            etag,
            outcome: "created",
            versionId: inner.shadow(key, body, retainUntil === undefined ? {} : { retainUntil }),
          };
        await inner.replace(bucket, key, body);
        return { etag, outcome: "created" };
      }
      const done = await inner.create(bucket, key, body, options);
      if (done.outcome === "created" && bucket === "ledger") created.push(key);
      return done;
    },
  };

  return {
    get hasForgotten() {
      return hasForgotten;
    },
    store,
    strike(betrayal) {
      const commits = inner.keys("ledger").filter((key) => parseCommitKey(key) !== undefined);
      const key = commits.at(-1 - scheduler.below(NEWEST));
      if (key === undefined || commits.length <= NEWEST) return;
      times++;
      switch (betrayal) {
        case "delete-marker":
          inner.hide(key);
          break;
        case "shadow":
          inner.shadow(key, utf8("something else"));
          break;
        case "amnesia":
          hasForgotten = true;
          for (const lost of created.splice(-1 - scheduler.below(FORGOTTEN))) inner.forget("ledger", lost);
          break;
        case "two-pools":
          pools = 2;
          break;
      }
    },
    get times() {
      return times;
    },
  };
}

/** The ledger as it was written first, whatever was laid over it since. */
export function underneath(inner: MemoryStore): ObjectStore {
  const oldestOf = async (bucket: Bucket, key: string): Promise<string | undefined> => {
    let oldest: string | undefined;
    for await (const version of inner.versions(bucket, key))
      if (version.key === key && !version.isMarker) oldest = version.versionId;
    return oldest;
  };
  return {
    ...inner,
    async get(bucket, key, options) {
      return inner.get(
        bucket,
        key,
        bucket === "ledger" ? { ...options, versionId: await oldestOf(bucket, key) } : options,
      );
    },
    async *list(bucket, prefix) {
      const seen = new Set<string>();
      for await (const version of inner.versions(bucket, prefix)) {
        if (version.isMarker || seen.has(version.key)) continue;
        seen.add(version.key);
        yield version;
      }
    },
  };
}
