/**
 * Tiles of C2SP tlog-tiles: 256 hashes side by side at every eighth level, and bundles of the entries themselves.
 */
import { concat } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";

export const TILE_WIDTH = 256;
const MAX_ENTRY_BYTES = 65_535;

/** `N` in groups of three digits, all but the last marked by `x`: 1234067 is `x001/x234/067`. */
function formatNumber(n: number): string {
  let out = String(n % 1000).padStart(3, "0");
  for (let rest = Math.floor(n / 1000); rest > 0; rest = Math.floor(rest / 1000)) out = `x${String(rest % 1000).padStart(3, "0")}/${out}`;
  return out;
}

const suffix = (width: number): string => (width === TILE_WIDTH ? "" : `.p/${width}`);

export const tilePath = (level: number, n: number, width: number = TILE_WIDTH): string => `tile/${level}/${formatNumber(n)}${suffix(width)}`;
export const entriesPath = (n: number, width: number = TILE_WIDTH): string => `tile/entries/${formatNumber(n)}${suffix(width)}`;

export interface TileAddress {
  readonly level: number | "entries";
  readonly n: number;
  /** 256 for a full tile. */
  readonly width: number;
}

const PATH = /^tile\/(entries|0|[1-9][0-9]?)\/((?:x[0-9]{3}\/){0,5}[0-9]{3})(?:\.p\/([1-9][0-9]{0,2}))?$/;

/** Parses exactly what `tilePath` and `entriesPath` format. */
export function parseTilePath(path: string): TileAddress | undefined {
  const match = PATH.exec(path);
  if (match === null) return undefined;
  const level = match[1] === "entries" ? "entries" : Number(match[1]);
  const n = Number(match[2]?.replaceAll(/[x/]/g, ""));
  const width = match[3] === undefined ? TILE_WIDTH : Number(match[3]);
  if ((level !== "entries" && level > 63) || !Number.isSafeInteger(n) || (match[3] !== undefined && width >= TILE_WIDTH)) return undefined;
  const again = level === "entries" ? entriesPath(n, width) : tilePath(level, n, width);
  return again === path ? { level, n, width } : undefined;
}

/** Width of the partial tile at a level of a tree; 0 when there is none. */
export const partialWidth = (level: number, size: number): number => Math.floor(size / TILE_WIDTH ** level) % TILE_WIDTH;

/** Number of full tiles at a level of a tree. */
export const fullTiles = (level: number, size: number): number => Math.floor(size / TILE_WIDTH ** (level + 1));

/** Every hash tile of a tree, full and partial. */
export function tilesOf(size: number): TileAddress[] {
  return newTiles(0, size);
}

/** Hash tiles of the tree of size `to` that the tree of size `from` did not have, or had narrower. */
export function newTiles(from: number, to: number): TileAddress[] {
  const tiles: TileAddress[] = [];
  for (let level = 0; TILE_WIDTH ** level <= to; level++) {
    for (let n = fullTiles(level, from); n < fullTiles(level, to); n++) tiles.push({ level, n, width: TILE_WIDTH });
    const width = partialWidth(level, to);
    if (width > 0 && Math.floor(from / TILE_WIDTH ** level) < Math.floor(to / TILE_WIDTH ** level)) tiles.push({ level, n: fullTiles(level, to), width });
  }
  return tiles;
}

/** Entries, each after its length in two big-endian bytes. */
export function encodeBundle(entries: readonly Uint8Array[]): Uint8Array {
  return concat(
    ...entries.flatMap((entry) => {
      if (entry.length > MAX_ENTRY_BYTES) throw new Violation("entry.malformed", `an entry of ${entry.length} bytes does not fit a bundle`);
      return [new Uint8Array([entry.length >> 8, entry.length & 0xff]), entry];
    }),
  );
}

export function parseBundle(bytes: Uint8Array): Uint8Array[] {
  const entries: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
    if (at + 2 + length > bytes.length || entries.length === TILE_WIDTH) throw new Violation("tile.mismatch", "the bundle is not a sequence of up to 256 whole entries");
    entries.push(bytes.subarray(at + 2, at + 2 + length));
    at += 2 + length;
  }
  return entries;
}
