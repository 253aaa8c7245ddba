import * as fc from "fast-check";
import { expect, it } from "vitest";
import { leafHash } from "../../src/merkle/hash.ts";
import { type Entry, entryBytes, formatEntry, parseEntry, startsProject } from "../../src/record/entry.ts";
import { type Digest, idOf, ZERO_DIGEST } from "../../src/std/brand.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { hex, readVector, unhex } from "../merkle/model.ts";

interface Vectors {
  readonly valid: { entry: Entry; text: string; leaf: string }[];
  readonly invalid: { name: string; code: string; hex: string }[];
}

const { invalid, valid } = readVector("record/entries.json") as Vectors;

it.each(valid)("reads and writes $text", ({ entry, leaf, text }) => {
  expect(parseEntry(utf8(text))).toEqual(entry);
  expect(formatEntry(entry)).toBe(text);
  expect(hex(leafHash(entryBytes(entry)))).toBe(leaf);
});

it.each(invalid)("refuses: $name", ({ code, hex: bytes }) => {
  expect(() => parseEntry(unhex(bytes))).toThrow(expect.objectContaining({ code }));
});

it("takes one byte form only", () => {
  const good = utf8(valid[0]?.text ?? "");
  fc.assert(
    fc.property(fc.nat({ max: good.length - 1 }), fc.nat({ max: 255 }), (at, byte) => {
      const bytes = good.slice();
      bytes[at] = byte;
      try {
        expect(hex(entryBytes(parseEntry(bytes)))).toBe(hex(bytes));
      } catch (error) {
        expect(error).toMatchObject({ code: "entry.malformed" });
      }
    }),
    { numRuns: 1000 },
  );
});

it("lets only the creation record begin a project", () => {
  const project = "7".repeat(64) as Digest;
  const other = "8".repeat(64) as Digest;
  expect(startsProject({ prev: ZERO_DIGEST, project, record: idOf(project), seq: 0 })).toBe(true);
  expect(startsProject({ prev: other, project, record: idOf(other), seq: 1 })).toBe(false);
  const wrong: Entry[] = [
    { prev: ZERO_DIGEST, project, record: idOf(other), seq: 0 },
    { prev: other, project, record: idOf(project), seq: 0 },
    { prev: ZERO_DIGEST, project, record: idOf(other), seq: 1 },
    { prev: other, project, record: idOf(project), seq: 1 },
  ];
  for (const entry of wrong)
    expect(() => startsProject(entry)).toThrow(expect.objectContaining({ code: "chain.prev" }));
});
