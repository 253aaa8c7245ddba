/** Ids are found whatever they share with others: their first bytes, by chance or malice, a segment, a group. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { entryRows } from "../../src/index/entry-row.ts";
import { Entries } from "../../src/index/lmdb/entries.ts";
import { Ids } from "../../src/index/lmdb/ids.ts";
import { Tables, WriteSet } from "../../src/index/lmdb/tables.ts";
import { sha256Hex } from "../../src/merkle/hash.ts";
import { idOf, type RecordId, ZERO_DIGEST } from "../../src/std/brand.ts";
import { utf8 } from "../../src/std/bytes.ts";

const root = mkdtempSync(join(tmpdir(), "datapilot-ids-"));
afterAll(() => rmSync(root, { force: true, recursive: true }));

/** Every hundredth has the first 12 bytes of the others of its kind. */
const idAt = (i: number): RecordId => {
  const hex = sha256Hex(utf8(String(i)));
  return idOf((i % 100 === 7 ? `${"a".repeat(24)}${hex.slice(24)}` : hex) as never);
};

class Written {
  readonly tables: Tables;
  readonly entries: Entries;
  readonly ids: Ids;

  constructor(path: string, size: number) {
    this.tables = new Tables(path);
    this.entries = new Entries(this.tables, size);
    this.ids = new Ids(this.tables, this.entries);
  }

  append(id: RecordId): void {
    if (!this.ids.isNew(id)) throw new Error(`assertion failed: ${id} is new`);
    const entry = { prev: ZERO_DIGEST, project: ZERO_DIGEST, record: id, seq: 0 };
    this.entries.append(entryRows([{ entry }], 0));
    this.ids.append();
  }

  write(): void {
    const set = new WriteSet();
    this.entries.collect(set);
    this.ids.collect(set);
    this.tables.write(set);
    this.entries.settle();
    this.ids.settle();
  }
}

it("finds each, written or not, before and after it is opened again", async () => {
  const path = join(root, "ids");
  let size = 0;
  // Ends of segments and of a group are met in one step, at its end, and with several in a step.
  for (const step of [1_000, 15_384, 40_000, 80_000, 5_000]) {
    const written = new Written(path, size);
    for (const until = size + step; size < until; size++) {
      written.append(idAt(size));
      if (size % 7_919 === 0) written.write();
    }
    const probes = [0, 7, 107, 999, 16_383, 16_384, 131_007, 131_071, 131_072, 131_107, size - 1];
    const check = (): void => {
      for (const i of probes) expect(written.ids.find(idAt(i)), `${i} of ${size}`).toBe(i < size ? i : undefined);
      for (let i = 7; i < size; i += 3_700) expect(written.ids.find(idAt(i))).toBe(i);
      expect(written.ids.isNew(idAt(0))).toBe(false);
      expect(written.ids.find(idAt(1_000_007))).toBeUndefined();
    };
    check();
    written.write();
    check();
    await written.tables.close();
  }
}, 60_000);
