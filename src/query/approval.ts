/**
 * A request for approval with what it rests on. Its state is what it is now: a request that nobody closed may be over, or stale
 * because what is asked, or what it rests on, is not what it was.
 */

import { create } from "@bufbuild/protobuf";
import { Meaning, Verdict } from "../../gen/ts/animus/datapilot/record/v1/governance_pb.ts";
import {
  type GetApprovalRequestResponse,
  GetApprovalRequestResponseSchema,
  type Signature,
  SignatureSchema,
} from "../../gen/ts/animus/datapilot/v1/governance_pb.ts";
import type { GetRequest, Resource } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import type { ViewReader } from "../fold/view.ts";
import type { Caller } from "../identity/caller.ts";
import { ledgerOf } from "../identity/ledger.ts";
import type { IndexReader } from "../index/index.ts";
import { text } from "../policy/compile.ts";
import { actionDigest, evidenceDigest } from "../policy/decision.ts";
import { policiesInForce } from "../policy/in-force.ts";
import { deriveInput, type RequestPart } from "../policy/input.ts";
import { parseTarget } from "../policy/targets.ts";
import { isObject, type JsonObject } from "../record/json.ts";
import type { LedgerRecord } from "../record/record.ts";
import { assertDefined } from "../std/assert.ts";
import type { RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import { formatTime, parseTime } from "../std/ports.ts";
import { type Reads, readerAsOf } from "./as-of.ts";
import { findVisible } from "./get.ts";
import { projectOf } from "./resolve.ts";
import { findResource } from "./resource.ts";

/** Where printed names are kept; undefined for one that was erased. */
interface Names {
  readonly personal: { get(reference: string, signal?: AbortSignal): Promise<string | undefined> };
}

export async function getApprovalRequest(
  reads: Reads & Names,
  caller: Caller,
  request: GetRequest,
  signal?: AbortSignal,
): Promise<GetApprovalRequestResponse> {
  const answer = readRequest(reads, caller, request);
  for (const vote of answer.votes) answer.signatures.push(await signatureOf(vote, reads, signal));
  return answer;
}

async function signatureOf(vote: Resource, { personal }: Names, signal: AbortSignal | undefined): Promise<Signature> {
  const body = vote.body.case === "approval" ? vote.body.value : undefined;
  const name = await personal.get(body?.signer?.printedName ?? "", signal);
  return create(SignatureSchema, {
    meaning: nameIn(Meaning, body?.meaning),
    printedName: name ?? "",
    signedAt: vote.time,
    statement: body?.statement ?? "",
    verdict: nameIn(Verdict, body?.verdict),
    vote: vote.record,
  });
}

const nameIn = (names: Readonly<Record<string, number>>, value: number | undefined): string =>
  Object.entries(names)
    .find(([, v]) => v === value)?.[0]
    .toLowerCase() ?? "";

function readRequest(reads: Reads, caller: Caller, request: GetRequest): GetApprovalRequestResponse {
  using reader = readerAsOf(reads, request.asOf, request.minTreeSize);
  const id = findVisible(reads, reader, caller, request, { collection: "requests", kinds: ["approval.request"] });
  const { record } = assertDefined(reader.record(id), "a resolved record is there");
  const row = reader.get("approval", id)?.value;
  const show = (...ids: readonly (RecordId | undefined)[]): Resource[] =>
    ids.flatMap((i) => (i === undefined ? [] : (findResource(reader, i) ?? [])));
  const [shown] = show(id);
  const [decision] = show(linkOf(record, "decision"));
  return create(GetApprovalRequestResponseSchema, {
    ...(shown === undefined ? {} : { request: shown }),
    ...(decision === undefined ? {} : { decision }),
    state: approvalState(reader, id, nowOf(reads, reader, request.asOf)),
    subjects: show(...subjectsOf(record)),
    treeSize: reader.size,
    votes: show(...(row?.votes ?? []).map((v) => v.id)),
  });
}

const linkOf = (record: LedgerRecord, rel: string): RecordId | undefined => record.links.find((l) => l.rel === rel)?.to;
const subjectsOf = (record: LedgerRecord): RecordId[] =>
  record.links.flatMap((l) => (l.rel === "subject" ? [l.to] : []));

/** The moment of an earlier state is that of its last record. */
function nowOf(reads: Reads, reader: IndexReader, asOf: number): number {
  const last = asOf === 0 ? undefined : reader.entry(asOf - 1);
  const time = last === undefined ? undefined : reader.record(last.record)?.record.time;
  return parseTime(time ?? "") ?? reads.clock.now();
}

/** `open`, `approved`, `rejected`, `withdrawn`, `expired` or `stale`. */
export function approvalState(reader: ViewReader, id: RecordId, nowMs: number): string {
  const status = reader.get("approval", id)?.value.status ?? "open";
  const record = reader.record(id)?.record;
  if (status !== "open" || record === undefined) return status;
  if ((parseTime(text(record.body["expires_at"])) ?? 0) <= nowMs) return "expired";
  return isMoved(reader, record, nowMs) ? "stale" : "open";
}

function isMoved(reader: ViewReader, record: LedgerRecord, nowMs: number): boolean {
  const target = parseTarget(text(record.body["target"]));
  const subjects = subjectsOf(record);
  const [subject] = subjects;
  if (target === undefined || subject === undefined) return true;
  const project = record.project ?? assertDefined(projectOf(reader, subject), "a subject has a project");
  const { action } = record.body;
  const asked = actionDigest({
    action: isObject(action) ? action : {},
    policies: policiesInForce(reader, target, project, ledgerOf(reader)),
    subjects,
    target,
  });
  if (asked !== record.body["action_digest"]) return true;
  try {
    const { input } = deriveInput(
      {
        // Who asks, and when, is no part of the evidence.
        actor: { groups: [], principal: null, roles: [], type: null },
        now: formatTime(nowMs),
        preview: false,
        request: requestPart(reader, record),
        subject,
        target,
        tree_size: reader.size,
      },
      reader,
    );
    return evidenceDigest(input) !== record.body["evidence_digest"];
  } catch (error) {
    if (error instanceof Fault) return true;
    throw error;
  }
}

/** What was asked, as the decision that made it wait was told. */
function requestPart(reader: ViewReader, record: LedgerRecord): RequestPart {
  const decision = linkOf(record, "decision");
  const input = decision === undefined ? undefined : reader.record(decision)?.record.body["input"];
  const asked: JsonObject = isObject(input) && isObject(input["request"]) ? input["request"] : {};
  return Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== null));
}
