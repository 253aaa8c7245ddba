/**
 * Records artifacts once the store holds them. The record says what was checked, not what the client said: a store that checked the
 * digest at the upload vouches for it, from another each artifact is read once, whole, and hashed. Before the record, the bytes are
 * locked for as long as the ledger holds what it records. A batch is recorded whole or not at all.
 */
import { createHash } from "node:crypto";
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
import { createRetention } from "../log/retention.ts";
import type { Draft } from "../log/submission.ts";
import { assertDefined } from "../std/assert.ts";
import type { RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import { findBlob } from "../store/find-blob.ts";
import { type Admission, draft, type Plan } from "./admission.ts";
import { artifactOf } from "./artifacts.ts";
import { bodyOf } from "./body.ts";
import type { Deps } from "./context.ts";
import { blobKey, checkArtifact } from "./create-artifact.ts";
import { checkCount, MAX_BATCH } from "./limits.ts";
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
  const flaws = await verify(deps, caller, request, artifacts, signal);
  return perform(deps, caller, specOf(request, "artifact.write"), (a) => plan(a, artifacts, flaws), signal);
}

function plan(a: Admission, artifacts: readonly Artifact[], flaws: ReadonlyMap<string, Fault>): Plan<Places> {
  if (artifacts.length === 0) checkArtifact(undefined);
  checkCount("artifacts", artifacts.length, MAX_BATCH);
  const drafts: Draft[] = [];
  const positions = new Map<string, number>();
  const places = artifacts.map((artifact): number | RecordId => {
    const { digest } = checkArtifact(artifact);
    const existing = artifactOf(a, digest) ?? positions.get(digest);
    if (existing !== undefined) return existing;
    const flaw = flaws.get(digest);
    if (flaw !== undefined) throw flaw;
    positions.set(digest, drafts.length);
    drafts.push(draft(a, "artifact", bodyOf("artifact", artifact)));
    return drafts.length - 1;
  });
  return { drafts, value: places };
}

/** What is wrong with the bytes of artifacts that the project does not have yet; nothing is read for who may not ask. */
async function verify(
  deps: Deps,
  caller: Caller,
  request: { readonly project: string; readonly validateOnly: boolean },
  artifacts: readonly Artifact[],
  signal: AbortSignal | undefined,
): Promise<ReadonlyMap<string, Fault>> {
  const flaws = new Map<string, Fault>();
  const project = writableProject(deps, caller, request.project);
  if (project === undefined || artifacts.length > MAX_BATCH) return flaws;
  const hold = request.validateOnly ? undefined : retainUntil(deps);
  const seen = new Set<string>();
  for (const { digest, sizeBytes } of artifacts) {
    if (!/^sha256:[0-9a-f]{64}$/.test(digest) || seen.has(digest) || isKnown(deps, project, digest)) continue;
    seen.add(digest);
    const flaw = await verifyBytes(deps, blobKey(project, digest), digest, sizeBytes, hold, signal);
    if (flaw !== undefined) flaws.set(digest, flaw);
  }
  return flaws;
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

/** Until when what is recorded now is held: the ledger's own floor. */
function retainUntil({ clock, log }: Deps): number {
  using reader = log.index.reader();
  const ledger = assertDefined(reader.get("ledger", ""), "an open log has a `ledger` record").value.record;
  const days = assertDefined(reader.record(ledger), "the `ledger` record is there").record.body[
    "default_retention_days"
  ];
  return createRetention(clock, Number(days))();
}

/** Finds the bytes, checks them, and locks the version that was checked until `hold`. */
async function verifyBytes(
  deps: Deps,
  key: string,
  digest: string,
  sizeBytes: number,
  hold: number | undefined,
  signal: AbortSignal | undefined,
): Promise<Fault | undefined> {
  const found = await findBlob(deps.store, key, digest.slice(7), signal);
  const metadata = { digest };
  if (found === undefined) {
    return new Fault("ARTIFACT_NOT_UPLOADED", "the store holds no such bytes: upload them first", { metadata });
  }
  const { info, isVerified } = found;
  if (info.sizeBytes !== sizeBytes) {
    return new Fault("DIGEST_MISMATCH", `the store holds ${info.sizeBytes} bytes, not ${sizeBytes}`, { metadata });
  }
  const { versionId } = info;
  const flaw = isVerified ? undefined : await hashBytes(deps, key, versionId, digest, signal);
  if (flaw === undefined && hold !== undefined) await deps.store.extend("ledger", key, hold, { signal, versionId });
  return flaw;
}

async function hashBytes(
  deps: Deps,
  key: string,
  versionId: string | undefined,
  digest: string,
  signal: AbortSignal | undefined,
): Promise<Fault | undefined> {
  const opened = await deps.store.open("ledger", key, { signal, versionId });
  const metadata = { digest };
  if (opened === null) {
    return new Fault("ARTIFACT_NOT_UPLOADED", "the bytes were removed meanwhile: upload them again", { metadata });
  }
  const hash = createHash("sha256");
  for await (const part of opened.stream) {
    signal?.throwIfAborted();
    hash.update(part);
  }
  const stored = `sha256:${hash.digest("hex")}`;
  if (stored === digest) return undefined;
  return new Fault("DIGEST_MISMATCH", "the stored bytes have another digest: upload them again", {
    metadata: { ...metadata, stored },
  });
}
