/** The bytes of tiles and bundles, from the tree and the entries: the same for everybody who holds the same log. */
import type { IndexReader } from "../index/index.ts";
import type { NodeReader } from "../merkle/proofs.ts";
import { encodeBundle, TILE_WIDTH } from "../merkle/tiles.ts";
import { assertDefined } from "../std/assert.ts";

export function hashTile(read: NodeReader, level: number, n: number, width: number): Uint8Array {
  const bytes = new Uint8Array(32 * width);
  for (let i = 0; i < width; i++) bytes.set(read(8 * level, n * TILE_WIDTH + i), 32 * i);
  return bytes;
}

export const entryBundle = (reader: IndexReader, n: number, width: number): Uint8Array =>
  encodeBundle(
    Array.from({ length: width }, (_, i) => {
      const index = n * TILE_WIDTH + i;
      return assertDefined(reader.entry(index), `entry ${index} is applied`).entryBytes;
    }),
  );
