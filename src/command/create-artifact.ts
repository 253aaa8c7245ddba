/**
 * Says where the bytes of artifacts are to be put; nothing to put when the project has the content. Records nothing: what was
 * uploaded and is not completed is nobody's.
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
import { contentIdentity } from "../fold/identity.ts";
import type { Caller } from "../identity/caller.ts";
import type { IndexReader } from "../index/index.ts";
import { findResource } from "../query/resource.ts";
import { type Digest, digestOf, type RecordId } from "../std/brand.ts";
import { formatTime } from "../std/ports.ts";
import { artifactKey } from "../store/keys.ts";
import { ask } from "./ask.ts";
import { bodyOf, checkDigest, invalid } from "./body.ts";
import type { Deps } from "./context.ts";
import { checkCount, MAX_BATCH } from "./limits.ts";

/** Largest object that one PUT takes. */
export const MAX_ARTIFACT_BYTES = 5 * 1_024 ** 3;

export async function createArtifact(
  deps: Deps,
  caller: Caller,
  request: CreateArtifactRequest,
): Promise<CreateArtifactResponse> {
  return ask(deps, caller, { project: request.project, permission: "artifact.write" }, (reader, project) =>
    declare(deps, reader, project, request.artifact),
  );
}

export async function batchCreateArtifacts(
  deps: Deps,
  caller: Caller,
  request: BatchCreateArtifactsRequest,
): Promise<BatchCreateArtifactsResponse> {
  return ask(deps, caller, { project: request.project, permission: "artifact.write" }, (reader, project) => {
    checkCount("artifacts", request.artifacts.length, MAX_BATCH);
    const artifacts = request.artifacts.map((artifact) => declare(deps, reader, project, artifact));
    return create(BatchCreateArtifactsResponseSchema, { artifacts });
  });
}

function declare(
  deps: Deps,
  reader: IndexReader,
  project: RecordId,
  artifact: Artifact | undefined,
): CreateArtifactResponse {
  const { digest, sizeBytes } = checkArtifact(artifact);
  const known = contentIdentity("artifact", project, { digest }, []);
  const id = known === undefined ? undefined : reader.get("content", known)?.value.id;
  const existing = id === undefined ? undefined : findResource(reader, id);
  if (existing !== undefined) return create(CreateArtifactResponseSchema, { existing });
  const sha256 = digestOf(digest as RecordId);
  const { url, headers, expiresMs } = deps.uploads.put({ key: blobKey(project, digest), sha256, sizeBytes });
  return create(CreateArtifactResponseSchema, {
    uploadUrl: url,
    headers: headers.map(({ name, value }) => ({ name, value })),
    expiresAt: formatTime(expiresMs),
  });
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
    throw invalid("artifact.size_bytes", "is not a length up to 5 GiB: split what is longer");
  }
  return artifact;
}
