import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { assertPolicy, compilePolicy, evaluate, PolicyCache } from "../../src/policy/engine.ts";
import { INPUT_LIMITS } from "../../src/policy/input-limits.ts";
import type { Mode, PolicyInForce } from "../../src/policy/judgement.ts";
import type { JsonObject } from "../../src/record/json.ts";
import { Fault } from "../../src/std/faults.ts";
import refused from "../vectors/policy/refused.json" with { type: "json" };
import vectors from "../vectors/policy/rules.json" with { type: "json" };
import { id, policyBody, type RuleText } from "./bodies.ts";

const inForce = (body: JsonObject, k = 1, mode: Mode = "active", ledger = false): PolicyInForce => ({
  body,
  ledger,
  mode,
  record: id(k),
});
const judge = (rules: readonly RuleText[], input: JsonObject, more: JsonObject = {}) =>
  evaluate([inForce(policyBody(rules, more))], input);

function faultOf(work: () => unknown): Fault {
  try {
    work();
  } catch (error) {
    if (error instanceof Fault) return error;
    throw error;
  }
  throw new Error("no fault");
}

describe("vectors", () => {
  test.each(vectors)("$name", (vector) => {
    const judgement = judge([vector], vector.input);
    expect(judgement.policies[0]?.rules[0]?.result).toBe(vector.result);
    expect(judgement.outcome).toBe(vector.outcome);
  });

  test.each(refused)("refuses $name", ({ require }) => {
    const fault = faultOf(() => compilePolicy(policyBody([{ require: "true" }, { require }])));
    expect(fault.reason).toBe("POLICY_INVALID");
    expect(fault.fields.map((f) => f.field)).toEqual(["rules[1].require"]);
    // A policy that got in all the same judges nothing to be right.
    expect(judge([{ require }], {}).outcome).toBe("ERROR");
  });
});

describe("hostile policies", () => {
  const shapes: readonly [string, string][] = [
    ["long", `input.a == "${"x".repeat(5_000)}"`],
    ["deep brackets", `${"(".repeat(2_000)}1${")".repeat(2_000)}`],
    ["open brackets", "[".repeat(4_000)],
    ["many operands", Array.from({ length: 700 }, () => "true").join("&&")],
    ["long path", `input${".a".repeat(1_500)} == 1`],
    ["sums", Array.from({ length: 700 }, () => "1").join("+")],
  ];
  test.each(shapes)("%s are refused", (_, require) => {
    expect(faultOf(() => compilePolicy(policyBody([{ require }]))).reason).toBe("POLICY_INVALID");
  });

  const numbers = Array.from({ length: 8_000 }, (_, i) => i);
  const text = "a".repeat(16_000);
  const costly: readonly string[] = [
    "input.a.all(x, input.a.all(y, x >= y || true))",
    "[input.a.map(x, x)].all(v, v.all(x, v.all(y, true)))",
    "size(input.a.filter(x, input.a.exists(y, y == x))) > 0",
    'input.a.all(x, input.t.contains(input.t + "b") || true)',
    'input.a.all(x, input.t.matches("(a*)*b") || true)',
    "input.a.all(x, input.a == input.a)",
    "input.a.all(x, size(input.t) > 0)",
    "input.a.map(x, input.t + input.t).all(s, size(s) > 0)",
    "input.a.map(x, input.a + input.a).all(l, size(l) > 0)",
  ];
  test.each(costly)("%s ends as an error", (require) => {
    expect(judge([{ require }], { a: numbers, t: text }).outcome).toBe("ERROR");
  });

  test("a decision ends too", () => {
    const rules = Array.from({ length: 64 }, () => ({ require: "input.a.all(x, x >= 0) && input.a.all(x, x >= 0)" }));
    expect(judge(rules, { a: numbers }).outcome).toBe("ERROR");
  });
});

describe("input", () => {
  const rule = [{ require: "true" }];
  test.each([
    ["NaN", { a: Number.NaN }],
    ["infinite", { a: [{ b: Number.POSITIVE_INFINITY }] }],
    ["undefined", { a: undefined as unknown as null }],
    ["a long text", { a: "x".repeat(INPUT_LIMITS.text + 1) }],
    ["many elements", { a: Array.from({ length: INPUT_LIMITS.elements + 1 }, () => 0) }],
    ["large", { a: Array.from({ length: 20 }, () => "é".repeat(8_000)) }],
    ["deep", JSON.parse(`${'{"a":'.repeat(30)}1${"}".repeat(30)}`) as JsonObject],
  ])("%s makes every rule an error", (_, input) => {
    const judgement = judge(rule, input);
    expect(judgement.outcome).toBe("ERROR");
    expect(judgement.policies[0]?.rules[0]?.result).toBe("ERROR");
  });

  test("of 256 KiB is judged by its bytes", () => {
    expect(judge(rule, { a: Array.from({ length: 15 }, () => "x".repeat(16_000)) }).outcome).toBe("ALLOW");
  });
});

describe("judgement", () => {
  test("is the worst of the active policies", () => {
    const error = inForce(policyBody([{ require: "input.x" }]), 1, "shadow");
    const warn = inForce(policyBody([{ otherwise: "OTHERWISE_WARN", require: "false" }]), 2);
    const ask = inForce(policyBody([{ otherwise: "OTHERWISE_REQUIRE_APPROVAL", require: "false" }]), 3);
    const deny = inForce(policyBody([{ require: "false" }]), 4);
    expect(evaluate([error], {})).toMatchObject({ outcome: "ALLOW", warned: false });
    expect(evaluate([error, warn], {})).toMatchObject({ outcome: "ALLOW", requirements: [], warned: true });
    expect(evaluate([error, warn, ask], {})).toMatchObject({
      outcome: "REQUIRE_APPROVAL",
      requirements: [{ approval: { groups: ["g"], meaning: "approved", quorum: 2 }, policy: id(3), rule: "r0" }],
    });
    expect(evaluate([deny, ask, warn], {}).outcome).toBe("DENY");
    expect(evaluate([{ ...error, mode: "active" }, deny, ask], {}).outcome).toBe("ERROR");
    expect(evaluate([], {})).toEqual({ outcome: "ALLOW", policies: [], requirements: [], warned: false });
  });

  test("applies to what is named", () => {
    const input = { data: [{ name: "a" }], model: null, run: { environment: { name: "e" }, purpose: "production" } };
    const outcome = (to: JsonObject, on: JsonObject = input) =>
      judge([{ require: "false" }], on, { applies_to: to }).outcome;
    expect(outcome({ datasets: ["a", "b"] })).toBe("DENY");
    expect(outcome({ datasets: ["b"] })).toBe("ALLOW");
    expect(outcome({ environments: ["e"], purposes: ["production"] })).toBe("DENY");
    expect(outcome({ environments: ["e"], purposes: ["exploration"] })).toBe("ALLOW");
    expect(outcome({ models: ["m"] }, { model: { name: "m", runs: [] } })).toBe("DENY");
    expect(outcome({ datasets: ["a"] }, {})).toBe("ALLOW");
  });

  test("shows what a rule read", () => {
    const input = {
      data: [
        { name: "x", status: "approved" },
        { name: "y", status: "revoked" },
        { name: "z", status: "draft" },
      ],
      s: "\u202Ee\u0301",
    };
    const judgement = judge(
      [
        { require: 'input.data.all(d, d.status == "approved")' },
        { require: 'input.s == "a"' },
        { require: "size(input.list) > 0" },
      ],
      { ...input, list: [] },
    );
    const seen = judgement.policies[0]?.rules.map((r) => r.seen);
    expect(seen).toEqual([
      [
        { path: "input.data[0].status", value: '"approved"' },
        { path: "input.data[1].status", value: '"revoked"' },
      ],
      [{ path: "input.s", value: '"\\u202ee\\u0301"' }],
      [{ path: "input.list", value: "[]" }],
    ]);
    const long = judge([{ require: 'input.s == ""' }], { s: "a".repeat(400) }).policies[0]?.rules[0]?.seen[0]?.value;
    expect(long).toHaveLength(256);
  });

  test("is the same in whatever order policies come, cached or not", () => {
    const policy = fc.record({
      ledger: fc.boolean(),
      mode: fc.constantFrom<Mode>("active", "shadow"),
      name: fc.constantFrom("a", "b", "c"),
      otherwise: fc.constantFrom("OTHERWISE_DENY", "OTHERWISE_WARN", "OTHERWISE_REQUIRE_APPROVAL"),
      require: fc.constantFrom("true", "false", "input.a > 1", "input.b", "input.c.all(x, x)", "1"),
    });
    const input = fc.record({ a: fc.double(), b: fc.constantFrom(true, false, null, 1), c: fc.array(fc.boolean()) });
    const cache = new PolicyCache(2);
    fc.assert(
      fc.property(fc.array(policy, { maxLength: 5 }), input, fc.integer(), (given, input, seed) => {
        const policies = given.map(({ ledger, mode, name, ...rule }) => {
          const body = policyBody([rule], { name });
          return {
            body,
            ledger,
            mode,
            record: id(
              Number.parseInt(
                JSON.stringify([rule, name])
                  .split("")
                  .reduce((h, c) => (h * 31 + c.charCodeAt(0)) >>> 0, 7)
                  .toString(),
                10,
              ),
            ),
          };
        });
        const unique = policies.filter((p, i) => policies.findIndex((q) => q.record === p.record) === i);
        const judgement = evaluate(unique, input);
        const shuffled = unique.toSorted(
          (a, b) => (Number(`0x${a.record.slice(-6)}`) ^ seed) - (Number(`0x${b.record.slice(-6)}`) ^ seed),
        );
        expect(evaluate(shuffled, input, { cache })).toEqual(judgement);
        // An error admits under no circumstances, and nothing but true holds.
        const active = judgement.policies.filter((p) => p.mode === "active").flatMap((p) => p.rules);
        if (active.some((r) => r.result === "ERROR")) expect(judgement.outcome).toBe("ERROR");
        if (judgement.outcome === "ALLOW")
          for (const r of active) expect(r.result === "HOLDS" || r.otherwise === "WARN").toBe(true);
      }),
    );
  });

  test("never throws for an input, and admits nothing that it cannot read", () => {
    const rules = [
      { require: 'input.a.b.exists(x, x.c == "d") && size(input.a.b) > 0' },
      { require: "input.n / input.m > 0.5" },
    ];
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const input =
          typeof value === "object" && value !== null && !Array.isArray(value)
            ? (value as unknown as JsonObject)
            : { a: value as unknown as JsonObject };
        expect(judge(rules, input).outcome).not.toBe("ALLOW");
      }),
    );
  });
});

describe("admission", () => {
  test("names every field that is wrong", () => {
    const body = {
      name: "p",
      rules: [
        { id: "A", message: "m", require: "true" },
        { id: "b", message: "m", otherwise: "OTHERWISE_REQUIRE_APPROVAL", require: "true" },
        {
          approval: { groups: [], quorum: 0 },
          id: "b",
          message: "m",
          otherwise: "OTHERWISE_WARN",
          require: "x",
          when: "y",
        },
      ],
      target: "nothing",
    };
    expect(faultOf(() => compilePolicy(body)).fields.map((f) => f.field)).toEqual([
      "target",
      "rules[0].id",
      "rules[1].approval",
      "rules[2].id",
      "rules[2].when",
      "rules[2].require",
      "rules[2].approval",
      "rules[2].approval.quorum",
      "rules[2].approval.groups",
      "rules[2].approval.meaning",
    ]);
    expect(faultOf(() => compilePolicy(policyBody([]))).fields[0]?.field).toBe("rules");
    expect(
      faultOf(() => compilePolicy(policyBody(Array.from({ length: 65 }, () => ({ require: "true" }))))).fields[0]
        ?.field,
    ).toBe("rules");
  });

  test("runs the policy's own tests", () => {
    const tests = [
      { input: { a: 2 }, outcome: "OUTCOME_ALLOW" },
      { input: { a: 1 }, outcome: "OUTCOME_DENY" },
      { input: {}, outcome: "OUTCOME_ERROR" },
    ];
    assertPolicy(policyBody([{ require: "input.a > 1" }], { tests }));
    const fault = faultOf(() => assertPolicy(policyBody([{ require: "input.a >= 1" }], { tests })));
    expect(fault.reason).toBe("POLICY_TEST_FAILED");
    expect(fault.fields).toEqual([{ description: "gives ALLOW instead of DENY", field: "tests[1]" }]);
  });
});
