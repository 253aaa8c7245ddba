/**
 * Table `record`: the records' bytes, some neighbours in one row under the index of the first, so that small ones cost a part of a
 * row and of a page. A row is never written again: what is pending when a transaction is made makes the last one short.
 *
 * A row: the number n of records, their n ends, 0 bytes for a record that is not here, all as 32 bits little-endian; the bytes.
 */
import { u32Key } from "./keys.ts";
import type { Tables, WriteSet } from "./tables.ts";

/** Bytes of records in a row: whole pages, and little to copy for one of them. */
const ROW_BYTES = 16_000;

interface ReadRow {
  readonly first: number;
  readonly count: number;
  readonly bytes: Buffer;
}

export class Records {
  readonly #tables: Tables;
  /** Those from `#first` on are not written yet. */
  readonly #pending: (Uint8Array | null)[] = [];
  #first: number;
  /** Neighbours are often read one after the other. */
  #last: ReadRow | undefined;

  constructor(tables: Tables, size: number) {
    this.#tables = tables;
    this.#first = size;
  }

  append(bytes: Uint8Array | null): void {
    this.#pending.push(bytes);
  }

  get(index: number): Uint8Array | undefined {
    if (index >= this.#first) return this.#pending[index - this.#first] ?? undefined;
    const row = this.#row(index);
    if (row === undefined) return undefined;
    const { bytes, count } = row;
    const k = index - row.first;
    const start = k === 0 ? 0 : bytes.readUInt32LE(4 * k);
    const end = bytes.readUInt32LE(4 * (k + 1));
    const head = 4 * (count + 1);
    return end === start ? undefined : Uint8Array.prototype.slice.call(bytes, head + start, head + end);
  }

  #row(index: number): ReadRow | undefined {
    const last = this.#last;
    if (last !== undefined && index >= last.first && index < last.first + last.count) return last;
    for (const { key, value } of this.#tables.range("record", { limit: 1, reverse: true, start: u32Key(index) }))
      this.#last = { bytes: value, count: value.readUInt32LE(), first: key.readUInt32BE() };
    return this.#last;
  }

  collect(set: WriteSet): void {
    const pending = this.#pending;
    for (let from = 0; from < pending.length; ) {
      let to = from;
      let length = 0;
      for (; to < pending.length && (length === 0 || length < ROW_BYTES); to++) length += pending[to]?.length ?? 0;
      const head = 4 * (to - from + 1);
      const bytes = Buffer.allocUnsafe(head + length);
      bytes.writeUInt32LE(to - from);
      let end = 0;
      for (let k = from; k < to; k++) {
        const record = pending[k];
        if (record !== null && record !== undefined) {
          bytes.set(record, head + end);
          end += record.length;
        }
        bytes.writeUInt32LE(end, 4 * (k - from + 1));
      }
      set.put("record", u32Key(this.#first + from), bytes);
      from = to;
    }
  }

  /** After the transaction. */
  settle(): void {
    this.#first += this.#pending.length;
    this.#pending.length = 0;
  }
}
