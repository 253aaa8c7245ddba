/** Full tiles and bundles, each byte for byte what the entries give; below the published size none is absent. */
import { leafHash } from "../../merkle/hash.ts";
import { entriesPath, fullTiles, parseBundle, parseTilePath, TILE_WIDTH, tilePath } from "../../merkle/tiles.ts";
import { equalBytes } from "../../std/bytes.ts";
import { Violation } from "../../std/violation.ts";
import { type Audit, each, type Listed } from "./audit.ts";

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

export async function checkTiles(audit: Audit, listed: readonly Listed[], published: number): Promise<void> {
  const { absent, hashes, options, stages, store } = audit;
  const present = new Set<string>();
  for (const { key } of listed) {
    const tile = parseTilePath(key);
    present.add(key);
    if (tile?.width !== TILE_WIDTH) stages.tiles.fail("tile.mismatch", key, "is not the key of a full tile");
    else if ((tile.n + 1) * spanOf(tile.level) > hashes.size)
      stages.tiles.fail("tile.ahead", key, `goes beyond the ${hashes.size} entries that the commits give`);
  }
  let done = 0;
  await each(jobsOf(hashes.size), options.concurrency, async ({ key, level, n }) => {
    options.signal?.throwIfAborted();
    const isPublished = (n + 1) * spanOf(level) <= published;
    const found = isPublished || present.has(key) ? await store.get("ledger", key) : null;
    options.progress?.(++done, present.size, "tiles");
    if (found === null) {
      if (!isPublished) return;
      absent.tiles.push(n * spanOf(level));
      stages.tiles.fail("tile.missing", key, "is below the published size, and absent");
    } else if (!(level === "entries" ? holdsEntries(audit, n, found.body) : holdsHashes(audit, level, n, found.body)))
      stages.tiles.fail("tile.mismatch", key, "has other bytes than the entries give");
  });
}

function holdsHashes({ hashes }: Audit, level: number, n: number, tile: Uint8Array): boolean {
  if (tile.length !== 32 * TILE_WIDTH) return false;
  for (let i = 0; i < TILE_WIDTH; i++)
    if (!equalBytes(tile.subarray(32 * i, 32 * i + 32), hashes.read(8 * level, n * TILE_WIDTH + i))) return false;
  return true;
}

/** Whether a bundle holds exactly the entries of the tree: equal leaf hashes mean equal entries. */
function holdsEntries({ hashes }: Audit, n: number, bundle: Uint8Array): boolean {
  try {
    const entries = parseBundle(bundle);
    return (
      entries.length === TILE_WIDTH &&
      entries.every((e, i) => equalBytes(leafHash(e), hashes.read(0, n * TILE_WIDTH + i)))
    );
  } catch (error) {
    if (error instanceof Violation) return false;
    throw error;
  }
}
