/** Packed texts come back as they were, whatever stands for an id in them. */
import * as fc from "fast-check";
import { expect, it } from "vitest";
import { Absence } from "../../src/index/lmdb/absence.ts";
import { pack, unpack } from "../../src/index/lmdb/packed.ts";
import { textHash } from "../../src/std/text-hash.ts";

const hex = "0123456789abcdef".repeat(4);
const part = fc.oneof(
  fc.constantFrom(
    `sha256:${hex}`,
    "sha256:",
    `sha256:${hex.slice(1)}`,
    `sha256:${hex.toUpperCase()}`,
    `sha256:${hex.replace("0", "\u0130")}`,
    `sha256:sha256:${hex}`,
    '","',
  ),
  fc.string({ unit: "grapheme" }).map((text) => JSON.stringify(text)),
);

it("gives the text again", () => {
  fc.assert(
    fc.property(fc.array(part), fc.constantFrom(0, 4), (parts, head) => {
      const text = parts.join("");
      expect(unpack(pack(text, head), head)).toBe(text);
    }),
  );
  expect(pack(`{"id":"sha256:${hex}"}`, 4)).toHaveLength(4 + 7 + 33 + 2);
  const long = `${"x".repeat(20_000)}sha256:${hex}`;
  expect(unpack(pack(long, 0), 0)).toBe(long);
});

it("never says that what was added is absent", () => {
  const absence = new Absence();
  fc.assert(
    fc.property(fc.string(), fc.integer({ max: 20, min: 0 }), (text, seed) => {
      absence.add(textHash(text, seed));
      expect(absence.lacks(textHash(text, seed))).toBe(false);
    }),
  );
  expect(new Absence().lacks(textHash("a", 0))).toBe(true);
});
