/**
 * Inclusion and consistency proofs of RFC 6962, made from the complete subtrees of a tree and checked without any.
 *
 * Checks are total: whatever lengths and numbers an attacker gives, the answer is false or undefined. Making a proof for an index
 * or size that the tree does not have is a bug, and asserts.
 */
import { assert } from "../std/assert.ts";
import { equalBytes } from "../std/bytes.ts";
import { Frontier } from "./frontier.ts";
import { EMPTY_ROOT, nodeHash } from "./hash.ts";
import { floorLog2, isCount, isPowerOfTwo, splitPoint } from "./split.ts";

/** Gives the hash of the complete subtree of 2^level leaves that begins at leaf index·2^level. */
export type NodeReader = (level: number, index: number) => Uint8Array;

/** Root of leaves [lo, hi), where lo is a multiple of the smallest power of two that is not below hi − lo. */
export function subtreeRoot(lo: number, hi: number, read: NodeReader): Uint8Array {
  const width = hi - lo;
  if (isPowerOfTwo(width)) return read(floorLog2(width), lo / width);
  const middle = lo + splitPoint(width);
  return nodeHash(subtreeRoot(lo, middle, read), subtreeRoot(middle, hi, read));
}

/** The proof that was made last in one tree, from the root's child down; none at first. */
export interface LastProof {
  index: number;
  path: readonly Uint8Array[];
}

/**
 * RFC 6962 §2.1.1: hashes from the leaf's sibling up to the root's child. The proofs of neighbours are the same above the subtree that
 * holds both: with a `last` that is kept for the tree of this size, they are not looked up again.
 */
export function inclusionProof(
  index: number,
  size: number,
  read: NodeReader,
  last: LastProof = { index: 0, path: [] },
): Uint8Array[] {
  assert(isCount(index) && isCount(size) && index < size, "the index is in the tree");
  const path: Uint8Array[] = [];
  let lo = 0;
  let hi = size;
  let known = last.path.length;
  while (hi - lo > 1) {
    const middle = lo + splitPoint(hi - lo);
    const isLeft = index < middle;
    // On the same side of every split so far, both have the same siblings.
    if (last.index < middle !== isLeft) known = 0;
    const sibling = path.length < known ? last.path[path.length] : undefined;
    path.push(sibling ?? (isLeft ? subtreeRoot(middle, hi, read) : subtreeRoot(lo, middle, read)));
    if (isLeft) hi = middle;
    else lo = middle;
  }
  last.index = index;
  last.path = path;
  return path.toReversed();
}

/** RFC 6962 §2.1.2: that the tree of size `to` extends the tree of size `from`; empty when they are equal or the first is empty. */
export function consistencyProof(from: number, to: number, read: NodeReader): Uint8Array[] {
  assert(isCount(from) && isCount(to) && from <= to, "a tree extends a smaller one");
  if (from === 0 || from === to) return [];
  const proof: Uint8Array[] = [];
  let lo = 0;
  let hi = to;
  while (from < hi) {
    const middle = lo + splitPoint(hi - lo);
    if (from <= middle) {
      proof.push(subtreeRoot(middle, hi, read));
      hi = middle;
    } else {
      proof.push(subtreeRoot(lo, middle, read));
      lo = middle;
    }
  }
  // The last subtree of the old tree, unless it is the whole old tree: its root the verifier has.
  if (lo > 0) proof.push(subtreeRoot(lo, hi, read));
  return proof.toReversed();
}

const isHash = (hash: Uint8Array): boolean => hash.length === 32;

/** Root that a proof leads to (RFC 9162 §2.1.3.2); undefined when the proof has the wrong length. */
export function rootFromInclusion(
  index: number,
  size: number,
  leaf: Uint8Array,
  proof: readonly Uint8Array[],
): Uint8Array | undefined {
  if (!isCount(index) || !isCount(size) || index >= size || !isHash(leaf)) return undefined;
  let fn = index;
  let sn = size - 1;
  let node = leaf;
  for (const hash of proof) {
    if (sn === 0 || !isHash(hash)) return undefined;
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

export function verifyInclusion(
  index: number,
  size: number,
  leaf: Uint8Array,
  proof: readonly Uint8Array[],
  root: Uint8Array,
): boolean {
  const found = rootFromInclusion(index, size, leaf, proof);
  return found !== undefined && equalBytes(found, root);
}

/** RFC 9162 §2.1.4.2. Every tree extends the empty one. */
export function verifyConsistency(
  from: number,
  to: number,
  fromRoot: Uint8Array,
  toRoot: Uint8Array,
  proof: readonly Uint8Array[],
): boolean {
  if (!isCount(from) || !isCount(to) || from > to || !isHash(fromRoot) || !isHash(toRoot)) return false;
  if (from === to)
    return proof.length === 0 && equalBytes(fromRoot, toRoot) && (to > 0 || equalBytes(toRoot, EMPTY_ROOT));
  if (from === 0) return proof.length === 0 && equalBytes(fromRoot, EMPTY_ROOT);
  let fn = from - 1;
  let sn = to - 1;
  while (fn % 2 === 1) {
    fn = (fn - 1) / 2;
    sn = Math.floor(sn / 2);
  }
  // A complete old tree is itself the first hash, and the proof leaves it out.
  let at = isPowerOfTwo(from) ? 0 : 1;
  const first = at === 0 ? fromRoot : proof[0];
  if (first === undefined || !isHash(first)) return false;
  let older = first;
  let newer = first;
  for (; at < proof.length; at++) {
    const hash = proof[at];
    if (sn === 0 || hash === undefined || !isHash(hash)) return false;
    if (fn % 2 === 1 || fn === sn) {
      older = nodeHash(hash, older);
      newer = nodeHash(hash, newer);
      while (fn % 2 === 0 && fn !== 0) {
        fn /= 2;
        sn = Math.floor(sn / 2);
      }
    } else newer = nodeHash(newer, hash);
    fn = Math.floor(fn / 2);
    sn = Math.floor(sn / 2);
  }
  return sn === 0 && equalBytes(older, fromRoot) && equalBytes(newer, toRoot);
}

/** Root over leaf hashes. */
export function treeRoot(leaves: readonly Uint8Array[]): Uint8Array {
  const frontier = Frontier.empty();
  for (const leaf of leaves) frontier.append(leaf);
  return frontier.root();
}

const FIRST_ROW_BYTES = 2_048;

/** The complete subtrees of a growing tree, in memory: 64 bytes a leaf, and as much again while a row grows. */
export class HashStore {
  /** Row l holds the hashes of level l side by side; rows double when full. */
  readonly #rows: { bytes: Uint8Array; count: number }[] = [];

  get size(): number {
    return this.#rows[0]?.count ?? 0;
  }

  /** Takes a leaf hash. */
  append(leaf: Uint8Array): void {
    assert(isHash(leaf), "a hash has 32 bytes");
    let node = leaf;
    for (let level = 0; ; level++) {
      const count = this.#push(level, node);
      if (count % 2 === 1) return;
      node = nodeHash(this.read(level, count - 2), node);
    }
  }

  /** Takes what appending leaves to a frontier of this size made, so that nothing is hashed again. */
  extend(made: readonly Uint8Array[]): void {
    let level = 0;
    for (const node of made) level = this.#push(level, node) % 2 === 0 ? level + 1 : 0;
    assert(level === 0, "what completes a subtree comes with it");
  }

  #push(level: number, node: Uint8Array): number {
    let row = this.#rows[level];
    if (row === undefined) {
      row = { bytes: new Uint8Array(FIRST_ROW_BYTES), count: 0 };
      this.#rows.push(row);
    }
    if (32 * row.count === row.bytes.length) {
      const grown = new Uint8Array(2 * row.bytes.length);
      grown.set(row.bytes);
      row.bytes = grown;
    }
    row.bytes.set(node, 32 * row.count);
    return ++row.count;
  }

  /** Gives a view, not a copy: valid for ever, and not to be changed. */
  readonly read: NodeReader = (level, index) => {
    const row = this.#rows[level];
    assert(row !== undefined && index >= 0 && index < row.count, `subtree ${index} of level ${level} is complete`);
    return row.bytes.subarray(32 * index, 32 * index + 32);
  };

  /** `count` neighbours side by side; a view as well. */
  row(level: number, from: number, count: number): Uint8Array {
    const row = this.#rows[level];
    assert(
      row !== undefined && from >= 0 && from + count <= row.count,
      `these subtrees of level ${level} are complete`,
    );
    return row.bytes.subarray(32 * from, 32 * (from + count));
  }

  /** Root of the first `size` leaves; of all when absent. */
  root(size: number = this.size): Uint8Array {
    assert(isCount(size) && size <= this.size, "the tree has that many leaves");
    return size === 0 ? EMPTY_ROOT : subtreeRoot(0, size, this.read);
  }
}
