/**
 * Moves a status. The table of `state-machines.ts` says which moves there are; the guards here say when; where the table names a
 * target, policy decides, and the move is written together with the decision that allows it or not at all.
 *
 * - Asked again for where a subject already is, the move that brought it there is answered.
 * - A move that waited for approval is written by the vote that decides, through `planTransition` as well.
 */

import { create } from "@bufbuild/protobuf";
import { Severity, TransitionSchema } from "../../gen/ts/animus/datapilot/record/v1/governance_pb.ts";
import type { WriteResponse } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { type TransitionRequest, TransitionRequestSchema } from "../../gen/ts/animus/datapilot/v1/status_pb.ts";
import type { ViewReader } from "../fold/view.ts";
import { notFound } from "../identity/authorise.ts";
import { findProject, LEDGER_PROJECT, ledgerOf, projectName } from "../identity/ledger.ts";
import type { Permission } from "../identity/roles.ts";
import type { IndexReader } from "../index/index.ts";
import { findPrincipal, projectOf, resolveRef } from "../query/resolve.ts";
import type { JsonObject } from "../record/json.ts";
import type { RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import { actionOf } from "./action.ts";
import { checkAdmins, checkGroupKept } from "./administrators.ts";
import { type Admission, created, draft, link, type Plan, require, resolveOptional } from "./admission.ts";
import { bodyOf, invalid } from "./body.ts";
import type { Caller, Deps } from "./context.ts";
import { gated } from "./decide.ts";
import { checkMove, type Machine, machineOf, permissionFor } from "./state-machines.ts";
import { specOf, write } from "./write.ts";

export function transition(
  deps: Deps,
  caller: Caller,
  request: TransitionRequest,
  signal?: AbortSignal,
): Promise<WriteResponse> {
  const about = survey(deps, request);
  return write(
    deps,
    caller,
    specOf({ ...request, project: about.project }, about.permission, {
      whenArchived: WHEN_ARCHIVED.has(request.to) || about.machine?.kind === "project",
      ...(about.machine?.lane === undefined ? {} : { lane: about.machine.lane }),
    }),
    (a) => planTransition(a, request, about.others),
    signal,
  );
}

/** An archived project takes only what takes something back. */
const WHEN_ARCHIVED: ReadonlySet<string> = new Set(["revoked", "withdrawn"]);

/** What is looked up before admission, since views have no lists. */
interface Survey {
  readonly project: string;
  readonly machine?: Machine;
  readonly permission: Permission;
  /** Projects in which a principal may be the last administrator. */
  readonly others: readonly RecordId[];
}

/** A subject's kind and project never change, and so neither does the permission. What cannot be told is left to admission. */
function survey(deps: Deps, request: TransitionRequest): Survey {
  const project = request.project === "" && namesPrincipal(request.name) ? LEDGER_PROJECT : request.project;
  using reader = deps.log.index.reader();
  const owner = findProject(reader, project);
  const id = owner === undefined ? undefined : found(() => subjectOf(reader, owner, request.name));
  const record = id === undefined ? undefined : reader.record(id)?.record;
  const machine = record === undefined ? undefined : machineOf(record.kind);
  if (id === undefined || record === undefined || machine === undefined) {
    return { others: [], permission: "read", project };
  }
  return {
    machine,
    others: othersOf(reader, machine, request.to),
    permission: permissionFor(machine, record.body),
    project,
  };
}

function othersOf(reader: IndexReader, { kind }: Machine, to: string): RecordId[] {
  if (kind !== "principal" || to !== "disabled") return [];
  return [...reader.scan("bindings", "")].map(([id]) => id as RecordId);
}

function found<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    if (error instanceof Fault) return undefined;
    throw error;
  }
}

const PRINCIPALS = "principals/";
const namesPrincipal = (name: string): boolean => name.startsWith(PRINCIPALS);

function subjectOf(reader: ViewReader, project: RecordId, name: string): RecordId {
  if (!namesPrincipal(name)) return resolveRef(reader, name, project);
  const id = findPrincipal(reader, name.slice(PRINCIPALS.length));
  if (id === undefined) throw notFound(name);
  return id;
}

interface Move {
  readonly a: Admission;
  readonly machine: Machine;
  readonly subject: RecordId;
  readonly body: JsonObject;
  readonly from: string;
  readonly request: TransitionRequest;
  readonly others: readonly RecordId[];
}

/** The drafts of a move, also run by the vote that completes its approval. */
export function planTransition(a: Admission, request: TransitionRequest, others: readonly RecordId[] = []): Plan {
  const subject = subjectOf(a.reader, a.project, request.name);
  const record = a.reader.record(subject)?.record;
  if (record === undefined || projectOf(a.reader, subject) !== a.project) throw notFound(request.name);
  const machine = machineOf(record.kind);
  const from = a.reader.get("entity", subject)?.value.status;
  if (machine === undefined || from === undefined) {
    throw new Fault("TRANSITION_NOT_ALLOWED", `a ${record.kind} has no status that a request moves`, {
      metadata: { kind: record.kind },
    });
  }
  require(a, permissionFor(machine, record.body));
  const earlier = from === request.to ? moveTo(a.reader, subject, request.to) : undefined;
  if (earlier !== undefined) return { drafts: [], existing: { id: earlier } };
  const move: Move = { a, body: record.body, from, machine, others, request, subject };
  if (machine.kind === "approval.request") checkTakenBack(move, record.actor.principal);
  checkMove(machine, from, request.to);
  checkGuards(move);
  return drafts(move);
}

function drafts(move: Move): Plan {
  const { a, from, machine, request, subject } = move;
  const body = moveBody(move);
  const replacement = resolveOptional(a, request.replacedBy, [machine.kind], "replaced_by");
  const links = [...link("subject", subject), ...link("replaced_by", replacement)];
  if (machine.target === undefined) return created(draft(a, "transition", body, links));
  // Ids instead of names, which may come to mean something else before the request is approved.
  const said = create(TransitionRequestSchema, {
    ...request,
    name: subject,
    project: projectName(a.reader, a.project),
    replacedBy: replacement ?? "",
  });
  return gated(
    a,
    {
      action: actionOf("Transition", said),
      request: { from, reason: request.reason, to: request.to },
      subjects: [subject],
      target: machine.target,
    },
    (decision, approvals) => [
      draft(a, "transition", body, [...links, ...link("decision", decision), ...link("approval", ...approvals)]),
    ],
  );
}

/** The newest move of a subject to a status. */
function moveTo(reader: ViewReader, subject: RecordId, to: string): RecordId | undefined {
  let newest: RecordId | undefined;
  for (const { id, rel } of reader.dependents(subject)) {
    if (rel !== "subject") continue;
    const record = reader.record(id)?.record;
    if (record?.kind === "transition" && record.body["to"] === to) newest = id;
  }
  return newest;
}

function moveBody({ from, machine, request }: Move): JsonObject {
  const { reason, severity, to } = request;
  if (reason === "") throw invalid("reason", "is missing: say why");
  const taints = to === "revoked" && BUILT_ON.has(machine.kind);
  if (taints && !SEVERE.has(severity)) {
    throw invalid("severity", "is missing: INVALIDATES taints what was built from it, INFORMS does not");
  }
  if (!taints && severity !== Severity.UNSPECIFIED) throw invalid("severity", "belongs to the revocation of a version");
  return bodyOf("transition", create(TransitionSchema, { from, reason, severity, to }));
}

/** Kinds that other things are built from. */
const BUILT_ON: ReadonlySet<string> = new Set(["dataset.version", "environment.lock", "model.version"]);
const SEVERE: ReadonlySet<Severity> = new Set([Severity.INVALIDATES, Severity.INFORMS]);

function checkTakenBack({ a, subject }: Move, requester: RecordId | undefined): void {
  if (requester !== a.caller.principal) {
    throw new Fault("PERMISSION_DENIED", "only who asked for the approval may take the request back", {
      metadata: { permission: "approve" },
    });
  }
  const status = a.reader.get("approval", subject)?.value.status ?? "";
  if (status !== "open") {
    throw new Fault("APPROVAL_CLOSED", `the request is ${status}: nothing is left to take back`, {
      metadata: { status },
    });
  }
}

function checkGuards({ a, body, from, machine, others, request, subject }: Move): void {
  switch (machine.kind as string) {
    case "model.version":
      if (from === "draft" && request.to !== "revoked") checkRuns(a, subject);
      return;
    case "project":
      if (request.to === "archived") checkIdle(a);
      return;
    case "principal":
      if (request.to === "disabled") for (const p of others) checkAdmins(a.reader, p, { principal: subject });
      return;
    case "role.binding":
      if (body["role"] === "project-admin") checkAdmins(a.reader, a.project, { binding: subject });
      if (a.project === ledgerOf(a.reader)) checkGroupKept(a.reader, a.project, subject);
      return;
    default:
  }
}

/** A model leaves DRAFT only when the runs that made it succeeded. */
function checkRuns(a: Admission, version: RecordId): void {
  for (const { rel, to } of a.reader.record(version)?.record.links ?? []) {
    if (rel !== "produced_by") continue;
    const status = a.reader.get("run", to)?.value.status ?? "";
    if (status === "succeeded") continue;
    throw new Fault("RUN_NOT_SUCCEEDED", `run ${to}, which made the model, is ${status}`, {
      metadata: { run: to, status },
    });
  }
}

/** The count is guarded: a run that starts before the archive is sequenced is seen, and one behind it meets an archived project. */
function checkIdle(a: Admission): void {
  const runs = a.reader.get("children-active", a.project)?.value.n ?? 0;
  if (runs === 0) return;
  throw new Fault(
    "RUNS_ACTIVE",
    `${runs} runs of the project have not ended: let them end, or cancel them, then archive`,
    {
      metadata: { runs: String(runs) },
    },
  );
}
