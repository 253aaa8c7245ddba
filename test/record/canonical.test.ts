import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { canonicalBytes, canonicalize, parseCanonical } from "../../src/record/canonical.ts";
import type { Json } from "../../src/record/json.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { readVector, unhex } from "../merkle/model.ts";

interface Vectors {
  readonly valid: string[];
  readonly unordered: { value: Json; text: string }[];
  readonly invalid: { name: string; code: string; hex: string }[];
}

const { invalid, unordered, valid } = readVector("record/canonical.json") as Vectors;
const noncanonical = expect.objectContaining({ code: "record.noncanonical" });

it.each(valid)("reads and writes %s", (text) => {
  expect(canonicalize(parseCanonical(utf8(text)))).toBe(text);
});

it.each(invalid)("refuses: $name", ({ code, hex }) => {
  expect(() => parseCanonical(unhex(hex))).toThrow(expect.objectContaining({ code }));
});

it.each(unordered)("orders the members of $text", ({ text, value }) => {
  expect(canonicalize(value)).toBe(text);
});

describe("what is no vector for its size or form", () => {
  it.each([
    ["a hundred thousand lists deep", utf8("[".repeat(100_000) + "]".repeat(100_000))],
    ["a hundred thousand objects deep", utf8(`${'{"a":'.repeat(100_000)}1${"}".repeat(100_000)}`)],
    ["over the limit", utf8(`"${"a".repeat(1024 * 1024 - 1)}"`)],
  ])("refuses %s", (_, bytes) => {
    expect(() => parseCanonical(bytes)).toThrow(noncanonical);
  });

  it("takes a value of exactly 1 MiB, or of the limits that it is given", () => {
    expect(parseCanonical(utf8(`"${"a".repeat(1024 * 1024 - 2)}"`))).toHaveLength(1024 * 1024 - 2);
    expect(() => parseCanonical(utf8("[1]"), { maxBytes: 2 })).toThrow(noncanonical);
    expect(parseCanonical(utf8("[[1]]"), { maxDepth: 2 })).toEqual([[1]]);
    expect(() => parseCanonical(utf8("[[1]]"), { maxDepth: 1 })).toThrow(noncanonical);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, "\ud800", { "\udc00": 1 }, [["a\ud800b"]]])(
    "does not write %j",
    (value) => {
      expect(() => canonicalize(value as Json)).toThrow(noncanonical);
    },
  );

  it("writes -0 as 0", () => {
    expect(canonicalize([-0])).toBe("[0]");
  });
});

/** RFC 8785 as its text reads, without any of the shortcuts. */
function model(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(model).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const names = Object.keys(value).toSorted((a, b) => (a < b ? -1 : 1));
  return `{${names.map((n) => `${JSON.stringify(n)}:${model((value as Record<string, Json>)[n] as Json)}`).join(",")}}`;
}

const anyJson = fc
  .jsonValue({ maxDepth: 5, stringUnit: "grapheme" })
  .filter((v) => JSON.stringify(v).isWellFormed()) as fc.Arbitrary<Json>;

it("writes what the model writes, and reads it back", () => {
  fc.assert(
    fc.property(anyJson, (value) => {
      const text = canonicalize(value);
      expect(text).toBe(model(value));
      expect(parseCanonical(canonicalBytes(value))).toEqual(JSON.parse(text));
    }),
  );
});

it("takes exactly one text for a value", () => {
  fc.assert(
    fc.property(
      anyJson,
      fc.nat(),
      fc.constantFrom(" ", "\n", "0", ",", '"', "\\", "{", "a", "-", "."),
      fc.constantFrom("insert", "replace", "remove"),
      (value, place, character, how) => {
        const text = canonicalize(value);
        const at = place % (text.length + 1);
        const changed =
          text.slice(0, at) + (how === "remove" ? "" : character) + text.slice(how === "insert" ? at : at + 1);
        fc.pre(changed.isWellFormed());
        let read: Json;
        try {
          read = parseCanonical(utf8(changed));
        } catch (error) {
          expect(error).toMatchObject({ code: "record.noncanonical" });
          return;
        }
        expect(model(read)).toBe(changed);
      },
    ),
    { numRuns: 1000 },
  );
});

it("takes any order of members only where it is canonical", () => {
  const names = fc.uniqueArray(
    fc.oneof(fc.nat({ max: 120 }).map(String), fc.constantFrom("a", "b", "B", "__proto__", "é", "\ufb33", "😀")),
    { maxLength: 6 },
  );
  fc.assert(
    fc.property(names, (order) => {
      const text = `{${order.map((n) => `${JSON.stringify(n)}:1`).join(",")}}`;
      const isSorted = order.every((n, i) => i === 0 || (order[i - 1] ?? "") < n);
      if (isSorted) expect(() => parseCanonical(utf8(text))).not.toThrow();
      else expect(() => parseCanonical(utf8(text))).toThrow(noncanonical);
    }),
  );
});
