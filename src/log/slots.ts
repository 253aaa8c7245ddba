/**
 * The commit slots of the ledger bucket: create-if-absent, read, what was ever laid into a slot, and how far they go. A create whose
 * fate is not known, and a read that fails, are `unknown`, which callers repeat; a create that throws wrote nothing.
 *
 * Whoever may write to the bucket can lay a version or a delete marker over a commit, and nobody can take the commit away while
 * its lock holds. So the value of a slot is its oldest version with bytes, and what a plain read gives is believed only when it
 * is a valid commit (rule W6, `docs/protocol.md`).
 */

import { equalBytes } from "../std/bytes.ts";
import { Fault } from "../std/faults.ts";
import { Violation } from "../std/violation.ts";
import { commitKey, parseCommitKey } from "../store/keys.ts";
import type { ObjectStore } from "../store/object-store.ts";
import type { Retention } from "./retention.ts";

export interface SlotHistory {
  /** What the slot ever held, oldest first, each content once; empty for a slot that was never written. */
  readonly contents: readonly Uint8Array[];
  /** Versions with bytes. */
  readonly versions: number;
  /** Whether a delete marker lies anywhere among them. */
  readonly hasMarker: boolean;
}

export interface CommitSlots {
  /** Throws the store's Fault when nothing was written and nothing will be; `onUnknown` hears why nothing is known. */
  create(
    n: number,
    bytes: Uint8Array,
    signal?: AbortSignal,
    onUnknown?: (cause: unknown) => void,
  ): Promise<"created" | "exists" | "unknown">;
  /** The newest version; null under a delete marker too. */
  read(n: number, signal?: AbortSignal): Promise<Uint8Array | null | "unknown">;
  history(n: number, signal?: AbortSignal): Promise<SlotHistory | "unknown">;
  /** Refuses when any slot from `n` on was ever written although slot `n` was not: a hole is never filled. */
  assertEnd(n: number, signal?: AbortSignal): Promise<void>;
}

/** Versions that are read of one slot; whoever lays down more is noticed by the first two. */
const MAX_VERSIONS = 64;

const noAnswer = (error: unknown, signal: AbortSignal | undefined): "unknown" => {
  if (signal?.aborted !== true && error instanceof Fault && error.reason === "STORE_UNAVAILABLE") return "unknown";
  throw error;
};

export const createCommitSlots = (store: ObjectStore, retention: Retention): CommitSlots => ({
  async create(n, bytes, signal, onUnknown) {
    const done = await store.create("ledger", commitKey(n), bytes, { retainUntil: retention(), signal });
    if (done.outcome === "unknown") onUnknown?.(done.cause);
    return done.outcome;
  },
  async read(n, signal) {
    try {
      return (await store.get("ledger", commitKey(n), { signal }))?.body ?? null;
    } catch (error) {
      return noAnswer(error, signal);
    }
  },
  async history(n, signal) {
    try {
      return await historyOf(store, n, signal);
    } catch (error) {
      return noAnswer(error, signal);
    }
  },
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

async function historyOf(store: ObjectStore, n: number, signal: AbortSignal | undefined): Promise<SlotHistory> {
  const key = commitKey(n);
  const ids: string[] = [];
  let hasMarker = false;
  for await (const version of store.versions("ledger", key, { signal })) {
    if (version.key !== key) continue;
    if (version.isMarker) hasMarker = true;
    else ids.push(version.versionId);
  }
  const contents: Uint8Array[] = [];
  for (const versionId of ids.toReversed().slice(0, MAX_VERSIONS)) {
    const body = (await store.get("ledger", key, { signal, versionId }))?.body;
    if (body !== undefined && !contents.some((c) => equalBytes(c, body))) contents.push(body);
  }
  return { contents, hasMarker, versions: ids.length };
}
