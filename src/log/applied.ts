/**
 * The log as this process has applied it: chain, tree, index and the memory of changes, moved together by `apply` and by nothing
 * else. The chain decides what comes next and what its root is; the index answers; the tree proves.
 */
import type { AppliedCommit, Index, IndexReader } from "../index/index.ts";
import { consistencyProof } from "../merkle/proofs.ts";
import type { SignatureVerifier } from "../note/signatures.ts";
import type { CommitChain } from "../record/chain.ts";
import { assert } from "../std/assert.ts";
import type { RecordId, TreeSize } from "../std/brand.ts";
import { Changes } from "./changes.ts";
import type { TreeHead } from "./signer.ts";
import { LogTree } from "./tree.ts";

export class Applied {
  #chain: CommitChain;
  readonly index: Index;
  readonly tree: LogTree;
  readonly changes: Changes;
  #reader: IndexReader;

  /** `chain` and `index` stand at the same size. */
  constructor(chain: CommitChain, index: Index) {
    assert(
      chain.size === index.watermark.size && chain.n === index.watermark.n,
      "chain and index stand at the same commit",
    );
    this.#chain = chain;
    this.index = index;
    this.tree = new LogTree(chain.size, index.nodes());
    this.changes = new Changes(chain.size);
    this.#reader = index.reader();
  }

  get chain(): CommitChain {
    return this.#chain;
  }

  get size(): TreeSize {
    return this.chain.size as TreeSize;
  }

  /** Of the applied state; another one after each `apply`, so never keep it across an await. */
  get reader(): IndexReader {
    return this.#reader;
  }

  readonly knows = (id: RecordId): boolean => this.#reader.indexOf(id) !== undefined;

  head(): TreeHead {
    return { root: this.#chain.root(), size: this.#chain.size };
  }

  prove(from: number, to: number): readonly Uint8Array[] {
    return consistencyProof(from, to, this.tree.read);
  }

  /** Applies the commit that comes next. Either all of it moves, or it throws and the process must stop writing. */
  apply(commit: Omit<AppliedCommit, "bytes">, bytes: Uint8Array): void {
    this.index.apply([{ ...commit, bytes }]);
    this.#chain = this.#chain.advance(commit);
    for (const item of commit.items) this.tree.append(item.leaf);
    this.#reader[Symbol.dispose]();
    this.#reader = this.index.reader();
  }

  /** Goes past junk in the next slot, which the next commit then voids; entries and index stay as they are. */
  skip(junk: Uint8Array, verifier: SignatureVerifier): void {
    this.#chain = this.#chain.skip(junk, verifier);
  }

  [Symbol.dispose](): void {
    this.#reader[Symbol.dispose]();
  }
}
