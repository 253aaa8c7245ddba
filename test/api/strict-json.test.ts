/** JSON bodies of strangers: one reading of each, or none. */
import * as fc from "fast-check";
import { expect, it } from "vitest";
import { parseStrictJson } from "../../src/api/strict-json.ts";

const parse = (text: string): unknown => parseStrictJson(new TextEncoder().encode(text));
const INVALID: unknown = expect.objectContaining({ reason: "REQUEST_INVALID" });
const refused = (bytes: Uint8Array | string): unknown => {
  try {
    return parseStrictJson(typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes);
  } catch (error) {
    return error;
  }
};

it("reads what JSON.parse reads", () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 8 }), (value) => {
      const text = JSON.stringify(value);
      expect(parse(text)).toEqual(JSON.parse(text));
      expect(parse(JSON.stringify(value, null, 2))).toEqual(JSON.parse(text));
    }),
  );
});

it("takes one name in two objects, and as a value", () => {
  expect(parse('{"a":{"a":"a","b":["a","a"]},"b":[{"a":1},{"a":2}]}')).toEqual({
    a: { a: "a", b: ["a", "a"] },
    b: [{ a: 1 }, { a: 2 }],
  });
});

it.each([
  ['{"a":1,"a":1}'],
  ['{"a":1,"\\u0061":2}'],
  ['{"x":[{"k":1,"b":{},"k":2}]}'],
  ['{"__proto__":1,"__proto__":2}'],
  ['{"a\\"":1,"a\\"":2}'],
])("refuses a member that stands twice: %s", (text) => {
  expect(refused(text)).toEqual(INVALID);
});

it("refuses what is deeper than any request, however deep it is", () => {
  expect(parse(`${"[".repeat(64)}${"]".repeat(64)}`)).toBeDefined();
  for (const depth of [65, 100_000, 4_000_000]) expect(refused("[".repeat(depth))).toEqual(INVALID);
  expect(refused('{"a":'.repeat(100_000))).toEqual(INVALID);
});

it.each(["", "{", '{"a":1}}', "{'a':1}", '{"a":1,}', "NaN", '"\u0000"', "{} {}"])(
  "refuses what is no JSON: %s",
  (text) => {
    expect(refused(text)).toEqual(INVALID);
  },
);

it("refuses what is no UTF-8", () => {
  expect(refused(Uint8Array.of(0x22, 0xff, 0x22))).toEqual(INVALID);
});

it("gives a name like __proto__ no power", () => {
  expect(Object.getPrototypeOf(parse('{"__proto__":{"polluted":true}}'))).toBe(Object.prototype);
});

it("reads once, whatever is left open", () => {
  for (const text of ['"\\"'.repeat(2_000_000), `"${'\\"'.repeat(2_000_000)}`, '"'.repeat(4_000_001)])
    expect(refused(text)).toEqual(INVALID);
});
