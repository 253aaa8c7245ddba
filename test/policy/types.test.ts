/** What is found when a policy is made, and what is found late. */
import * as fc from "fast-check";
import { describe, expect, it, test } from "vitest";
import { fitPolicy, QUALITY_POLICY } from "../../src/cli/demo/programs.ts";
import { baseline } from "../../src/policy/baseline.ts";
import { assertPolicy, compilePolicy, evaluate } from "../../src/policy/engine.ts";
import { compileExpression } from "../../src/policy/profile.ts";
import { typeFlaw } from "../../src/policy/types.ts";
import type { JsonObject } from "../../src/record/json.ts";
import { Fault } from "../../src/std/faults.ts";
import vectors from "../vectors/policy/rules.json" with { type: "json" };
import { id, policyBody } from "./bodies.ts";

const flawOf = (text: string): string | undefined => typeFlaw(compileExpression(text));
const outcomeOf = (require: string, input: JsonObject) =>
  evaluate([{ body: policyBody([{ require }]), ledger: false, mode: "active", record: id(1) }], input).outcome;

describe("refuses when a policy is made", () => {
  const wrong: readonly [string, RegExp][] = [
    ["1 / 0 > 0", /at character 1 \("1 \/ 0 > 0"\).*divide by zero/],
    ["input.a > 0.0 && 1.0 / 0.0 > 1.0", /at character 18 .*not a finite number/],
    ["input.a == 5 % 0", /at character 12 .*modulus by zero/],
    ['size(input.a) + "x" == "1x"', /at character 1 .*\+ does not take a whole number with a text/],
    ["size(input.a) + 1.0 > 2.0", /\+ does not take a whole number with a number/],
    ['"a".contains(1)', /contains/],
    ["input.a.startsWith(1)", /startsWith does not take/],
    ["size(input.a)", /^gives a whole number, and never true or false$/],
    ["input.a + 1.0", /^gives a number, and never/],
    ["[true]", /^gives a list, and never/],
    ["!size(input.a)", /! does not take a whole number/],
    ["input.a.all(x, size(x))", /&& takes true or false, and is given a whole number/],
    ["size(input.a) ? true : false", /is given a whole number/],
    ["size(input.a).b == 1.0", /at character 1 .*has no member b/],
    ["size(input.a)[0] == 1.0", /has no elements by/],
    ["size(input.a).all(x, x)", /has no elements to go through/],
    ["input.a in size(input.b)", /in does not take/],
    ['size(input.a) > input.a.contains("b")', /> does not take/],
    ['timestamp("yesterday") < timestamp(input.now)', /at character 1 .*timestamp\(\) takes/],
    ["timestamp(input.now) == timestamp(input.then)", /== does not take/],
    ['double("x") > input.a', /decimal numbers/],
    ["input + 1.0 > 2.0", /\+ does not take an object/],
    ["input.a == [1, 2][5]", /at character 12 .*out of bounds/],
    ["true || 1 / 0 == 1", /divide by zero/],
  ];
  test.each(wrong)("%s", (require, says) => {
    expect(flawOf(require)).toMatch(says);
    const body = policyBody([{ require: "true" }, { require }]);
    let fault: unknown;
    try {
      assertPolicy(body);
    } catch (error) {
      fault = error;
    }
    expect(fault).toBeInstanceOf(Fault);
    expect(fault).toMatchObject({ fields: [{ field: "rules[1].require" }], reason: "POLICY_INVALID" });
    // One that is on record goes on meaning what it meant.
    expect(() => compilePolicy(body)).not.toThrow();
  });
});

describe("lets through", () => {
  test.each(vectors.filter((v) => v.result === "HOLDS" || v.result === "FAILS"))("$name", ({ require }) => {
    expect(flawOf(require)).toBeUndefined();
  });

  it("what is installed and shown", () => {
    for (const body of [...baseline({ solo: false }), QUALITY_POLICY, fitPolicy(0.9)] as unknown as JsonObject[])
      expect(() => assertPolicy(body)).not.toThrow();
  });

  test.each([
    "input.a + input.b > size(input.c)",
    "input.a == null || input.a.b[0].c",
    "size(input.a.filter(x, x > 1)) > 0.5",
    "input.a.exists_one(x, x.b == 1)",
    "input.a.map(x, x + 1.0).exists(y, y > 2)",
    'timestamp(input.now) - timestamp("2026-01-01T00:00:00.000Z") > duration("24h")',
    'input.params["k"] == "v" ? input.a : !input.b',
    '"a" in input.labels',
  ])("%s", (require) => {
    expect(flawOf(require)).toBeUndefined();
  });
});

const leaf = fc.constantFrom("input.a", "input.b", "1", "2.5", '"t"', "true", "null", "[1.0]", "size(input.c)");
const binary = fc.constantFrom("+", "-", "*", "/", "%", "<", ">=", "==", "!=", "in");
/** Without what absorbs errors: `&&`, `||`, `? :`, macros. */
const strict: fc.Arbitrary<string> = fc.letrec<{ e: string }>((tie) => ({
  e: fc.oneof(
    { depthSize: "small" },
    leaf,
    fc.tuple(tie("e"), binary, tie("e")).map(([a, op, b]) => `(${a} ${op} ${b})`),
    tie("e").map((a) => `size(${a})`),
    tie("e").map((a) => `!(${a})`),
    fc.tuple(tie("e"), tie("e")).map(([a, b]) => `(${a}).contains(${b})`),
    fc.tuple(tie("e"), tie("e")).map(([a, b]) => `(${a})[${b}]`),
    tie("e").map((a) => `(${a}).m`),
  ),
})).e;
const value = fc.oneof(
  fc.constantFrom(null, true, false, 0, 1, 2.5, "", "t", "1"),
  fc.constantFrom<unknown>([], [1], ["t"], {}, { m: 1, t: true }),
);
const inputs = fc.record({ a: value, b: value, c: fc.constantFrom<unknown>([], [1, 2], "text", {}) });

it("never refuses what some input makes true or false", () => {
  fc.assert(
    fc.property(strict, inputs, (require, input) => {
      fc.pre(flawOf(require) !== undefined);
      expect(outcomeOf(require, input as JsonObject)).toBe("ERROR");
    }),
    { numRuns: 2_000 },
  );
});

it("never admits by what is found late", () => {
  const any = fc
    .tuple(strict, fc.constantFrom("&&", "||"), strict)
    .chain(([a, op, b]) => fc.constantFrom(a, `${a} ${op} ${b}`, `input.c.all(x, ${a})`, `(${a}) ? (${b}) : true`));
  fc.assert(
    fc.property(any, inputs, (require, input) => {
      const body = policyBody([{ require }]);
      const judged = evaluate([{ body, ledger: false, mode: "active", record: id(1) }], input as JsonObject);
      const result = judged.policies[0]?.rules[0]?.result;
      expect(judged.outcome).toBe(result === "HOLDS" ? "ALLOW" : result === "FAILS" ? "DENY" : "ERROR");
    }),
    { numRuns: 2_000 },
  );
});
