import { expect, it } from "vitest";
import { leafHash } from "../../src/merkle/hash.ts";
import { verifyInclusion } from "../../src/merkle/proofs.ts";
import { type Head, headLeaf, headProof, headsRoot } from "../../src/record/heads.ts";
import type { Digest } from "../../src/std/brand.ts";
import { hex, readVector, unhex } from "../merkle/model.ts";

interface Case {
  readonly heads: (Head & { project: Digest })[];
  readonly leaves: string[];
  readonly root: string;
  readonly proofs: { project: Digest; index: number; hashes: string[] }[];
}

const { cases } = readVector("record/heads.json") as { cases: Case[] };

it.each(cases)("proves $heads.length heads", ({ heads, leaves, proofs, root }) => {
  const map = new Map(heads.map(({ project, ...head }) => [project, head]));
  expect(hex(headsRoot(map))).toBe(root);
  const sorted = heads.toSorted((a, b) => (a.project < b.project ? -1 : 1));
  expect(sorted.map((h) => new TextDecoder().decode(headLeaf(h.project, h.count, h.last)))).toEqual(leaves);
  for (const { hashes, index, project } of proofs) {
    const proof = headProof(map, project);
    if (proof === undefined) throw new Error("the head is there");
    expect({ hashes: proof.hashes.map(hex), index: proof.index, ...map.get(project) }).toEqual({
      count: proof.count,
      hashes,
      index,
      last: proof.last,
    });
    expect(
      verifyInclusion(
        index,
        heads.length,
        leafHash(headLeaf(project, proof.count, proof.last)),
        proof.hashes,
        unhex(root),
      ),
    ).toBe(true);
  }
  expect(headProof(map, "0".repeat(64) as Digest)).toBeUndefined();
});
