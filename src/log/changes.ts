/**
 * Which rows moved lately: the memory that guards are checked against. A guard names a row that an admission read, or found
 * absent; it holds as long as no entry at or above the size that was read has changed that row.
 *
 * Of fixed size: rows are told apart by 20 bits of their hash. A row that shares its place with one that changed, and one asked about
 * at a size before this memory began, is said to have moved: that costs a re-admission, and never lets a stale guard through.
 */
import { textHash } from "../std/text-hash.ts";

/** With the changes of a thousand records behind it, an admission finds one of its guards taken once in a hundred times. */
const PLACES = 1 << 20;

export class Changes {
  /** The first size at which the last change of the row is seen. */
  readonly #seenFrom = new Float64Array(PLACES);
  readonly #horizon: number;

  constructor(size: number) {
    this.#horizon = size;
  }

  /** Notes that entry `index` changed a row. Indexes never fall. */
  note(key: string, index: number): void {
    this.#seenFrom[placeOf(key)] = index + 1;
  }

  /** Whether all rows are what a reader of `size` saw. */
  unmoved(keys: Iterable<string>, size: number): boolean {
    if (size < this.#horizon) return false;
    for (const key of keys) if ((this.#seenFrom[placeOf(key)] ?? 0) > size) return false;
    return true;
  }
}

/** The high bits are mixed best. */
const placeOf = (key: string): number => textHash(key, 0) >>> 12;
