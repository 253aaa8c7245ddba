import { expect, it } from "vitest";
import { formatRecord, isRequestId, type Link, parseRecord, recordId, sortLinks } from "../../src/record/record.ts";
import type { Digest } from "../../src/std/brand.ts";
import { idOf } from "../../src/std/brand.ts";
import { utf8 } from "../../src/std/bytes.ts";
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
