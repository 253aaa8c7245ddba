/**
 * Compiling a policy: every rule's expressions are made programs once. A policy that cannot be compiled is never admitted, and
 * every complaint names the field and what to do.
 */
import { isObject, type Json, type JsonObject } from "../record/json.ts";
import { Fault, type FieldViolation } from "../std/faults.ts";
import type { ApprovalRule, Otherwise } from "./judgement.ts";
import { compileExpression, ExpressionError, type Program } from "./profile.ts";
import { parseTarget, TARGETS, type Target } from "./targets.ts";
import { typeFlaw } from "./types.ts";

export const POLICY_LIMITS = { rules: 64, tests: 64, quorum: 16 } as const;

export interface CompiledRule {
  readonly id: string;
  /** Absent for always. */
  readonly when?: Program;
  readonly require: Program;
  readonly otherwise: Otherwise;
  readonly message: string;
  readonly approval?: ApprovalRule;
}

export interface AppliesTo {
  readonly datasets: readonly string[];
  readonly models: readonly string[];
  readonly environments: readonly string[];
  readonly purposes: readonly string[];
}

export interface CompiledPolicy {
  readonly name: string;
  readonly target: Target;
  readonly appliesTo: AppliesTo;
  readonly rules: readonly CompiledRule[];
}

const RULE_ID = /^[a-z0-9][a-z0-9._-]{0,127}$/;
const OTHERWISE: Readonly<Record<string, Otherwise>> = {
  OTHERWISE_DENY: "DENY",
  OTHERWISE_REQUIRE_APPROVAL: "REQUIRE_APPROVAL",
  OTHERWISE_WARN: "WARN",
};

export const text = (value: Json | undefined): string => (typeof value === "string" ? value : "");
export const objects = (value: Json | undefined): readonly JsonObject[] =>
  Array.isArray(value) ? (value as readonly Json[]).filter((item) => isObject(item)) : [];
export const texts = (value: Json | undefined): readonly string[] =>
  Array.isArray(value) ? (value as readonly Json[]).filter((item) => typeof item === "string") : [];

/** Names of enums in the input: lower-case, without their prefix; null for none. */
export const word = (value: Json | undefined, prefix: string): string | null =>
  typeof value === "string" && value.startsWith(prefix) ? value.slice(prefix.length).toLowerCase() : null;

/** Collects complaints, so that one answer names all of them. */
class Complaints {
  readonly fields: FieldViolation[] = [];
  readonly #isNew: boolean;

  constructor(isNew: boolean) {
    this.#isNew = isNew;
  }

  add(field: string, description: string): void {
    if (this.fields.length < 32) this.fields.push({ description, field });
  }

  program(field: string, expression: string): Program | undefined {
    try {
      const program = compileExpression(expression);
      const flaw = this.#isNew ? typeFlaw(program) : undefined;
      if (flaw !== undefined) this.add(field, flaw);
      return program;
    } catch (error) {
      if (!(error instanceof ExpressionError)) throw error;
      this.add(field, error.message);
      return undefined;
    }
  }
}

/**
 * Compiles the body of a policy record. Throws the fault POLICY_INVALID. A policy that is being made is held to more: an expression
 * that is an error for every input is refused; in one that is on record, it is an ERROR of the rule.
 */
export function compilePolicy(body: JsonObject, { isNew = false } = {}): CompiledPolicy {
  const complaints = new Complaints(isNew);
  const target = parseTarget(text(body["target"]));
  if (target === undefined) complaints.add("target", `is not a target: take one of ${TARGETS.join(", ")}`);
  const given = objects(body["rules"]);
  if (given.length === 0 || given.length > POLICY_LIMITS.rules)
    complaints.add("rules", `takes 1 to ${POLICY_LIMITS.rules} rules`);
  if (objects(body["tests"]).length > POLICY_LIMITS.tests)
    complaints.add("tests", `takes at most ${POLICY_LIMITS.tests} tests`);
  const seen = new Set<string>();
  const rules = given
    .slice(0, POLICY_LIMITS.rules)
    .map((rule, i) => compileRule(rule, `rules[${i}]`, seen, complaints));
  if (complaints.fields.length > 0 || target === undefined) {
    const [first] = complaints.fields;
    throw new Fault("POLICY_INVALID", `The policy cannot be used: ${first?.field} ${first?.description}`, {
      fields: complaints.fields,
    });
  }
  return {
    appliesTo: appliesTo(body["applies_to"]),
    name: text(body["name"]),
    rules: rules.filter((rule) => rule !== undefined),
    target,
  };
}

function compileRule(
  rule: JsonObject,
  at: string,
  seen: Set<string>,
  complaints: Complaints,
): CompiledRule | undefined {
  const id = text(rule["id"]);
  if (!RULE_ID.test(id)) complaints.add(`${at}.id`, "is not a name: take small letters, digits and . _ -");
  if (seen.has(id)) complaints.add(`${at}.id`, `is the id of an earlier rule: ${id}`);
  seen.add(id);
  const condition = text(rule["when"]);
  const when = condition === "" ? undefined : complaints.program(`${at}.when`, condition);
  const require = complaints.program(`${at}.require`, text(rule["require"]));
  const otherwise = OTHERWISE[text(rule["otherwise"])] ?? "DENY";
  const approval = compileApproval(rule["approval"], `${at}.approval`, otherwise, complaints);
  if (require === undefined) return undefined;
  return {
    id,
    message: text(rule["message"]),
    otherwise,
    require,
    ...(when === undefined ? {} : { when }),
    ...(approval === undefined ? {} : { approval }),
  };
}

function compileApproval(
  value: Json | undefined,
  at: string,
  otherwise: Otherwise,
  complaints: Complaints,
): ApprovalRule | undefined {
  if (!isObject(value)) {
    if (otherwise === "REQUIRE_APPROVAL")
      complaints.add(
        at,
        "is lacking: say how many persons of which groups approve, and what they take responsibility for",
      );
    return undefined;
  }
  if (otherwise !== "REQUIRE_APPROVAL")
    complaints.add(at, "has no effect: leave it out, or let the rule's otherwise be REQUIRE_APPROVAL");
  const approval = approvalRule(value);
  if (!Number.isInteger(approval.quorum) || approval.quorum < 1 || approval.quorum > POLICY_LIMITS.quorum)
    complaints.add(`${at}.quorum`, `takes 1 to ${POLICY_LIMITS.quorum} persons`);
  if (approval.groups.length === 0)
    complaints.add(`${at}.groups`, "is empty: name the groups whose members may approve");
  if (approval.meaning === "")
    complaints.add(`${at}.meaning`, "is lacking: REVIEWED, VALIDATED, APPROVED or RESPONSIBLE");
  return approval;
}

export function approvalRule(value: JsonObject): ApprovalRule {
  const { quorum, expires_s: expiresS } = value;
  return {
    groups: texts(value["groups"]),
    meaning: word(value["meaning"], "MEANING_") ?? "",
    quorum: typeof quorum === "number" ? quorum : 0,
    ...(typeof expiresS === "number" ? { expiresS } : {}),
  };
}

function appliesTo(value: Json | undefined): AppliesTo {
  const given = isObject(value) ? value : {};
  return {
    datasets: texts(given["datasets"]),
    environments: texts(given["environments"]),
    models: texts(given["models"]),
    purposes: texts(given["purposes"]),
  };
}
