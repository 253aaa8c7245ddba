/** Where artifacts' bytes are to be had. That they were asked for is recorded before the addresses are given. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { AccessAction, AccessSchema } from "../../gen/ts/animus/datapilot/record/v1/access_pb.ts";
import {
  type BatchGetDownloadUrlsRequest,
  type BatchGetDownloadUrlsResponse,
  BatchGetDownloadUrlsResponseSchema,
  type ChunkedContentSchema,
  type DownloadUrlSchema,
} from "../../gen/ts/animus/datapilot/v1/artifact_pb.ts";
import { callerPermissions, notFound } from "../identity/authorise.ts";
import type { Caller } from "../identity/caller.ts";
import { findProject } from "../identity/ledger.ts";
import type { Draft } from "../log/submission.ts";
import { type ChunkManifest, chunkRange, isChunked } from "../record/chunks.ts";
import { assertDefined } from "../std/assert.ts";
import { digestOf, idOf, parseEitherId, type RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import { formatTime } from "../std/ports.ts";
import { type Admission, draft, link, type Plan, resolve } from "./admission.ts";
import { artifactOf } from "./artifacts.ts";
import { bodyOf, invalid, textOf } from "./body.ts";
import type { Deps } from "./context.ts";
import { blobKey } from "./create-artifact.ts";
import { decideWhereBound } from "./decide.ts";
import { checkCount, MAX_BATCH } from "./limits.ts";
import { readingOf } from "./read-chunked.ts";
import { readManifest } from "./stored-bytes.ts";
import { perform, specOf } from "./write.ts";

/** Chunks whose addresses are made at once. */
const IN_FLIGHT = 16;

interface Asked {
  readonly project: RecordId;
  readonly artifacts: readonly RecordId[];
}

/** Positions of the chunks that are asked for. */
interface Page {
  readonly first: number;
  readonly count: number;
}

export async function batchGetDownloadUrls(
  deps: Deps,
  caller: Caller,
  request: BatchGetDownloadUrlsRequest,
  signal?: AbortSignal,
): Promise<BatchGetDownloadUrlsResponse> {
  // For who is refused, nothing is stored here: the denial stores its own.
  const may = mayDownload(deps, caller, request.project);
  const put = async (value: string | undefined): Promise<string | undefined> =>
    !may || value === undefined || value === "" ? undefined : await deps.personal.put(value, signal);
  const from = { address: await put(caller.address), agent: await put(caller.agent) };
  const { project, requestId, artifacts } = request;
  const page = { count: request.maxChunks, first: request.firstChunk };
  const done = await perform(
    deps,
    caller,
    specOf({ project, requestId, validateOnly: false }, "artifact.read", {
      // A repeat may come from another machine.
      secrets: ["address", "agent"],
      whenArchived: true,
      lane: "control",
    }),
    (a) => plan(a, artifacts, from, page),
    signal,
  );
  const { value } = done.plan;
  if (value === undefined) {
    throw new Fault("POLICY_DENIED", "a policy refuses the download: see the decision", {
      metadata: { decision: String(done.ids[0]) },
    });
  }
  const receipt = done.receipt(done.plan.primary);
  const urls: DownloadUrlFields[] = [];
  for (const id of value.artifacts) urls.push(await urlOf(deps, value.project, id, page, signal));
  return create(BatchGetDownloadUrlsResponseSchema, {
    urls,
    ...(receipt === undefined ? {} : { receipt }),
  });
}

function mayDownload(deps: Deps, caller: Caller, name: string): boolean {
  using reader = deps.log.index.reader();
  const project = findProject(reader, name);
  return project !== undefined && callerPermissions(reader, caller, project, deps.clock.now()).has("artifact.read");
}

interface Client {
  readonly address: string | undefined;
  readonly agent: string | undefined;
}

function plan(a: Admission, texts: readonly string[], { address, agent }: Client, page: Page): Plan<Asked> {
  if (texts.length === 0) throw invalid("artifacts", "is empty");
  checkCount("artifacts", texts.length, MAX_BATCH);
  checkCount("max_chunks", page.count, MAX_BATCH);
  const artifacts = texts.map((text) => findArtifact(a, text));
  const [only] = artifacts;
  if (
    page.count > 0 &&
    (artifacts.length > 1 || only === undefined || !isChunked(a.reader.record(only)?.record.body ?? {}))
  )
    throw invalid("max_chunks", "is for one artifact that lies in chunks: ask for that one alone, or leave it out");
  const subjects = [...new Set(artifacts)];
  const decisions: Draft[] = [];
  for (const subject of subjects) {
    const decided = decideWhereBound(a, { target: "artifact.download", subjects: [subject] });
    if (decided === undefined) break;
    if (decided.outcome !== "ALLOW") return { drafts: [decided.decision], decision: 0 };
    decisions.push(decided.decision);
  }
  const body = bodyOf(
    "access",
    create(AccessSchema, {
      action: AccessAction.DOWNLOAD,
      rpc: a.caller.rpc,
      permission: "artifact.read",
      count: 1,
      ...(address === undefined ? {} : { address }),
      ...(agent === undefined ? {} : { agent }),
    }),
  );
  const access = draft(a, "access", body, link("subject", ...subjects));
  return { drafts: [access, ...decisions], primary: 0, value: { project: a.project, artifacts } };
}

/** By the record's id, or by the content's digest, which has the same form; both with or without `sha256:`. */
function findArtifact(a: Admission, text: string): RecordId {
  const id = parseEitherId(text);
  const found = id !== undefined && a.reader.record(id) === undefined ? artifactOf(a, id) : undefined;
  if (found !== undefined) return found;
  if (id !== undefined && a.reader.record(id) === undefined) throw notFound(text);
  return resolve(a, id ?? text, ["artifact"], "artifacts");
}

type DownloadUrlFields = MessageInitShape<typeof DownloadUrlSchema>;

async function urlOf(
  deps: Deps,
  project: RecordId,
  id: RecordId,
  page: Page,
  signal: AbortSignal | undefined,
): Promise<DownloadUrlFields> {
  const body = bodyOfRecord(deps, id);
  const digest = textOf(body, "digest");
  const sizeBytes = Number(body["size_bytes"] ?? 0);
  const { url, expiresMs } = await deps.uploads.get({
    key: blobKey(project, digest),
    sha256: digest.slice(7),
    sizeBytes,
  });
  const blob = { digest: digestOf(digest as RecordId), project, sizeBytes };
  const content = isChunked(body)
    ? await contentOf(deps, project, id, await readManifest(deps, blob, signal), page)
    : undefined;
  return {
    artifact: id,
    digest,
    sizeBytes,
    downloadUrl: url,
    expiresAt: formatTime(expiresMs),
    ...(content === undefined ? {} : { content }),
  };
}

/** What a manifest says, and where the chunks of the page are to be had. */
async function contentOf(
  deps: Deps,
  project: RecordId,
  id: RecordId,
  manifest: ChunkManifest,
  { count, first }: Page,
): Promise<MessageInitShape<typeof ChunkedContentSchema>> {
  const last = Math.min(manifest.chunks.length, first + count);
  const positions = Array.from({ length: Math.max(0, last - first) }, (_, i) => first + i);
  const chunks = [];
  // Some at a time: on S3, each asks the store which version it is.
  for (let at = 0; at < positions.length; at += IN_FLIGHT)
    chunks.push(
      ...(await Promise.all(
        positions.slice(at, at + IN_FLIGHT).map(async (position) => {
          const digest = assertDefined(manifest.chunks[position], "a position of the manifest");
          const { from, to } = chunkRange(manifest, position);
          const blob = { key: blobKey(project, idOf(digest)), sha256: digest, sizeBytes: to - from };
          const { expiresMs, url } = await deps.uploads.get(blob);
          return {
            digest: idOf(digest),
            downloadUrl: url,
            expiresAt: formatTime(expiresMs),
            position,
            sizeBytes: to - from,
          };
        }),
      )),
    );
  using reader = deps.log.index.reader();
  const reading = readingOf(reader, id);
  return {
    chunkBytes: manifest.chunkBytes,
    chunkCount: manifest.chunks.length,
    chunks,
    sha256Claimed: idOf(manifest.sha256Claimed),
    sizeBytes: manifest.sizeBytes,
    ...(reading === undefined ? {} : { readBy: reading.record, sha256Read: reading.sha256 }),
  };
}

function bodyOfRecord(deps: Deps, id: RecordId) {
  using reader = deps.log.index.reader();
  return assertDefined(reader.record(id), "an admitted artifact is there").record.body;
}
