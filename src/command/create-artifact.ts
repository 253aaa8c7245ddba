/**
 * Says where the bytes of artifacts, or of chunks, are to be put; nothing to put when the project or its store has the content.
 * Records nothing: what was uploaded and is not completed is nobody's, and counts against the project's quota.
 */
import { create } from "@bufbuild/protobuf";
import type { Artifact } from "../../gen/ts/animus/datapilot/record/v1/data_pb.ts";
import {
  type BatchCreateArtifactsRequest,
  type BatchCreateArtifactsResponse,
  BatchCreateArtifactsResponseSchema,
  type CreateArtifactRequest,
  type CreateArtifactResponse,
  CreateArtifactResponseSchema,
} from "../../gen/ts/animus/datapilot/v1/artifact_pb.ts";
import type { Resource } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { contentIdentity } from "../fold/identity.ts";
import type { Caller } from "../identity/caller.ts";
import type { IndexReader } from "../index/index.ts";
import { findResource } from "../query/resource.ts";
import { CHUNKS_MEDIA_TYPE, isChunked } from "../record/chunks.ts";
import type { JsonObject } from "../record/json.ts";
import { type Digest, digestOf, type RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import { formatTime } from "../std/ports.ts";
import { findBlob } from "../store/find-blob.ts";
import { artifactKey } from "../store/keys.ts";
import { ask } from "./ask.ts";
import { bodyOf, checkDigest, invalid } from "./body.ts";
import type { Blob, Deps } from "./context.ts";
import { checkCount, MAX_BATCH } from "./limits.ts";
import { outstandingOf, UPLOAD_LOCK_MS, UPLOAD_QUOTA_BYTES, type Upload } from "./outstanding.ts";

/** Largest object that one PUT takes. */
export const MAX_ARTIFACT_BYTES = 5 * 1_024 ** 3;
const IN_FLIGHT = 32;
const DAY_MS = 86_400_000;

export async function createArtifact(
  deps: Deps,
  caller: Caller,
  request: CreateArtifactRequest,
): Promise<CreateArtifactResponse> {
  const { artifact, isChunk, project } = request;
  const [response] = await declareAll(deps, caller, { artifacts: [artifact], areChunks: isChunk, project });
  return response ?? create(CreateArtifactResponseSchema);
}

export async function batchCreateArtifacts(
  deps: Deps,
  caller: Caller,
  request: BatchCreateArtifactsRequest,
): Promise<BatchCreateArtifactsResponse> {
  return create(BatchCreateArtifactsResponseSchema, { artifacts: await declareAll(deps, caller, request) });
}

/** What the project has already, or what is to be put. */
type Declared = { readonly existing: Resource } | { readonly blob: Blob; readonly upload: Upload };

async function declareAll(
  deps: Deps,
  caller: Caller,
  request: {
    readonly project: string;
    readonly artifacts: readonly (Artifact | undefined)[];
    readonly areChunks: boolean;
  },
): Promise<CreateArtifactResponse[]> {
  const declared = await ask(
    deps,
    caller,
    { project: request.project, permission: "artifact.write" },
    (reader, project, declaredMs) => {
      checkCount("artifacts", request.artifacts.length, MAX_BATCH);
      const all = request.artifacts.map((artifact): Declared => {
        const { blob, existing } = declare(reader, project, artifact);
        if (existing !== undefined) return { existing };
        const isChunk = request.areChunks;
        return {
          blob,
          upload: { artifact: checkArtifact(artifact), declaredMs, isChunk, principal: caller.principal, project },
        };
      });
      const uploads = all.flatMap((d) => ("upload" in d ? [d.upload] : []));
      outstandingOf(deps.log).reserve(uploads, deps.uploadQuotaBytes ?? UPLOAD_QUOTA_BYTES);
      return all;
    },
  );
  const responses: CreateArtifactResponse[] = [];
  // Some at a time: on S3, each asks the store what lies there.
  for (let at = 0; at < declared.length; at += IN_FLIGHT)
    responses.push(...(await Promise.all(declared.slice(at, at + IN_FLIGHT).map((d) => answer(deps, d)))));
  return responses;
}

function declare(
  reader: IndexReader,
  project: RecordId,
  artifact: Artifact | undefined,
): { readonly blob: Blob; readonly existing: Resource | undefined } {
  const { digest, mediaType, sizeBytes } = checkArtifact(artifact);
  const known = contentIdentity("artifact", project, { digest }, []);
  const id = known === undefined ? undefined : reader.get("content", known)?.value.id;
  if (id !== undefined) checkSameKind(reader.record(id)?.record.body, mediaType);
  const existing = id === undefined ? undefined : findResource(reader, id);
  return { blob: { key: blobKey(project, digest), sha256: digestOf(digest as RecordId), sizeBytes }, existing };
}

async function answer(deps: Deps, declared: Declared): Promise<CreateArtifactResponse> {
  if ("existing" in declared) return create(CreateArtifactResponseSchema, { existing: declared.existing });
  if (await isStored(deps, declared)) return create(CreateArtifactResponseSchema, { isStored: true });
  const { url, headers, expiresMs } = await deps.uploads.put(declared.blob);
  return create(CreateArtifactResponseSchema, {
    uploadUrl: url,
    headers: headers.map(({ name, value }) => ({ name, value })),
    expiresAt: formatTime(expiresMs),
  });
}

/** Whether the bytes lie there already, as far as the store knows: completing checks them. */
async function isStored(
  { log, store }: Deps,
  { blob, upload }: { readonly blob: Blob; readonly upload: Upload },
): Promise<boolean> {
  const { key, sha256, sizeBytes } = blob;
  if ((await store.head("ledger", key)) === null) return false;
  const found = await findBlob(store, key, sha256);
  if (found?.info.sizeBytes !== sizeBytes) return false;
  // A store without versions takes only what it has hashed.
  if (!found.isVerified && found.info.versionId !== undefined) return false;
  const { artifact, declaredMs, isChunk, project } = upload;
  // Held for longer than an upload: some manifest of the project names it.
  if (isChunk && (found.info.retainUntil ?? 0) > declaredMs + UPLOAD_LOCK_MS + DAY_MS)
    outstandingOf(log).release(project, [artifact.digest]);
  return true;
}

/** The bytes of a manifest may lie there as an ordinary file; one record cannot be both. */
export function checkSameKind(existing: JsonObject | undefined, mediaType: string | undefined): void {
  if (mediaType !== CHUNKS_MEDIA_TYPE || existing === undefined || isChunked(existing)) return;
  throw new Fault(
    "IDENTITY_TAKEN",
    "the project holds the bytes of this manifest as an ordinary file, so they cannot stand for its chunks: split the content into chunks of another length",
  );
}

/** The key of an artifact's bytes; `digest` is `sha256:<hex>`. */
export const blobKey = (project: RecordId, digest: string): string =>
  artifactKey(digestOf(project), digest.slice(7) as Digest);

/** An artifact that can be stored, or the faults REQUEST_INVALID. */
export function checkArtifact(artifact: Artifact | undefined): Artifact {
  if (artifact === undefined) throw invalid("artifact", "is missing");
  bodyOf("artifact", artifact);
  checkDigest("artifact.digest", artifact.digest);
  const { sizeBytes } = artifact;
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0 || sizeBytes > MAX_ARTIFACT_BYTES) {
    throw invalid(
      "artifact.size_bytes",
      "is not a length up to 5 GiB: split what is longer into chunks, and complete their manifest",
    );
  }
  return artifact;
}
