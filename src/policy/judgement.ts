/**
 * The words of a judgement: what policies are given to the engine, and what it answers. Shapes only; the names of outcomes are
 * those of the record's enums without their prefix.
 */
import type { JsonObject } from "../record/json.ts";
import type { RecordId } from "../std/brand.ts";

/** Name of this policy language, engine and input function: a decision names it, and a replay needs the same. */
export const PROFILE = "datapilot-cel/v1";

/** From best to worst. */
export const OUTCOMES = ["ALLOW", "REQUIRE_APPROVAL", "DENY", "ERROR"] as const;
export type Outcome = (typeof OUTCOMES)[number];

export type RuleOutcome = "HOLDS" | "FAILS" | "SKIPPED" | "WAIVED" | "ERROR";
export type Otherwise = "DENY" | "REQUIRE_APPROVAL" | "WARN";
export type Mode = "active" | "shadow";

/** A policy that takes part, with the body of its record. */
export interface PolicyInForce {
  readonly record: RecordId;
  readonly mode: Mode;
  readonly body: JsonObject;
  /** Whether it is the ledger's own, which binds every project and is shown first. */
  readonly ledger?: boolean;
}

/** A value of the input that a rule read. Explains a result; no replay compares it. */
export interface Seen {
  readonly path: string;
  /** JSON text, at most 256 characters. */
  readonly value: string;
}

export interface RuleResult {
  readonly id: string;
  readonly result: RuleOutcome;
  /** Of the rule's body, so that who shows results needs no policy. */
  readonly otherwise: Otherwise;
  /** The rule's message where it fails, the error where it could not be evaluated, else empty. */
  readonly message: string;
  readonly seen: readonly Seen[];
}

export interface JudgedPolicy {
  readonly record: RecordId;
  readonly mode: Mode;
  readonly rules: readonly RuleResult[];
}

export interface ApprovalRule {
  /** Distinct persons. */
  readonly quorum: number;
  readonly groups: readonly string[];
  /** Lower-case. */
  readonly meaning: string;
  readonly expiresS?: number;
}

/** An approval that is still lacking. */
export interface Requirement {
  readonly policy: RecordId;
  readonly rule: string;
  readonly approval: ApprovalRule;
}

export interface Judgement {
  readonly outcome: Outcome;
  /** Whether a WARN rule of an active policy failed. */
  readonly warned: boolean;
  /** Policies that apply: the ledger's first, then by name. */
  readonly policies: readonly JudgedPolicy[];
  readonly requirements: readonly Requirement[];
}

export const worst = (a: Outcome, b: Outcome): Outcome => (OUTCOMES.indexOf(a) >= OUTCOMES.indexOf(b) ? a : b);
