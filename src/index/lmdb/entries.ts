/** Table `entry`: what an entry says, as `entry-row.ts` has it, 256 in a block. */
import { assertDefined } from "../../std/assert.ts";
import { type Digest, idOf, type RecordId } from "../../std/brand.ts";
import { COMMIT_AT, ENTRY_ROW, KIND_AT, PREV_AT, PROJECT_AT, SEQ_AT } from "../entry-row.ts";
import { Generations } from "./cache.ts";
import { u32Key } from "./keys.ts";
import type { Tables, WriteSet } from "./tables.ts";

const BLOCK = 256;
const CACHED_BLOCKS = 256;
const DIGEST = 32;
const HEX_AT = "sha256:".length;

const DIGIT = new Uint8Array(128).fill(0xff);
for (let value = 0; value < 16; value++) DIGIT[value.toString(16).charCodeAt(0)] = value;

export interface EntryRow {
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
      const block = Buffer.alloc(BLOCK * ENTRY_ROW);
      stored.copy(block);
      this.#open.set(Math.floor(size / BLOCK), block);
    }
  }

  get size(): number {
    return this.#size;
  }

  /** Appends whole rows. */
  append(rows: Uint8Array): void {
    for (let from = 0; from < rows.length; ) {
      const number = Math.floor(this.#size / BLOCK);
      let block = this.#open.get(number);
      if (block === undefined) {
        block = Buffer.alloc(BLOCK * ENTRY_ROW);
        this.#open.set(number, block);
      }
      const at = (this.#size % BLOCK) * ENTRY_ROW;
      const to = Math.min(rows.length, from + block.length - at);
      block.set(rows.subarray(from, to), at);
      this.#dirty.add(number);
      this.#size += (to - from) / ENTRY_ROW;
      from = to;
    }
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
    const at = (i % BLOCK) * ENTRY_ROW;
    return {
      commit: block.readUInt32LE(at + COMMIT_AT),
      kind: block.readUInt16LE(at + KIND_AT),
      project: block.readUInt32LE(at + PROJECT_AT),
      seq: block.readUInt32LE(at + SEQ_AT),
    };
  }

  hex(i: number): Digest {
    const at = (i % BLOCK) * ENTRY_ROW;
    return this.#block(Math.floor(i / BLOCK)).toString("hex", at, at + DIGEST) as Digest;
  }

  prevHex(i: number): Digest {
    const at = (i % BLOCK) * ENTRY_ROW + PREV_AT;
    return this.#block(Math.floor(i / BLOCK)).toString("hex", at, at + DIGEST) as Digest;
  }

  id(i: number): RecordId {
    return idOf(this.hex(i));
  }

  /** The first four bytes of a digest. */
  head(i: number): number {
    return this.#block(Math.floor(i / BLOCK)).readUInt32BE((i % BLOCK) * ENTRY_ROW);
  }

  /** How many bytes of an entry's digest are the first ones of an id's. */
  common(i: number, id: RecordId): number {
    const block = this.#block(Math.floor(i / BLOCK));
    const at = (i % BLOCK) * ENTRY_ROW;
    for (let k = 0, c = HEX_AT; k < DIGEST; k++, c += 2) {
      const byte = ((DIGIT[id.charCodeAt(c)] as number) << 4) | (DIGIT[id.charCodeAt(c + 1)] as number);
      if (block[at + k] !== byte) return k;
    }
    return DIGEST;
  }

  collect(set: WriteSet): void {
    const last = Math.floor(this.#size / BLOCK);
    for (const number of this.#dirty) {
      const block = assertDefined(this.#open.get(number), "a block that changed is held");
      const rows = number === last ? this.#size % BLOCK : BLOCK;
      set.put("entry", u32Key(number), block.subarray(0, rows * ENTRY_ROW));
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
