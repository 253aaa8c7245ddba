/**
 * The frame of every write: authorise, answer repeats, plan, check, submit, answer. Owns the order of these, so that no
 * command can leave one out.
 *
 * - Authorisation and the plan run inside admission: what they read is guarded until the commit (P4).
 * - A repeat of a request id answers what was recorded first (P7). The plan runs again against the state and time of that
 *   record and must give the same body and links; personal values are compared by value, secrets not at all. Whoever may not
 *   ask any more, or asks with what is gone, is told where it was recorded: never that nothing was.
 * - What is denied is recorded before the answer (P3).
 */
import { create } from "@bufbuild/protobuf";
import {
  type Receipt,
  type Resource,
  ResourceSchema,
  type WriteResponse,
  WriteResponseSchema,
} from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { keys, type ViewReader } from "../fold/view.ts";
import { authorise, notFound } from "../identity/authorise.ts";
import type { Caller } from "../identity/caller.ts";
import { findProject, LEDGER_PROJECT, projectName } from "../identity/ledger.ts";
import type { Permission } from "../identity/roles.ts";
import type { IndexReader } from "../index/index.ts";
import type { Committed, Draft, Lane } from "../log/submission.ts";
import { bodyCase, findResource, toReceipt } from "../query/resource.ts";
import { isObject, type Json } from "../record/json.ts";
import { isRequestId, sortLinks } from "../record/record.ts";
import { assertDefined } from "../std/assert.ts";
import { type LogIndex, parseRecordId, type RecordId, type TreeSize } from "../std/brand.ts";
import { formatHex } from "../std/bytes.ts";
import { Fault, type FaultReason } from "../std/faults.ts";
import { parseTime, type Random } from "../std/ports.ts";
import { type Admission, type Existing, type Plan } from "./admission.ts";
import { invalid } from "./body.ts";
import type { Deps } from "./context.ts";
import { checkLimits } from "./limits.ts";
import { type PersonalStore, parsePersonal } from "./personal.ts";

export interface WriteSpec {
  /** Name of the project, as the request gives it. */
  readonly project: string;
  readonly requestId: string;
  readonly permission: Permission;
  /** Name of the project in which the permission is needed; that of the request when absent. */
  readonly permittedIn?: string;
  readonly validateOnly: boolean;
  /** Members of bodies that differ when a request is repeated: digests and ends of secrets. */
  readonly secrets?: readonly string[];
  /** Whether an archived project takes it. */
  readonly whenArchived?: boolean;
  /** Whether the first record creates a project. */
  readonly createsProject?: boolean;
  readonly lane?: Lane;
}

/** The spec of a request that has the usual fields. A request id that is missing is made here. */
export function specOf(
  request: { readonly project: string; readonly requestId: string; readonly validateOnly: boolean },
  permission: Permission,
  more: Partial<WriteSpec> = {},
): WriteSpec {
  const { project, requestId, validateOnly } = request;
  return { project, requestId, validateOnly, permission, ...more };
}

/** The spec of a request about the whole ledger. */
export const ledgerSpecOf = (
  request: { readonly requestId: string; readonly validateOnly: boolean },
  permission: Permission,
  more: Partial<WriteSpec> = {},
): WriteSpec =>
  specOf(
    { project: LEDGER_PROJECT, requestId: request.requestId, validateOnly: request.validateOnly },
    permission,
    more,
  );

/** What a write came to. */
export interface Written<T> {
  readonly plan: Plan<T>;
  /** Ids of the group's records, by the position of their draft; empty when nothing was written. */
  readonly ids: readonly RecordId[];
  /** Whether an earlier request with this id wrote them. */
  readonly repeated: boolean;
  /** The resource of a draft, or of a record that is there; of the draft itself when only validated. */
  resource(of: number | RecordId | undefined): Resource | undefined;
  /** The receipt of a draft's record, or of one that is there; undefined when only validated. */
  receipt(of: number | RecordId | undefined): Receipt | undefined;
}

/** Writes, and answers as most writes do. */
export async function write<T>(
  deps: Deps,
  caller: Caller,
  spec: WriteSpec,
  plan: (a: Admission) => Plan<T>,
  signal?: AbortSignal,
): Promise<WriteResponse> {
  return respond(await perform(deps, caller, spec, plan, signal));
}

export function respond<T>(written: Written<T>): WriteResponse {
  const { plan } = written;
  const main = plan.primary ?? plan.existing?.id;
  const named = new Set<number | RecordId | undefined>([plan.primary, plan.decision, plan.approvalRequest]);
  const also = plan.drafts
    .flatMap((_, i) => (named.has(i) ? [] : [written.resource(i)]))
    .filter((r) => r !== undefined);
  // What a revision is asked for is the entity, as it is after it.
  const revises = plan.drafts[plan.primary ?? -1]?.links.find((l) => l.rel === "revises")?.to;
  const shown = revises === undefined || written.ids.length === 0 ? main : (parseRecordId(revises) ?? main);
  return create(WriteResponseSchema, {
    resource: written.resource(shown),
    receipt: written.receipt(main ?? plan.decision ?? plan.approvalRequest),
    decision: written.resource(plan.decision),
    approvalRequest: written.resource(plan.approvalRequest),
    also,
  });
}

/** Writes; for answers of another shape. */
export async function perform<T>(
  deps: Deps,
  caller: Caller,
  spec: WriteSpec,
  plan: (a: Admission) => Plan<T>,
  signal?: AbortSignal,
): Promise<Written<T>> {
  const project = currentProject(deps, spec.project);
  try {
    const named = { ...spec, requestId: requestIdOf(spec.requestId, deps.random) };
    if (spec.validateOnly) return validate(deps, caller, named, plan);
    return await submit(deps, caller, named, plan, project, signal);
  } catch (error) {
    await deps.denials.record(error, {
      caller,
      project,
      permission: spec.permission,
      validateOnly: spec.validateOnly,
    });
    throw error;
  }
}

/** Whether an error says that nothing was written, and nothing will be. */
export const isRefusal = (error: unknown): boolean =>
  error instanceof Fault && error.reason !== "WRITER_LOST" && error.reason !== "DEADLINE_EXCEEDED";

function requestIdOf(text: string, random: Random): string {
  if (text === "") return `made:${formatHex(random.bytes(16))}`;
  if (!isRequestId(text)) throw invalid("request_id", "is not 1 to 128 of letters, digits and . _ : -");
  return text;
}

function currentProject(deps: Deps, name: string): RecordId | undefined {
  using reader = deps.log.index.reader();
  return findProject(reader, name);
}

/** Where the records of an earlier request with the same id begin. */
interface Earlier {
  readonly first: LogIndex;
}

type Admittance<T> = { readonly plan: Plan<T>; readonly earlier?: undefined } | { readonly earlier: Earlier };

function earlierOf(reader: ViewReader, caller: Caller, spec: WriteSpec, project: RecordId): Earlier | undefined {
  const scope = spec.createsProject === true ? undefined : project;
  const row = reader.get("request", keys.request(caller.principal, scope, spec.requestId))?.value;
  return row === undefined ? undefined : { first: row.first as LogIndex };
}

/** Whether the request was recorded before: nothing need be stored for it then. */
export function isRecorded(deps: Deps, caller: Caller, spec: WriteSpec): boolean {
  using reader = deps.log.index.reader();
  const project = findProject(reader, spec.project);
  return project !== undefined && earlierOf(reader, caller, spec, project) !== undefined;
}

/** The same fault; it says where the request was recorded, so that nobody takes it for one that came to nothing. */
function recordedAt(error: unknown, { first }: Earlier): unknown {
  if (!(error instanceof Fault)) return error;
  const { cause, fields, message, metadata, reason, retryAfterMs } = error;
  return new Fault(reason, `${message} (the request with this id was recorded before, at log index ${first})`, {
    cause,
    fields,
    metadata: { ...metadata, recorded_index: String(first) },
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

/** Authorises, looks for an earlier outcome, and plans. */
function consider<T>(
  reader: ViewReader,
  caller: Caller,
  spec: WriteSpec,
  nowMs: number,
  plan: (a: Admission) => Plan<T>,
): Admittance<T> {
  const project = findProject(reader, spec.project);
  if (project === undefined) throw notFound("project");
  const permitting = spec.permittedIn === undefined ? project : findProject(reader, spec.permittedIn);
  if (permitting === undefined) throw notFound("project");
  const earlier = earlierOf(reader, caller, spec, project);
  try {
    authorise(reader, caller, permitting, spec.permission, nowMs);
  } catch (error) {
    throw earlier === undefined ? error : recordedAt(error, earlier);
  }
  if (earlier !== undefined) return { earlier };
  if (spec.whenArchived !== true && reader.get("project", project)?.value.status === "archived") {
    throw new Fault("PROJECT_ARCHIVED", "the project is archived and takes only revocations and exports", {
      metadata: { project: spec.project },
    });
  }
  return { plan: planOf({ reader, caller, project, requestId: spec.requestId, nowMs }, plan) };
}

function planOf<T>(a: Admission, plan: (a: Admission) => Plan<T>): Plan<T> {
  const made = plan(a);
  for (const d of made.drafts) checkLimits(d);
  return made;
}

async function submit<T>(
  deps: Deps,
  caller: Caller,
  spec: WriteSpec,
  plan: (a: Admission) => Plan<T>,
  project: RecordId | undefined,
  signal: AbortSignal | undefined,
): Promise<Written<T>> {
  const { value, committed } = await deps.log.submit<Admittance<T>>({
    admit(reader, nowMs) {
      const admittance = consider(reader, caller, spec, nowMs, plan);
      return { drafts: admittance.earlier === undefined ? admittance.plan.drafts : [], value: admittance };
    },
    project: project ?? deps.log.genesis,
    ...(spec.lane === undefined ? {} : { lane: spec.lane }),
    ...(signal === undefined ? {} : { signal }),
  });
  if (value.earlier !== undefined) return repeat(deps, caller, spec, value.earlier, plan);
  if (value.plan.existing !== undefined) await checkExisting(deps, value.plan.existing);
  const ids = committed?.records.map((r) => r.id) ?? [];
  return written(deps, value.plan, ids, committed, false);
}

function validate<T>(deps: Deps, caller: Caller, spec: WriteSpec, plan: (a: Admission) => Plan<T>): Written<T> {
  using reader = deps.log.index.reader();
  const admittance = consider(reader, caller, spec, deps.clock.now(), plan);
  if (admittance.earlier !== undefined) {
    throw new Fault("REQUEST_ID_REUSED", "this request id was used: validate with another one");
  }
  const { plan: made } = admittance;
  const project = projectName(reader, assertDefined(findProject(reader, spec.project), "the project was there"));
  return {
    plan: made,
    ids: [],
    repeated: false,
    resource: (of) => (typeof of === "string" ? found(deps, of, undefined) : draftResource(made.drafts, of, project)),
    receipt: () => undefined,
  };
}

/** A draft as a resource that has no record: what would be written. */
function draftResource(drafts: readonly Draft[], of: number | undefined, project: string): Resource | undefined {
  const d = of === undefined ? undefined : drafts[of];
  if (d === undefined) return undefined;
  return create(ResourceSchema, {
    kind: d.kind,
    project,
    actor: d.actor.principal ?? "",
    links: d.links.map(({ rel, to }) => ({ rel, to })),
    body: bodyCase(d.kind, d.body),
  });
}

function written<T>(
  deps: Deps,
  plan: Plan<T>,
  ids: readonly RecordId[],
  committed: Committed | null,
  repeated: boolean,
): Written<T> {
  const idOf = (of: number | RecordId | undefined): RecordId | undefined => (typeof of === "number" ? ids[of] : of);
  return {
    plan,
    ids,
    repeated,
    resource: (of) => found(deps, idOf(of), committed?.size),
    receipt(of) {
      const id = idOf(of);
      if (id === undefined) return undefined;
      const fresh = typeof of === "number" ? committed?.records[of] : undefined;
      const receipt = deps.log.receipt(
        fresh?.index ?? indexOf(deps, id),
        fresh === undefined ? undefined : committed?.size,
      );
      const also = typeof of === "number" ? ids.filter((other) => other !== id) : [];
      return toReceipt(id, receipt, { existing: fresh === undefined, also });
    },
  };
}

function indexOf(deps: Deps, id: RecordId): LogIndex {
  using reader = deps.log.index.reader();
  return assertDefined(reader.indexOf(id), "an answered record is in the index");
}

function found(deps: Deps, id: RecordId | undefined, size: TreeSize | undefined): Resource | undefined {
  if (id === undefined) return undefined;
  using reader = deps.log.index.reader(size);
  return findResource(reader, id);
}

/** A body equal to the newest one of a name that is taken, or the fault ALREADY_EXISTS. */
async function checkExisting(deps: Deps, existing: Existing): Promise<void> {
  if (existing.body === undefined) return;
  const body = currentBody(deps, existing.id);
  if (await isSame(body, existing.body, deps.personal, NOTHING)) return;
  throw new Fault("ALREADY_EXISTS", "the name is taken by something else: choose another, or update what is there", {
    metadata: { record: existing.id },
  });
}

function currentBody(deps: Deps, id: RecordId): Json | undefined {
  using reader = deps.log.index.reader();
  const revision = reader.get("entity", id)?.value.revision ?? id;
  return reader.record(revision)?.record.body;
}

/** Answers what the request wrote when it came first; the fault REQUEST_ID_REUSED when it was another request. */
async function repeat<T>(
  deps: Deps,
  caller: Caller,
  spec: WriteSpec,
  earlier: Earlier,
  plan: (a: Admission) => Plan<T>,
): Promise<Written<T>> {
  const { made, stored } = replay(deps, caller, spec, earlier, plan);
  const ids = stored.map((s) => s.id);
  const ignored = new Set([...VOLATILE, ...(spec.secrets ?? [])]);
  const compared = made.primary === undefined ? made.drafts.map((_, i) => i) : [made.primary];
  for (const position of compared) {
    const d = made.drafts[position];
    const s = stored[position];
    if (d === undefined || s === undefined) throw reused();
    const links = sortLinks(d.links.map(({ rel, to }) => ({ rel, to: resolved(to, ids) })));
    const same =
      d.kind === s.kind &&
      JSON.stringify(links) === JSON.stringify(s.links.map(({ rel, to }) => ({ rel, to }))) &&
      (await isSame(s.body, d.body, deps.personal, ignored));
    if (!same) throw reused();
  }
  return written(deps, made, ids, null, true);
}

interface Stored {
  readonly id: RecordId;
  readonly kind: string;
  readonly body: Json;
  readonly links: readonly { readonly rel: string; readonly to: RecordId }[];
}

/** The plan as it was when the request came first, and the records that it then gave. */
function replay<T>(
  deps: Deps,
  caller: Caller,
  spec: WriteSpec,
  earlier: Earlier,
  plan: (a: Admission) => Plan<T>,
): { readonly made: Plan<T>; readonly stored: readonly Stored[] } {
  const { first } = earlier;
  using now = deps.log.index.reader();
  using past: IndexReader = deps.log.index.reader(first as number as TreeSize);
  const time = now.record(assertDefined(now.entry(first), "the first record is there").record)?.record.time ?? "";
  const nowMs = assertDefined(parseTime(time), "a record's time is a time");
  const project = findProject(past, spec.project);
  if (project === undefined) throw reused();
  let made: Plan<T>;
  try {
    // He had just authenticated then, too, whatever the clock says by now.
    const asked = { ...caller, authenticatedAtMs: nowMs };
    made = planOf({ reader: past, caller: asked, project, requestId: spec.requestId, nowMs }, plan);
  } catch (error) {
    // What was asked cannot be compared any more: the bytes that it names are gone, or not to be had.
    if (error instanceof Fault && OUTSIDE.has(error.reason)) throw recordedAt(error, earlier);
    // What was admitted then would not be: so it is not what was asked then.
    if (error instanceof Fault) throw reused(error);
    throw error;
  }
  if (made.drafts.length === 0) throw reused();
  const stored = made.drafts.map(({ actor, requestId }, k): Stored => {
    const entry = now.entry(first + k);
    const record = entry === undefined ? undefined : now.record(entry.record)?.record;
    // What a vote carries out is a record of the request that it approves, and of who made that.
    if (entry === undefined || record?.request_id !== requestId || record.actor.principal !== actor.principal) {
      throw reused();
    }
    return { id: entry.record, kind: record.kind, body: record.body, links: record.links };
  });
  return { made, stored };
}

/** Faults of what lies outside of the log. */
const OUTSIDE: ReadonlySet<FaultReason> = new Set<FaultReason>(["ERASED", "STORE_UNAVAILABLE"]);

const reused = (cause?: unknown): Fault =>
  new Fault("REQUEST_ID_REUSED", "this request id was used for another request: make a new one", { cause });

const resolved = (to: string, ids: readonly RecordId[]): RecordId =>
  parseRecordId(to) ?? assertDefined(ids[Number(to.slice(1))], "a draft links to an earlier one");

const NOTHING: ReadonlySet<string> = new Set();
/** What a decision says about the moment of its admission, and about that of the caller's authentication. */
const VOLATILE = ["auth_age_s", "evaluated_at", "input_digest", "now", "tree_size"];

/** Equal JSON; references of personal values are equal when their values are, or when a value was erased. */
async function isSame(
  a: Json | undefined,
  b: Json | undefined,
  personal: PersonalStore,
  ignored: ReadonlySet<string>,
): Promise<boolean> {
  if (a === b) return true;
  if (typeof a === "string" && typeof b === "string") {
    if (parsePersonal(a) === undefined || parsePersonal(b) === undefined) return false;
    const [one, other] = await Promise.all([personal.get(a), personal.get(b)]);
    return one === undefined || other === undefined || one === other;
  }
  if (Array.isArray(a) && Array.isArray(b)) {
    if (a.length !== b.length) return false;
    for (let i = 0; i < a.length; i++) if (!(await isSame(a[i] as Json, b[i] as Json, personal, ignored))) return false;
    return true;
  }
  if (!isObject(a) || !isObject(b)) return false;
  for (const name of new Set([...Object.keys(a), ...Object.keys(b)])) {
    if (!ignored.has(name) && !(await isSame(a[name], b[name], personal, ignored))) return false;
  }
  return true;
}
