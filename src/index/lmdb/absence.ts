/**
 * What a table that was empty when it was opened does not hold, without reading it: a Bloom filter over all that was written since.
 * It answers most questions of a rebuild, where nearly every key is new. An index that was opened with rows has none.
 */
const WORDS = 1 << 21;
const BIT_MASK = 32 * WORDS - 1;

const second = (hash: number): number => {
  const mixed = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  return mixed ^ (mixed >>> 13);
};

export class Absence {
  readonly #bits = new Uint32Array(WORDS);

  add(hash: number): void {
    this.#set(hash & BIT_MASK);
    this.#set(second(hash) & BIT_MASK);
  }

  /** Whether what has this hash was certainly never added. */
  lacks(hash: number): boolean {
    return !this.#has(hash & BIT_MASK) || !this.#has(second(hash) & BIT_MASK);
  }

  #set(bit: number): void {
    this.#bits[bit >>> 5] = (this.#bits[bit >>> 5] as number) | (1 << (bit & 31));
  }

  #has(bit: number): boolean {
    return ((this.#bits[bit >>> 5] as number) & (1 << (bit & 31))) !== 0;
  }
}
