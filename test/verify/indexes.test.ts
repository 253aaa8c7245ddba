/** The table of record ids, beside a map. */
import * as fc from "fast-check";
import { expect, it } from "vitest";
import { sha256Hex } from "../../src/merkle/hash.ts";
import { idOf, type RecordId } from "../../src/std/brand.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { RecordIndexes } from "../../src/verify/bucket/indexes.ts";

/** Ids of which many begin alike. */
const idAt = (k: number): RecordId => {
  const digest = sha256Hex(utf8(String(k)));
  return (k % 3 === 0 ? `sha256:00000000${digest.slice(8)}` : idOf(digest)) as RecordId;
};

it("answers as a map does, also after a cut", () => {
  fc.assert(
    fc.property(fc.array(fc.nat({ max: 400 }), { maxLength: 600 }), fc.nat({ max: 400 }), (ks, keep) => {
      const table = new RecordIndexes();
      const map = new Map<RecordId, number>();
      const take = (k: number): void => {
        const id = idAt(k);
        expect(table.append(id)).toBe(!map.has(id));
        if (!map.has(id)) map.set(id, map.size);
      };
      for (const k of ks) take(k);
      table.cut(keep);
      for (const [id, index] of map) if (index >= keep) map.delete(id);
      for (let k = 0; k <= 400; k++) expect(table.get(idAt(k))).toBe(map.get(idAt(k)));
      for (const k of ks.slice(0, 50)) take(k);
      for (let k = 0; k <= 400; k++) expect(table.has(idAt(k))).toBe(map.has(idAt(k)));
    }),
    { numRuns: 40 },
  );
});

it("grows", () => {
  const table = new RecordIndexes();
  for (let k = 0; k < 5_000; k++) table.append(idAt(k));
  for (let k = 0; k < 5_000; k++) expect(table.get(idAt(k))).toBe(k);
  expect(table.get(idAt(5_000))).toBeUndefined();
});
