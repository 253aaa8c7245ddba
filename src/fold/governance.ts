/**
 * Governance: decisions, requests for approval, votes and aliases.
 *
 * A request is approved when every requirement has its quorum of distinct members of its groups who took responsibility for what
 * it asks; who is a member is what the bindings say at the vote that completes it. One vote against closes it.
 */
import type { JsonObject } from "../record/json.ts";
import type { RecordId } from "../std/brand.ts";
import type { Folding } from "./folding.ts";
import { RUN_START, setRun } from "./runs.ts";
import { type ApprovalRow, type GateOutcome, keys, type Vote } from "./view.ts";

export const QUALITY_GATE = "quality.gate";

const objects = (value: unknown): readonly JsonObject[] =>
  Array.isArray(value) ? (value as readonly JsonObject[]) : [];

export function foldDecision(folding: Folding): void {
  const { body } = folding.record;
  if (body["preview"] === true) return;
  const target = folding.text("target");
  const outcome = folding.text("outcome");
  for (const subject of folding.links("subject")) {
    if (target === QUALITY_GATE && folding.get("entity", subject)?.kind === "dataset.version")
      foldGate(folding, subject);
    if (target !== RUN_START || folding.get("run", subject) === undefined) continue;
    const refused = outcome === "OUTCOME_DENY" || outcome === "OUTCOME_ERROR";
    setRun(folding, subject, { decision: folding.id, ...(refused ? { status: "refused" } : {}) });
  }
}

function foldGate(folding: Folding, version: RecordId): void {
  const report = folding.record.links.find((link) => folding.get("entity", link.to)?.kind === "quality.report")?.to;
  folding.put("gate", version, {
    at: folding.text("evaluated_at"),
    decision: folding.id,
    outcome: gateOutcome(folding.record.body),
    ...(report === undefined ? {} : { report }),
  });
}

/** What a decision on `quality.gate` says of the data. Only a rule that warns may fail in a decision that allows. */
export function gateOutcome(decision: JsonObject): GateOutcome {
  const active = objects(decision["policies"]).filter((policy) => policy["mode"] === "POLICY_MODE_ACTIVE");
  switch (decision["outcome"] as string) {
    case "OUTCOME_ALLOW":
      if (active.length === 0) return "no_rule";
      return active.some((policy) => objects(policy["rules"]).some((rule) => rule["result"] === "RULE_OUTCOME_FAILS"))
        ? "warn"
        : "pass";
    case "OUTCOME_DENY":
    case "OUTCOME_REQUIRE_APPROVAL":
      return "fail";
    default:
      return "error";
  }
}

export function foldApprovalRequest(folding: Folding): void {
  const decision = folding.link("decision") ?? folding.id;
  folding.put("approval", folding.id, { decision, status: "open", votes: [] });
  if (folding.text("target") === RUN_START)
    for (const run of folding.links("subject")) setRun(folding, run, { status: "awaiting_approval" });
}

export function foldApproval(folding: Folding): void {
  const request = folding.link("request");
  const row = request === undefined ? undefined : folding.get("approval", request);
  const { principal } = folding.record.actor;
  if (request === undefined || row === undefined || principal === undefined) return;
  const rejects = folding.text("verdict") === "VERDICT_REJECT";
  const vote: Vote = {
    id: folding.id,
    meaning: folding.text("meaning"),
    principal,
    verdict: rejects ? "reject" : "approve",
  };
  const votes = [...row.votes, vote];
  folding.put("approval", request, { ...row, votes });
  if (row.status !== "open") return;
  if (rejects) closeRequest(folding, request, "rejected");
  else if (isComplete(folding, request, votes)) closeRequest(folding, request, "approved");
}

/** Gives a request its status. A run whose start is not approved was refused; one whose request was taken back is a plan again. */
export function closeRequest(folding: Folding, request: RecordId, status: string): void {
  const row: ApprovalRow | undefined = folding.get("approval", request);
  if (row === undefined) return;
  folding.put("approval", request, { ...row, status });
  folding.updateEntity(request, { status });
  const record = folding.reader.record(request)?.record;
  if (status === "approved" || record?.body["target"] !== RUN_START) return;
  for (const link of record.links) {
    if (link.rel !== "subject" || folding.get("run", link.to)?.status !== "awaiting_approval") continue;
    setRun(folding, link.to, { status: status === "rejected" ? "refused" : "planned" });
  }
}

function isComplete(folding: Folding, request: RecordId, votes: readonly Vote[]): boolean {
  const record = folding.reader.record(request)?.record;
  if (record === undefined) return false;
  const ledger = folding.get("name", keys.name("-", "project", "_ledger"))?.id;
  const groups = new Map<string, Set<RecordId>>();
  for (const project of ledger === undefined || ledger === folding.project
    ? [folding.project]
    : [ledger, folding.project])
    for (const binding of folding.get("bindings", project)?.bindings ?? []) {
      if (
        binding.group === undefined ||
        (binding.expires_at !== undefined && binding.expires_at <= folding.record.time)
      )
        continue;
      const members = groups.get(binding.group.name) ?? new Set();
      for (const member of binding.group.members) members.add(member);
      groups.set(binding.group.name, members);
    }
  return objects(record.body["requirements"]).every((requirement) => {
    const rule = requirement["approval"] as {
      readonly groups?: readonly string[];
      readonly meaning?: string;
      readonly quorum?: number;
    };
    const persons = new Set<RecordId>();
    for (const vote of votes) {
      if (vote.verdict !== "approve" || vote.meaning !== (rule.meaning ?? vote.meaning)) continue;
      if ((rule.groups ?? []).some((name) => groups.get(name)?.has(vote.principal))) persons.add(vote.principal);
    }
    return persons.size >= (rule.quorum ?? 1);
  });
}

export function foldAlias(folding: Folding): void {
  const target = folding.link("target");
  if (target === undefined) return;
  const entity = folding.text("entity") as RecordId;
  folding.put("alias", keys.alias(entity, folding.text("name")), { id: folding.id, target });
}

export function foldLedger(folding: Folding): void {
  const row = folding.get("ledger", "");
  folding.put("ledger", "", { ...row, record: folding.id });
}

export function foldSeal(folding: Folding): void {
  const row = folding.get("ledger", "");
  folding.put("ledger", "", { record: row?.record ?? (folding.text("ledger") as RecordId), seal: folding.id });
}
