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
import type { Resource } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { contentIdentity } from "../fold/identity.ts";
import type { Caller } from "../identity/caller.ts";
import type { IndexReader } from "../index/index.ts";
import { findResource } from "../query/resource.ts";
import { type Digest, digestOf, type RecordId } from "../std/brand.ts";
import { formatTime } from "../std/ports.ts";
import { artifactKey } from "../store/keys.ts";
import { ask } from "./ask.ts";
import { bodyOf, checkDigest, invalid } from "./body.ts";
import type { Blob, Deps } from "./context.ts";
import { checkCount, MAX_BATCH } from "./limits.ts";

/** Largest object that one PUT takes. */
export const MAX_ARTIFACT_BYTES = 5 * 1_024 ** 3;
const IN_FLIGHT = 32;

export async function createArtifact(
  deps: Deps,
  caller: Caller,
  request: CreateArtifactRequest,
): Promise<CreateArtifactResponse> {
  const declared = await ask(
    deps,
    caller,
    { project: request.project, permission: "artifact.write" },
    (reader, project) => declare(reader, project, request.artifact),
  );
  return answer(deps, declared);
}

export async function batchCreateArtifacts(
  deps: Deps,
  caller: Caller,
  request: BatchCreateArtifactsRequest,
): Promise<BatchCreateArtifactsResponse> {
  const declared = await ask(
    deps,
    caller,
    { project: request.project, permission: "artifact.write" },
    (reader, project) => {
      checkCount("artifacts", request.artifacts.length, MAX_BATCH);
      return request.artifacts.map((artifact) => declare(reader, project, artifact));
    },
  );
  const artifacts: CreateArtifactResponse[] = [];
  // Some at a time: on S3, each asks the store what lies there.
  for (let at = 0; at < declared.length; at += IN_FLIGHT)
    artifacts.push(...(await Promise.all(declared.slice(at, at + IN_FLIGHT).map((d) => answer(deps, d)))));
  return create(BatchCreateArtifactsResponseSchema, { artifacts });
}

/** What the project has already, or what is to be put. */
type Declared = { readonly existing: Resource } | { readonly blob: Blob };

function declare(reader: IndexReader, project: RecordId, artifact: Artifact | undefined): Declared {
  const { digest, sizeBytes } = checkArtifact(artifact);
  const known = contentIdentity("artifact", project, { digest }, []);
  const id = known === undefined ? undefined : reader.get("content", known)?.value.id;
  const existing = id === undefined ? undefined : findResource(reader, id);
  if (existing !== undefined) return { existing };
  return { blob: { key: blobKey(project, digest), sha256: digestOf(digest as RecordId), sizeBytes } };
}

async function answer(deps: Deps, declared: Declared): Promise<CreateArtifactResponse> {
  if ("existing" in declared) return create(CreateArtifactResponseSchema, { existing: declared.existing });
  const { url, headers, expiresMs } = await deps.uploads.put(declared.blob);
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
