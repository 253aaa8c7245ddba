/** Manifests of chunks: the vectors, and that splitting and putting together are inverse whatever the lengths are. */
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { splitFile } from "../../src/cli/transfer.ts";
import {
  chunkBytesOf,
  chunkCount,
  chunkRange,
  chunksOf,
  formatChunkManifest,
  MAX_CHUNK_MANIFEST_BYTES,
  MAX_CHUNKS,
  parseChunkManifest,
} from "../../src/record/chunks.ts";
import type { Digest } from "../../src/std/brand.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { Violation } from "../../src/std/violation.ts";

interface Vector {
  readonly name: string;
  /** The bytes, as text. */
  readonly text: string;
  readonly digest?: string;
  readonly code?: string;
}

const { vectors } = JSON.parse(
  await readFile(new URL("../vectors/chunks/manifests.json", import.meta.url), "utf8"),
) as { readonly vectors: readonly Vector[] };

const sha256 = (bytes: Uint8Array): Digest => createHash("sha256").update(bytes).digest("hex") as Digest;
const GIB = 1_024 ** 3;

function codeOf(bytes: Uint8Array): string | undefined {
  try {
    parseChunkManifest(bytes);
    return undefined;
  } catch (error) {
    if (error instanceof Violation) return error.code;
    throw error;
  }
}

describe("the vectors", () => {
  it.each(vectors)("$name", ({ code, digest, text }) => {
    const bytes = utf8(text);
    expect(codeOf(bytes)).toBe(code);
    if (code !== undefined) return;
    expect(sha256(bytes)).toBe(digest);
    expect(formatChunkManifest(parseChunkManifest(bytes))).toEqual(bytes);
  });

  it("have one for every code", () => {
    expect([...new Set(vectors.flatMap((v) => v.code ?? []))].toSorted()).toEqual([
      "chunks.count",
      "chunks.form",
      "chunks.noncanonical",
      "chunks.size",
    ]);
  });
});

it("takes the most chunks, and not one more", () => {
  const of = (count: number) => ({
    chunkBytes: GIB,
    chunks: Array.from({ length: count }, (_, i) => sha256(utf8(String(i)))),
    sha256Claimed: sha256(utf8("whole")),
    sizeBytes: count * GIB,
  });
  const most = formatChunkManifest(of(MAX_CHUNKS));
  expect(most.length).toBeLessThan(MAX_CHUNK_MANIFEST_BYTES);
  expect(parseChunkManifest(most)).toEqual(of(MAX_CHUNKS));
  expect(codeOf(formatChunkManifest(of(MAX_CHUNKS + 1)))).toBe("chunks.count");
  expect(codeOf(new Uint8Array(MAX_CHUNK_MANIFEST_BYTES + 1).fill(0x20))).toBe("chunks.noncanonical");
});

it("makes longer chunks of what is longer than 1 TiB", () => {
  expect(chunkBytesOf(GIB + 1)).toBe(GIB / 4);
  expect(chunkCount(1_024 * GIB, chunkBytesOf(1_024 * GIB))).toBe(4_096);
  expect(chunkBytesOf(1_024 * GIB + 1)).toBe(GIB);
});

it("reads whatever is written, and nothing else of what is near", () => {
  const digest = fc.uint8Array({ maxLength: 4 }).map(sha256);
  const manifest = fc
    .record({ chunkBytes: fc.integer({ max: GIB, min: 1 }), count: fc.integer({ max: 20, min: 1 }), whole: digest })
    .chain(({ chunkBytes, count, whole }) =>
      fc.record({
        chunkBytes: fc.constant(chunkBytes),
        // All different: equal ones must be of one length.
        chunks: fc.constant(Array.from({ length: count }, (_, i) => sha256(utf8(`${whole} ${i}`)))),
        sha256Claimed: fc.constant(whole),
        sizeBytes: fc.integer({ max: count * chunkBytes, min: (count - 1) * chunkBytes + 1 }),
      }),
    );
  fc.assert(
    fc.property(manifest, fc.nat(), fc.integer({ max: 255, min: 1 }), (made, at, change) => {
      const bytes = formatChunkManifest(made);
      expect(parseChunkManifest(bytes)).toEqual(made);
      const ranges = made.chunks.map((_, position) => chunkRange(made, position));
      expect(ranges.reduce((to, range) => (range.from === to ? range.to : -1), 0)).toBe(made.sizeBytes);
      const other = bytes.slice();
      other[at % bytes.length] = (other[at % bytes.length] ?? 0) ^ change;
      // Another manifest, or none; never the same one from other bytes.
      if (codeOf(other) === undefined) expect(formatChunkManifest(parseChunkManifest(other))).toEqual(other);
    }),
  );
});

describe("a file", () => {
  let folder = "";
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "datapilot-chunks-"));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it("is the same when its chunks are put together, wherever it is cut", async () => {
    const file = join(folder, "content");
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 300, minLength: 1 }),
        fc.integer({ max: 320, min: 1 }),
        async (bytes, chunkBytes) => {
          await writeFile(file, bytes);
          const manifest = await splitFile(file, bytes.length, chunkBytes);
          expect(parseChunkManifest(formatChunkManifest(manifest))).toEqual(manifest);
          expect(manifest.sha256Claimed).toBe(sha256(bytes));
          const parts = new Map(
            manifest.chunks.map((digest, position) => {
              const { from, to } = chunkRange(manifest, position);
              return [digest, bytes.subarray(from, to)];
            }),
          );
          expect([...parts.keys()]).toEqual([...chunksOf(manifest).keys()]);
          for (const [digest, part] of parts) expect(sha256(part)).toBe(digest);
          expect(Buffer.concat(manifest.chunks.map((d) => parts.get(d) ?? new Uint8Array()))).toEqual(
            Buffer.from(bytes),
          );
        },
      ),
      { numRuns: 60 },
    );
  });

  it("that grew while it was read is refused", async () => {
    const file = join(folder, "growing");
    await writeFile(file, "more than was seen");
    await expect(splitFile(file, 5, 4)).rejects.toThrow("changed while it was read");
  });

  it("that makes too many chunks is refused before it is read", async () => {
    await expect(splitFile(join(folder, "absent"), MAX_CHUNKS + 1, 1)).rejects.toThrow("at most 10000 are taken");
  });
});
