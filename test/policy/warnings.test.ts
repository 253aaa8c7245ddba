import { expect, test } from "vitest";
import { baseline } from "../../src/policy/baseline.ts";
import { policyWarnings } from "../../src/policy/engine.ts";
import { policyBody } from "./bodies.ts";

const warned = (require: string, when?: string): number =>
  policyWarnings(policyBody([{ require, ...(when === undefined ? {} : { when }) }])).length;

test.each([
  ["input.data.all(d, d.tainted)", 1],
  ["size(input.data) > 0 && input.data.all(d, d.tainted)", 0],
  ["input.data.size() > 0 && input.data.all(d, d.tainted)", 0],
  ['size(input.data) > 0 && input.data.all(d, d.parents.all(p, p != ""))', 1],
  ["input.data.exists(d, d.tainted)", 0],
  ["input.run.metrics.auc > 0.9 || input.preview", 1],
  ['input.run.metrics["auc"] > 0.9 || input.preview', 1],
  ['input.run != null && "auc" in input.run.metrics && (input.run.metrics.auc > 0.9 || input.preview)', 0],
  ["input.run.late || input.preview", 1],
  ["input.run != null && (input.run.late || input.preview)", 0],
  ["input.run.late && input.preview", 0],
  ["input.model.runs.exists(r, r.code.dirty)", 1],
  ["not CEL", 0],
])("%s: %i", (require, n) => {
  expect(warned(require)).toBe(n);
});

test("sizes may be asked in the condition", () => {
  expect(warned("input.data.all(d, d.tainted)", "size(input.data) > 0")).toBe(0);
});

test("the baseline pack has no trap", () => {
  for (const policy of baseline({ solo: false })) expect(policyWarnings(policy)).toEqual([]);
});
