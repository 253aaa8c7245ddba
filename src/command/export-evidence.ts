/**
 * Hands evidence to outsiders. The log is sealed, so that the pack closes at a checkpoint whose last entry is the seal; the pack is
 * built; the export is recorded with the pack's id; and only then do bytes leave. Who may not read a project gets its entries
 * without its records.
 */
import { create } from "@bufbuild/protobuf";
import { EvidenceExportSchema } from "../../gen/ts/animus/datapilot/record/v1/access_pb.ts";
import {
  type ExportEvidenceRequest,
  type ExportEvidenceResponse,
  ExportEvidenceResponseSchema,
} from "../../gen/ts/animus/datapilot/v1/evidence_pb.ts";
import type { WriteResponse } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { buildPack } from "../evidence/pack.ts";
import { authorise, callerPermissions, mayRead, notFound } from "../identity/authorise.ts";
import { findProject } from "../identity/ledger.ts";
import type { IndexReader } from "../index/index.ts";
import { formatProofFile } from "../note/proof-file.ts";
import { resolveRef } from "../query/resolve.ts";
import { checkVisible } from "../query/visible.ts";
import { assertDefined } from "../std/assert.ts";
import type { RecordId, TreeSize } from "../std/brand.ts";
import { parseHex, utf8 } from "../std/bytes.ts";
import { Fault } from "../std/faults.ts";
import { draft, link } from "./admission.ts";
import { recorded } from "./ask.ts";
import { bodyOf, invalid } from "./body.ts";
import type { Caller, Deps } from "./context.ts";
import { gated } from "./decide.ts";
import { perform, respond, specOf } from "./write.ts";

const MAX_ROOTS = 1_000;
const MAX_ANCHORS = 64;
const CHUNK_BYTES = 256 * 1_024;

interface Wanted {
  readonly roots: readonly RecordId[];
  readonly complete: readonly RecordId[];
  readonly mayReadBlobs: boolean;
}

/** What is asked for, as far as the caller may have it. */
function wantedBy({ clock, log }: Deps, caller: Caller, request: ExportEvidenceRequest): Wanted {
  using reader = log.index.reader();
  const nowMs = clock.now();
  const project = findProject(reader, request.project);
  if (project === undefined) throw notFound("project");
  authorise(reader, caller, project, "evidence.export", nowMs);
  if (request.roots.length === 0 || request.roots.length > MAX_ROOTS)
    throw invalid("roots", `has ${request.roots.length} members: name 1 to ${MAX_ROOTS} records to prove`);
  const roots = request.roots.map((text) => {
    const id = resolveRef(reader, text, project);
    checkVisible(reader, caller, id, nowMs, text);
    return id;
  });
  const complete = request.complete.map((name) => {
    const id = findProject(reader, name);
    if (id === undefined || !mayRead(reader, caller, id, nowMs)) throw notFound(name);
    // Every entry of a project shows who was denied what.
    authorise(reader, caller, id, "audit", nowMs);
    return id;
  });
  return { complete, mayReadBlobs: callerPermissions(reader, caller, project, nowMs).has("artifact.read"), roots };
}

const indexesOf = (reader: IndexReader, ids: readonly RecordId[]): number[] =>
  [
    ...new Set(ids.map((id) => assertDefined(reader.indexOf(id), "a root was there before the seal") as number)),
  ].toSorted((a, b) => a - b);

export async function* exportEvidence(
  deps: Deps,
  caller: Caller,
  request: ExportEvidenceRequest,
  signal?: AbortSignal,
): AsyncGenerator<ExportEvidenceResponse> {
  const { clock, log, personal, store } = deps;
  if (request.purpose === "") throw invalid("purpose", "is missing: say what the evidence is for");
  if (request.anchors.length > MAX_ANCHORS) throw invalid("anchors", `has more than ${MAX_ANCHORS} members`);
  const wanted = await recorded(deps, caller, { permission: "evidence.export", project: request.project }, () =>
    wantedBy(deps, caller, request),
  );
  if (request.includeBlobs && !wanted.mayReadBlobs)
    throw new Fault(
      "PERMISSION_DENIED",
      "artifact.read is not among your permissions: export without the artifacts' bytes, or ask the project's administrator",
      { metadata: { permission: "artifact.read", project: request.project } },
    );
  const seal = await log.seal(signal);
  using reader = log.index.reader(seal.size);
  using before = log.index.reader(seal.index as number as TreeSize);
  const visible = new Map<RecordId, boolean>();
  const mayHaveBytes = (project: RecordId): boolean => {
    using now = log.index.reader();
    return callerPermissions(now, caller, project, clock.now()).has("artifact.read");
  };
  const pack = await buildPack(reader, log.index.nodes(), store, {
    anchors: request.anchors.map(utf8),
    checkpoint: seal.checkpoint,
    complete: wanted.complete,
    depth: request.depth === 0 ? undefined : request.depth,
    governance: !request.governanceOmitted,
    heads: before.heads(),
    blobs: request.includeBlobs ? mayHaveBytes : undefined,
    personal: request.includePersonal ? (ref) => personal.preimage(ref) : undefined,
    roots: indexesOf(reader, wanted.roots),
    visible(project) {
      let may = visible.get(project);
      if (may === undefined) {
        using now = log.index.reader();
        visible.set(project, (may = mayRead(now, caller, project, clock.now())));
      }
      return may;
    },
  });
  const recipient = request.recipient === "" ? {} : { recipient: await personal.put(request.recipient, signal) };
  const roots = [...new Set(wanted.roots)].toSorted();
  const body = bodyOf(
    "evidence.export",
    create(EvidenceExportSchema, {
      omitted: pack.omitted,
      packDigest: pack.id,
      purpose: request.purpose,
      records: pack.records,
      roots,
      treeSize: pack.size,
      ...recipient,
    }),
  );
  const written = await perform(
    deps,
    caller,
    specOf({ project: request.project, requestId: request.requestId, validateOnly: false }, "evidence.export", {
      whenArchived: true,
    }),
    (a) =>
      gated(a, { request: { roots }, subjects: roots, target: "evidence.export" }, (decision) => [
        draft(a, "evidence.export", body, [...link("root", ...roots), ...link("decision", decision)]),
      ]),
    signal,
  );
  const response: WriteResponse = respond(written);
  const { receipt } = response;
  if (response.resource === undefined || receipt === undefined) throw refusal(response);
  const proofFile = formatProofFile({
    checkpoint: receipt.checkpoint,
    extra: utf8(receipt.entry),
    hashes: receipt.inclusionProof.map((h) => parseHex(h) ?? new Uint8Array()),
    index: receipt.logIndex,
  });
  yield create(ExportEvidenceResponseSchema, {
    header: {
      checkpoint: new TextDecoder().decode(seal.checkpoint),
      omitted: pack.omitted,
      pack: pack.id,
      proofFile,
      receipt,
      records: pack.records,
      sizeBytes: pack.sizeBytes,
    },
  });
  for await (const part of pack.stream(signal))
    for (let at = 0; at < part.length; at += CHUNK_BYTES)
      yield create(ExportEvidenceResponseSchema, { chunk: part.subarray(at, at + CHUNK_BYTES) });
}

/** A refusal that was recorded as a decision. */
const refusal = (response: WriteResponse): Fault =>
  new Fault(
    response.approvalRequest === undefined ? "POLICY_DENIED" : "APPROVAL_REQUIRED",
    "Policy does not admit this export. See why with: datapilot policy explain DECISION",
    {
      metadata: {
        decision: response.decision?.record ?? "",
        ...(response.approvalRequest === undefined ? {} : { approval_request: response.approvalRequest.record }),
      },
    },
  );
