/**
 * Table `digest`: which entry is a record's, as group and first 12 bytes of a digest → the indexes of all that begin like that.
 *
 * The ids of a full segment of 16,384 entries are written together and in order: one by one each would cost a page of its own.
 * Those of the last segment are found in memory, by numbers alone, and come back from the entries when the index is opened, so that
 * an append writes nothing for them. A group is of 8 segments, and nothing is written to one that is full: in one tree for all ids
 * each segment would touch every page, and all of them would stay mapped. A filter for each group says where to look.
 */
import type { RecordId } from "../../std/brand.ts";
import { Absence } from "./absence.ts";
import type { Entries } from "./entries.ts";
import type { Tables, WriteSet } from "./tables.ts";

const SEGMENT = 16_384;
const GROUP = 8 * SEGMENT;
/** Of a group's filter: 8 bits for an entry, so that one of twenty that are looked for in vain is read for. */
const GROUP_WORDS = GROUP / 4;
const PREFIX = 12;
const DIGEST = 32;
const HEX_AT = "sha256:".length;
/** Answers that are kept, found by the first bytes of an id. A power of two. */
const KEPT = 1 << 16;
/** A head has 32 bits, so this many places fit beside it in a double. */
const PLACES = 2 ** 21;

const SHARED = Buffer.from("shared");

/** The first four bytes of an id. */
const headOf = (id: RecordId): number => Number.parseInt(id.slice(HEX_AT, HEX_AT + 8), 16);

export class Ids {
  readonly #tables: Tables;
  readonly #entries: Entries;
  /** The first entry that is not in the table; a multiple of the segment. */
  #first: number;
  #size: number;
  /** Entries from `#first` on plus one, 0 for none; the place after the right one when that is taken. Twice as many as are used. */
  #recent: Uint32Array;
  readonly #kept = new Uint32Array(KEPT);
  /** What was never added: every append asks for an id that is not there. */
  readonly #absence = new Absence();
  readonly #groups: Absence[] = [];
  /** Prefixes that more than one entry has, by chance or malice. Kept in table `meta`. */
  readonly #shared: Set<string>;
  #sharedGrew = false;

  constructor(tables: Tables, entries: Entries) {
    this.#tables = tables;
    this.#entries = entries;
    this.#size = entries.size;
    this.#first = Math.floor(entries.size / SEGMENT) * SEGMENT;
    this.#recent = new Uint32Array(2 * SEGMENT);
    for (let i = this.#first; i < this.#size; i++) this.#remember(i, entries.head(i));
    this.#shared = new Set(JSON.parse(tables.get("meta", SHARED)?.toString() ?? "[]") as string[]);
    // About 50 ms for a million entries, which start-up reads anyway.
    for (let i = 0; i < this.#size; i++) this.#add(i, entries.head(i));
  }

  find(id: RecordId): number | undefined {
    return this.#find(id, false);
  }

  /** Whether no entry has the id; ask before it is appended. */
  isNew(id: RecordId): boolean {
    return this.#find(id, true) === undefined;
  }

  #find(id: RecordId, appended: boolean): number | undefined {
    const head = headOf(id);
    if (this.#absence.lacks(head)) return undefined;
    const mask = this.#recent.length - 1;
    for (let at = head & mask; this.#recent[at] !== 0; at = (at + 1) & mask) {
      const i = (this.#recent[at] as number) - 1;
      if (this.#is(i, id, appended)) return i;
    }
    const kept = this.#kept[head & (KEPT - 1)] as number;
    if (kept !== 0 && this.#entries.common(kept - 1, id) === DIGEST) return kept - 1;
    for (let group = this.#groups.length - 1; group >= 0; group--) {
      if (this.#groups[group]?.lacks(head) === true) continue;
      for (const i of this.#stored(keyOf(group, id.slice(HEX_AT, HEX_AT + 2 * PREFIX)))) {
        if (!this.#is(i, id, appended)) continue;
        this.#kept[head & (KEPT - 1)] = i + 1;
        return i;
      }
    }
    return undefined;
  }

  /** Whether it is the entry's id. When that is to be appended, a prefix that both have is noted. */
  #is(i: number, id: RecordId, appended: boolean): boolean {
    const common = this.#entries.common(i, id);
    if (appended && common >= PREFIX && common < DIGEST) {
      this.#shared.add(id.slice(HEX_AT, HEX_AT + 2 * PREFIX));
      this.#sharedGrew = true;
    }
    return common === DIGEST;
  }

  /** Takes the next entry, whose id is new. */
  append(): void {
    const i = this.#size++;
    const head = this.#entries.head(i);
    if (2 * (this.#size - this.#first) > this.#recent.length) this.#resize(2 * this.#recent.length);
    else this.#remember(i, head);
    this.#add(i, head);
  }

  #add(i: number, head: number): void {
    this.#absence.add(head);
    (this.#groups[Math.floor(i / GROUP)] ??= new Absence(GROUP_WORDS)).add(head);
  }

  #remember(i: number, head: number): void {
    const mask = this.#recent.length - 1;
    let at = head & mask;
    while (this.#recent[at] !== 0) at = (at + 1) & mask;
    this.#recent[at] = i + 1;
  }

  #resize(length: number): void {
    this.#recent = new Uint32Array(length);
    for (let i = this.#first; i < this.#size; i++) this.#remember(i, this.#entries.head(i));
  }

  get #full(): number {
    return Math.floor((this.#size - this.#first) / SEGMENT) * SEGMENT;
  }

  collect(set: WriteSet): void {
    if (this.#sharedGrew) set.put("meta", SHARED, Buffer.from(JSON.stringify([...this.#shared])));
    const count = this.#full;
    if (count === 0) return;
    // By group and head: more than a group at once is rare, and then the order of its pages suffers a little.
    const order = new Float64Array(count);
    for (let k = 0; k < count; k++) order[k] = this.#entries.head(this.#first + k) * PLACES + k;
    order.sort();
    const shared = new Map<string, number[]>();
    for (let at = 0; at < count; at++) {
      const i = this.#first + ((order[at] as number) % PLACES);
      const prefix = this.#entries.hex(i).slice(0, 2 * PREFIX);
      const key = keyOf(Math.floor(i / GROUP), prefix);
      if (this.#shared.has(prefix)) {
        const name = key.toString("hex");
        shared.set(name, [...(shared.get(name) ?? this.#stored(key)), i]);
      } else set.put("digest", key, numbersOf([i]));
    }
    for (const [name, indexes] of shared) set.put("digest", Buffer.from(name, "hex"), numbersOf(indexes));
  }

  #stored(key: Buffer): number[] {
    const stored = this.#tables.get("digest", key);
    return stored === undefined ? [] : Array.from({ length: stored.length / 4 }, (_, k) => stored.readUInt32LE(4 * k));
  }

  /** After the transaction. */
  settle(): void {
    this.#sharedGrew = false;
    const count = this.#full;
    if (count === 0) return;
    this.#first += count;
    this.#resize(2 * SEGMENT);
  }
}

function keyOf(group: number, prefix: string): Buffer {
  const key = Buffer.allocUnsafe(2 + PREFIX);
  key.writeUInt16BE(group);
  key.write(prefix, 2, "hex");
  return key;
}

function numbersOf(indexes: readonly number[]): Buffer {
  const value = Buffer.allocUnsafe(4 * indexes.length);
  for (const [k, index] of indexes.entries()) value.writeUInt32LE(index, 4 * k);
  return value;
}
