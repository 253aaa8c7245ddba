/**
 * Inclusion and consistency proofs of RFC 6962, made from the complete subtrees of a tree and checked without any.
 *
 * Checks are total: whatever lengths and numbers an attacker gives, the answer is a boolean. Sizes go up to 2^53−1, so nothing
 * here shifts by 32-bit operators.
 */
import { equalBytes } from "../std/bytes.ts";
import { assert } from "../std/assert.ts";
import { EMPTY_ROOT, nodeHash } from "./hash.ts";

/** Gives the hash of the complete subtree of 2^level leaves that begins at leaf index·2^level. */
export type NodeReader = (level: number, index: number) => Uint8Array;

/** The largest power of two below `n`, for n > 1. */
export function splitPoint(n: number): number {
  let k = 1;
  while (k * 2 < n) k *= 2;
  return k;
}

const log2 = (power: number): number => Math.round(Math.log2(power));

/** Root of leaves [lo, hi), where lo is a multiple of the subtree's width. */
export function subtreeRoot(lo: number, hi: number, read: NodeReader): Uint8Array {
  const width = hi - lo;
  if (width === 1) return read(0, lo);
  const k = splitPoint(width);
  if (k * 2 === width && lo % width === 0) return read(log2(width), lo / width);
  return nodeHash(subtreeRoot(lo, lo + k, read), subtreeRoot(lo + k, hi, read));
}

export const rootAt = (size: number, read: NodeReader): Uint8Array => (size === 0 ? EMPTY_ROOT : subtreeRoot(0, size, read));

/** Hashes from the leaf's sibling up to the root's child. */
export function inclusionProof(index: number, size: number, read: NodeReader): Uint8Array[] {
  assert(Number.isSafeInteger(index) && index >= 0 && index < size, "the index is in the tree");
  const proof: Uint8Array[] = [];
  let lo = 0;
  let hi = size;
  while (hi - lo > 1) {
    const k = splitPoint(hi - lo);
    if (index < lo + k) {
      proof.push(subtreeRoot(lo + k, hi, read));
      hi = lo + k;
    } else {
      proof.push(subtreeRoot(lo, lo + k, read));
      lo += k;
    }
  }
  return proof.toReversed();
}

/** Proof that the tree of size `to` extends the tree of size `from`; empty when they are equal or the first is empty. */
export function consistencyProof(from: number, to: number, read: NodeReader): Uint8Array[] {
  assert(from >= 0 && from <= to, "a tree extends a smaller one");
  if (from === 0 || from === to) return [];
  const proof: Uint8Array[] = [];
  let lo = 0;
  let hi = to;
  let whole = true;
  while (from < hi) {
    const k = splitPoint(hi - lo);
    if (from <= lo + k) {
      proof.push(subtreeRoot(lo + k, hi, read));
      hi = lo + k;
    } else {
      proof.push(subtreeRoot(lo, lo + k, read));
      lo += k;
      whole = false;
    }
  }
  // The old tree's own last subtree, which its root alone does not give.
  if (!whole) proof.push(subtreeRoot(lo, hi, read));
  return proof.toReversed();
}

const isSize = (n: number): boolean => Number.isSafeInteger(n) && n >= 0;

/** Root that a proof leads to (RFC 9162 §2.1.3.2); undefined when the proof has the wrong length. */
export function rootFromInclusion(index: number, size: number, leaf: Uint8Array, proof: readonly Uint8Array[]): Uint8Array | undefined {
  if (!isSize(index) || !isSize(size) || index >= size || leaf.length !== 32) return undefined;
  let fn = index;
  let sn = size - 1;
  let node = leaf;
  for (const hash of proof) {
    if (sn === 0 || hash.length !== 32) return undefined;
    if (fn % 2 === 1 || fn === sn) {
      node = nodeHash(hash, node);
      while (fn % 2 === 0 && fn !== 0) {
        fn /= 2;
        sn = Math.floor(sn / 2);
      }
    } else node = nodeHash(node, hash);
    fn = Math.floor(fn / 2);
    sn = Math.floor(sn / 2);
  }
  return sn === 0 ? node : undefined;
}

export function verifyInclusion(index: number, size: number, leaf: Uint8Array, proof: readonly Uint8Array[], root: Uint8Array): boolean {
  const found = rootFromInclusion(index, size, leaf, proof);
  return found !== undefined && equalBytes(found, root);
}

/** Checks RFC 9162 §2.1.4.2. An empty tree is extended by every tree. */
export function verifyConsistency(from: number, to: number, fromRoot: Uint8Array, toRoot: Uint8Array, proof: readonly Uint8Array[]): boolean {
  if (!isSize(from) || !isSize(to) || from > to || proof.some((h) => h.length !== 32)) return false;
  if (from === 0) return proof.length === 0 && equalBytes(fromRoot, EMPTY_ROOT);
  if (from === to) return proof.length === 0 && equalBytes(fromRoot, toRoot);
  const path = Number.isInteger(Math.log2(from)) && 2 ** log2(from) === from ? [fromRoot, ...proof] : [...proof];
  const first = path[0];
  if (first === undefined) return false;
  let fn = from - 1;
  let sn = to - 1;
  while (fn % 2 === 1) {
    fn = Math.floor(fn / 2);
    sn = Math.floor(sn / 2);
  }
  let old = first;
  let fresh = first;
  for (const hash of path.slice(1)) {
    if (sn === 0) return false;
    if (fn % 2 === 1 || fn === sn) {
      old = nodeHash(hash, old);
      fresh = nodeHash(hash, fresh);
      while (fn % 2 === 0 && fn !== 0) {
        fn /= 2;
        sn = Math.floor(sn / 2);
      }
    } else fresh = nodeHash(fresh, hash);
    fn = Math.floor(fn / 2);
    sn = Math.floor(sn / 2);
  }
  return sn === 0 && equalBytes(old, fromRoot) && equalBytes(fresh, toRoot);
}

export function treeRoot(leaves: readonly Uint8Array[]): Uint8Array {
  const store = new HashStore();
  for (const leaf of leaves) store.append(leaf);
  return store.root();
}

/** The complete subtrees of a growing tree, in memory: 64 bytes a leaf. */
export class HashStore {
  readonly #levels: { bytes: Uint8Array; count: number }[] = [];

  get size(): number {
    return this.#levels[0]?.count ?? 0;
  }

  append(leaf: Uint8Array): void {
    let node = leaf;
    for (let level = 0; ; level++) {
      const count = this.#push(level, node);
      if (count % 2 === 1) return;
      node = nodeHash(this.read(level, count - 2), node);
    }
  }

  #push(level: number, node: Uint8Array): number {
    let row = this.#levels[level];
    if (row === undefined) this.#levels.push((row = { bytes: new Uint8Array(32 * 64), count: 0 }));
    if (32 * row.count === row.bytes.length) {
      const grown = new Uint8Array(row.bytes.length * 2);
      grown.set(row.bytes);
      row.bytes = grown;
    }
    row.bytes.set(node, 32 * row.count);
    return ++row.count;
  }

  readonly read: NodeReader = (level, index) => {
    const row = this.#levels[level];
    assert(row !== undefined && index >= 0 && index < row.count, `subtree ${index} of level ${level} is complete`);
    return row.bytes.subarray(32 * index, 32 * index + 32);
  };

  /** Root of the first `size` leaves; of all when absent. */
  root(size: number = this.size): Uint8Array {
    return rootAt(size, this.read);
  }
}
