/**
 * Tiles of C2SP tlog-tiles: 256 hashes side by side at every eighth level of the tree, and bundles of the entries themselves.
 *
 * A bundle has the number and width of the level-0 tile over the same entries. Paths are relative to the log's prefix.
 */
import { assert } from "../std/assert.ts";
import { Violation } from "../std/violation.ts";
import { isCount } from "./split.ts";

export const TILE_WIDTH = 256;
const MAX_ENTRY_BYTES = 65_535;
const MAX_LEVEL = 63;

/** `N` in groups of three digits, all but the last marked by `x`: 1234067 is `x001/x234/067`. */
function formatNumber(n: number): string {
  let out = String(n % 1000).padStart(3, "0");
  for (let rest = Math.floor(n / 1000); rest > 0; rest = Math.floor(rest / 1000))
    out = `x${String(rest % 1000).padStart(3, "0")}/${out}`;
  return out;
}

function format(level: number | "entries", n: number, width: number): string {
  assert(
    isCount(n) && Number.isInteger(width) && width >= 1 && width <= TILE_WIDTH,
    "a tile has a number and a width from 1 to 256",
  );
  return `tile/${level}/${formatNumber(n)}${width === TILE_WIDTH ? "" : `.p/${width}`}`;
}

/** Path of a hash tile, `tile/0/x001/234` or `tile/0/x001/234.p/112`. */
export const tilePath = (level: number, n: number, width: number = TILE_WIDTH): string => format(level, n, width);
/** Path of a bundle of entries. */
export const entriesPath = (n: number, width: number = TILE_WIDTH): string => format("entries", n, width);

/** A hash tile. */
export interface Tile {
  readonly level: number;
  readonly n: number;
  /** Number of hashes; 256 for a full tile. */
  readonly width: number;
}

export interface TileAddress {
  readonly level: number | "entries";
  readonly n: number;
  /** 256 for a full tile. */
  readonly width: number;
}

const PATH = /^tile\/(entries|0|[1-9][0-9]?)\/((?:x[0-9]{3}\/){0,5}[0-9]{3})(?:\.p\/([1-9][0-9]{0,2}))?$/;

/** Parses exactly what `tilePath` and `entriesPath` format. An attacker controls the path. */
export function parseTilePath(path: string): TileAddress | undefined {
  const match = PATH.exec(path);
  if (match === null) return undefined;
  const level = match[1] === "entries" ? "entries" : Number(match[1]);
  const n = Number(match[2]?.replaceAll(/[x/]/g, ""));
  const width = match[3] === undefined ? TILE_WIDTH : Number(match[3]);
  if ((level !== "entries" && level > MAX_LEVEL) || !isCount(n) || (match[3] !== undefined && width >= TILE_WIDTH))
    return undefined;
  // Leading groups of zeros are the other form of the same number.
  return format(level, n, width) === path ? { level, n, width } : undefined;
}

/** Width of the partial tile at a level of a tree; 0 when there is none. */
export const partialWidth = (level: number, size: number): number =>
  Math.floor(size / TILE_WIDTH ** level) % TILE_WIDTH;

/** Number of full tiles at a level of a tree. */
export const fullTiles = (level: number, size: number): number => Math.floor(size / TILE_WIDTH ** (level + 1));

/** Every hash tile of a tree, full and partial, level by level. */
export const tilesOf = (size: number): Tile[] => newTiles(0, size);

/** Hash tiles of the tree of size `to` that the tree of size `from` did not have, or had narrower. */
export function newTiles(from: number, to: number): Tile[] {
  const tiles: Tile[] = [];
  for (let level = 0, width = 1; width <= to; level++, width *= TILE_WIDTH) {
    const full = fullTiles(level, to);
    for (let n = fullTiles(level, from); n < full; n++) tiles.push({ level, n, width: TILE_WIDTH });
    const partial = partialWidth(level, to);
    if (partial > 0 && Math.floor(from / width) < Math.floor(to / width))
      tiles.push({ level, n: full, width: partial });
  }
  return tiles;
}

/** From 1 to 256 entries, each after its length in two big-endian bytes. */
export function encodeBundle(entries: readonly Uint8Array[]): Uint8Array {
  assert(entries.length >= 1 && entries.length <= TILE_WIDTH, "a bundle holds 1 to 256 entries");
  let length = 0;
  for (const entry of entries) length += 2 + entry.length;
  const out = new Uint8Array(length);
  let at = 0;
  for (const entry of entries) at = writeBundled(entry, out, at);
  return out;
}

/** Writes an entry of a bundle behind its length; gives where it ends. */
export function writeBundled(entry: Uint8Array, out: Uint8Array, at: number): number {
  assert(entry.length <= MAX_ENTRY_BYTES, "an entry has 65,535 bytes at most");
  out[at] = entry.length >>> 8;
  out[at + 1] = entry.length & 0xff;
  out.set(entry, at + 2);
  return at + 2 + entry.length;
}

/** Entries of a bundle, as views of `bytes`. Throws the Violation `tile.mismatch` unless they are 1 to 256 whole entries. */
export function parseBundle(bytes: Uint8Array): Uint8Array[] {
  const entries: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    const high = bytes[at];
    const low = bytes[at + 1];
    const end = at + 2 + ((high ?? 0) << 8) + (low ?? 0);
    if (low === undefined || end > bytes.length)
      throw new Violation("tile.mismatch", `the bundle ends inside entry ${entries.length}`);
    if (entries.length === TILE_WIDTH) throw new Violation("tile.mismatch", "the bundle holds more than 256 entries");
    entries.push(bytes.subarray(at + 2, end));
    at = end;
  }
  if (entries.length === 0) throw new Violation("tile.mismatch", "the bundle is empty");
  return entries;
}
