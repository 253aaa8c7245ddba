/**
 * Decision records, requests for approval, and the digests that tie votes to what was voted on. `seen` explains; everything else of
 * a decision can be computed again from its policies and input.
 */
import { canonicalBytes } from "../record/canonical.ts";
import { isObject, type Json, type JsonObject } from "../record/json.ts";
import { recordId } from "../record/record.ts";
import { type Digest, digestOf } from "../std/brand.ts";
import type { ApprovalRule, JudgedPolicy, Judgement, PolicyInForce, Requirement, RuleResult } from "./judgement.ts";
import { PROFILE } from "./judgement.ts";
import type { Target } from "./targets.ts";

const digest = (value: Json): Digest => digestOf(recordId(canonicalBytes(value)));

/** Hex SHA-256 of the input's canonical JSON. */
export const inputDigest = (input: JsonObject): Digest => digest(input);

export interface DecisionParts {
  readonly target: Target;
  readonly judgement: Judgement;
  readonly input: JsonObject;
  readonly preview: boolean;
}

/** Body of kind `decision`; what is empty is left out, as in every body. */
export function decisionBody({ target, judgement, input, preview }: DecisionParts): JsonObject {
  const { policies, requirements, outcome } = judgement;
  return {
    engine: PROFILE,
    evaluated_at: input["now"] ?? "",
    input,
    input_digest: inputDigest(input),
    outcome: `OUTCOME_${outcome}`,
    ...filled("policies", policies.map(policyBody)),
    ...(preview ? { preview } : {}),
    ...filled("requirements", requirements.map(requirementBody)),
    target,
    tree_size: input["tree_size"] ?? 0,
  };
}

const filled = (name: string, list: readonly Json[]): JsonObject => (list.length === 0 ? {} : { [name]: list });

const policyBody = ({ record, mode, rules }: JudgedPolicy): JsonObject => ({
  mode: mode === "active" ? "POLICY_MODE_ACTIVE" : "POLICY_MODE_SHADOW",
  record,
  ...filled("rules", rules.map(ruleBody)),
});

const ruleBody = ({ id, result, message, seen }: RuleResult): JsonObject => ({
  id,
  ...(message === "" ? {} : { message }),
  result: `RULE_OUTCOME_${result}`,
  ...filled(
    "seen",
    seen.map(({ path, value }) => (value === "" ? { path } : { path, value })),
  ),
});

export const requirementBody = ({ policy, rule, approval }: Requirement): JsonObject => ({
  approval: approvalBody(approval),
  policy,
  rule,
});

const approvalBody = ({ quorum, groups, meaning, expiresS }: ApprovalRule): JsonObject => ({
  ...(expiresS === undefined ? {} : { expires_s: expiresS }),
  groups: [...groups],
  meaning: `MEANING_${meaning.toUpperCase()}`,
  quorum,
});

export interface ApprovalRequestParts {
  readonly target: Target;
  /** The request, as its typed message's ProtoJSON. */
  readonly action: JsonObject;
  readonly actionDigest: string;
  readonly evidenceDigest: string;
  readonly requirements: readonly Requirement[];
  readonly expiresAt: string;
  readonly apply: boolean;
}

/** Body of kind `approval.request`. */
export const approvalRequestBody = (parts: ApprovalRequestParts): JsonObject => ({
  action: parts.action,
  action_digest: parts.actionDigest,
  ...(parts.apply ? { apply: true } : {}),
  evidence_digest: parts.evidenceDigest,
  expires_at: parts.expiresAt,
  requirements: parts.requirements.map(requirementBody),
  target: parts.target,
});

export interface ActionParts {
  readonly target: Target;
  readonly subjects: readonly string[];
  readonly action: JsonObject;
  /** Shadow policies decide nothing and are left out. */
  readonly policies: readonly Pick<PolicyInForce, "record" | "mode">[];
}

/** What a vote is for: target, subjects, parameters and the versions of the policies that ask for it. */
export function actionDigest({ target, subjects, action, policies }: ActionParts): Digest {
  const active = policies.filter((p) => p.mode === "active").map((p) => p.record);
  return digest({ action, policies: active.toSorted(), subjects: [...new Set(subjects)].toSorted(), target });
}

/** Parts of the input that move without any fact having moved. */
const NOT_EVIDENCE = new Set(["actor", "approvals", "now", "persons", "tree_size"]);

/**
 * What a vote rests on: the input without `now`, `tree_size`, `actor` and `approvals`, and without what follows from them: the
 * `age_days`, and that a run waits for this very approval. When it moves, the votes are void.
 */
export function evidenceDigest(input: JsonObject): Digest {
  const evidence = Object.fromEntries(
    Object.entries(input)
      .filter(([name]) => !NOT_EVIDENCE.has(name))
      .map(([name, value]) => [name, name === "run" || name === "subject" ? withoutWaiting(value) : value]),
  );
  const data = evidence["data"];
  if (!Array.isArray(data)) return digest(evidence);
  return digest({ ...evidence, data: (data as readonly JsonObject[]).map((item) => ({ ...item, age_days: null })) });
}

const withoutWaiting = (value: Json): Json =>
  isObject(value) && value["status"] === "awaiting_approval" ? { ...value, status: "planned" } : value;
