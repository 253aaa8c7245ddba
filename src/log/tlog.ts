/**
 * The log as C2SP tlog-tiles resources: what `/log/<path>` answers. Serves any width up to the published size by truncation, so that
 * a reader of any checkpoint that was ever published finds its tiles, whatever was collected since.
 */
import type { IndexReader } from "../index/index.ts";
import { parseTilePath, TILE_WIDTH } from "../merkle/tiles.ts";
import { tileKey } from "../store/keys.ts";
import type { ObjectStore } from "../store/object-store.ts";
import type { Applied } from "./applied.ts";
import type { Published } from "./publish.ts";
import { entryBundle, hashTile } from "./tile-bytes.ts";

export interface TiledLog {
  /** The published checkpoint; null before the first. */
  checkpoint(): Uint8Array | null;
  /**
   * `tile/<level>/<n>`, `tile/entries/<n>`, each with or without `.p/<width>`; null for what is not below the published size. An
   * attacker chooses `path`.
   */
  readTile(path: string, signal?: AbortSignal): Promise<Uint8Array | null>;
}

export const createTiledLog = (
  store: ObjectStore,
  applied: Pick<Applied, "tree"> & { readonly reader: IndexReader },
  published: () => Published | null,
): TiledLog => ({
  checkpoint: () => published()?.note ?? null,
  async readTile(path, signal) {
    const tile = parseTilePath(path);
    const size = published()?.size ?? 0;
    if (tile === undefined) return null;
    const { level, n, width } = tile;
    const hashes = Math.floor(size / TILE_WIDTH ** (level === "entries" ? 0 : level));
    if (n * TILE_WIDTH + width > hashes) return null;
    if (width === TILE_WIDTH) {
      const stored = await store.get("ledger", tileKey(path), { signal });
      if (stored !== null) return stored.body;
    }
    return level === "entries" ? entryBundle(applied.reader, n, width) : hashTile(applied.tree.read, level, n, width);
  },
});
