/**
 * Which rows moved lately: the memory that guards are checked against. A guard names a row that an admission read, or found
 * absent; it holds as long as no entry at or above the size that was read has changed that row.
 *
 * Bounded: two generations. Asked about a size older than it remembers, it says "moved", which costs a re-admission and never
 * lets a stale guard through.
 */
export class Changes {
  #young = new Map<string, number>();
  #old = new Map<string, number>();
  /** From this size on every change is known. */
  #horizon: number;
  /** Where the young generation begins. */
  #youngFrom: number;
  readonly #generation: number;

  constructor(size: number, generation = 131_072) {
    this.#horizon = size;
    this.#youngFrom = size;
    this.#generation = generation;
  }

  /** Notes that entry `index` changed a row. Indexes never fall. */
  note(key: string, index: number): void {
    if (this.#young.size >= this.#generation && index > this.#youngFrom) {
      this.#old = this.#young;
      this.#young = new Map();
      this.#horizon = this.#youngFrom;
      this.#youngFrom = index;
    }
    this.#young.set(key, index);
  }

  /** Whether all rows are what a reader of `size` saw. */
  unmoved(keys: Iterable<string>, size: number): boolean {
    if (size < this.#horizon) return false;
    for (const key of keys) {
      const at = this.#young.get(key) ?? this.#old.get(key);
      if (at !== undefined && at >= size) return false;
    }
    return true;
  }
}
