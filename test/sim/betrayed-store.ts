/**
 * A versioned store that breaks its promises: what an attacker with write access, an operator's mistake, a power loss or a cluster of
 * two pools does to it. The oldest version of each object is what the store below holds; here lies what hides it.
 */
import { equalBytes, utf8 } from "../../src/std/bytes.ts";
import { parseCommitKey } from "../../src/store/keys.ts";
import type {
  Bucket,
  CreateOptions,
  GetOptions,
  ListOptions,
  ObjectStore,
  PutOutcome,
} from "../../src/store/object-store.ts";
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
const FORGOTTEN = 6;

export class BetrayedStore implements ObjectStore {
  readonly lock: ObjectStore["lock"];
  readonly #inner: MemoryStore;
  readonly #scheduler: Scheduler;
  /** Newest versions of objects of the ledger that are not the oldest; null is a delete marker. */
  readonly #newest = new Map<string, Uint8Array | null>();
  readonly #created: string[] = [];
  #pools = false;
  /** How often it betrayed. */
  times = 0;
  /** Whether objects are gone. */
  forgotten = false;

  constructor(inner: MemoryStore, scheduler: Scheduler) {
    this.#inner = inner;
    this.#scheduler = scheduler;
    this.lock = inner.lock;
  }

  strike(betrayal: Betrayal): void {
    const commits = this.#inner.keys("ledger").filter((key) => parseCommitKey(key) !== undefined);
    // The newest are what hurts.
    const key = commits.at(-1 - this.#scheduler.below(Math.min(3, commits.length)));
    if (key === undefined) return;
    this.times++;
    switch (betrayal) {
      case "delete-marker":
        this.#newest.set(key, null);
        break;
      case "shadow":
        this.#newest.set(key, utf8("something else"));
        break;
      case "amnesia":
        this.forgotten = true;
        for (const lost of this.#created.splice(-1 - this.#scheduler.below(FORGOTTEN)))
          this.#inner.forget("ledger", lost);
        break;
      case "two-pools":
        this.#pools = true;
        break;
    }
  }

  async create(bucket: Bucket, key: string, body: Uint8Array, options: CreateOptions): Promise<PutOutcome> {
    if (bucket !== "ledger") return this.#inner.create(bucket, key, body, options);
    if (this.#newest.get(key) === null) {
      // Nothing is there, says the store, and takes it as a new version.
      this.#newest.set(key, body.slice());
      return { etag: "new", outcome: "created" };
    }
    const isThere = (await this.#inner.head(bucket, key)) !== null;
    if (isThere && this.#pools && this.#scheduler.chance(SECOND_CREATES)) {
      const held = await this.get(bucket, key);
      if (held !== null && !equalBytes(held.body, body)) this.#newest.set(key, body.slice());
      return { etag: "second", outcome: "created" };
    }
    const done = await this.#inner.create(bucket, key, body, options);
    if (done.outcome === "created") this.#created.push(key);
    return done;
  }

  async get(bucket: Bucket, key: string, options?: GetOptions): ReturnType<ObjectStore["get"]> {
    const newest = bucket === "ledger" ? this.#newest.get(key) : undefined;
    if (newest === undefined) return this.#inner.get(bucket, key, options);
    return newest === null ? null : { body: newest.slice(), etag: "newest" };
  }

  async head(bucket: Bucket, key: string): ReturnType<ObjectStore["head"]> {
    return bucket === "ledger" && this.#newest.get(key) === null ? null : this.#inner.head(bucket, key);
  }

  async *list(bucket: Bucket, prefix: string, options?: ListOptions): ReturnType<ObjectStore["list"]> {
    for await (const info of this.#inner.list(bucket, prefix, options))
      if (bucket !== "ledger" || this.#newest.get(info.key) !== null) yield info;
  }

  readonly swap: ObjectStore["swap"] = (...given) => this.#inner.swap(...given);
  readonly replace: ObjectStore["replace"] = (...given) => this.#inner.replace(...given);
  readonly remove: ObjectStore["remove"] = (...given) => this.#inner.remove(...given);
  readonly extend: ObjectStore["extend"] = (...given) => this.#inner.extend(...given);
  readonly open: ObjectStore["open"] = (...given) => this.#inner.open(...given);
}
