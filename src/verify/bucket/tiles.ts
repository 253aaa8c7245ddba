/** Full tiles and bundles, each byte for byte what the entries give; below the published size none is absent. */
import { entriesPath, fullTiles, parseTilePath, TILE_WIDTH, tilePath } from "../../merkle/tiles.ts";
import { equalBytes } from "../../std/bytes.ts";
import { each } from "../../std/each.ts";
import { readRight } from "../../store/right-version.ts";
import { type Audit, checkLock, lockOf } from "./audit.ts";

interface Job {
  readonly key: string;
  readonly level: number | "entries";
  readonly n: number;
}

/** Entries that a tile spans. */
const spanOf = (level: number | "entries"): number => TILE_WIDTH ** (level === "entries" ? 1 : level + 1);

function* jobsOf(size: number): Generator<Job> {
  for (let n = 0; n < fullTiles(0, size); n++) yield { key: entriesPath(n), level: "entries", n };
  for (let level = 0; fullTiles(level, size) > 0; level++)
    for (let n = 0; n < fullTiles(level, size); n++) yield { key: tilePath(level, n), level, n };
}

export async function checkTiles(audit: Audit, listed: readonly string[], published: number): Promise<void> {
  const { absent, bundles, hashes, options, stages, store } = audit;
  const isRight = ({ level, n }: Job, tile: Uint8Array): boolean =>
    level === "entries" ? bundles.holds(n, tile) : equalBytes(tile, hashes.row(8 * level, n * TILE_WIDTH, TILE_WIDTH));
  const present = new Set<string>();
  for (const key of listed) {
    const tile = parseTilePath(key);
    present.add(key);
    if (tile?.width !== TILE_WIDTH) stages.tiles.fail("tile.mismatch", key, "is not the key of a full tile");
    else if ((tile.n + 1) * spanOf(tile.level) > hashes.size)
      stages.tiles.fail("tile.ahead", key, `goes beyond the ${hashes.size} entries that the commits give`);
  }
  let done = 0;
  await each(jobsOf(hashes.size), options.concurrency, async (job) => {
    const { key, level, n } = job;
    options.signal?.throwIfAborted();
    const isPublished = (n + 1) * spanOf(level) <= published;
    const found =
      isPublished || present.has(key)
        ? await readRight(store, key, (tile) => isRight(job, tile), { signal: options.signal })
        : null;
    options.progress?.(++done, present.size, "tiles");
    if (found === null) {
      if (!isPublished) return;
      absent.tiles.push(n * spanOf(level));
      stages.tiles.fail("tile.missing", key, "is below the published size, and absent");
    } else if (found.isRight)
      // As long as anything at all, as checkpoints are.
      checkLock(key, await lockOf(audit, key, found), options.nowMs + 1, audit, stages.tiles);
    else stages.tiles.fail("tile.mismatch", key, "has other bytes than the entries give");
  });
}
