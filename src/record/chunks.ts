/**
 * Content that lies in chunks: what is too long for one PUT is put piece by piece, each under its own digest, and a manifest names
 * them in order (`docs/formats/chunks.md`). The manifest is an artifact, and its digest is what the content is known by.
 *
 * - Whether an artifact is a manifest says its record, by the media type, and never the look of its bytes.
 * - The SHA-256 of the whole is a claim of whoever split it: the digests of the chunks say what the content is.
 *
 * The bytes of a manifest may be an attacker's.
 */
import { type Digest, parseDigest } from "../std/brand.ts";
import { Violation } from "../std/violation.ts";
import { canonicalBytes, parseCanonical } from "./canonical.ts";
import { isObject, type Json, type JsonObject } from "./json.ts";

/** Media type in the record of an artifact that is a manifest; nothing else has it. */
export const CHUNKS_MEDIA_TYPE = "application/vnd.datapilot.chunks.v1+json";

const MIB = 1_024 ** 2;
const GIB = 1_024 ** 3;
const TIB = 1_024 ** 4;
/** Content that is longer is split. */
export const CHUNKED_ABOVE_BYTES = GIB;
export const MAX_CHUNK_BYTES = GIB;
export const MAX_CHUNKS = 10_000;
/** Longer than the manifest of the most chunks. */
export const MAX_CHUNK_MANIFEST_BYTES = MIB;

export interface ChunkManifest {
  /** Of the whole. */
  readonly sizeBytes: number;
  /** Of each chunk but the last. */
  readonly chunkBytes: number;
  readonly chunks: readonly Digest[];
  /** Of the whole, unproven. */
  readonly sha256Claimed: Digest;
}

/** Length of the chunks of content of this length. */
export const chunkBytesOf = (sizeBytes: number): number => (sizeBytes > TIB ? GIB : 256 * MIB);

export const chunkCount = (sizeBytes: number, chunkBytes: number): number => Math.ceil(sizeBytes / chunkBytes);

/** Where a chunk begins and ends in the content; the end is exclusive. */
export function chunkRange(
  { chunkBytes, sizeBytes }: Pick<ChunkManifest, "chunkBytes" | "sizeBytes">,
  position: number,
): { readonly from: number; readonly to: number } {
  const from = position * chunkBytes;
  return { from, to: Math.min(sizeBytes, from + chunkBytes) };
}

/** Each digest that a manifest names, once, with its length; of two lengths for one digest the later could not be stored. */
export function chunksOf(manifest: ChunkManifest): ReadonlyMap<Digest, number> {
  const sizes = new Map<Digest, number>();
  for (const [position, digest] of manifest.chunks.entries()) {
    const { from, to } = chunkRange(manifest, position);
    const known = sizes.get(digest);
    if (known !== undefined && known !== to - from)
      throw new Violation("chunks.count", `chunk ${position} is said to be the same as one of another length`);
    sizes.set(digest, to - from);
  }
  return sizes;
}

/** Whether the body of an artifact's record says that its bytes are a manifest. */
export const isChunked = (body: JsonObject): boolean => body["media_type"] === CHUNKS_MEDIA_TYPE;

export const formatChunkManifest = ({ chunkBytes, chunks, sha256Claimed, sizeBytes }: ChunkManifest): Uint8Array =>
  canonicalBytes({ chunk: chunkBytes, chunks: [...chunks], sha256_claimed: sha256Claimed, size: sizeBytes });

/** The manifest that these bytes are; throws the Violations `chunks.*`. */
export function parseChunkManifest(bytes: Uint8Array): ChunkManifest {
  const value = canonicalOf(bytes);
  if (!isObject(value) || Object.keys(value).join() !== "chunk,chunks,sha256_claimed,size")
    throw new Violation("chunks.form", 'the manifest is not {"chunk","chunks","sha256_claimed","size"}');
  const { chunk: chunkBytes, chunks: listed, sha256_claimed: claimed, size: sizeBytes } = value;
  if (!isCount(sizeBytes) || !isCount(chunkBytes) || chunkBytes > MAX_CHUNK_BYTES)
    throw new Violation("chunks.size", "size and chunk are to be whole numbers from 1, chunk up to 1 GiB");
  const sha256Claimed = typeof claimed === "string" ? parseDigest(claimed) : undefined;
  if (sha256Claimed === undefined || !Array.isArray(listed))
    throw new Violation("chunks.form", "sha256_claimed is to be a SHA-256 in hex, and chunks a list");
  const expected = chunkCount(sizeBytes, chunkBytes);
  if (listed.length !== expected || expected > MAX_CHUNKS)
    throw new Violation(
      "chunks.count",
      `${listed.length} chunks are listed; ${sizeBytes} bytes in chunks of ${chunkBytes} make ${expected}, and ${MAX_CHUNKS} are allowed`,
    );
  const chunks = (listed as readonly Json[]).map((item, position) => {
    const digest = typeof item === "string" ? parseDigest(item) : undefined;
    if (digest === undefined) throw new Violation("chunks.form", `chunk ${position} is no SHA-256 in hex`);
    return digest;
  });
  const manifest = { chunkBytes, chunks, sha256Claimed, sizeBytes };
  chunksOf(manifest);
  return manifest;
}

const isCount = (value: Json | undefined): value is number => Number.isSafeInteger(value) && (value as number) >= 1;

function canonicalOf(bytes: Uint8Array): Json {
  try {
    return parseCanonical(bytes, { maxBytes: MAX_CHUNK_MANIFEST_BYTES, maxDepth: 2 });
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    throw new Violation("chunks.noncanonical", error.message);
  }
}
