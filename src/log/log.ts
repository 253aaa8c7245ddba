/**
 * The log as the rest of the server sees it: submit a change, get it back with its place and a proof.
 */
import type { Index } from "../index/index.ts";
import type { ValidCommit } from "../record/chain.ts";
import type { LogIndex, RecordId, TreeSize } from "../std/brand.ts";
import type { Outcome, Submission } from "./submission.ts";

export type { Admitted, Committed, CommittedRecord, Draft, DraftLink, DraftRef, Lane, Outcome, Submission } from "./submission.ts";

/** Why an entry is in the log: `proof` leads from `leafHash` to the root of `checkpoint`. */
export interface LogReceipt {
  readonly index: LogIndex;
  readonly entry: string;
  readonly leafHash: Uint8Array;
  readonly proof: readonly Uint8Array[];
  readonly size: TreeSize;
  /** A signed note. */
  readonly checkpoint: string;
}

export interface Seal {
  readonly index: LogIndex;
  readonly size: TreeSize;
  /** The archived note; the seal is its last entry. */
  readonly checkpoint: Uint8Array;
}

export interface LogHealth {
  /** Whether changes are taken; with the code of what stopped the writer when not. */
  readonly writing: boolean;
  readonly stopped?: string;
  readonly size: TreeSize;
  readonly signed: TreeSize;
  readonly materialised: TreeSize;
  readonly published: TreeSize;
  readonly queuedRecords: number;
  readonly queuedBytes: number;
}

export interface Log extends AsyncDisposable {
  /**
   * Admits, sequences, commits, applies and signs. Rejects with what `admit` threw, or Fault STATE_CHANGED, RATE_LIMITED,
   * DEADLINE_EXCEEDED, WRITER_LOST, NOT_WRITER. "Failed" is never said of what may be committed: DEADLINE_EXCEEDED and
   * WRITER_LOST leave that open, and the same request id answers it later.
   */
  submit<T>(submission: Submission<T>): Promise<Outcome<T>>;
  /** Against the newest signed checkpoint, or against the signed checkpoint of `size` while it is remembered. */
  receipt(index: LogIndex, size?: TreeSize): LogReceipt;
  /** The newest signed note. */
  checkpoint(): string;
  /** The newest published note; null before the first. */
  published(): Uint8Array | null;
  /** Appends a seal and archives the checkpoint that it closes; callers at the same time share one. */
  seal(signal?: AbortSignal): Promise<Seal>;
  readonly index: Index;
  readonly origin: string;
  readonly genesis: RecordId;
  /** Called after a commit is applied, in order. */
  onCommit(listener: (commit: ValidCommit) => void): () => void;
  health(): LogHealth;
}
