import { describe, expect, test } from "vitest";
import { gateOutcome } from "../../src/fold/governance.ts";
import { actionDigest, decisionBody } from "../../src/policy/decision.ts";
import { evaluate } from "../../src/policy/engine.ts";
import type { PolicyInForce } from "../../src/policy/judgement.ts";
import { policiesLeftOut, replayDecision } from "../../src/policy/replay.ts";
import { checkBody } from "../../src/record/body.ts";
import type { JsonObject } from "../../src/record/json.ts";
import { id, policyBody } from "./bodies.ts";

const input: JsonObject = { a: 1, now: "2026-01-01T00:00:00.000Z", preview: false, target: "run.start", tree_size: 7 };
const policies: readonly PolicyInForce[] = [
  {
    body: policyBody([{ require: "input.a > 0" }, { require: "input.b" }], { name: "a" }),
    ledger: true,
    mode: "active",
    record: id(2),
  },
  {
    body: policyBody([{ otherwise: "OTHERWISE_REQUIRE_APPROVAL", require: "false" }], { name: "b" }),
    mode: "active",
    record: id(1),
  },
  { body: policyBody([{ require: "false" }], { name: "c" }), mode: "shadow", record: id(3) },
];
const body = decisionBody({ input, judgement: evaluate(policies, input), preview: false, target: "run.start" });
const codes = (changed: JsonObject, held = policies): string[] => [
  ...new Set(replayDecision({ ...body, ...changed }, held).findings.map((f) => f.code)),
];
const stored = body["policies"] as readonly JsonObject[];
const [first, ...rest] = stored;
const [rule0, ...rules] = (first?.["rules"] ?? []) as readonly JsonObject[];
const withRule = (rule: JsonObject): JsonObject => ({
  policies: [{ ...first, rules: [{ ...rule0, ...rule }, ...rules] }, ...rest],
});

describe("replay", () => {
  test("of what was recorded finds nothing", () => {
    checkBody("decision", body);
    expect(replayDecision(body, policies)).toEqual({ findings: [] });
  });

  test("finds each lie", () => {
    expect(codes({ outcome: "OUTCOME_ALLOW" })).toEqual(["decision.replay"]);
    expect(codes(withRule({ result: "RULE_OUTCOME_FAILS" }))).toEqual(["decision.replay"]);
    expect(codes(withRule({ message: "fine" }))).toEqual(["decision.replay"]);
    expect(codes({ requirements: [] })).toEqual(["decision.replay"]);
    expect(codes({ input: { ...input, a: 0 } })).toEqual(["decision.input", "decision.replay"]);
    expect(codes({ tree_size: 8 })).toEqual(["decision.input"]);
    expect(codes({ policies: stored.toReversed() })).toEqual(["decision.order"]);
    expect(codes(withRule({ id: "other" }))).toEqual(["decision.order"]);
    const moved = policies.map((p) =>
      p.record === id(3)
        ? { ...p, body: policyBody([{ require: "false" }], { applies_to: { purposes: ["production"] }, name: "c" }) }
        : p,
    );
    expect(codes({}, moved)).toEqual(["decision.policy"]);
    expect(
      codes(
        {},
        policies.map((p) => ({ ...p, body: { ...p.body, target: "alias.set" } })),
      ),
    ).toEqual(["decision.policy"]);
  });

  test("does not compare what explains", () => {
    expect(codes(withRule({ seen: [] }))).toEqual([]);
    expect(
      codes({
        policies: stored.map((p) => ({
          ...p,
          rules: (p["rules"] as readonly JsonObject[]).map((r) =>
            r["result"] === "RULE_OUTCOME_ERROR" ? { ...r, message: "no such key" } : r,
          ),
        })),
      }),
    ).toEqual([]);
  });

  test("says what it could not try", () => {
    expect(replayDecision(body, policies.slice(1)).skipped).toContain(id(2));
    expect(replayDecision({ ...body, engine: "other/v1" }, policies).skipped).toContain("other/v1");
  });
});

describe("policies in force", () => {
  test("must all be there, in their mode, and no others", () => {
    expect(policiesLeftOut(body, policies)).toEqual([]);
    const more: PolicyInForce = { body: policyBody([{ require: "true" }]), mode: "active", record: id(4) };
    expect(policiesLeftOut(body, [...policies, more])).toHaveLength(1);
    expect(policiesLeftOut(body, [...policies, { ...more, body: policyBody([{ require: "x" }]) }])).toHaveLength(1);
    expect(
      policiesLeftOut(body, [
        ...policies,
        { ...more, body: policyBody([{ require: "true" }], { applies_to: { models: ["m"] } }) },
      ]),
    ).toEqual([]);
    expect(policiesLeftOut(body, policies.slice(1))).toHaveLength(1);
    expect(
      policiesLeftOut(
        body,
        policies.map((p) => ({ ...p, mode: "active" as const })),
      ),
    ).toHaveLength(1);
  });
});

describe("digests", () => {
  test("of an action name what would be done, and who asks for approval", () => {
    const parts = { action: { to: "approved" }, policies, subjects: [id(1), id(2)], target: "run.start" } as const;
    const digest = actionDigest(parts);
    expect(actionDigest({ ...parts, policies: policies.toReversed(), subjects: [id(2), id(1), id(1)] })).toBe(digest);
    expect(actionDigest({ ...parts, policies: policies.slice(0, 2) })).toBe(digest);
    expect(actionDigest({ ...parts, policies: policies.slice(1) })).not.toBe(digest);
    expect(actionDigest({ ...parts, subjects: [id(1)] })).not.toBe(digest);
    expect(actionDigest({ ...parts, action: { to: "revoked" } })).not.toBe(digest);
    expect(actionDigest({ ...parts, target: "alias.set" })).not.toBe(digest);
  });
});

test.each([
  ["true", "OTHERWISE_DENY", "pass"],
  ["false", "OTHERWISE_WARN", "warn"],
  ["false", "OTHERWISE_DENY", "fail"],
  ["false", "OTHERWISE_REQUIRE_APPROVAL", "fail"],
  ["input.x", "OTHERWISE_WARN", "error"],
])("the fold reads a gate of %s, %s as %s", (require, otherwise, outcome) => {
  const gate = (text: string, mode: "active" | "shadow") => {
    const judgement = evaluate([{ body: policyBody([{ otherwise, require: text }]), mode, record: id(1) }], input);
    return gateOutcome(decisionBody({ input, judgement, preview: false, target: "quality.gate" }));
  };
  expect(gate(require, "active")).toBe(outcome);
  expect(gate("true", "shadow")).toBe("no_rule");
});
