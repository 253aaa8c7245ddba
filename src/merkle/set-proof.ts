/**
 * One proof for many entries of a tree (`docs/formats/packs.md`): the hashes of the largest subtrees without any of them, in
 * the order in which a walk from the root meets them. Smaller than a path for each entry, and simpler to check.
 *
 * A walk goes only into ranges that hold an entry, so it never goes deeper than the tree nor costs more than a path an entry.
 */
import { assert } from "../std/assert.ts";
import { Violation } from "../std/violation.ts";
import { nodeHash } from "./hash.ts";
import { type NodeReader, subtreeRoot } from "./proofs.ts";
import { isCount, splitPoint } from "./split.ts";

const ascends = (size: number, indexes: readonly number[]): boolean =>
  isCount(size) &&
  indexes.every((index, i) => isCount(index) && index < size && (i === 0 || index > (indexes[i - 1] ?? 0)));

/** Position of the first index that is not below `bound`, in indexes[from, to). */
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

/** Proof for the entries at `indexes`: ascending, unique, at least one, all below `size`. */
export function setProof(size: number, indexes: readonly number[], read: NodeReader): Uint8Array[] {
  assert(indexes.length > 0 && ascends(size, indexes), "indexes ascend below the tree's size");
  const proof: Uint8Array[] = [];
  /** Walks [lo, hi), which holds indexes[from, to). */
  const walk = (lo: number, hi: number, from: number, to: number): void => {
    if (from === to) proof.push(subtreeRoot(lo, hi, read));
    else if (hi - lo > 1) {
      const middle = lo + splitPoint(hi - lo);
      const at = firstAtLeast(indexes, middle, from, to);
      walk(lo, middle, from, at);
      walk(middle, hi, at, to);
    }
  };
  walk(0, size, 0, indexes.length);
  return proof;
}

export interface SetLeaf {
  readonly index: number;
  readonly hash: Uint8Array;
}

/** The root that leaves and proof give. Throws the Violation `inclusion.root` when they do not fit each other exactly. */
export function rootFromSetProof(size: number, leaves: readonly SetLeaf[], proof: readonly Uint8Array[]): Uint8Array {
  const indexes = leaves.map((leaf) => leaf.index);
  if (leaves.length === 0 || !ascends(size, indexes))
    throw new Violation("inclusion.root", "the indexes are none, or do not ascend below the tree's size");
  if (leaves.some((leaf) => leaf.hash.length !== 32) || proof.some((hash) => hash.length !== 32))
    throw new Violation("inclusion.root", "a hash is not of 32 bytes");
  let used = 0;
  const walk = (lo: number, hi: number, from: number, to: number): Uint8Array => {
    const given = from === to ? proof[used++] : hi - lo === 1 ? leaves[from]?.hash : undefined;
    if (given !== undefined) return given;
    if (from === to) throw new Violation("inclusion.root", "the proof lacks hashes");
    const middle = lo + splitPoint(hi - lo);
    const at = firstAtLeast(indexes, middle, from, to);
    const left = walk(lo, middle, from, at);
    return nodeHash(left, walk(middle, hi, at, to));
  };
  const root = walk(0, size, 0, leaves.length);
  if (used !== proof.length)
    throw new Violation("inclusion.root", `the proof has ${proof.length - used} hashes that nothing uses`);
  return root;
}
