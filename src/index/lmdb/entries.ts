/**
 * Table `entry`: what an entry says, 80 bytes each, 256 in a block.
 *
 * 0 digest of the record, 32 prev, 64 index of the project's creation, 68 seq, 72 kind, 74 flags, 76 commit; numbers little-endian.
 */
import { assertDefined } from "../../std/assert.ts";
import { type Digest, idOf, type RecordId } from "../../std/brand.ts";
import { Generations } from "./cache.ts";
import { u32Key } from "./keys.ts";
import type { Tables, WriteSet } from "./tables.ts";

const BLOCK = 256;
const ROW = 80;
const CACHED_BLOCKS = 1_024;

export interface EntryRow {
  readonly digest: Uint8Array;
  readonly prev: Uint8Array;
  readonly project: number;
  readonly seq: number;
  readonly kind: number;
  readonly commit: number;
}

export class Entries {
  readonly #tables: Tables;
  readonly #cache = new Generations<number, Buffer>(CACHED_BLOCKS);
  readonly #dirty = new Set<number>();
  /** Blocks that were not written yet, and the last one. */
  readonly #open = new Map<number, Buffer>();
  #size: number;

  constructor(tables: Tables, size: number) {
    this.#tables = tables;
    this.#size = size;
    if (size % BLOCK !== 0) {
      const stored = assertDefined(
        tables.get("entry", u32Key(Math.floor(size / BLOCK))),
        "the last block of entries is stored",
      );
      const block = Buffer.alloc(BLOCK * ROW);
      stored.copy(block);
      this.#open.set(Math.floor(size / BLOCK), block);
    }
  }

  append(digestHex: string, prevHex: string, row: Omit<EntryRow, "digest" | "prev">): void {
    const number = Math.floor(this.#size / BLOCK);
    let block = this.#open.get(number);
    if (block === undefined) {
      block = Buffer.alloc(BLOCK * ROW);
      this.#open.set(number, block);
    }
    const at = (this.#size % BLOCK) * ROW;
    block.write(digestHex, at, "hex");
    block.write(prevHex, at + 32, "hex");
    block.writeUInt32LE(row.project, at + 64);
    block.writeUInt32LE(row.seq, at + 68);
    block.writeUInt16LE(row.kind, at + 72);
    block.writeUInt32LE(row.commit, at + 76);
    this.#dirty.add(number);
    this.#size++;
  }

  #block(number: number): Buffer {
    const held = this.#open.get(number) ?? this.#cache.get(number);
    if (held !== undefined) return held;
    const stored = assertDefined(this.#tables.get("entry", u32Key(number)), "a block of entries is stored");
    this.#cache.set(number, stored);
    return stored;
  }

  row(i: number): EntryRow {
    const block = this.#block(Math.floor(i / BLOCK));
    const at = (i % BLOCK) * ROW;
    return {
      commit: block.readUInt32LE(at + 76),
      digest: block.subarray(at, at + 32),
      kind: block.readUInt16LE(at + 72),
      prev: block.subarray(at + 32, at + 64),
      project: block.readUInt32LE(at + 64),
      seq: block.readUInt32LE(at + 68),
    };
  }

  hex(i: number): Digest {
    const at = (i % BLOCK) * ROW;
    return this.#block(Math.floor(i / BLOCK)).toString("hex", at, at + 32) as Digest;
  }

  id(i: number): RecordId {
    return idOf(this.hex(i));
  }

  collect(set: WriteSet): void {
    const last = Math.floor(this.#size / BLOCK);
    for (const number of this.#dirty) {
      const block = assertDefined(this.#open.get(number), "a block that changed is held");
      const rows = number === last ? this.#size % BLOCK : BLOCK;
      set.put("entry", u32Key(number), block.subarray(0, rows * ROW));
    }
  }

  /** After the transaction. */
  settle(): void {
    const last = Math.floor(this.#size / BLOCK);
    for (const number of this.#dirty) {
      const block = this.#open.get(number);
      if (number === last || block === undefined) continue;
      this.#cache.set(number, block);
      this.#open.delete(number);
    }
    this.#dirty.clear();
  }
}
