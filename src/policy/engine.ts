/**
 * Judging: policies and an input give an outcome. Pure and deterministic: the same policies and input give the same judgement,
 * in whatever order they come.
 *
 * - All rules of all policies that apply are evaluated. Outcome = worst of ERROR > DENY > REQUIRE_APPROVAL > ALLOW over the active
 *   ones; WARN is shown, shadow policies are recorded only. Without a policy: ALLOW.
 * - ERROR never admits, and nothing satisfies it.
 * - A rule that requires approval fails until its quorum of distinct persons, none of them an author or the requester, has
 *   approved with the meaning that it asks for; then it still FAILS, but asks for nothing.
 */
import { isObject, type JsonObject } from "../record/json.ts";
import type { RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import { policyApplies } from "./applies.ts";
import { type CompiledPolicy, type CompiledRule, compilePolicy, objects, text, texts, word } from "./compile.ts";
import { inputFlaw } from "./input-limits.ts";
import type {
  ApprovalRule,
  JudgedPolicy,
  Judgement,
  Outcome,
  PolicyInForce,
  Requirement,
  RuleResult,
  Seen,
} from "./judgement.ts";
import { worst } from "./judgement.ts";
import type { Program, Verdict } from "./profile.ts";
import { Evaluation, shownText } from "./value.ts";

export { compilePolicy } from "./compile.ts";
export { policyWarnings } from "./warnings.ts";

/** Steps of one rule, about 0.2 µs each, and of a whole decision. */
export const BUDGET = { rule: 100_000, decision: 1_000_000 } as const;

const MAX_SEEN_CHARS = 256;
const MAX_MESSAGE_CHARS = 1_024;

/** Compiled policies, by the id of their record, which names their body. */
export class PolicyCache {
  readonly #limit: number;
  readonly #compiled = new Map<RecordId, CompiledPolicy>();

  constructor(limit = 1_024) {
    this.#limit = limit;
  }

  /** Undefined for a body that this version cannot compile. */
  get(record: RecordId, body: JsonObject): CompiledPolicy | undefined {
    const found = this.#compiled.get(record);
    if (found !== undefined) return found;
    const compiled = compiledOrNone(body);
    if (compiled === undefined) return undefined;
    const [oldest] = this.#compiled.keys();
    if (this.#compiled.size >= this.#limit && oldest !== undefined) this.#compiled.delete(oldest);
    this.#compiled.set(record, compiled);
    return compiled;
  }
}

export interface EvaluateOptions {
  /** Keeps programs between decisions; without one, they are kept as long as the body object lives. */
  readonly cache?: PolicyCache;
}

const byBody = new WeakMap<JsonObject, CompiledPolicy>();

function compiledOrNone(body: JsonObject): CompiledPolicy | undefined {
  const found = byBody.get(body);
  if (found !== undefined) return found;
  try {
    const compiled = compilePolicy(body);
    byBody.set(body, compiled);
    return compiled;
  } catch (error) {
    if (error instanceof Fault) return undefined;
    throw error;
  }
}

/** The ledger's first, then by name and record. */
export function presentationOrder(policies: readonly PolicyInForce[]): PolicyInForce[] {
  const key = (p: PolicyInForce): string => `${p.ledger === true ? 0 : 1}${text(p.body["name"])}\0${p.record}`;
  return policies
    .map((policy) => ({ key: key(policy), policy }))
    .toSorted((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0))
    .map(({ policy }) => policy);
}

/** Judges an input. Never throws for what a policy or an input holds: that is an ERROR. */
export function evaluate(
  policies: readonly PolicyInForce[],
  input: JsonObject,
  options: EvaluateOptions = {},
): Judgement {
  const flaw = inputFlaw(input);
  const steps = { left: BUDGET.decision };
  const judged: JudgedPolicy[] = [];
  const requirements: Requirement[] = [];
  let outcome: Outcome = flaw === undefined ? "ALLOW" : "ERROR";
  let warned = false;
  for (const policy of presentationOrder(policies)) {
    const compiled = options.cache?.get(policy.record, policy.body) ?? compiledOrNone(policy.body);
    if (compiled !== undefined && flaw === undefined && !policyApplies(compiled.appliesTo, input)) continue;
    const rules =
      compiled === undefined
        ? uncompiled(policy.body)
        : compiled.rules.map((rule) => (flaw === undefined ? judgeRule(rule, input, steps) : failed(rule, flaw)));
    judged.push({ mode: policy.mode, record: policy.record, rules });
    if (policy.mode !== "active") continue;
    for (const [i, result] of rules.entries()) {
      const approval = compiled?.rules[i]?.approval;
      const asks = result.result === "FAILS" && result.otherwise === "REQUIRE_APPROVAL" && approval !== undefined;
      if (asks && isSatisfied(approval, input)) continue;
      if (asks) requirements.push({ approval, policy: policy.record, rule: result.id });
      if (result.result === "FAILS" && result.otherwise === "WARN") warned = true;
      outcome = worst(outcome, outcomeOf(result));
    }
  }
  return { outcome, policies: judged, requirements, warned };
}

function outcomeOf({ result, otherwise }: RuleResult): Outcome {
  if (result === "ERROR") return "ERROR";
  if (result !== "FAILS") return "ALLOW";
  return otherwise === "WARN" ? "ALLOW" : otherwise;
}

function judgeRule(rule: CompiledRule, input: JsonObject, steps: { left: number }): RuleResult {
  const budget = Math.min(BUDGET.rule, steps.left);
  const evaluation = new Evaluation(budget);
  const condition: Verdict = rule.when === undefined ? { value: true } : run(rule.when, evaluation, input);
  const verdict = "value" in condition && condition.value ? run(rule.require, evaluation, input) : condition;
  steps.left -= budget - Math.max(0, evaluation.left);
  const base = { id: rule.id, otherwise: rule.otherwise, seen: seenOf(evaluation) };
  if ("error" in verdict) return { ...base, message: shownText(verdict.error, MAX_MESSAGE_CHARS), result: "ERROR" };
  if ("value" in condition && !condition.value) return { ...base, message: "", result: "SKIPPED" };
  return verdict.value
    ? { ...base, message: "", result: "HOLDS" }
    : { ...base, message: rule.message, result: "FAILS" };
}

const run = (program: Program, evaluation: Evaluation, input: JsonObject): Verdict => program.run(evaluation, input);

const failed = (rule: Pick<CompiledRule, "id" | "otherwise">, message: string): RuleResult => ({
  id: rule.id,
  message,
  otherwise: rule.otherwise,
  result: "ERROR",
  seen: [],
});

/** A stored policy that this version cannot compile: all that is known of its rules is that they cannot be judged. */
function uncompiled(body: JsonObject): RuleResult[] {
  const message = "the rule is not one of this profile";
  const rules = objects(body["rules"]).map((rule) =>
    failed({ id: text(rule["id"]) || "rule", otherwise: "DENY" }, message),
  );
  return rules.length > 0 ? rules : [failed({ id: "rule", otherwise: "DENY" }, message)];
}

function seenOf(evaluation: Evaluation): Seen[] {
  const seen: Seen[] = [];
  for (const [path, value] of evaluation.takeNoted())
    seen.push({
      path: shownText(path === "" ? "input" : `input.${path}`, MAX_SEEN_CHARS),
      value: shownText(jsonText(value), MAX_SEEN_CHARS),
    });
  return seen
    .toSorted((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0))
    .filter((s, i, all) => s.path !== all[i - 1]?.path);
}

/** JSON text, of which only the beginning will be shown. */
function jsonText(value: JsonObject[string]): string {
  if (Array.isArray(value) && value.length > MAX_SEEN_CHARS)
    return `${JSON.stringify(value.slice(0, MAX_SEEN_CHARS)).slice(0, -1)},…`;
  return JSON.stringify(value);
}

/** Whether distinct persons enough, none an author or the requester, have approved in a group and with the meaning asked for. */
function isSatisfied(rule: ApprovalRule, input: JsonObject): boolean {
  const subject = isObject(input["subject"]) ? input["subject"] : {};
  const actor = isObject(input["actor"]) ? input["actor"] : {};
  const involved = new Set([...texts(subject["authors"]), text(actor["principal"])]);
  const persons = new Set<string>();
  for (const approval of objects(input["approvals"])) {
    const person = text(approval["principal"]);
    if (person === "" || involved.has(person) || approval["meaning"] !== rule.meaning) continue;
    if (texts(approval["groups"]).some((group) => rule.groups.includes(group))) persons.add(person);
  }
  return persons.size >= rule.quorum;
}

const TEST_RECORD = `sha256:${"0".repeat(64)}` as RecordId;

/** Admits a policy that is being made. Throws the faults POLICY_INVALID, and POLICY_TEST_FAILED with every test that fails. */
export function assertPolicy(body: JsonObject): void {
  compilePolicy(body, { isNew: true });
  const fields = objects(body["tests"]).flatMap((test, i) => {
    const expected = (word(test["outcome"], "OUTCOME_") ?? "").toUpperCase();
    const input = isObject(test["input"]) ? test["input"] : {};
    const judgement = evaluate([{ body, mode: "active", record: TEST_RECORD }], input);
    if (judgement.outcome === expected) return [];
    const rules = judgement.policies
      .flatMap((p) => p.rules)
      .filter((r) => r.result === "FAILS" || r.result === "ERROR");
    const why = rules.map((r) => `${r.id} ${r.result}: ${r.message}`).join("; ");
    return [
      {
        description: `gives ${judgement.outcome} instead of ${expected}${why === "" ? "" : ` (${shownText(why, MAX_MESSAGE_CHARS)})`}`,
        field: `tests[${i}]`,
      },
    ];
  });
  const [first] = fields;
  if (first !== undefined)
    throw new Fault(
      "POLICY_TEST_FAILED",
      `The policy fails its own test: ${first.field} ${first.description}. Correct the rule or the test.`,
      { fields },
    );
}
