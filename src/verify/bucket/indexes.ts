/**
 * The index of each record by its id, in about 50 bytes a record where a map of texts takes several times that: records come in
 * log order, so their digests lie side by side at their indexes, and a table of slots finds them.
 *
 * Slots are the digests' own bits. Whoever grinds digests to collide must also sign the commits that hold them.
 */
import type { RecordId } from "../../std/brand.ts";
import { readHex } from "../../std/bytes.ts";

const WORDS = 8;
const FIRST_RECORDS = 1_024;
const HEX_AT = "sha256:".length;

export class RecordIndexes {
  #size = 0;
  #digests = new Uint32Array(WORDS * FIRST_RECORDS);
  /** One more than an index; 0 is free. At most half are taken. */
  #slots = new Uint32Array(2 * FIRST_RECORDS);
  /** The digest that is looked for. */
  readonly #asked = new Uint32Array(WORDS);
  readonly #askedBytes = new Uint8Array(this.#asked.buffer);

  get(id: RecordId): number | undefined {
    readHex(id, HEX_AT, this.#askedBytes);
    const found = this.#slots[this.#slotOf(this.#asked, 0)] as number;
    return found === 0 ? undefined : found - 1;
  }

  has(id: RecordId): boolean {
    return this.get(id) !== undefined;
  }

  /** Gives a record the next index; false when it has one already. */
  append(id: RecordId): boolean {
    if (2 * (this.#size + 1) > this.#slots.length) this.#grow();
    readHex(id, HEX_AT, this.#askedBytes);
    const slot = this.#slotOf(this.#asked, 0);
    if (this.#slots[slot] !== 0) return false;
    this.#digests.set(this.#asked, WORDS * this.#size);
    this.#slots[slot] = ++this.#size;
    return true;
  }

  /** Takes back all but the first `size` records. */
  cut(size: number): void {
    // The last one first: no other was placed behind it.
    while (this.#size > size) this.#slots[this.#slotOf(this.#digests, WORDS * --this.#size)] = 0;
  }

  /** The slot that holds the digest at `from` of `words`, or the free one where it would be. */
  #slotOf(words: Uint32Array, from: number): number {
    const mask = this.#slots.length - 1;
    for (let slot = (words[from] as number) & mask; ; slot = (slot + 1) & mask) {
      const found = this.#slots[slot] as number;
      if (found === 0 || this.#isAt(found - 1, words, from)) return slot;
    }
  }

  #isAt(index: number, words: Uint32Array, from: number): boolean {
    for (let i = 0; i < WORDS; i++) if (this.#digests[WORDS * index + i] !== words[from + i]) return false;
    return true;
  }

  #grow(): void {
    const digests = new Uint32Array(2 * this.#digests.length);
    digests.set(this.#digests);
    this.#digests = digests;
    this.#slots = new Uint32Array(2 * this.#slots.length);
    for (let index = 0; index < this.#size; index++) this.#slots[this.#slotOf(digests, WORDS * index)] = index + 1;
  }
}
