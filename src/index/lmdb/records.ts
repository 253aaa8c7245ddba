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

/** Where a record's bytes are: none of them for one that is not here. */
interface Span {
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly end: number;
}

const NO_BYTES = new Uint8Array();

export class Records {
  readonly #tables: Tables;
  /** Those from `#first` on are not written yet. */
  readonly #pending: Span[] = [];
  #first: number;
  /** Neighbours are often read one after the other. */
  #last: ReadRow | undefined;

  constructor(tables: Tables, size: number) {
    this.#tables = tables;
    this.#first = size;
  }

  append(bytes: Uint8Array | null): void {
    this.appendSpan(bytes ?? NO_BYTES, 0, bytes?.length ?? 0);
  }

  /** The same for a part of larger bytes, which stay as they are. */
  appendSpan(bytes: Uint8Array, start: number, end: number): void {
    this.#pending.push({ bytes, end, start });
  }

  get(index: number): Uint8Array | undefined {
    if (index >= this.#first) {
      const span = this.#pending[index - this.#first];
      return span === undefined || span.end === span.start ? undefined : span.bytes.subarray(span.start, span.end);
    }
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
      for (; to < pending.length && (length === 0 || length < ROW_BYTES); to++) {
        const { end, start } = pending[to] as Span;
        length += end - start;
      }
      const head = 4 * (to - from + 1);
      const row = Buffer.allocUnsafe(head + length);
      row.writeUInt32LE(to - from);
      let at = head;
      for (let k = from; k < to; k++) {
        const { bytes, end, start } = pending[k] as Span;
        row.set(end - start === bytes.length ? bytes : bytes.subarray(start, end), at);
        at += end - start;
        row.writeUInt32LE(at - head, 4 * (k - from + 1));
      }
      set.put("record", u32Key(this.#first + from), row);
      from = to;
    }
  }

  /** After the transaction. */
  settle(): void {
    this.#first += this.#pending.length;
    this.#pending.length = 0;
  }
}
