/**
 * What is handed to the log, and what comes back. Shapes only.
 *
 * `admit` is synchronous and pure over its reader, so that it may run again when a row that it read has moved: everything slow
 * (uploads, preimages of personal values) happens before.
 */
import type { ViewReader } from "../fold/view.ts";
import type { JsonObject } from "../record/json.ts";
import type { Kind } from "../record/kinds.ts";
import type { Actor, LedgerRecord } from "../record/record.ts";
import type { LogIndex, RecordId, TreeSize } from "../std/brand.ts";

/** `$k` stands for the record that the k-th draft of the same group becomes; k is smaller than the draft's own position. */
export type DraftRef = RecordId | `$${number}`;

export interface DraftLink {
  readonly rel: string;
  readonly to: DraftRef;
}

/** A record without what the log gives it: salt and time. */
export interface Draft {
  readonly kind: Kind;
  /** Absent exactly in the record that creates a project. */
  readonly project?: DraftRef;
  readonly actor: Actor;
  readonly body: JsonObject;
  readonly links: readonly DraftLink[];
  readonly requestId: string;
}

export interface Admitted<T> {
  /** All of one group: they enter one commit, contiguously, or not at all. Empty when nothing is to be written. */
  readonly drafts: readonly Draft[];
  readonly value: T;
}

/** Reserved for access, policy and hold changes: a full queue of ordinary work does not delay them. */
export type Lane = "normal" | "control";

export interface Submission<T> {
  /** Notes as guards what it reads; throws a Fault to refuse. */
  admit(reader: ViewReader, nowMs: number): Admitted<T>;
  /** Whose share of the queue this takes. */
  readonly project: RecordId;
  readonly lane?: Lane;
  readonly signal?: AbortSignal;
  /** Of the wall clock; work that cannot be done by then is refused, work that was begun is finished. */
  readonly deadlineMs?: number;
}

export interface CommittedRecord {
  readonly id: RecordId;
  readonly index: LogIndex;
  readonly bytes: Uint8Array;
  readonly record: LedgerRecord;
}

export interface Committed {
  readonly records: readonly CommittedRecord[];
  /** Size of the first signed checkpoint that covers them. */
  readonly size: TreeSize;
}

export interface Outcome<T> {
  readonly value: T;
  /** Null when nothing was to be written. */
  readonly committed: Committed | null;
}
