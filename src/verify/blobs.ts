/**
 * Stage 9: the artifacts' bytes. A blob's name is its content's digest, and some artifact record here names it, or a manifest that such
 * a record calls one (`docs/formats/chunks.md`).
 */
import { CHUNKS_MEDIA_TYPE, chunksOf, isChunked, parseChunkManifest } from "../record/chunks.ts";
import { isObject, type Json } from "../record/json.ts";
import { digestOf, parseRecordId } from "../std/brand.ts";
import { Violation } from "../std/violation.ts";
import type { Member } from "./container.ts";
import type { Manifest } from "./manifest.ts";
import { erasedIds, type PackRecord } from "./records.ts";
import type { Stage } from "./report.ts";

const PREFIX = "blobs/";

/** The blobs whose bytes are needed to check others: what records call manifests of chunks. `records` is anybody's. */
export function manifestBlobs(records: Uint8Array): ReadonlySet<string> {
  const names = new Set<string>();
  const decoder = new TextDecoder();
  for (let at = 0; at < records.length; ) {
    const end = records.indexOf(0x0a, at);
    const line = decoder.decode(records.subarray(at, end < 0 ? records.length : end));
    at = end < 0 ? records.length : end + 1;
    const id = line.includes(CHUNKS_MEDIA_TYPE) ? manifestIn(line) : undefined;
    if (id !== undefined) names.add(PREFIX + digestOf(id));
  }
  return names;
}

function manifestIn(line: string): ReturnType<typeof parseRecordId> {
  try {
    const value = JSON.parse(line) as Json;
    const body = isObject(value) ? value["body"] : undefined;
    if (!isObject(body) || !isChunked(body)) return undefined;
    const { digest } = body;
    return typeof digest === "string" ? parseRecordId(digest) : undefined;
  } catch {
    // Stage 5 says so.
    return undefined;
  }
}

interface Stated {
  /** Sizes by digest: several projects may have the same content, and must agree. */
  readonly sizes: Map<string, Set<number>>;
  /** Digests of what records call manifests. */
  readonly manifests: ReadonlySet<string>;
}

function statedBy(records: readonly PackRecord[]): Stated {
  const sizes = new Map<string, Set<number>>();
  const manifests = new Set<string>();
  for (const { record } of records) {
    if (record?.kind !== "artifact") continue;
    const { digest, size_bytes: size } = record.body;
    const id = typeof digest === "string" ? parseRecordId(digest) : undefined;
    if (id === undefined) continue;
    state(sizes, digestOf(id), typeof size === "number" ? size : 0);
    if (isChunked(record.body)) manifests.add(digestOf(id));
  }
  return { manifests, sizes };
}

const state = (sizes: Stated["sizes"], digest: string, sizeBytes: number): void =>
  void sizes.set(digest, (sizes.get(digest) ?? new Set()).add(sizeBytes));

/** Adds the chunks that the manifests here name; whether each could be read. */
function addChunks(blobs: readonly Member[], { manifests, sizes }: Stated, stage: Stage): boolean {
  let areRead = true;
  for (const { bytes, name, sha256 } of blobs) {
    const digest = name.slice(PREFIX.length);
    if (!manifests.has(digest)) continue;
    try {
      // Of other bytes, their own digest is the flaw.
      if (sha256 !== digest) areRead = false;
      else
        for (const [chunk, size] of chunksOf(parseChunkManifest(bytes ?? new Uint8Array()))) state(sizes, chunk, size);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      areRead = false;
      stage.fail("artifact.digest", name, `its record calls it a manifest of chunks: ${error.code}: ${error.message}`);
    }
  }
  return areRead;
}

export function checkBlobs(
  blobs: readonly Member[],
  records: readonly PackRecord[],
  { outside }: Manifest,
  allowed: ReadonlySet<string>,
  stage: Stage,
): void {
  const stated = statedBy(records);
  const isWhole = addChunks(blobs, stated, stage);
  const here = new Set<string>();
  for (const { name, sha256, sizeBytes } of blobs) {
    const digest = name.slice(PREFIX.length);
    const sizes = stated.sizes.get(digest);
    here.add(digest);
    if (sha256 !== digest) stage.fail("artifact.digest", name, `its bytes have SHA-256 ${sha256}`);
    else if (sizes === undefined) {
      // A manifest that cannot be read may have named it.
      if (isWhole) stage.fail("pack.member", name, "no record here names this blob, and no manifest");
    } else if ([...sizes].some((s) => s !== sizeBytes))
      stage.fail(
        "artifact.digest",
        name,
        `has ${sizeBytes} bytes, its record or manifest says ${[...sizes].join(" and ")}`,
      );
    if (outside.artifact.has(`sha256:${digest}`)) stage.fail("pack.manifest", name, "is listed as outside, yet here");
  }
  const erased = erasedIds(records);
  for (const digest of stated.sizes.keys()) {
    if (here.has(digest)) continue;
    const id = `sha256:${digest}`;
    const why = outside.artifact.get(id);
    if (why === undefined) stage.fail("artifact.missing", id, "is neither here nor listed as outside");
    else if (why === "erased" && !erased.has(id))
      stage.fail("erasure.unexplained", id, "is called erased, and no record here says so");
    else if (why === "not-granted" && !allowed.has(why))
      stage.skip(`artifact ${id} is not in the pack (${why}); accept that with --allow-outside ${why}`);
  }
}
