/**
 * An entry as 80 bytes: 0 digest of the record, 32 prev, 64 index of the project's creation, 68 seq, 72 kind, 74 flags, 76 commit;
 * numbers little-endian. What must be known of the whole index, project and kind, is filled in by who has it.
 */
import type { ValidItem } from "../record/chain.ts";
import { assert } from "../std/assert.ts";
import { readHex } from "../std/bytes.ts";

export const ENTRY_ROW = 80;
export const PREV_AT = 32;
export const PROJECT_AT = 64;
export const SEQ_AT = 68;
export const KIND_AT = 72;
export const COMMIT_AT = 76;

const digest = new Uint8Array(32);
const ID = "sha256:";

/** The rows of a commit's items, without project and kind. */
export function entryRows(items: readonly Pick<ValidItem, "entry">[], commit: number): Uint8Array<ArrayBuffer> {
  const rows = new Uint8Array(ENTRY_ROW * items.length);
  const view = new DataView(rows.buffer);
  let at = 0;
  for (const { entry } of items) {
    assert(readHex(entry.record, ID.length, digest), "an id is hex");
    rows.set(digest, at);
    assert(readHex(entry.prev, 0, digest), "a digest is hex");
    rows.set(digest, at + PREV_AT);
    view.setUint32(at + SEQ_AT, entry.seq, true);
    view.setUint32(at + COMMIT_AT, commit, true);
    at += ENTRY_ROW;
  }
  return rows;
}
