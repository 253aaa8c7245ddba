/** Results of rules, as the API shows them. */
import { create } from "@bufbuild/protobuf";
import {
  Outcome,
  OutcomeSchema,
  RuleOutcome,
  RuleOutcomeSchema,
  type RuleResult,
  RuleResultSchema,
} from "../../gen/ts/animus/datapilot/record/v1/governance_pb.ts";
import type { Judgement } from "../policy/judgement.ts";

/** By its word, with or without its prefix. */
export const outcomeOf = (word: string): Outcome =>
  OutcomeSchema.values.find((v) => v.name === word || v.name === `OUTCOME_${word}`)?.number ?? Outcome.UNSPECIFIED;

export const rulesOf = (judgement: Pick<Judgement, "policies">): RuleResult[] =>
  judgement.policies.flatMap(({ rules }) =>
    rules.map(({ id, message, result, seen }) =>
      create(RuleResultSchema, {
        id,
        message,
        result: RuleOutcomeSchema.values.find((v) => v.name === `RULE_OUTCOME_${result}`)?.number ?? RuleOutcome.UNSPECIFIED,
        seen: seen.map(({ path, value }) => ({ path, value })),
      }),
    ),
  );
