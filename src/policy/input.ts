/**
 * The input of a decision: what is judged, as one JSON object of a fixed shape (`v` 1; it only grows). Pure: the same function, over
 * a reader made of nothing but the facts that it named, gives the same input, so that an auditor need not believe the writer.
 *
 * Every key is present; what is unknown is null; numbers are doubles; enums are lower-case words. What only the requester or the
 * clock said stands under `request`, `actor`, `now`, `tree_size` and `preview`, and everything else comes from records.
 * `ordinal` and the absence of facts (no revocation, no alias) are shown by complete chains only: see `replay.ts`.
 */
import type { ViewReader } from "../fold/view.ts";
import { isObject, type JsonObject } from "../record/json.ts";
import type { LedgerRecord } from "../record/record.ts";
import type { RecordId, TreeSize } from "../std/brand.ts";
import { authorsOf, counts, ledgerOf } from "./approvals.ts";
import { approvalRule, objects, text, word } from "./compile.ts";
import { datasetInput, inputData, modelInput } from "./data-input.ts";
import { labelsOf, number, Reading, string } from "./reading.ts";
import { lockInput, runInput } from "./run-input.ts";
import type { Target } from "./targets.ts";

/** What the requester says. What is left out is null, and lists are empty. */
export interface RequestPart {
  readonly from?: string;
  readonly to?: string;
  readonly reason?: string;
  readonly alias?: string;
  readonly role?: string;
  readonly member?: string;
  readonly roots?: readonly string[];
  /** An `ObservedEnvironment`, at run.start. */
  readonly observed?: JsonObject;
}

/** Who asks. */
export interface ActorPart {
  readonly principal: RecordId | null;
  readonly type: "human" | "service" | null;
  readonly issuer?: string;
  readonly subject?: string;
  readonly groups: readonly string[];
  readonly roles: readonly string[];
  readonly claims?: JsonObject;
  readonly auth_age_s?: number;
}

/** All that an input is made of, besides records. */
export interface InputQuestion {
  readonly target: Target;
  readonly subject: RecordId;
  readonly request: RequestPart;
  readonly actor: ActorPart;
  /** Time of the ledger's form. */
  readonly now: string;
  readonly tree_size: TreeSize;
  readonly preview: boolean;
  /** Records of kind `approval` on the request that is decided. */
  readonly approvals?: readonly RecordId[];
  /** At quality.gate: the report that is judged; absent for the one that `reportOf` finds. */
  readonly report?: RecordId;
  /** Records of the same group, which had no id yet when the input was made: shown as null. */
  readonly pending?: ReadonlySet<RecordId>;
}

export interface DerivedInput {
  readonly input: JsonObject;
  /** Every record that it was read from, ascending, without pending ones. */
  readonly facts: readonly RecordId[];
}

/**
 * The pure input function: the same question over a reader made of the facts gives the same input. Throws the fault LIMIT_EXCEEDED
 * when it would be read from too many records.
 */
export function deriveInput(question: InputQuestion, reader: ViewReader): DerivedInput {
  const reading = new Reading(reader, question.pending);
  const record = reading.record(question.subject);
  const approvals = (question.approvals ?? []).flatMap((id) => approvalInput(reading, id, question));
  const input: JsonObject = {
    actor: actorInput(question.actor),
    approvals: approvals.toSorted((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1)),
    now: question.now,
    persons: GROUPS_MATTER.has(question.target) ? personsInput(reading, question.actor.principal) : {},
    preview: question.preview,
    project: projectInput(reading, record?.project ?? question.subject),
    request: requestInput(question.request),
    subject: subjectInput(reading, question.subject, record),
    target: question.target,
    tree_size: question.tree_size,
    v: 1,
    ...judged(reading, question, record),
  };
  return { facts: reading.facts().filter((id) => question.pending?.has(id) !== true), input };
}

function judged(reading: Reading, question: InputQuestion, record: LedgerRecord | undefined): JsonObject {
  const { subject, now } = question;
  const nothing = { data: [], lock: null, model: null, policy: null, report: null, run: null };
  switch (record?.kind) {
    case "run": {
      const run = runInput(reading, subject, question.request.observed ?? null);
      return { ...nothing, data: inputData(reading, [run], now), run };
    }
    case "model.version": {
      const model = modelInput(reading, subject);
      return { ...nothing, data: inputData(reading, objects(model["runs"]), now), model };
    }
    case "dataset.version": {
      const id = question.target === "quality.gate" ? (question.report ?? reportOf(reading, subject)) : undefined;
      const report = id === undefined ? null : reportInput(reading, id);
      return { ...nothing, data: [datasetInput(reading, subject, null, now)], report };
    }
    case "environment.lock":
      return { ...nothing, lock: { ...lockInput(reading, subject), match: null } };
    case "policy":
      return { ...nothing, policy: policyInput(reading, subject, record.body) };
    case undefined:
    default:
      return nothing;
  }
}

/** Targets that decide who decides: until there is a second person, nobody could approve. */
const GROUPS_MATTER: ReadonlySet<Target> = new Set<Target>(["policy.activate", "role.binding.grant"]);

function personsInput(reading: Reading, asks: RecordId | null): JsonObject {
  const ledger = ledgerOf(reading.reader);
  if (ledger === undefined) return {};
  // The genesis record says which project is the ledger's.
  reading.record(ledger);
  return reading.persons(ledger, asks);
}

const actorInput = (actor: ActorPart): JsonObject => ({
  auth_age_s: actor.auth_age_s ?? null,
  claims: actor.claims ?? {},
  groups: [...actor.groups],
  issuer: actor.issuer ?? null,
  principal: actor.principal,
  roles: [...actor.roles],
  subject: actor.subject ?? null,
  type: actor.type,
});

const requestInput = (request: RequestPart): JsonObject => ({
  alias: request.alias ?? null,
  from: request.from ?? null,
  member: request.member ?? null,
  observed: request.observed ?? null,
  reason: request.reason ?? null,
  role: request.role ?? null,
  roots: [...(request.roots ?? [])],
  to: request.to ?? null,
});

function projectInput(reading: Reading, project: RecordId): JsonObject {
  const body = reading.newest(project);
  const status = reading.reader.get("project", project)?.value.status ?? "active";
  if (status !== "active") reading.status(project);
  return { labels: labelsOf(body), name: reading.projectName(project), status };
}

/** Links from a version to what it is a version of. */
const VERSION_OF = ["dataset", "model", "environment"];

function subjectInput(reading: Reading, id: RecordId, record: LedgerRecord | undefined): JsonObject {
  const links = record?.kind === "run" ? [] : (record?.links ?? []);
  const parent = links.find((link) => VERSION_OF.includes(link.rel))?.to;
  const about = reading.newest(parent ?? id);
  return {
    authors: authorsOf(reading, id),
    kind: record?.kind ?? null,
    labels: labelsOf(about),
    name: string(about["name"]),
    record: reading.shown(id),
    status: record?.kind === "run" ? (reading.reader.get("run", id)?.value.status ?? null) : reading.status(id),
  };
}

/** The report that a gate judges: the one of its own group, else the newest complete one, else the newest. */
function reportOf(reading: Reading, version: RecordId): RecordId | undefined {
  let newest: RecordId | undefined;
  let complete: RecordId | undefined;
  for (const { id, rel } of reading.reader.dependents(version)) {
    const record = rel === "dataset_version" ? reading.reader.record(id)?.record : undefined;
    if (record?.kind !== "quality.report") continue;
    newest = id;
    if (record.body["complete"] === true || reading.shown(id) === null) complete = id;
  }
  return complete ?? newest;
}

function reportInput(reading: Reading, id: RecordId): JsonObject {
  const body = reading.body(id);
  const tool = body["tool"];
  const measurements = objects(body["measurements"]).map((m): [string, number] => {
    const column = text(m["column"]);
    return [column === "" ? text(m["name"]) : `${column}.${text(m["name"])}`, number(m["value"]) ?? 0];
  });
  return {
    complete: body["complete"] === true,
    measurements: Object.fromEntries(measurements),
    // A report that does not say read all rows.
    sample_fraction: number(body["sample_fraction"]) ?? 1,
    tool: isObject(tool) ? string(tool["name"]) : null,
  };
}

const policyInput = (reading: Reading, id: RecordId, body: JsonObject): JsonObject => ({
  name: text(body["name"]),
  record: reading.shown(id),
  rules: objects(body["rules"]).map((rule) => ({
    id: text(rule["id"]),
    otherwise: word(rule["otherwise"], "OTHERWISE_") ?? "deny",
    waivable: rule["waivable"] === true,
  })),
  status: reading.status(id),
  target: text(body["target"]),
});

/** A vote for; one against closed its request, and counts nowhere. */
function approvalInput(reading: Reading, id: RecordId, { now, subject }: InputQuestion): JsonObject[] {
  const record = reading.record(id);
  const principal = record?.actor.principal;
  if (record?.kind !== "approval" || principal === undefined || record.body["verdict"] !== "VERDICT_APPROVE") return [];
  const project = reading.record(subject)?.project ?? subject;
  const ledger = ledgerOf(reading.reader);
  // The genesis record says which project is the ledger's.
  if (ledger !== undefined) reading.record(ledger);
  const groups = reading.groups(principal, ledger === undefined ? [project] : [project, ledger], now);
  const meaning = word(record.body["meaning"], "MEANING_") ?? "";
  return [{ groups, meaning, principal, requirement: requirementFor(reading, id, groups, meaning) }];
}

/** The first rule of the request that a vote counts for. */
function requirementFor(
  reading: Reading,
  approval: RecordId,
  groups: readonly string[],
  meaning: string,
): string | null {
  const request = reading.link(approval, "request");
  if (request === undefined) return null;
  const found = objects(reading.body(request)["requirements"]).find((requirement) => {
    const rule = isObject(requirement["approval"]) ? approvalRule(requirement["approval"]) : undefined;
    return rule !== undefined && counts({ groups, meaning }, rule);
  });
  return found === undefined ? null : text(found["rule"]);
}
