/**
 * One proof for many entries of a tree (`docs/formats/pack.md`): the hashes of the largest subtrees without any of them, in the
 * order in which a walk from the root meets them. Smaller than a path for each entry, and simpler to check.
 */
import { Violation } from "../std/violation.ts";
import { nodeHash } from "./hash.ts";
import { type NodeReader, splitPoint, subtreeRoot } from "./proofs.ts";

export function setProof(size: number, indexes: readonly number[], read: NodeReader): Uint8Array[] {
  const proof: Uint8Array[] = [];
  /** Walks [lo, hi), which holds indexes[from, to). */
  const walk = (lo: number, hi: number, from: number, to: number): void => {
    if (from === to) proof.push(subtreeRoot(lo, hi, read));
    else if (hi - lo > 1) {
      const k = lo + splitPoint(hi - lo);
      const middle = firstAtLeast(indexes, k, from, to);
      walk(lo, k, from, middle);
      walk(k, hi, middle, to);
    }
  };
  walk(0, size, 0, indexes.length);
  return proof;
}

function firstAtLeast(indexes: readonly number[], bound: number, from: number, to: number): number {
  let low = from;
  let high = to;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((indexes[middle] ?? 0) < bound) low = middle + 1;
    else high = middle;
  }
  return low;
}

export interface SetLeaf {
  readonly index: number;
  readonly hash: Uint8Array;
}

/** The root that the leaves and the proof give; a Violation when the proof does not fit them exactly. */
export function rootFromSetProof(size: number, leaves: readonly SetLeaf[], proof: readonly Uint8Array[]): Uint8Array {
  const bad = (detail: string): Violation => new Violation("inclusion.root", detail);
  if (leaves.length === 0) throw bad("the set of entries is empty");
  const indexes = leaves.map((l) => l.index);
  if (indexes.some((index, i) => !Number.isSafeInteger(index) || index < 0 || index >= size || (i > 0 && index <= (indexes[i - 1] ?? 0)))) throw bad("indexes do not ascend below the tree's size");
  let used = 0;
  const walk = (lo: number, hi: number, from: number, to: number): Uint8Array => {
    if (from === to) {
      const hash = proof[used++];
      if (hash?.length !== 32) throw bad("the proof has too few hashes");
      return hash;
    }
    if (hi - lo === 1) {
      const leaf = leaves[from]?.hash;
      if (leaf?.length !== 32) throw bad("a leaf is not a hash");
      return leaf;
    }
    const k = lo + splitPoint(hi - lo);
    const middle = firstAtLeast(indexes, k, from, to);
    const left = walk(lo, k, from, middle);
    return nodeHash(left, walk(k, hi, middle, to));
  };
  const root = walk(0, size, 0, leaves.length);
  if (used !== proof.length) throw bad("the proof has hashes that nothing uses");
  return root;
}
