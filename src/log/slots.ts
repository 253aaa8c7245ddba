/**
 * The commit slots of the ledger bucket: create-if-absent, read, and how far they go. A create whose fate is not known, and a read
 * that fails, are `unknown`, which the committer repeats; a create that throws wrote nothing.
 */

import { Fault } from "../std/faults.ts";
import { Violation } from "../std/violation.ts";
import { commitKey, parseCommitKey } from "../store/keys.ts";
import type { ObjectStore } from "../store/object-store.ts";
import type { Retention } from "./retention.ts";

export interface CommitSlots {
  /** Throws the store's Fault when nothing was written and nothing will be. */
  create(n: number, bytes: Uint8Array, signal?: AbortSignal): Promise<"created" | "exists" | "unknown">;
  read(n: number, signal?: AbortSignal): Promise<Uint8Array | null | "unknown">;
  /** Refuses when any slot from `n` on is taken although slot `n` is empty: a hole is never filled. */
  assertEnd(n: number, signal?: AbortSignal): Promise<void>;
}

const noAnswer = (error: unknown, signal: AbortSignal | undefined): "unknown" => {
  if (signal?.aborted !== true && error instanceof Fault && error.reason === "STORE_UNAVAILABLE") return "unknown";
  throw error;
};

export const createCommitSlots = (store: ObjectStore, retention: Retention): CommitSlots => ({
  async create(n, bytes, signal) {
    const { outcome } = await store.create("ledger", commitKey(n), bytes, { retainUntil: retention(), signal });
    return outcome;
  },
  async read(n, signal) {
    try {
      return (await store.get("ledger", commitKey(n), { signal }))?.body ?? null;
    } catch (error) {
      return noAnswer(error, signal);
    }
  },
  async assertEnd(n, signal) {
    const after = n === 0 ? undefined : commitKey(n - 1);
    for await (const { key } of store.list("ledger", "commits/", { after, limit: 1, signal })) {
      const found = parseCommitKey(key);
      if (found !== n) throw new Violation("commit.gap", `${key} exists, and slot ${n} before it is empty`);
    }
  },
});
