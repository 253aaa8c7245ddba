/**
 * The checkpoints of sealed sizes, locked in the ledger bucket for as long as the ledger lives. A set: several notes of one size
 * may stand side by side, and readers take the union of their signatures.
 */

import { sha256Hex } from "../merkle/hash.ts";
import { parseCheckpoint } from "../note/checkpoint.ts";
import { parseNote } from "../note/note.ts";
import { checkpointKey, parseKey } from "../store/keys.ts";
import type { ObjectStore } from "../store/object-store.ts";
import { type Placing, placeLocked } from "../store/place.ts";

export async function archiveCheckpoint(placing: Placing, note: Uint8Array, retainUntil: number): Promise<string> {
  const { size } = parseCheckpoint(parseNote(note).text);
  const key = checkpointKey(size, sha256Hex(note).slice(0, 16));
  await placeLocked(placing, key, note, retainUntil);
  return key;
}

export interface ArchivedKey {
  readonly key: string;
  readonly size: number;
}

/** Keys of the archive from `size` on, ascending by size; names that are not of the archive are passed over. */
export async function* archived(store: ObjectStore, size = 0, signal?: AbortSignal): AsyncIterable<ArchivedKey> {
  const after = `checkpoints/${String(size).padStart(20, "0")}`;
  for await (const { key } of store.list("ledger", "checkpoints/", { after, signal })) {
    const named = parseKey("ledger", key);
    if (named?.type === "checkpoint") yield { key, size: named.size };
  }
}

/** The note of the largest archived size; null when there is none. */
export async function newestArchived(store: ObjectStore, signal?: AbortSignal): Promise<Uint8Array | null> {
  let newest: ArchivedKey | undefined;
  for await (const found of archived(store, 0, signal)) newest = found;
  return newest === undefined ? null : ((await store.get("ledger", newest.key, { signal }))?.body ?? null);
}
