/**
 * Records artifacts once the store holds them. The record says what was checked, not what the client said (`stored-bytes.ts`), and
 * before it, the bytes are locked for as long as the ledger holds what it records. A batch is recorded whole or not at all.
 */
import { create } from "@bufbuild/protobuf";
import type { Artifact } from "../../gen/ts/animus/datapilot/record/v1/data_pb.ts";
import {
  type BatchCompleteArtifactsRequest,
  type BatchWriteResponse,
  BatchWriteResponseSchema,
  type CompleteArtifactRequest,
} from "../../gen/ts/animus/datapilot/v1/artifact_pb.ts";
import { type WriteResponse, WriteResponseSchema } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { contentIdentity } from "../fold/identity.ts";
import { callerPermissions } from "../identity/authorise.ts";
import type { Caller } from "../identity/caller.ts";
import { findProject } from "../identity/ledger.ts";
import type { Draft } from "../log/submission.ts";
import { idOf, type RecordId } from "../std/brand.ts";
import type { Fault } from "../std/faults.ts";
import { type Admission, draft, type Plan } from "./admission.ts";
import { artifactOf } from "./artifacts.ts";
import { bodyOf } from "./body.ts";
import type { Deps } from "./context.ts";
import { checkArtifact, checkSameKind } from "./create-artifact.ts";
import { checkCount, MAX_BATCH } from "./limits.ts";
import { outstandingOf } from "./outstanding.ts";
import { checkStored, retainUntil } from "./stored-bytes.ts";
import { perform, specOf, type Written } from "./write.ts";

/** Where each artifact of the request is: a draft's position, or a record that is there. */
type Places = readonly (number | RecordId)[];

export async function completeArtifact(
  deps: Deps,
  caller: Caller,
  request: CompleteArtifactRequest,
  signal?: AbortSignal,
): Promise<WriteResponse> {
  const artifacts = request.artifact === undefined ? [] : [request.artifact];
  const done = await complete(deps, caller, request, artifacts, signal);
  return answer(done, done.plan.value?.[0]);
}

export async function batchCompleteArtifacts(
  deps: Deps,
  caller: Caller,
  request: BatchCompleteArtifactsRequest,
  signal?: AbortSignal,
): Promise<BatchWriteResponse> {
  const done = await complete(deps, caller, request, request.artifacts, signal);
  return create(BatchWriteResponseSchema, { responses: (done.plan.value ?? []).map((place) => answer(done, place)) });
}

function answer(done: Written<Places>, place: number | RecordId | undefined): WriteResponse {
  const resource = done.resource(place);
  const receipt = done.receipt(place);
  return create(WriteResponseSchema, {
    ...(resource === undefined ? {} : { resource }),
    ...(receipt === undefined ? {} : { receipt }),
  });
}

async function complete(
  deps: Deps,
  caller: Caller,
  request: { readonly project: string; readonly requestId: string; readonly validateOnly: boolean },
  artifacts: readonly Artifact[],
  signal: AbortSignal | undefined,
): Promise<Written<Places>> {
  const { chunks, flaws, project } = await verify(deps, caller, request, artifacts, signal);
  const done = await perform(deps, caller, specOf(request, "artifact.write"), (a) => plan(a, artifacts, flaws), signal);
  if (project !== undefined && !request.validateOnly)
    outstandingOf(deps.log).release(project, [...artifacts.map((a) => a.digest), ...chunks]);
  return done;
}

function plan(a: Admission, artifacts: readonly Artifact[], flaws: ReadonlyMap<string, Fault>): Plan<Places> {
  if (artifacts.length === 0) checkArtifact(undefined);
  checkCount("artifacts", artifacts.length, MAX_BATCH);
  const drafts: Draft[] = [];
  const positions = new Map<string, number>();
  const places = artifacts.map((artifact): number | RecordId => {
    const { digest, mediaType } = checkArtifact(artifact);
    const existing = artifactOf(a, digest) ?? positions.get(digest);
    if (typeof existing === "string") checkSameKind(a.reader.record(existing)?.record.body, mediaType);
    if (typeof existing === "number") checkSameKind(drafts[existing]?.body, mediaType);
    if (existing !== undefined) return existing;
    const flaw = flaws.get(digest);
    if (flaw !== undefined) throw flaw;
    positions.set(digest, drafts.length);
    drafts.push(draft(a, "artifact", bodyOf("artifact", artifact)));
    return drafts.length - 1;
  });
  return { drafts, value: places };
}

interface Verified {
  /** Undefined when the caller may not write there, and nothing was read. */
  readonly project: RecordId | undefined;
  readonly flaws: ReadonlyMap<string, Fault>;
  /** Chunks of what is whole. */
  readonly chunks: readonly string[];
}

/** Looks at the bytes of artifacts that the project does not have yet; nothing is read for who may not ask. */
async function verify(
  deps: Deps,
  caller: Caller,
  request: { readonly project: string; readonly validateOnly: boolean },
  artifacts: readonly Artifact[],
  signal: AbortSignal | undefined,
): Promise<Verified> {
  const flaws = new Map<string, Fault>();
  const chunks: string[] = [];
  const project = writableProject(deps, caller, request.project);
  if (project === undefined || artifacts.length > MAX_BATCH) return { chunks, flaws, project: undefined };
  const hold = request.validateOnly ? undefined : retainUntil(deps, project);
  const seen = new Set<string>();
  for (const artifact of artifacts) {
    const { digest } = artifact;
    if (!/^sha256:[0-9a-f]{64}$/.test(digest) || seen.has(digest) || isKnown(deps, project, digest)) continue;
    seen.add(digest);
    const checked = await checkStored(deps, project, artifact, hold, signal);
    if (checked.flaw !== undefined) flaws.set(digest, checked.flaw);
    else if (checked.manifest !== undefined) for (const chunk of checked.manifest.chunks) chunks.push(idOf(chunk));
  }
  return { chunks, flaws, project };
}

function writableProject(deps: Deps, caller: Caller, name: string): RecordId | undefined {
  using reader = deps.log.index.reader();
  const project = findProject(reader, name);
  if (project === undefined) return undefined;
  return callerPermissions(reader, caller, project, deps.clock.now()).has("artifact.write") ? project : undefined;
}

function isKnown(deps: Deps, project: RecordId, digest: string): boolean {
  using reader = deps.log.index.reader();
  const key = contentIdentity("artifact", project, { digest }, []);
  return key !== undefined && reader.get("content", key) !== undefined;
}
