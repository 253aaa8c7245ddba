/**
 * Signed trees that the log must extend: what the signer signed last, what is archived, what is published. Each is opened under
 * the log keys that the commits name, and none is trusted beyond its signature; the proof that the applied tree extends it comes
 * from the index, so a failure says `Inconsistent`: a wrong row there looks like a wrong bucket.
 */
import { verifyConsistency } from "../merkle/proofs.ts";
import { openCheckpoint } from "../note/checkpoint.ts";
import type { SignatureVerifier } from "../note/signatures.ts";
import { formatHex } from "../std/bytes.ts";
import type { Clock } from "../std/ports.ts";
import { Violation } from "../std/violation.ts";
import { HEAD_CHECKPOINT } from "../store/keys.ts";
import type { ObjectStore } from "../store/object-store.ts";
import { persist } from "../store/place.ts";
import type { Applied } from "./applied.ts";
import { newestArchived } from "./archive.ts";
import type { LastSigned, Logger } from "./ports.ts";
import type { Published } from "./publish.ts";
import type { TreeHead } from "./signer.ts";

export interface NoteReading {
  readonly store: ObjectStore;
  readonly lastSigned: LastSigned;
  readonly verifier: SignatureVerifier;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Named by an operator when the signer's memory is lost: the tree that was known last. */
  readonly acceptHead?: TreeHead | undefined;
}

export interface Notes {
  readonly lastSigned: readonly Uint8Array[];
  readonly archived: Uint8Array | null;
  readonly head: Uint8Array | null;
}

/** What a writer begins with. */
export interface SignedBefore {
  /** What the signer signed last, or what the operator accepted. */
  readonly last: TreeHead;
  /** `last`, when nothing but the operator's word stands for it. */
  readonly accepted?: TreeHead;
  readonly published: Published | null;
}

/** Two trees of which one should extend the other. */
export class Inconsistent extends Violation {}

/** To be read before the commits: another writer may still publish, and what it publishes later may be ahead of them. */
export const readNotes = (
  { clock, lastSigned, store }: Pick<NoteReading, "clock" | "lastSigned" | "store">,
  signal: AbortSignal,
): Promise<Notes> =>
  persist({ clock, signal }, async () => ({
    archived: await newestArchived(store, signal),
    head: (await store.get("head", HEAD_CHECKPOINT, { signal }))?.body ?? null,
    lastSigned: await lastSigned.read(),
  }));

/** Refuses to write where the applied tree does not extend every one of them. */
export function checkNotes(reading: NoteReading, applied: Applied, read: Notes): SignedBefore {
  const remembered = newestOf(reading, applied, read.lastSigned);
  const last = remembered ?? reading.acceptHead;
  if (last === undefined) {
    const { root, size } = applied.head();
    throw new Violation(
      "ledger.head-unknown",
      `nothing here remembers what was signed. If the ledger is known to have reached this head, start with --accept-head ${size}:${formatHex(root)}`,
    );
  }
  assertExtends(applied, last, "ledger.rollback", "the last signed checkpoint");
  const archived = read.archived === null ? undefined : newestOf(reading, applied, [read.archived]);
  if (archived !== undefined) assertExtends(applied, archived, "checkpoint.root", "the newest archived checkpoint");
  const head = read.head === null ? undefined : newestOf(reading, applied, [read.head]);
  if (head !== undefined) assertExtends(applied, head, "checkpoint.root", "the published checkpoint");
  const published =
    head !== undefined && read.head !== null && isPublished(reading, applied, read.head)
      ? { note: read.head, size: head.size }
      : null;
  if (remembered !== undefined && reading.acceptHead !== undefined)
    reading.logger.warn({}, "the signer remembers what it signed: --accept-head has no effect");
  return { last, published, ...(remembered === undefined ? { accepted: last } : {}) };
}

/** The tree of a published note that a log key signed; undefined for anything else, which head may hold. */
export function openPublished(
  reading: Pick<NoteReading, "logger" | "verifier">,
  applied: Applied,
  note: Uint8Array,
): TreeHead | undefined {
  const head = newestOf(reading, applied, [note]);
  return head !== undefined && isPublished(reading, applied, note) ? head : undefined;
}

/** Only publication adds the ML-DSA-44 line: a note of an acknowledgement, put in its place, does not pass. */
function isPublished({ verifier }: Pick<NoteReading, "verifier">, { chain }: Applied, note: Uint8Array): boolean {
  const keys = [...chain.keys.ever("KEY_ROLE_LOG"), ...chain.keys.ever("KEY_ROLE_LOG_PQ")];
  return openCheckpoint(note, keys, verifier).signedBy.some((key) => key.algorithm === 6);
}

/** The largest tree among notes that a log key of this ledger signed; others are torn or foreign and say nothing. */
function newestOf(
  { logger, verifier }: Pick<NoteReading, "logger" | "verifier">,
  { chain }: Applied,
  notes: readonly Uint8Array[],
): TreeHead | undefined {
  let newest: TreeHead | undefined;
  for (const bytes of notes) {
    try {
      const keys = chain.keys.ever("KEY_ROLE_LOG");
      const { checkpoint, signedBy } = openCheckpoint(bytes, keys, verifier);
      if (checkpoint.origin !== chain.origin || signedBy.length === 0) continue;
      if (newest === undefined || checkpoint.size > newest.size)
        newest = { root: checkpoint.root, size: checkpoint.size };
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      logger.warn({ code: error.code, detail: error.message }, "a note was passed over");
    }
  }
  return newest;
}

export function assertExtends(applied: Applied, head: TreeHead, code: string, what: string): void {
  const now = applied.head();
  if (head.size > now.size) {
    throw new Violation(
      "ledger.rollback",
      `${what} has size ${head.size}, the bucket ends at ${now.size}: it is a part of an older state. Restore the bucket, or take over with new keys`,
    );
  }
  if (!verifyConsistency(head.size, now.size, head.root, now.root, applied.prove(head.size, now.size))) {
    throw new Inconsistent(code, `the bucket's tree of size ${now.size} does not extend ${what} of size ${head.size}`);
  }
}
