/**
 * The commit slots of the ledger bucket: create-if-absent, read, what was ever laid into a slot, and how far they go. A create whose
 * fate is not known, and a read that fails, are `unknown`, which callers repeat; a create that throws wrote nothing.
 *
 * Whoever may write to the bucket can lay a version or a delete marker over a commit, and nobody can take the commit away while
 * its lock holds (`store/right-version.ts`). So what a plain read gives is believed only when it is a valid commit, and a create
 * counts only when it made all that the slot ever held: over a delete marker the store takes a second one (rule W6,
 * `docs/protocol.md`).
 */

import { Fault } from "../std/faults.ts";
import { Violation } from "../std/violation.ts";
import { commitKey, parseCommitKey } from "../store/keys.ts";
import type { ObjectStore } from "../store/object-store.ts";
import { type Found, type History, historyOf, isAlone, readRight } from "../store/right-version.ts";
import type { Retention } from "./retention.ts";

export interface CommitSlots {
  /**
   * `created`: the slot holds these bytes and never held others. `exists`: there is something else too, or was before. Throws the
   * store's Fault when nothing was written and nothing will be; `onUnknown` hears why nothing is known.
   */
  create(
    n: number,
    bytes: Uint8Array,
    signal?: AbortSignal,
    onUnknown?: (cause: unknown) => void,
  ): Promise<"created" | "exists" | "unknown">;
  /** The newest version; null under a delete marker too. */
  read(n: number, signal?: AbortSignal): Promise<Uint8Array | null | "unknown">;
  /** The version that is right, wherever it lies; else the oldest. */
  find(n: number, isRight: (bytes: Uint8Array) => boolean, signal?: AbortSignal): Promise<Found | null | "unknown">;
  history(n: number, signal?: AbortSignal): Promise<History | "unknown">;
  /** Refuses when any slot from `n` on was ever written although slot `n` was not: a hole is never filled. */
  assertEnd(n: number, signal?: AbortSignal): Promise<void>;
}

const noAnswer = (error: unknown, signal: AbortSignal | undefined): "unknown" => {
  if (signal?.aborted !== true && error instanceof Fault && error.reason === "STORE_UNAVAILABLE") return "unknown";
  throw error;
};

async function answered<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T | "unknown"> {
  try {
    return await work;
  } catch (error) {
    return noAnswer(error, signal);
  }
}

/** What a commit says of the slot before; an empty text for what is none. */
export const prevOf = (bytes: Uint8Array): string =>
  /"prev":"sha256:([0-9a-f]{64})"/.exec(new TextDecoder().decode(bytes.subarray(0, 4_096)))?.[1] ?? "";

export const createCommitSlots = (store: ObjectStore, retention: Retention): CommitSlots => ({
  async create(n, bytes, signal, onUnknown) {
    const key = commitKey(n);
    const put = await store.create("ledger", key, bytes, { retainUntil: retention(), signal });
    if (put.outcome === "unknown") onUnknown?.(put.cause);
    if (put.outcome !== "created" || put.versionId === undefined) return put.outcome;
    const alone = await answered(isAlone(store, key, { signal }), signal);
    return alone === "unknown" ? alone : alone ? "created" : "exists";
  },
  async read(n, signal) {
    const found = await answered(store.get("ledger", commitKey(n), { signal }), signal);
    return found === "unknown" ? found : (found?.body ?? null);
  },
  find: (n, isRight, signal) => answered(readRight(store, commitKey(n), isRight, { signal }), signal),
  history: (n, signal) => answered(historyOf(store, commitKey(n), { signal }), signal),
  async assertEnd(n, signal) {
    const after = n === 0 ? undefined : commitKey(n - 1);
    for await (const { key } of store.versions("ledger", "commits/", { after, signal })) {
      const found = parseCommitKey(key);
      // A name that no commit has is not a slot.
      if (found === undefined) continue;
      // A listing is no snapshot: both may have been written while it was made.
      if (found !== n && (await store.get("ledger", commitKey(n), { signal })) === null)
        throw new Violation("commit.gap", `${key} exists, and slot ${n} before it is empty`);
      return;
    }
  },
});
