import * as fc from "fast-check";
import { expect, it } from "vitest";
import {
  encodeBundle,
  entriesPath,
  fullTiles,
  newTiles,
  parseBundle,
  parseTilePath,
  partialWidth,
  TILE_WIDTH,
  type Tile,
  tilePath,
  tilesOf,
} from "../../src/merkle/tiles.ts";
import { hex, readVector, unhex } from "./model.ts";

interface PathVectors {
  readonly valid: { path: string; level: number | "entries"; n: number; width: number }[];
  readonly invalid: { path: string; code: string }[];
}

const paths = readVector("merkle/tile-paths.json") as PathVectors;

it.each(paths.valid)("names $path", ({ path, ...tile }) => {
  expect(parseTilePath(path)).toEqual(tile);
  expect(tile.level === "entries" ? entriesPath(tile.n, tile.width) : tilePath(tile.level, tile.n, tile.width)).toBe(
    path,
  );
});

it("refuses every other path", () => {
  expect(paths.invalid.length).toBeGreaterThan(25);
  for (const { path } of paths.invalid) expect(parseTilePath(path), path).toBeUndefined();
});

it("parses any path that it formats, and no other form of it", () => {
  fc.assert(
    fc.property(fc.nat(63), fc.maxSafeNat(), fc.integer({ max: 256, min: 1 }), (level, n, width) => {
      expect(parseTilePath(tilePath(level, n, width))).toEqual({ level, n, width });
      expect(parseTilePath(entriesPath(n, width))).toEqual({ level: "entries", n, width });
      expect(parseTilePath(tilePath(level, n, width).replace(/^tile\/\d+\//, "$&x000/"))).toBeUndefined();
    }),
  );
  for (const width of [0, 257, 1.5, -1]) expect(() => tilePath(0, 0, width)).toThrow(/assertion/);
});

it("counts tiles as the specification's examples do", () => {
  for (const { levels, size } of readVector("merkle/tile-sizes.json") as {
    size: number;
    levels: [number, number][];
  }[]) {
    for (const [level, [full, partial]] of levels.entries()) {
      expect(fullTiles(level, size)).toBe(full);
      expect(partialWidth(level, size)).toBe(partial);
    }
    expect(fullTiles(levels.length, size) + partialWidth(levels.length, size)).toBe(0);
    expect(tilesOf(size)).toEqual(
      levels.flatMap(([full, partial], level) => [
        ...Array.from({ length: full }, (_, n) => ({ level, n, width: TILE_WIDTH })),
        ...(partial > 0 ? [{ level, n: full, width: partial }] : []),
      ]),
    );
  }
});

it("counts beyond 32 bits", () => {
  const size = Number.MAX_SAFE_INTEGER;
  expect(fullTiles(0, size)).toBe(2 ** 45 - 1);
  expect(partialWidth(0, size)).toBe(255);
  expect(partialWidth(6, size)).toBe(31);
  expect(partialWidth(7, size)).toBe(0);
  expect(newTiles(size - 1, size)).toEqual([{ level: 0, n: 2 ** 45 - 1, width: 255 }]);
});

it("names as new exactly what the smaller tree lacks", () => {
  const key = (tile: Tile): string => tilePath(tile.level, tile.n, tile.width);
  const size = fc.oneof(fc.nat(2000), fc.integer({ max: 66_500, min: 65_000 }));
  fc.assert(
    fc.property(size, size, (a, b) => {
      const [from, to] = a < b ? [a, b] : [b, a];
      const had = new Set(tilesOf(from).map(key));
      expect(newTiles(from, to).map(key)).toEqual(
        tilesOf(to)
          .map(key)
          .filter((k) => !had.has(k)),
      );
    }),
    { numRuns: 50 },
  );
});

interface BundleVectors {
  readonly valid: { name: string; bundle: string; entries: string[] }[];
  readonly invalid: { name: string; bundle: string; code: string }[];
}

const bundles = readVector("merkle/bundles.json") as BundleVectors;

it.each(bundles.valid)("bundles: $name", ({ bundle, entries }) => {
  expect(hex(encodeBundle(entries.map(unhex)))).toBe(bundle);
  expect(parseBundle(unhex(bundle)).map(hex)).toEqual(entries);
});

it.each(bundles.invalid)("refuses a bundle: $name", ({ bundle, code }) => {
  expect(() => parseBundle(unhex(bundle))).toThrow(expect.objectContaining({ code }));
});

it("gives back any bundle", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 700 }), { maxLength: 256, minLength: 1 }), (entries) => {
      expect(parseBundle(encodeBundle(entries)).map(hex)).toEqual(entries.map(hex));
    }),
  );
  expect(parseBundle(encodeBundle([new Uint8Array(65_535)]))[0]).toHaveLength(65_535);
  expect(() => encodeBundle([new Uint8Array(65_536)])).toThrow(/assertion/);
  expect(() => encodeBundle([])).toThrow(/assertion/);
});
