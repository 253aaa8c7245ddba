import * as fc from "fast-check";
import { expect, it } from "vitest";
import { entriesPath, parseTilePath, tilePath } from "../../src/merkle/tiles.ts";
import type { Digest } from "../../src/std/brand.ts";
import {
  artifactKey,
  checkpointKey,
  commitKey,
  HEAD_CHECKPOINT,
  LEADER,
  parseCommitKey,
  parseKey,
  partialTileKey,
  personalKey,
  probeKey,
  REPLICA,
  recordKey,
  tileKey,
} from "../../src/store/keys.ts";
import { HOSTILE_KEYS } from "../contract/object-store.ts";

const hex = (length: number) =>
  fc.string({ unit: fc.constantFrom(...Array.from("0123456789abcdef")), minLength: length, maxLength: length });
const digest = hex(64).map((h) => h as Digest);
const count = fc.maxSafeNat();

it("writes keys as the design says", () => {
  const d = `${"ab".repeat(31)}cd` as Digest;
  expect([commitKey(0), commitKey(12_345_678), commitKey(Number.MAX_SAFE_INTEGER)]).toEqual([
    "commits/0000000000000000/0000",
    "commits/0000000000001234/5678",
    "commits/0000900719925474/0991",
  ]);
  expect(recordKey(d)).toBe(`records/sha256/ab/ab/${d}`);
  expect(artifactKey(d, d)).toBe(`artifacts/${d}/sha256/ab/${d}`);
  expect(checkpointKey(42, "0123456789abcdef")).toBe("checkpoints/00000000000000000042-0123456789abcdef");
  expect(personalKey(d)).toBe(`sha256/${d}`);
});

it("parses what it formats, and nothing else as the same", () => {
  fc.assert(
    fc.property(count, digest, digest, hex(16), hex(32), (n, a, b, h, run) => {
      expect(parseCommitKey(commitKey(n))).toBe(n);
      expect(parseKey("ledger", commitKey(n))).toEqual({ type: "commit", n });
      expect(parseKey("ledger", recordKey(a))).toEqual({ type: "record", digest: a });
      expect(parseKey("ledger", artifactKey(a, b))).toEqual({ type: "artifact", project: a, digest: b });
      expect(parseKey("ledger", checkpointKey(n, h))).toEqual({ type: "checkpoint", size: n, noteHash: h });
      expect(parseKey("personal", personalKey(a))).toEqual({ type: "personal", digest: a });
      expect(parseKey("head", probeKey(run, n % 10_000))).toEqual({ type: "probe", run, n: n % 10_000 });
    }),
  );
  expect(parseKey("head", HEAD_CHECKPOINT)).toEqual({ type: "newest-checkpoint" });
  expect(parseKey("head", LEADER)).toEqual({ type: "leader" });
  expect(parseKey("head", REPLICA)).toEqual({ type: "replica" });
});

it("takes the tile paths of the log, full in ledger and partial in head", () => {
  fc.assert(
    fc.property(count, fc.integer({ min: 0, max: 63 }), fc.integer({ min: 1, max: 256 }), (n, level, width) => {
      for (const path of [tilePath(level, n, width), entriesPath(n, width)]) {
        const address = parseTilePath(path);
        const full = parseKey("ledger", path);
        const partial = parseKey("head", path);
        expect(full).toEqual(width === 256 && address !== undefined ? { type: "tile", ...address } : undefined);
        expect(partial).toEqual(
          width < 256 && address !== undefined ? { type: "partial-tile", ...address } : undefined,
        );
        expect((width === 256 ? tileKey : partialTileKey)(path)).toBe(path);
        expect(() => (width === 256 ? partialTileKey : tileKey)(path)).toThrow("assertion failed");
      }
    }),
  );
});

it("refuses hostile keys, and every key changed by one character that is then formatted otherwise", () => {
  for (const key of HOSTILE_KEYS)
    for (const bucket of ["ledger", "head", "personal"] as const) expect(parseKey(bucket, key), key).toBeUndefined();
  const keys = [
    commitKey(7),
    recordKey("0".repeat(64) as Digest),
    tileKey("tile/0/x001/234"),
    checkpointKey(1, "0".repeat(16)),
  ];
  for (const key of keys)
    for (let i = 0; i <= key.length; i++)
      for (const c of ["\0", "/", ".", "\u202e", "A", " ", "%"]) {
        expect(parseKey("ledger", key.slice(0, i) + c + key.slice(i)), `${key} with ${c} at ${i}`).toBeUndefined();
      }
});

it("accepts only safe characters, whatever comes", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 300 }), (key) => {
      for (const bucket of ["ledger", "head", "personal"] as const)
        if (parseKey(bucket, key) !== undefined) expect(key).toMatch(/^[a-z0-9][a-z0-9/.-]*$/);
    }),
  );
});
