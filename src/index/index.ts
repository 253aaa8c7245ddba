/**
 * The index port: a fold of the commits that answers fast and can be thrown away. Owns the contract that every adapter keeps.
 *
 * - `apply` takes the commits that follow the watermark, changes everything in one transaction or nothing, and gives the same
 *   state digest however the commits are batched.
 * - A reader answers for its size whatever is appended meanwhile, and equals the fold of that prefix.
 * - Nothing here is a source of truth: the log never signs what it read from an index.
 */

import type { CommitFacts } from "../fold/facts.ts";
import type { Op } from "../fold/fold.ts";
import type { Rows, View, ViewReader } from "../fold/view.ts";
import type { NodeReader } from "../merkle/proofs.ts";
import type { ValidCommit } from "../record/chain.ts";
import type { Digest, LogIndex, RecordId, TreeSize } from "../std/brand.ts";

export interface Watermark {
  /** Number of the next commit. */
  readonly n: number;
  readonly size: TreeSize;
  /** SHA-256 of the last commit object; of the empty string before any. */
  readonly commitHash: Digest;
  readonly root: Digest;
  readonly state: Digest;
  /** Every record below exists as its own object. */
  readonly materialised: TreeSize;
  /** Size of the published checkpoint. */
  readonly published: TreeSize;
}

/** A commit to apply; with its bytes it is kept in the tail until it is published, and some time longer. */
export interface AppliedCommit extends ValidCommit {
  /** What the fold says of each item, when whoever made the commit has folded them on top of the same state. */
  readonly ops?: readonly (readonly Op[])[];
  readonly bytes?: Uint8Array;
  /** The leaves of its entries, each followed by the subtrees that it completes, when whoever checked the commit has them. */
  readonly subtrees?: readonly Uint8Array[];
  /** The items in another form, which an index may take instead. */
  readonly packed?: PackedItems;
}

/**
 * The items of a commit as bytes and numbers, as a thread that checked them hands them over: an object for each part of each costs
 * more than taking them in.
 */
export interface PackedItems {
  readonly count: number;
  /** The commit object. */
  readonly bytes: Uint8Array;
  /** Where each record begins and ends in it; the same place for one that is not here. */
  readonly spans: Uint32Array;
  /** As `entryRows` of `entry-row.ts` makes them. */
  readonly rows: Uint8Array;
  /** Leaves, each followed by the subtrees that it completes, side by side. */
  readonly nodes: Uint8Array;
  readonly facts: CommitFacts;
}

export interface IndexedEntry {
  readonly index: LogIndex;
  readonly record: RecordId;
  readonly project: RecordId;
  readonly seq: number;
  readonly kind: string;
  /** Number of the commit that holds it. */
  readonly commit: number;
  readonly entryBytes: Uint8Array;
}

export interface OutLink {
  readonly target: LogIndex;
  readonly rel: string;
}

export interface InLink {
  readonly source: LogIndex;
  readonly rel: string;
}

export interface ListQuery {
  readonly project?: RecordId;
  readonly kinds?: readonly string[];
  /** First index of an ascending list, last of a descending one; inclusive. */
  readonly from?: number;
  readonly limit: number;
  readonly reverse?: boolean;
}

export interface IndexedCommit {
  readonly n: number;
  readonly first: LogIndex;
  readonly size: TreeSize;
  readonly hash: Digest;
  readonly state: Digest;
  readonly time: string;
}

/** The links of 256 neighbours: those of the k-th are others[offsets[k] … offsets[k + 1]). */
export interface LinkBlock {
  readonly offsets: Uint32Array;
  readonly others: Uint32Array;
}

/** Links as packed numbers, for walks over many of them. Valid until the next `apply`. */
export interface Adjacency {
  /** Sources from here on are not seen: where they are met in ascending order, the rest is above too. */
  readonly size: TreeSize;
  /** Targets of sources 256·block …, and the number of each source's project. */
  outBlock(block: number): LinkBlock & { readonly projects: Uint32Array };
  /** Sources of targets 256·block …, ascending for each; the newest links are in `recent`. */
  inBlock(block: number): LinkBlock;
  /** The newest sources of a target, ascending, each followed by the number of its relation. */
  recent(target: number): readonly number[];
  projectId(project: number): RecordId;
}

export interface IndexReader extends ViewReader, Disposable {
  entry(i: number): IndexedEntry | undefined;
  indexOf(id: RecordId): LogIndex | undefined;
  /** The record's bytes; undefined beyond the size, or when it is not here. */
  bytes(i: number): Uint8Array | undefined;
  out(i: number): OutLink[];
  in(i: number): InLink[];
  list(query: ListQuery): LogIndex[];
  /** Rows whose key begins with `prefix`, which holds ids whole; in a stable order. */
  scan<V extends View>(view: V, prefix: string): Iterable<readonly [key: string, row: Rows[V]]>;
  heads(): Map<Digest, { readonly count: number; readonly last: Digest }>;
  commit(n: number): IndexedCommit | undefined;
  adjacency(): Adjacency;
}

export interface Index extends AsyncDisposable {
  readonly watermark: Watermark;
  /**
   * Applies the commits that follow the watermark in one transaction; a gap is a bug and asserts. `more` says that others follow at
   * once, so that a larger transaction may wait for them.
   */
  apply(commits: readonly AppliedCommit[], more?: boolean): void;
  setMaterialised(size: TreeSize): void;
  /** Also drops the tail below, except commits whose time is not before `keepFrom`. */
  setPublished(size: TreeSize, keepFrom?: string): void;
  /** Answers for the first `asOf` entries; for all when absent. */
  reader(asOf?: TreeSize): IndexReader;
  /** Hashes of the complete subtrees of the applied tree. */
  nodes(): NodeReader;
  /** The frontier of the applied tree, for comparison with one computed from commits. */
  frontier(): readonly Uint8Array[];
  /** Bytes of commit `n` while it is in the tail: not published, or young. */
  commitBytes(n: number): Uint8Array | undefined;
  /** Waits until everything applied is on the disk. */
  flush(): Promise<void>;
  /** Lets go of the memory that reading takes, which grows with what is read. Nothing may be asked until it is done. */
  release(): Promise<void>;
  /** Forgets everything. */
  clear(): void;
}
