import * as fc from "fast-check";
import { expect, it } from "vitest";
import { canonicalBytes } from "../../src/record/canonical.ts";
import type { Json } from "../../src/record/json.ts";
import { formatRecord, isRequestId, type Link, parseRecord, recordId, sortLinks } from "../../src/record/record.ts";
import type { Digest } from "../../src/std/brand.ts";
import { idOf } from "../../src/std/brand.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { Violation } from "../../src/std/violation.ts";
import { readVector } from "../merkle/model.ts";

interface Vectors {
  readonly valid: { name: string; id: string; record: string }[];
  readonly invalid: { name: string; code: string; record: string }[];
}

const { invalid, valid } = readVector("record/records.json") as Vectors;
const id = (n: number) => idOf(n.toString(16).padStart(64, "0") as Digest);

it.each(valid)("reads, names and writes: $name", ({ id: name, record }) => {
  const bytes = utf8(record);
  expect(recordId(bytes)).toBe(name);
  const parsed = parseRecord(bytes);
  expect(new TextDecoder().decode(formatRecord(parsed))).toBe(record);
});

it.each(invalid)("refuses: $name", ({ code, record }) => {
  expect(() => parseRecord(utf8(record))).toThrow(expect.objectContaining({ code }));
});

it("limits links", () => {
  const [first] = valid;
  if (first === undefined) throw new Error("the vector is missing");
  const record = parseRecord(utf8(first.record));
  const links = (n: number): Link[] => Array.from({ length: n }, (_, i) => ({ rel: "fact", to: id(i) }));
  expect(parseRecord(formatRecord({ ...record, links: links(1024) })).links).toHaveLength(1024);
  expect(() => parseRecord(formatRecord({ ...record, links: links(1025) }))).toThrow(
    expect.objectContaining({ code: "record.schema" }),
  );
});

it("sorts links by rel and target, each once", () => {
  const links: Link[] = [
    { rel: "run", to: id(2) },
    { rel: "fact", to: id(9) },
    { rel: "run", to: id(1) },
    { rel: "run", to: id(2) },
  ];
  expect(sortLinks(links)).toEqual([
    { rel: "fact", to: id(9) },
    { rel: "run", to: id(1) },
    { rel: "run", to: id(2) },
  ]);
});

it("knows request ids", () => {
  expect(["a", "A.b_c:d-9", "x".repeat(128)].every(isRequestId)).toBe(true);
  expect(["", "a b", "a\n", "é", "x".repeat(129)].some(isRequestId)).toBe(false);
});

/** `value` with the part at the `place`-th step of a walk replaced. */
function replaceAt(value: Json, place: number, by: Json): Json {
  let left = place;
  const walk = (part: Json): Json => {
    if (left-- === 0) return by;
    if (Array.isArray(part)) return part.map(walk);
    if (typeof part !== "object" || part === null) return part;
    return Object.fromEntries(Object.entries(part).map(([name, member]) => [name, walk(member)]));
  };
  return walk(value);
}

it("refuses with a code, or reads what it can write again, whatever stands anywhere", () => {
  const anything = fc.oneof(
    fc.jsonValue({ maxDepth: 2 }) as fc.Arbitrary<Json>,
    fc.constantFrom<Json>(
      null,
      [],
      {},
      "",
      0,
      -1,
      1.5,
      "sha256:",
      "__proto__",
      JSON.parse('{"__proto__":1,"toString":2}') as Json,
    ),
  );
  fc.assert(
    fc.property(fc.constantFrom(...valid), fc.nat({ max: 40 }), anything, ({ record }, place, by) => {
      try {
        const bytes = canonicalBytes(replaceAt(JSON.parse(record) as Json, place, by));
        expect(formatRecord(parseRecord(bytes))).toEqual(bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(Violation);
        expect((error as Violation).code).toMatch(/^record\.(?:noncanonical|schema|text)$/);
      }
    }),
    { numRuns: 2000 },
  );
});
