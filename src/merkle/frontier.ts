/**
 * The frontier (compact range) of a growing tree: the roots of its complete subtrees, largest first, one for each set bit of the
 * size. It is all that an append needs, and enough for the root.
 */
import { assert } from "../std/assert.ts";
import { concat } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import { EMPTY_ROOT, nodeHash } from "./hash.ts";
import { isCount } from "./split.ts";

/** Number of set bits. */
function countBits(size: number): number {
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

  /** The hashes are not copied: they must not change. */
  static from(size: number, hashes: readonly Uint8Array[]): Frontier {
    assert(isCount(size) && countBits(size) === hashes.length, "a frontier has one hash for each set bit of its size");
    assert(
      hashes.every((h) => h.length === 32),
      "a hash has 32 bytes",
    );
    return new Frontier(size, hashes);
  }

  get size(): number {
    return this.#size;
  }

  hashes(): readonly Uint8Array[] {
    return [...this.#hashes];
  }

  /** `made` takes the leaf and the subtrees that it completes, in that order. */
  append(leafHash: Uint8Array, made?: Uint8Array[]): void {
    assert(leafHash.length === 32, "a hash has 32 bytes");
    let node = leafHash;
    made?.push(node);
    for (let rest = this.#size; rest % 2 === 1; rest = (rest - 1) / 2) {
      const left = this.#hashes.pop();
      assert(left !== undefined, "a set bit has a hash");
      node = nodeHash(left, node);
      made?.push(node);
    }
    this.#hashes.push(node);
    this.#size++;
  }

  root(): Uint8Array {
    let root = this.#hashes.at(-1) ?? EMPTY_ROOT;
    for (let i = this.#hashes.length - 2; i >= 0; i--) root = nodeHash(this.#hashes[i] ?? EMPTY_ROOT, root);
    return root;
  }

  clone(): Frontier {
    return new Frontier(this.#size, this.#hashes);
  }

  /** Size as 8 big-endian bytes, then the hashes. */
  serialize(): Uint8Array {
    const head = new Uint8Array(8);
    new DataView(head.buffer).setBigUint64(0, BigInt(this.#size));
    return concat(head, ...this.#hashes);
  }

  /** Reads what `serialize` wrote. Throws the Violation `index.diverged` for anything else: only an index keeps this form. */
  static parse(bytes: Uint8Array): Frontier {
    const malformed = (): Violation =>
      new Violation(
        "index.diverged",
        "the stored frontier is not a size and its hashes; drop the index and rebuild it",
      );
    if (bytes.length < 8 || bytes.length % 32 !== 8) throw malformed();
    const size = Number(new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0));
    if (!isCount(size) || bytes.length !== 8 + 32 * countBits(size)) throw malformed();
    const hashes: Uint8Array[] = [];
    for (let at = 8; at < bytes.length; at += 32) hashes.push(bytes.slice(at, at + 32));
    return new Frontier(size, hashes);
  }
}
