/**
 * The frontier of a growing tree: the roots of its complete subtrees, largest first, one for each bit of the size. All that an
 * append needs, and enough for the root.
 */
import { assert } from "../std/assert.ts";
import { EMPTY_ROOT, nodeHash } from "./hash.ts";

/** Number of set bits, for sizes beyond 32 bits. */
function bits(size: number): number {
  let n = 0;
  for (let rest = size; rest > 0; rest = Math.floor(rest / 2)) n += rest % 2;
  return n;
}

export class Frontier {
  readonly #hashes: Uint8Array[];
  #size: number;

  private constructor(size: number, hashes: readonly Uint8Array[]) {
    this.#size = size;
    this.#hashes = [...hashes];
  }

  static empty(): Frontier {
    return new Frontier(0, []);
  }

  static from(size: number, hashes: readonly Uint8Array[]): Frontier {
    assert(Number.isSafeInteger(size) && size >= 0 && bits(size) === hashes.length, "a frontier has one hash for each bit of its size");
    return new Frontier(size, hashes);
  }

  get size(): number {
    return this.#size;
  }

  hashes(): readonly Uint8Array[] {
    return [...this.#hashes];
  }

  append(leaf: Uint8Array): void {
    let node = leaf;
    for (let rest = this.#size; rest % 2 === 1; rest = Math.floor(rest / 2)) {
      const left = this.#hashes.pop();
      assert(left !== undefined, "a set bit has a hash");
      node = nodeHash(left, node);
    }
    this.#hashes.push(node);
    this.#size++;
  }

  root(): Uint8Array {
    let root: Uint8Array | undefined;
    for (let i = this.#hashes.length - 1; i >= 0; i--) {
      const node = this.#hashes[i];
      if (node !== undefined) root = root === undefined ? node : nodeHash(node, root);
    }
    return root ?? EMPTY_ROOT;
  }

  clone(): Frontier {
    return new Frontier(this.#size, this.#hashes);
  }
}
