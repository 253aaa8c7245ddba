import * as fc from "fast-check";
import { expect, it } from "vitest";
import { leafHash } from "../../src/merkle/hash.ts";
import { HashStore } from "../../src/merkle/proofs.ts";
import { rootFromSetProof, setProof } from "../../src/merkle/set-proof.ts";
import { hex, leavesOf, mth, readVector, unhex } from "./model.ts";

interface SetVector {
  readonly name: string;
  readonly size: number;
  readonly leaves: readonly { index: number; hash: string }[];
  readonly proof: readonly string[];
  readonly root?: string;
  readonly code?: string;
}

const vectors = readVector("merkle/set-proof.json") as {
  valid: SetVector[];
  invalid: SetVector[];
  otherRoot: SetVector[];
};
const leavesOfVector = (v: SetVector): { index: number; hash: Uint8Array }[] =>
  v.leaves.map((l) => ({ hash: unhex(l.hash), index: l.index }));
const ctLeaves = (readVector("merkle/rfc6962.json") as { leaves: string[] }).leaves.map((l) => leafHash(unhex(l)));

const LEAVES = leavesOf(700);
const storeOf = (leaves: readonly Uint8Array[]): HashStore => {
  const store = new HashStore();
  for (const leaf of leaves) store.append(leaf);
  return store;
};
const STORE = storeOf(LEAVES);

it("makes and accepts the golden proofs", () => {
  const store = storeOf(ctLeaves);
  expect(vectors.valid.length).toBeGreaterThan(60);
  for (const v of vectors.valid) {
    const indexes = v.leaves.map((l) => l.index);
    expect(setProof(v.size, indexes, store.read).map(hex), v.name).toEqual(v.proof);
    expect(hex(rootFromSetProof(v.size, leavesOfVector(v), v.proof.map(unhex))), v.name).toBe(v.root);
  }
});

it.each(vectors.invalid)("refuses: $name", (v) => {
  expect(() => rootFromSetProof(v.size, leavesOfVector(v), v.proof.map(unhex))).toThrow(
    expect.objectContaining({ code: v.code }),
  );
});

it.each(vectors.otherRoot)("leads to another root: $name", (v) => {
  expect(hex(rootFromSetProof(v.size, leavesOfVector(v), v.proof.map(unhex)))).not.toBe(v.root);
});

const set = fc
  .integer({ max: 700, min: 1 })
  .chain((size) =>
    fc.record({ indexes: fc.uniqueArray(fc.nat(size - 1), { maxLength: 40, minLength: 1 }), size: fc.constant(size) }),
  );

it("leads to the tree's root for any set, and uses each hash once", () => {
  fc.assert(
    fc.property(set, fc.nat(), ({ indexes, size }, at) => {
      const ascending = indexes.toSorted((a, b) => a - b);
      const leaves = ascending.map((index) => ({ hash: LEAVES[index] ?? new Uint8Array(), index }));
      const proof = setProof(size, ascending, STORE.read);
      const root = hex(mth(LEAVES.slice(0, size)));
      expect(hex(rootFromSetProof(size, leaves, proof))).toBe(root);
      const refused = { code: "inclusion.root" };
      expect(() => rootFromSetProof(size, leaves, [...proof, new Uint8Array(32)])).toThrow(
        expect.objectContaining(refused),
      );
      if (proof.length > 0) {
        const i = at % proof.length;
        const changed = proof.with(
          i,
          (proof[i] ?? new Uint8Array(32)).map((b) => b ^ 1),
        );
        expect(hex(rootFromSetProof(size, leaves, changed))).not.toBe(root);
        expect(() => rootFromSetProof(size, leaves, proof.slice(1))).toThrow(expect.objectContaining(refused));
      }
    }),
  );
});

it("refuses to prove an unordered, foreign or empty set", () => {
  for (const indexes of [[], [2, 1], [1, 1], [700], [-1], [0.5]])
    expect(() => setProof(700, indexes, STORE.read)).toThrow(/assertion/);
});

it("skips what is empty in one step, in trees of any size", () => {
  let reads = 0;
  const leaf = new Uint8Array(32);
  const proof = setProof(2 ** 52, [0, 2 ** 52 - 1], () => {
    reads++;
    return leaf;
  });
  expect(proof).toHaveLength(2 * 51);
  expect(reads).toBe(2 * 51);
  expect(
    rootFromSetProof(
      2 ** 52,
      [
        { hash: leaf, index: 0 },
        { hash: leaf, index: 2 ** 52 - 1 },
      ],
      proof,
    ),
  ).toHaveLength(32);
});
