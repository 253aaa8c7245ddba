/**
 * The right edge of a growing log: the hashes of its tiles that are not full yet, and the entries of its last bundle. All tiles to
 * come are made of it, and the root follows from it, so an edge that was kept somewhere is checked by one root.
 */
import { Frontier } from "../merkle/frontier.ts";
import { leafHash } from "../merkle/hash.ts";
import { encodeBundle, entriesPath, partialWidth, TILE_WIDTH, tilePath } from "../merkle/tiles.ts";
import { concat, equalBytes } from "../std/bytes.ts";

export interface TileObject {
  /** Its path in the log, which is its key. */
  readonly path: string;
  readonly body: Uint8Array;
}

const frontierOf = (hashes: readonly Uint8Array[]): Frontier => {
  const frontier = Frontier.empty();
  for (const hash of hashes) frontier.append(hash);
  return frontier;
};

export class Edge {
  /** Of each level the hashes of the tile that is not full. */
  readonly #levels: Uint8Array[][];
  #entries: Uint8Array[];
  #size: number;

  private constructor(size: number, levels: Uint8Array[][], entries: Uint8Array[]) {
    this.#size = size;
    this.#levels = levels;
    this.#entries = entries;
  }

  static empty(): Edge {
    return new Edge(0, [], []);
  }

  /** An edge that was kept; undefined when it is none of that size. Whether it is the log's, its root says. */
  static from(
    size: number,
    levels: readonly (readonly Uint8Array[])[],
    entries: readonly Uint8Array[],
  ): Edge | undefined {
    const isWhole =
      size < TILE_WIDTH ** levels.length &&
      levels.every((hashes, l) => hashes.length === partialWidth(l, size) && hashes.every((h) => h.length === 32)) &&
      entries.length === (levels[0]?.length ?? 0) &&
      entries.every((entry, i) => equalBytes(leafHash(entry), levels[0]?.[i] ?? new Uint8Array()));
    return isWhole
      ? new Edge(
          size,
          levels.map((l) => [...l]),
          [...entries],
        )
      : undefined;
  }

  get size(): number {
    return this.#size;
  }
  get levels(): readonly (readonly Uint8Array[])[] {
    return this.#levels;
  }
  get entries(): readonly Uint8Array[] {
    return this.#entries;
  }

  clone(): Edge {
    return new Edge(
      this.#size,
      this.#levels.map((l) => [...l]),
      [...this.#entries],
    );
  }

  frontier(): Frontier {
    // A node over nodes is a node: the hashes of a tile are the leaves of its own small tree.
    return Frontier.from(
      this.#size,
      this.#levels.toReversed().flatMap((hashes) => frontierOf(hashes).hashes()),
    );
  }

  /** Takes the next entry; gives the tiles and the bundle that it makes full. */
  append(entry: Uint8Array, leaf: Uint8Array): TileObject[] {
    const full: TileObject[] = [];
    // A copy: the entry may be a view of a whole commit.
    this.#entries.push(entry.slice());
    let node = leaf;
    for (let level = 0; ; level++) {
      const hashes = (this.#levels[level] ??= []);
      hashes.push(node);
      if (hashes.length < TILE_WIDTH) break;
      const n = (this.#size + 1) / TILE_WIDTH ** (level + 1) - 1;
      full.push({ body: concat(...hashes), path: tilePath(level, n) });
      if (level === 0) {
        full.push({ body: encodeBundle(this.#entries), path: entriesPath(n) });
        this.#entries = [];
      }
      node = frontierOf(hashes).root();
      this.#levels[level] = [];
    }
    this.#size++;
    return full;
  }

  /** The tiles of this size that are not full. */
  partials(): TileObject[] {
    const tiles = this.#levels.flatMap((hashes, level): TileObject[] =>
      hashes.length === 0
        ? []
        : [
            {
              body: concat(...hashes),
              path: tilePath(level, Math.floor(this.#size / TILE_WIDTH ** (level + 1)), hashes.length),
            },
          ],
    );
    if (this.#entries.length > 0)
      tiles.push({
        body: encodeBundle(this.#entries),
        path: entriesPath(Math.floor(this.#size / TILE_WIDTH), this.#entries.length),
      });
    return tiles;
  }
}
