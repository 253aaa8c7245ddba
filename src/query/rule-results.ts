/** Outcomes and results of rules, as the API shows them. */
import { create } from "@bufbuild/protobuf";
import {
  Outcome,
  RuleOutcome,
  type RuleResult,
  RuleResultSchema,
  SeenSchema,
} from "../../gen/ts/animus/datapilot/record/v1/governance_pb.ts";
import type { Judgement, RuleOutcome as RuleWord, Outcome as Word } from "../policy/judgement.ts";

export const OUTCOME: Readonly<Record<Word, Outcome>> = {
  ALLOW: Outcome.ALLOW,
  DENY: Outcome.DENY,
  ERROR: Outcome.ERROR,
  REQUIRE_APPROVAL: Outcome.REQUIRE_APPROVAL,
};

const RESULT: Readonly<Record<RuleWord, RuleOutcome>> = {
  ERROR: RuleOutcome.ERROR,
  FAILS: RuleOutcome.FAILS,
  HOLDS: RuleOutcome.HOLDS,
  SKIPPED: RuleOutcome.SKIPPED,
  WAIVED: RuleOutcome.WAIVED,
};

export const rulesOf = (policies: Judgement["policies"]): RuleResult[] =>
  policies.flatMap(({ rules }) =>
    rules.map(({ id, message, result, seen }) =>
      create(RuleResultSchema, {
        id,
        message,
        result: RESULT[result],
        seen: seen.map(({ path, value }) => create(SeenSchema, { path, value })),
      }),
    ),
  );
