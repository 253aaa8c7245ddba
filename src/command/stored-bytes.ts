/**
 * What the store holds of an artifact, before a record says so: the bytes are there, of the length and digest that were declared, and
 * locked for as long as the ledger holds what it records. A manifest of chunks stands for all of them.
 */
import { createHash } from "node:crypto";
import type { Artifact } from "../../gen/ts/animus/datapilot/record/v1/data_pb.ts";
import { artifactDays, createRetention, floorDays } from "../log/retention.ts";
import { sha256Hex } from "../merkle/hash.ts";
import {
  CHUNKS_MEDIA_TYPE,
  type ChunkManifest,
  chunksOf,
  MAX_CHUNK_MANIFEST_BYTES,
  parseChunkManifest,
} from "../record/chunks.ts";
import { type Digest, digestOf, idOf, type RecordId } from "../std/brand.ts";
import { each } from "../std/each.ts";
import { Fault } from "../std/faults.ts";
import { Violation } from "../std/violation.ts";
import { findBlob } from "../store/find-blob.ts";
import { artifactKey } from "../store/keys.ts";
import type { ObjectInfo } from "../store/object-store.ts";
import { readSized } from "../store/right-version.ts";
import type { Deps } from "./context.ts";

type Parts = Pick<Deps, "clock" | "log" | "store">;

/** Chunks that are asked of the store at once. */
const IN_FLIGHT = 16;
/** Of chunks that are missing, this many are named. */
const NAMED = 8;

export interface StoredBlob {
  readonly project: RecordId;
  readonly digest: Digest;
  readonly sizeBytes: number;
}

const keyOf = ({ digest, project }: StoredBlob): string => artifactKey(digestOf(project), digest);

/** Until when what a project records now is held: the ledger's own floor, or longer. */
export function retainUntil({ clock, log }: Pick<Deps, "clock" | "log">, project: RecordId): number {
  using reader = log.index.reader();
  return createRetention(clock, artifactDays(reader, project, floorDays(reader)))();
}

/** What was found: nothing against it, and the manifest where it is one; or the fault. */
export type Checked = { readonly flaw: Fault } | { readonly flaw?: undefined; readonly manifest?: ChunkManifest };

/** Checks the bytes of an artifact, and locks until `hold` what was checked; nothing is locked without it. */
export async function checkStored(
  parts: Parts,
  project: RecordId,
  artifact: Pick<Artifact, "digest" | "mediaType" | "sizeBytes">,
  hold: number | undefined,
  signal: AbortSignal | undefined,
): Promise<Checked> {
  const blob = { digest: digestOf(artifact.digest as RecordId), project, sizeBytes: artifact.sizeBytes };
  const found = await find(parts, blob, signal);
  if (found instanceof Fault) return { flaw: found };
  const isManifest = artifact.mediaType === CHUNKS_MEDIA_TYPE;
  const manifest = isManifest ? await manifestOf(parts, blob, signal) : undefined;
  if (manifest instanceof Fault) return { flaw: manifest };
  const flaw =
    (manifest === undefined ? undefined : await checkChunks(parts, project, manifest, hold, signal)) ??
    (await settle(parts, found, hold, signal));
  if (flaw !== undefined) return { flaw };
  return manifest === undefined ? {} : { manifest };
}

interface Found {
  readonly blob: StoredBlob;
  readonly info: ObjectInfo;
  readonly isVerified: boolean;
}

async function find({ store }: Parts, blob: StoredBlob, signal: AbortSignal | undefined): Promise<Found | Fault> {
  const found = await findBlob(store, keyOf(blob), blob.digest, signal);
  const metadata = { digest: idOf(blob.digest) };
  if (found === undefined)
    return new Fault("ARTIFACT_NOT_UPLOADED", "the store holds no such bytes: upload them first", { metadata });
  const { isVerified, info } = found;
  if (info.sizeBytes === blob.sizeBytes) return { blob, info, isVerified };
  return new Fault("DIGEST_MISMATCH", `the store holds ${info.sizeBytes} bytes, not ${blob.sizeBytes}`, { metadata });
}

/** A store that checked the digest at the upload vouches for it; what lies in another is read once, whole, and hashed. */
async function settle(
  parts: Parts,
  { blob, info, isVerified }: Found,
  hold: number | undefined,
  signal: AbortSignal | undefined,
): Promise<Fault | undefined> {
  const { store } = parts;
  const { versionId } = info;
  const flaw = isVerified ? undefined : await hashBytes(parts, blob, versionId, signal);
  if (flaw !== undefined || hold === undefined) return flaw;
  const isHeld = info.lockMode !== undefined && info.lockMode !== "GOVERNANCE" && (info.retainUntil ?? 0) >= hold;
  if (!isHeld) await store.extend("ledger", keyOf(blob), hold, { signal, versionId });
  return undefined;
}

async function hashBytes(
  { store }: Parts,
  blob: StoredBlob,
  versionId: string | undefined,
  signal: AbortSignal | undefined,
): Promise<Fault | undefined> {
  const opened = await store.open("ledger", keyOf(blob), { signal, versionId });
  const metadata = { digest: idOf(blob.digest) };
  if (opened === null) {
    return new Fault("ARTIFACT_NOT_UPLOADED", "the bytes were removed meanwhile: upload them again", { metadata });
  }
  const hash = createHash("sha256");
  for await (const part of opened.stream) {
    signal?.throwIfAborted();
    hash.update(part);
  }
  const stored = hash.digest("hex");
  if (stored === blob.digest) return undefined;
  return new Fault("DIGEST_MISMATCH", "the stored bytes have another digest: upload them again", {
    metadata: { ...metadata, stored: `sha256:${stored}` },
  });
}

/** The manifest that the store holds, or the fault of bytes that are none. */
async function manifestOf(
  parts: Parts,
  blob: StoredBlob,
  signal: AbortSignal | undefined,
): Promise<ChunkManifest | Fault> {
  try {
    return await readManifest(parts, blob, signal);
  } catch (error) {
    if (error instanceof Fault) return error;
    if (!(error instanceof Violation)) throw error;
    return new Fault(
      "REQUEST_INVALID",
      `media_type says that the bytes are a manifest of chunks, and they are none: ${error.message}. Correct them, or leave the media type out.`,
      {
        cause: error,
        fields: [{ description: error.message, field: "artifact.media_type" }],
        metadata: { code: error.code },
      },
    );
  }
}

/** Throws the Fault ERASED when the store holds it no more, and the Violations `chunks.*`. */
export async function readManifest(
  { store }: Pick<Deps, "store">,
  blob: StoredBlob,
  signal?: AbortSignal,
): Promise<ChunkManifest> {
  if (blob.sizeBytes > MAX_CHUNK_MANIFEST_BYTES)
    throw new Violation("chunks.noncanonical", `a manifest has at most ${MAX_CHUNK_MANIFEST_BYTES} bytes`);
  const isRight = (body: Uint8Array): boolean => sha256Hex(body) === blob.digest;
  const bytes = await readSized(store, keyOf(blob), blob.sizeBytes, isRight, { signal });
  if (bytes === undefined) throw new Fault("ERASED", "the manifest's bytes are not in the store any more");
  return parseChunkManifest(bytes);
}

async function checkChunks(
  parts: Parts,
  project: RecordId,
  manifest: ChunkManifest,
  hold: number | undefined,
  signal: AbortSignal | undefined,
): Promise<Fault | undefined> {
  const found: Found[] = [];
  const lacking: Fault[] = [];
  // All are looked for before the first is read: whoever has to upload learns at once which.
  await each(chunksOf(manifest), IN_FLIGHT, async ([digest, sizeBytes]) => {
    const chunk = await find(parts, { digest, project, sizeBytes }, signal);
    if (chunk instanceof Fault) lacking.push(chunk);
    else found.push(chunk);
  });
  if (lacking.length > 0) return lackOf(manifest, lacking);
  await each(found, IN_FLIGHT, async (chunk) => {
    if (lacking.length > 0) return;
    const flaw = await settle(parts, chunk, hold, signal);
    if (flaw !== undefined) lacking.push(flaw);
  });
  return lacking.length > 0 ? lackOf(manifest, lacking) : undefined;
}

function lackOf({ chunks }: ChunkManifest, flaws: readonly Fault[]): Fault {
  const positions = new Map(chunks.map((digest, position) => [idOf(digest) as string, position]));
  const named = flaws
    .map(({ message, metadata, reason }) => ({
      at: positions.get(metadata["digest"] ?? "") ?? 0,
      message,
      metadata,
      reason,
    }))
    .toSorted((a, b) => a.at - b.at);
  const [first] = named;
  const reason = named.find((n) => n.reason !== "ARTIFACT_NOT_UPLOADED")?.reason ?? "ARTIFACT_NOT_UPLOADED";
  const list = named.slice(0, NAMED).map((n) => n.at);
  const more = named.length > NAMED ? ` and ${named.length - NAMED} more` : "";
  return new Fault(
    reason,
    `${named.length} of ${chunks.length} chunks are not in the store as the manifest says: ${list.join(", ")}${more} (${first?.message ?? ""}). Ask where to put them with CreateArtifact and is_chunk, then complete again.`,
    {
      metadata: {
        chunks: String(chunks.length),
        digest: first?.metadata["digest"] ?? "",
        missing: String(named.length),
        position: String(first?.at ?? 0),
      },
    },
  );
}
