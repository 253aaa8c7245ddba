import * as fc from "fast-check";
import { expect, it } from "vitest";
import { leafHash } from "../../src/merkle/hash.ts";
import {
  type Entry,
  entryBytes,
  entryOf,
  formatEntry,
  isEntry,
  parseEntry,
  startsProject,
} from "../../src/record/entry.ts";
import { type Digest, digestOf, idOf, ZERO_DIGEST } from "../../src/std/brand.ts";
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
  expect(entryOf(text)).toEqual(entry);
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

it("knows an expected entry exactly when parsing gives that entry", () => {
  const digest = fc.stringMatching(/^[0-9a-f]{64}$/) as fc.Arbitrary<Digest>;
  const entry = fc.record({ prev: digest, project: digest, record: digest.map(idOf), seq: fc.maxSafeNat() });
  const change = fc.oneof(
    fc.constant((bytes: Uint8Array) => bytes),
    fc.tuple(fc.nat({ max: 320 }), fc.nat({ max: 255 })).map(([at, byte]) => (bytes: Uint8Array) => {
      const out = bytes.slice();
      out[at % out.length] = byte;
      return out;
    }),
    fc.nat({ max: 320 }).map((at) => (bytes: Uint8Array) => bytes.subarray(0, at)),
    fc
      .uint8Array({ maxLength: 3, minLength: 1 })
      .map((more) => (bytes: Uint8Array) => new Uint8Array([...bytes, ...more])),
  );
  const parsed = (bytes: Uint8Array): Entry | undefined => {
    try {
      return parseEntry(bytes);
    } catch {
      return undefined;
    }
  };
  fc.assert(
    fc.property(entry, entry, fc.boolean(), change, (written, other, same, by) => {
      const bytes = by(entryBytes(written));
      const expected = same ? written : { ...other, prev: written.prev, project: written.project };
      const found = parsed(bytes);
      const agrees = found !== undefined && formatEntry(found) === formatEntry(expected);
      expect(isEntry(bytes, expected.prev, expected.project, digestOf(expected.record), expected.seq)).toBe(agrees);
    }),
    { numRuns: 2_000 },
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
