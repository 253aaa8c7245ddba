import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { leafHash, nodeHash } from "../../src/merkle/hash.ts";
import {
  consistencyProof,
  HashStore,
  inclusionProof,
  type NodeReader,
  rootFromInclusion,
  treeRoot,
  verifyConsistency,
  verifyInclusion,
} from "../../src/merkle/proofs.ts";
import { hash, hex, leavesOf, mth, path, readVector, subproof, unhex } from "./model.ts";

interface Rfc6962 {
  readonly leaves: readonly string[];
  readonly roots: readonly string[];
  readonly inclusion: readonly { index: number; size: number; proof: readonly string[] }[];
  readonly consistency: readonly { from: number; to: number; proof: readonly string[] }[];
}

const rfc = readVector("merkle/rfc6962.json") as Rfc6962;
const storeOf = (leaves: readonly Uint8Array[]): HashStore => {
  const store = new HashStore();
  for (const leaf of leaves) store.append(leaf);
  return store;
};
const LEAVES = leavesOf(600);
const STORE = storeOf(LEAVES);
const rootAt = (size: number): Uint8Array => mth(LEAVES.slice(0, size));

describe("known answers of RFC 6962", () => {
  const leaves = rfc.leaves.map((l) => leafHash(unhex(l)));
  const store = storeOf(leaves);
  const root = (size: number): Uint8Array => unhex(rfc.roots[size] ?? "");

  it("roots", () => {
    expect(rfc.roots).toHaveLength(9);
    for (const [size, expected] of rfc.roots.entries()) {
      expect(hex(treeRoot(leaves.slice(0, size)))).toBe(expected);
      expect(hex(store.root(size))).toBe(expected);
    }
  });

  it("inclusion proofs", () => {
    expect(rfc.inclusion).toHaveLength(36);
    for (const { index, size, proof } of rfc.inclusion) {
      expect(inclusionProof(index, size, store.read).map(hex)).toEqual(proof);
      expect(verifyInclusion(index, size, leaves[index] ?? new Uint8Array(), proof.map(unhex), root(size))).toBe(true);
    }
  });

  it("are the same with what is known of the proof before", () => {
    fc.assert(
      fc.property(fc.integer({ max: 600, min: 1 }), fc.array(fc.nat(), { maxLength: 40 }), (size, picks) => {
        const last = { index: 0, path: [] };
        for (const pick of picks) {
          const index = pick % size;
          expect(inclusionProof(index, size, STORE.read, last)).toEqual(inclusionProof(index, size, STORE.read));
          const next = Math.min(index + 1, size - 1);
          expect(inclusionProof(next, size, STORE.read, last)).toEqual(inclusionProof(next, size, STORE.read));
        }
      }),
    );
  });

  it("consistency proofs", () => {
    expect(rfc.consistency).toHaveLength(44);
    for (const { from, to, proof } of rfc.consistency) {
      expect(consistencyProof(from, to, store.read).map(hex)).toEqual(proof);
      expect(verifyConsistency(from, to, root(from), root(to), proof.map(unhex))).toBe(true);
    }
  });
});

interface BadInclusion {
  readonly name: string;
  readonly index: number;
  readonly size: number;
  readonly leaf: string;
  readonly proof: readonly string[];
  readonly root: string;
  readonly code: string;
}

it.each(readVector("merkle/inclusion-invalid.json") as BadInclusion[])("refuses inclusion: $name", (v) => {
  expect(v.code).toBe("inclusion.root");
  expect(verifyInclusion(v.index, v.size, unhex(v.leaf), v.proof.map(unhex), unhex(v.root))).toBe(false);
});

interface BadConsistency {
  readonly name: string;
  readonly from: number;
  readonly to: number;
  readonly fromRoot: string;
  readonly toRoot: string;
  readonly proof: readonly string[];
  readonly code: string;
}

it.each(readVector("merkle/consistency-invalid.json") as BadConsistency[])("refuses consistency: $name", (v) => {
  expect(v.code).toBe("consistency.mismatch");
  expect(verifyConsistency(v.from, v.to, unhex(v.fromRoot), unhex(v.toRoot), v.proof.map(unhex))).toBe(false);
});

const tree = fc
  .integer({ min: 1, max: 600 })
  .chain((size) => fc.record({ index: fc.nat(size - 1), size: fc.constant(size) }));

it("makes the inclusion proofs of the recursive definition, and they verify", () => {
  fc.assert(
    fc.property(tree, ({ index, size }) => {
      const proof = inclusionProof(index, size, STORE.read);
      expect(proof.map(hex)).toEqual(path(index, LEAVES.slice(0, size)).map(hex));
      expect(verifyInclusion(index, size, LEAVES[index] ?? new Uint8Array(), proof, rootAt(size))).toBe(true);
    }),
  );
});

it("makes the consistency proofs of the recursive definition, and they verify", () => {
  fc.assert(
    fc.property(tree, ({ index, size }) => {
      const from = index + 1;
      const proof = consistencyProof(from, size, STORE.read);
      expect(proof.map(hex)).toEqual(subproof(from, LEAVES.slice(0, size)).map(hex));
      expect(verifyConsistency(from, size, rootAt(from), rootAt(size), proof)).toBe(true);
    }),
  );
});

/** One change that makes another proof. */
const mutate = (proof: readonly Uint8Array[], how: number, at: number): Uint8Array[] => {
  const i = proof.length === 0 ? 0 : at % proof.length;
  const hash = proof[i];
  if (how === 0 || hash === undefined) return [...proof, new Uint8Array(32)];
  if (how === 1) return proof.toSpliced(i, 1);
  if (how === 2) return proof.toSpliced(i, 0, hash);
  return proof.with(i, hash.with(at % 32, (hash[at % 32] ?? 0) ^ 1));
};

it("refuses every changed proof, leaf, index and root", () => {
  fc.assert(
    fc.property(tree, fc.nat(3), fc.nat(), ({ index, size }, how, at) => {
      const leaf = LEAVES[index] ?? new Uint8Array();
      const proof = inclusionProof(index, size, STORE.read);
      const root = rootAt(size);
      expect(verifyInclusion(index, size, leaf, mutate(proof, how, at), root)).toBe(false);
      expect(verifyInclusion(index, size, leaf.with(at % 32, (leaf[at % 32] ?? 0) ^ 1), proof, root)).toBe(false);
      if (size > 1) expect(verifyInclusion((index + 1) % size, size, leaf, proof, root)).toBe(false);
      const from = index + 1;
      const extension = consistencyProof(from, size, STORE.read);
      expect(verifyConsistency(from, size, rootAt(from), root, mutate(extension, how, at))).toBe(false);
      if (from < size) {
        expect(verifyConsistency(from, size, rootAt(from - 1), root, extension)).toBe(false);
        expect(verifyConsistency(from, size, rootAt(from), rootAt(size - 1), extension)).toBe(false);
      }
    }),
  );
});

it("answers any input, whatever its numbers and lengths", () => {
  const number = fc.oneof(
    fc.nat(20),
    fc.maxSafeNat(),
    fc.double(),
    fc.constantFrom(-1, -0, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, 2 ** 60),
  );
  const bytes = fc.oneof(fc.uint8Array({ maxLength: 40 }), fc.uint8Array({ maxLength: 32, minLength: 32 }));
  fc.assert(
    fc.property(number, number, bytes, bytes, fc.array(bytes, { maxLength: 70 }), (a, b, x, y, proof) => {
      // Nothing found by chance can lead to a root; equal trees are the only statement without a hash.
      expect(verifyInclusion(a, b, x, proof, y)).toBe(
        b === 1 && a === 0 && proof.length === 0 && x.length === 32 && hex(x) === hex(y),
      );
      if (a !== b) expect(verifyConsistency(a, b, x, y, proof)).toBe(false);
      rootFromInclusion(a, b, x, proof);
    }),
  );
});

/** The tree whose leaves are all the same: its complete subtrees need no store, so its size may be anything. */
const same: NodeReader = (() => {
  const levels = [hash(new Uint8Array([0]))];
  for (let level = 1; level < 54; level++) {
    const below = levels[level - 1] ?? new Uint8Array(32);
    levels.push(nodeHash(below, below));
  }
  return (level, index) => {
    if (index * 2 ** level + 2 ** level > Number.MAX_SAFE_INTEGER) throw new Error("beyond the tree");
    return levels[level] ?? new Uint8Array(32);
  };
})();

it("proves in trees of up to 2^53−1 leaves", () => {
  const leaf = same(0, 0);
  // A tree's root is what the proof of its first leaf leads to.
  const rootOf = (size: number): Uint8Array =>
    rootFromInclusion(0, size, leaf, inclusionProof(0, size, same)) ?? new Uint8Array();
  const size = fc.oneof(
    fc.maxSafeNat(),
    fc
      .integer({ max: 53, min: 30 })
      .chain((e) =>
        fc.constantFrom(
          2 ** e - 1,
          Math.min(2 ** e, Number.MAX_SAFE_INTEGER),
          Math.min(2 ** e + 1, Number.MAX_SAFE_INTEGER),
        ),
      ),
  );
  fc.assert(
    fc.property(size, size, (a, b) => {
      const [from, to] = a < b ? [a, b] : [b, a];
      fc.pre(from > 0);
      const root = rootOf(to);
      const proof = inclusionProof(from - 1, to, same);
      expect(proof.length).toBeLessThanOrEqual(53);
      expect(verifyInclusion(from - 1, to, leaf, proof, root)).toBe(true);
      const extension = consistencyProof(from, to, same);
      expect(verifyConsistency(from, to, rootOf(from), root, extension)).toBe(true);
      if (from < to) expect(verifyConsistency(from, to, rootOf(from), root, [...extension, leaf])).toBe(false);
    }),
  );
});

it("never proves what the tree does not have", () => {
  expect(() => inclusionProof(600, 600, STORE.read)).toThrow(/assertion/);
  expect(() => inclusionProof(-1, 600, STORE.read)).toThrow(/assertion/);
  expect(() => consistencyProof(7, 6, STORE.read)).toThrow(/assertion/);
  expect(() => inclusionProof(0, 601, STORE.read)).toThrow(/assertion/);
  expect(() => STORE.read(0, 600)).toThrow(/assertion/);
  expect(() => STORE.root(601)).toThrow(/assertion/);
});

it("keeps every complete subtree, and every root", () => {
  for (const size of [0, 1, 2, 63, 64, 65, 255, 256, 257, 600]) expect(hex(STORE.root(size))).toBe(hex(rootAt(size)));
  for (const [level, index] of [
    [0, 599],
    [1, 3],
    [5, 17],
    [8, 1],
    [9, 0],
  ] as const) {
    const width = 2 ** level;
    expect(hex(STORE.read(level, index))).toBe(hex(mth(LEAVES.slice(index * width, (index + 1) * width))));
  }
  expect(STORE.size).toBe(600);
  expect(hex(treeRoot(LEAVES))).toBe(hex(rootAt(600)));
});
