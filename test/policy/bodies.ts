/** Bodies of policies, as short as tests need them. */
import type { JsonObject } from "../../src/record/json.ts";
import type { RecordId } from "../../src/std/brand.ts";

export const id = (k: number): RecordId => `sha256:${k.toString(16).padStart(64, "0")}` as RecordId;

export interface RuleText {
  readonly id?: string;
  readonly when?: string;
  readonly require: string;
  readonly otherwise?: string;
}

export const APPROVAL: JsonObject = { groups: ["g"], meaning: "MEANING_APPROVED", quorum: 2 };

export const ruleBody = (rule: RuleText, k = 0): JsonObject => ({
  id: rule.id ?? `r${k}`,
  message: "it does not hold",
  otherwise: rule.otherwise ?? "OTHERWISE_DENY",
  require: rule.require,
  ...(rule.when === undefined ? {} : { when: rule.when }),
  ...(rule.otherwise === "OTHERWISE_REQUIRE_APPROVAL" ? { approval: APPROVAL } : {}),
});

export const policyBody = (rules: readonly RuleText[], more: JsonObject = {}): JsonObject => ({
  name: "p",
  rules: rules.map(ruleBody),
  target: "run.start",
  ...more,
});
