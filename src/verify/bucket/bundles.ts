/** The SHA-256 of each full bundle that the entries give: what a bundle in the copy is compared with, without keeping the entries. */
import { sha256Hex } from "../../merkle/hash.ts";
import { TILE_WIDTH, writeBundled } from "../../merkle/tiles.ts";
import { MAX_ENTRY_BYTES } from "../../record/entry.ts";
import type { Digest } from "../../std/brand.ts";

export class Bundles {
  readonly #digests: Digest[] = [];
  /** The bundle that is not full yet. */
  readonly #bytes = new Uint8Array(TILE_WIDTH * (2 + MAX_ENTRY_BYTES));
  #end = 0;
  #count = 0;

  /** Takes the bytes of a valid entry. */
  append(entry: Uint8Array): void {
    this.#end = writeBundled(entry, this.#bytes, this.#end);
    if (++this.#count < TILE_WIDTH) return;
    this.#digests.push(sha256Hex(this.#bytes.subarray(0, this.#end)));
    this.#end = 0;
    this.#count = 0;
  }

  /** Whether these bytes are bundle `n`; false when it is not full. */
  holds(n: number, bytes: Uint8Array): boolean {
    return this.#digests[n] === sha256Hex(bytes);
  }
}
