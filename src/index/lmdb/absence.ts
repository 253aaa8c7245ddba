/**
 * What was never added, without looking for it: a Bloom filter. It answers most questions about keys that are new, as nearly all
 * are that come with a record.
 */
const WORDS = 1 << 21;

const second = (hash: number): number => {
  const mixed = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  return mixed ^ (mixed >>> 13);
};

export class Absence {
  readonly #bits: Uint32Array;
  readonly #mask: number;

  /** `words` of 32 bits, a power of two. */
  constructor(words = WORDS) {
    this.#bits = new Uint32Array(words);
    this.#mask = 32 * words - 1;
  }

  add(hash: number): void {
    this.#set(hash & this.#mask);
    this.#set(second(hash) & this.#mask);
  }

  /** Whether what has this hash was certainly never added. */
  lacks(hash: number): boolean {
    return !this.#has(hash & this.#mask) || !this.#has(second(hash) & this.#mask);
  }

  #set(bit: number): void {
    this.#bits[bit >>> 5] = (this.#bits[bit >>> 5] as number) | (1 << (bit & 31));
  }

  #has(bit: number): boolean {
    return ((this.#bits[bit >>> 5] as number) & (1 << (bit & 31))) !== 0;
  }
}
