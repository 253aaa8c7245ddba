/**
 * The files of a version of a dataset or model: listed in the request, or in a manifest that is an artifact. Both give the same
 * content digest; both are checked against what the project's store holds and against what the producing run put out.
 */
import { callerPermissions } from "../identity/authorise.ts";
import type { Caller } from "../identity/caller.ts";
import { findProject } from "../identity/ledger.ts";
import type { Permission } from "../identity/roles.ts";
import { isChunked } from "../record/chunks.ts";
import { digestOf, parseRecordId, type RecordId } from "../std/brand.ts";
import { concat } from "../std/bytes.ts";
import { Fault } from "../std/faults.ts";
import { findBlob } from "../store/find-blob.ts";
import { artifactKey } from "../store/keys.ts";
import type { Admission } from "./admission.ts";
import { resolve } from "./admission.ts";
import { artifactOf } from "./artifacts.ts";
import { invalid } from "./body.ts";
import type { Deps } from "./context.ts";
import { checkCount, MAX_LISTED_FILES } from "./limits.ts";
import { checkFiles, contentDigest, formatManifest, type ListedFile, parseManifest } from "./manifest.ts";
import { outputsOf } from "./run-outputs.ts";

const MAX_MANIFEST_BYTES = 64 * 1_024 * 1_024;

export interface VersionFiles {
  readonly files: readonly ListedFile[];
  /** `sha256:<hex>` of the manifest. */
  readonly contentDigest: string;
  /** The text of the request that names the manifest's artifact; empty when the files are listed. */
  readonly manifest: string;
}

export interface FilesRequest {
  readonly project: string;
  /** Name or id of the manifest's artifact; empty when the files are listed. */
  readonly manifest: string;
  readonly files: readonly ListedFile[];
  /** What the client says; empty to let it be computed. */
  readonly contentDigest: string;
}

/**
 * Reads and checks what the request lists; done before admission, since a manifest is read from the store. Gives a fault instead
 * of throwing it, so that admission can first say whether the caller may ask at all.
 */
export async function readFiles(
  deps: Deps,
  caller: Caller,
  permission: Permission,
  request: FilesRequest,
  signal?: AbortSignal,
): Promise<VersionFiles | Fault> {
  try {
    return request.manifest === "" ? listed(request) : await fromManifest(deps, caller, permission, request, signal);
  } catch (error) {
    if (error instanceof Fault) return error;
    throw error;
  }
}

function listed({ files, contentDigest: said }: FilesRequest): VersionFiles {
  if (files.length === 0) throw invalid("files", "is empty: list files, or name a manifest");
  checkCount("files", files.length, MAX_LISTED_FILES);
  checkFiles(files, "files");
  const digest = contentDigest(formatManifest(files));
  checkSaid(said, digest);
  return { files, contentDigest: digest, manifest: "" };
}

async function fromManifest(
  deps: Deps,
  caller: Caller,
  permission: Permission,
  { project, manifest, files, contentDigest: said }: FilesRequest,
  signal: AbortSignal | undefined,
): Promise<VersionFiles> {
  if (files.length > 0) throw invalid("files", "is given beside a manifest: give one of them");
  const artifact = findManifest(deps, caller, permission, project, manifest);
  if (artifact === undefined) throw invalid("manifest", "cannot be read");
  const bytes = await readArtifact(deps, artifact.project, artifact.digest, signal);
  checkSaid(said, contentDigest(bytes));
  return { files: parseManifest(bytes), contentDigest: contentDigest(bytes), manifest };
}

function findManifest(
  deps: Deps,
  caller: Caller,
  permission: Permission,
  name: string,
  text: string,
): { readonly project: RecordId; readonly digest: string } | undefined {
  using reader = deps.log.index.reader();
  const project = findProject(reader, name);
  const nowMs = deps.clock.now();
  if (project === undefined || !callerPermissions(reader, caller, project, nowMs).has(permission)) return undefined;
  const id = resolve({ reader, caller, project, requestId: "", nowMs }, text, ["artifact"], "manifest");
  const body = reader.record(id)?.record.body ?? {};
  const { digest, size_bytes: size } = body;
  if (isChunked(body)) throw new Fault("LIMIT_EXCEEDED", "the manifest lies in chunks: upload it in one piece");
  if (typeof size === "number" && size > MAX_MANIFEST_BYTES) {
    throw new Fault("LIMIT_EXCEEDED", "the manifest is longer than 64 MiB: list fewer files in a version");
  }
  return typeof digest === "string" ? { project, digest } : undefined;
}

async function openBlob(deps: Deps, key: string, id: RecordId, signal: AbortSignal | undefined) {
  const found = await findBlob(deps.store, key, digestOf(id), signal);
  return found === undefined ? null : deps.store.open("ledger", key, { signal, versionId: found.info.versionId });
}

async function readArtifact(
  deps: Deps,
  project: RecordId,
  digest: string,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  const id = parseRecordId(digest);
  const opened =
    id === undefined ? null : await openBlob(deps, artifactKey(digestOf(project), digestOf(id)), id, signal);
  if (opened === null) throw new Fault("ERASED", "the manifest's bytes are not in the store any more");
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of opened.stream) {
    length += part.length;
    if (length > MAX_MANIFEST_BYTES) throw new Fault("LIMIT_EXCEEDED", "the manifest is longer than 64 MiB");
    parts.push(part);
  }
  return concat(...parts);
}

function checkSaid(said: string, computed: string): void {
  if (said === "" || said === computed) return;
  throw new Fault(
    "DIGEST_MISMATCH",
    "content_digest is not the digest of the files: leave it empty, or compute it again",
    {
      metadata: { computed, given: said.slice(0, 128) },
    },
  );
}

/** The artifacts that hold the listed files, or the faults ARTIFACT_NOT_FOUND and DIGEST_MISMATCH. */
export function checkHeld(a: Admission, files: readonly ListedFile[]): RecordId[] {
  return files.map(({ path, digest, sizeBytes }) => {
    const id = artifactOf(a, digest);
    if (id === undefined) {
      throw new Fault(
        "ARTIFACT_NOT_FOUND",
        `the project holds no artifact with the content of ${path}: upload it first`,
        {
          metadata: { digest, path: path.slice(0, 256) },
        },
      );
    }
    const held = a.reader.record(id)?.record.body["size_bytes"] ?? 0;
    if (held !== sizeBytes) {
      throw new Fault(
        "DIGEST_MISMATCH",
        `${path} is said to have ${sizeBytes} bytes, the artifact has ${JSON.stringify(held)}`,
        {
          metadata: { digest, path: path.slice(0, 256) },
        },
      );
    }
    return id;
  });
}

/** Every file is one that the run put out, or the fault OUTPUT_NOT_FROM_RUN. */
export function checkFromRuns(a: Admission, runs: readonly RecordId[], files: readonly ListedFile[]): void {
  if (runs.length === 0) return;
  const outputs = new Set(runs.flatMap((run) => [...outputsOf(a.reader, run)]));
  const foreign = files.find((f) => !outputs.has(f.digest));
  if (foreign === undefined) return;
  throw new Fault("OUTPUT_NOT_FROM_RUN", `${foreign.path} is not among the files that the run reported`, {
    metadata: { digest: foreign.digest, path: foreign.path.slice(0, 256) },
  });
}
