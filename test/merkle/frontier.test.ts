import * as fc from "fast-check";
import { expect, it } from "vitest";
import { Frontier } from "../../src/merkle/frontier.ts";
import { nodeHash } from "../../src/merkle/hash.ts";
import { hex, leavesOf, mth } from "./model.ts";

const LEAVES = leavesOf(300);

function frontierOf(n: number): Frontier {
  const frontier = Frontier.empty();
  for (const leaf of LEAVES.slice(0, n)) frontier.append(leaf);
  return frontier;
}

it("has the root of RFC 6962 at every size", () => {
  const frontier = Frontier.empty();
  expect(hex(frontier.root())).toBe(hex(mth([])));
  for (const [i, leaf] of LEAVES.entries()) {
    frontier.append(leaf);
    expect(frontier.size).toBe(i + 1);
    expect(hex(frontier.root())).toBe(hex(mth(LEAVES.slice(0, i + 1))));
  }
});

it("goes on from its hashes, its bytes and a clone alike, and leaves the original alone", () => {
  fc.assert(
    fc.property(fc.nat(200), fc.nat(60), (n, more) => {
      const original = frontierOf(n);
      const before = hex(original.root());
      const copies = [Frontier.from(n, original.hashes()), Frontier.parse(original.serialize()), original.clone()];
      for (const copy of copies) {
        for (const leaf of LEAVES.slice(n, n + more)) copy.append(leaf);
        expect(copy.size).toBe(n + more);
        expect(hex(copy.root())).toBe(hex(mth(LEAVES.slice(0, n + more))));
      }
      expect(original.size).toBe(n);
      expect(hex(original.root())).toBe(before);
    }),
  );
});

it("carries sizes beyond 32 bits", () => {
  const [a, b, c] = LEAVES;
  if (a === undefined || b === undefined || c === undefined) throw new Error("three leaves");
  const frontier = Frontier.from(2 ** 52 + 2 ** 33 + 1, [a, b, c]);
  const again = Frontier.parse(frontier.serialize());
  expect(again.size).toBe(2 ** 52 + 2 ** 33 + 1);
  again.append(a);
  expect(again.hashes().map(hex)).toEqual([a, b, nodeHash(c, a)].map(hex));
  expect(hex(again.root())).toBe(hex(nodeHash(a, nodeHash(b, nodeHash(c, a)))));
});

it("refuses what it did not write", () => {
  const good = frontierOf(5).serialize();
  const bad = [
    new Uint8Array(),
    good.subarray(0, 7),
    good.subarray(0, -1),
    good.subarray(0, -32),
    new Uint8Array([...good, 0]),
    new Uint8Array([...good, ...new Uint8Array(32)]),
    good.with(0, 0xff),
    good.with(7, 7),
  ];
  for (const bytes of bad)
    expect(() => Frontier.parse(bytes)).toThrow(expect.objectContaining({ code: "index.diverged" }));
  expect(Frontier.parse(good).size).toBe(5);
  expect(() => Frontier.from(5, LEAVES.slice(0, 3))).toThrow(/assertion/);
  expect(() => Frontier.from(1, [new Uint8Array(31)])).toThrow(/assertion/);
});
