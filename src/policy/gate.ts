/** The status of a quality gate, as a function of the judgement on it. Newest complete report decides; that is the fold's. */
import type { GateOutcome } from "../fold/view.ts";
import { unreachable } from "../std/assert.ts";
import type { Judgement } from "./judgement.ts";

/** A gate has nobody to ask, so what asks for approval fails. */
export function gateOutcome(judgement: Pick<Judgement, "outcome" | "warned" | "policies">): GateOutcome {
  const { outcome } = judgement;
  switch (outcome) {
    case "ALLOW":
      if (!judgement.policies.some((p) => p.mode === "active")) return "no_rule";
      return judgement.warned ? "warn" : "pass";
    case "REQUIRE_APPROVAL":
    case "DENY":
      return "fail";
    case "ERROR":
      return "error";
    default:
      return unreachable(outcome);
  }
}
