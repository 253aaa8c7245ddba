/**
 * Making a decision again, in three levels that prove more and more:
 * (a) `replayDecision`: the stored rules on the stored input give the stored results;
 * (b) `deriveAgain`: the records that the decision calls facts give the stored input;
 * (c) `policiesLeftOut`: no policy that was in force is missing.
 *
 * A finding has one of the codes `decision.replay`, `decision.input`, `decision.policy`, `decision.order`. What cannot be tried
 * says so, and never passes. Everything read here was written by whom it may accuse.
 */
import type { ViewReader } from "../fold/view.ts";
import { canonicalize } from "../record/canonical.ts";
import { isObject, type Json, type JsonObject } from "../record/json.ts";
import type { Link } from "../record/record.ts";
import { parseRecordId, type TreeSize } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import { policyApplies } from "./applies.ts";
import { compilePolicy, objects, text } from "./compile.ts";
import { inputDigest, requirementBody } from "./decision.ts";
import { evaluate, presentationOrder } from "./engine.ts";
import { type ActorPart, deriveInput, type InputQuestion } from "./input.ts";
import { type PolicyInForce, PROFILE } from "./judgement.ts";
import { parseTarget } from "./targets.ts";

export type ReplayCode = "decision.input" | "decision.order" | "decision.policy" | "decision.replay";

export interface Finding {
  readonly code: ReplayCode;
  readonly detail: string;
}

export interface Replay {
  readonly findings: readonly Finding[];
  /** Why it could not be tried, or not wholly. */
  readonly skipped?: string;
}

/** A policy record that a verifier holds. */
export type StoredPolicy = Pick<PolicyInForce, "record" | "body" | "ledger">;

const inputIn = (decision: JsonObject): JsonObject => (isObject(decision["input"]) ? decision["input"] : {});

/** Level (a). Messages of errors and `seen` belong to an engine, and are not compared. */
export function replayDecision(decision: JsonObject, policies: readonly StoredPolicy[]): Replay {
  if (decision["engine"] !== PROFILE)
    return {
      findings: [],
      skipped: `the decision was made by ${JSON.stringify(decision["engine"] ?? null)}, not ${PROFILE}`,
    };
  const findings: Finding[] = [];
  const add = (code: ReplayCode, detail: string): void => void findings.push({ code, detail });
  const input = inputIn(decision);
  if (inputDigest(input) !== decision["input_digest"]) add("decision.input", "input_digest is not that of the input");
  for (const [name, own] of [
    ["target", decision["target"]],
    ["now", decision["evaluated_at"]],
    ["tree_size", decision["tree_size"] ?? 0],
    ["preview", decision["preview"] === true],
  ] as const)
    if ((input[name] ?? null) !== (own ?? null))
      add("decision.input", `${name} of the input is not that of the decision`);
  const held = new Map(policies.map((p) => [p.record as string, p]));
  const taken: PolicyInForce[] = [];
  for (const stored of objects(decision["policies"])) {
    const policy = held.get(text(stored["record"]));
    if (policy === undefined) return { findings, skipped: `policy ${text(stored["record"])} is not there` };
    if (policy.body["target"] !== decision["target"])
      add("decision.policy", `${policy.record} is a policy for another target`);
    taken.push({ ...policy, mode: stored["mode"] === "POLICY_MODE_ACTIVE" ? "active" : "shadow" });
  }
  if (presentationOrder(taken).some((policy, i) => policy !== taken[i]))
    add("decision.order", "the policies are not in order: the ledger's first, then by name");
  compareJudgement(decision, taken, input, add);
  return { findings };
}

function compareJudgement(
  decision: JsonObject,
  taken: readonly PolicyInForce[],
  input: JsonObject,
  add: (code: ReplayCode, detail: string) => void,
): void {
  const judgement = evaluate(taken, input);
  if (`OUTCOME_${judgement.outcome}` !== decision["outcome"])
    add("decision.replay", `the rules give ${judgement.outcome}, not ${text(decision["outcome"])}`);
  for (const stored of objects(decision["policies"])) {
    const again = judgement.policies.find((p) => p.record === stored["record"]);
    if (again === undefined) {
      add("decision.policy", `${text(stored["record"])} does not apply to the input`);
      continue;
    }
    const rules = objects(stored["rules"]);
    if (rules.map((r) => text(r["id"])).join("\n") !== again.rules.map((r) => r.id).join("\n")) {
      add("decision.order", `the results of ${again.record} are not those of its rules, in their order`);
      continue;
    }
    for (const [i, rule] of again.rules.entries()) {
      const result = text(rules[i]?.["result"]);
      if (result !== `RULE_OUTCOME_${rule.result}`)
        add("decision.replay", `rule ${rule.id} of ${again.record} gives ${rule.result}, not ${result}`);
      else if (rule.result !== "ERROR" && text(rules[i]?.["message"]) !== rule.message)
        add("decision.replay", `rule ${rule.id} of ${again.record} has another message`);
    }
  }
  const requirements = canonicalize(judgement.requirements.map(requirementBody));
  if (requirements !== canonicalize(objects(decision["requirements"])))
    add("decision.replay", "the approvals that are lacking are others");
}

/** Level (b): `reader` is `factReader` over all records that the decision links to. */
export function deriveAgain(decision: JsonObject, links: readonly Link[], reader: ViewReader): Replay {
  const input = inputIn(decision);
  const target = parseTarget(text(decision["target"]));
  const subjects = links.filter((link) => link.rel === "subject").map((link) => link.to);
  const stored = isObject(input["subject"]) ? input["subject"]["record"] : undefined;
  const subject = stored === null ? subjects[0] : parseRecordId(text(stored));
  if (target === undefined || decision["engine"] !== PROFILE)
    return { findings: [], skipped: "the input is of another profile" };
  // Without an id in the input it takes a single subject to know which it was.
  if (subject === undefined || !subjects.includes(subject) || (stored === null && subjects.length > 1))
    return { findings: [{ code: "decision.input", detail: "the subject of the input is not that of the decision" }] };
  if (reader.record(subject) === undefined) return { findings: [], skipped: "the subject is not there" };
  const missing = links.find(
    (link) => (link.rel === "fact" || link.rel === "approval") && reader.record(link.to) === undefined,
  );
  if (missing !== undefined) return { findings: [], skipped: `${missing.rel} ${missing.to} is not there` };
  const question: InputQuestion = {
    actor: (isObject(input["actor"]) ? given(input["actor"]) : {}) as unknown as ActorPart,
    approvals: links.filter((link) => link.rel === "approval").map((link) => link.to),
    now: text(input["now"]),
    preview: input["preview"] === true,
    request: isObject(input["request"]) ? given(input["request"]) : {},
    subject,
    target,
    tree_size: (typeof input["tree_size"] === "number" ? input["tree_size"] : 0) as TreeSize,
    ...(stored === null ? { pending: new Set([subject]) } : {}),
  };
  return compareInputs(input, question, reader);
}

function compareInputs(input: JsonObject, question: InputQuestion, reader: ViewReader): Replay {
  let again: JsonObject;
  try {
    again = deriveInput(question, reader).input;
  } catch (error) {
    // Parts that a hostile writer gave another shape.
    if (error instanceof TypeError || error instanceof Fault)
      return { findings: [{ code: "decision.input", detail: "the input has parts of another shape" }] };
    throw error;
  }
  const differing = [...new Set([...Object.keys(input), ...Object.keys(again)])].filter(
    (name) => textOf(input[name]) !== textOf(again[name]),
  );
  return {
    findings: differing
      .toSorted()
      .map((name) => ({ code: "decision.input", detail: `${name} of the input is not what the facts give` })),
  };
}

/** Members that were null because nobody gave them. */
const given = (part: JsonObject): JsonObject =>
  Object.fromEntries(
    Object.entries(part).filter(([name, value]) => value !== null || name === "principal" || name === "type"),
  );

/** Canonical text without ordinals: a number is a position among all versions, which facts do not hold. */
function textOf(value: Json | undefined): string {
  return value === undefined ? "" : canonicalize(withoutOrdinals(value));
}

function withoutOrdinals(value: Json): Json {
  if (Array.isArray(value)) return (value as readonly Json[]).map(withoutOrdinals);
  if (!isObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => [name, name === "ordinal" ? null : withoutOrdinals(member)]),
  );
}

/** Level (c): `inForce` are the policies of the target, of the ledger and the project, at the decision's `tree_size`. */
export function policiesLeftOut(decision: JsonObject, inForce: readonly PolicyInForce[]): Finding[] {
  const input = inputIn(decision);
  const named = new Map(
    objects(decision["policies"]).map((p) => [
      text(p["record"]),
      p["mode"] === "POLICY_MODE_ACTIVE" ? "active" : "shadow",
    ]),
  );
  const findings: Finding[] = [];
  for (const { record, mode, body } of inForce) {
    const taken = named.get(record);
    named.delete(record);
    if (taken === undefined && !applies(body, input)) continue;
    if (taken === undefined)
      findings.push({ code: "decision.policy", detail: `${record} was ${mode} and is left out` });
    else if (taken !== mode)
      findings.push({ code: "decision.policy", detail: `${record} was ${mode}, and is said to be ${taken}` });
  }
  for (const record of named.keys()) findings.push({ code: "decision.policy", detail: `${record} was not in force` });
  return findings;
}

/** A policy that cannot be compiled takes part, as an error. */
function applies(body: JsonObject, input: JsonObject): boolean {
  try {
    return policyApplies(compilePolicy(body).appliesTo, input);
  } catch (error) {
    if (error instanceof Fault) return true;
    throw error;
  }
}
