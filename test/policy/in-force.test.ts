import { expect, test } from "vitest";
import { policiesInForce } from "../../src/policy/in-force.ts";
import { policyBody } from "./bodies.ts";
import { scene } from "./records.ts";

test("policies of the ledger and of the project are in force together", () => {
  const s = scene();
  const project = s.log.project ?? s.genesis;
  const policy = (name: string, owner: typeof project, to: string) => {
    const record = s.log.add("policy", policyBody([{ require: "true" }], { name }), {}, { project: owner });
    s.log.add("transition", { from: "draft", reason: "r", to }, { subject: record }, { project: owner });
    return record;
  };
  const own = policy("a", project, "shadow");
  const ledgers = policy("z", s.genesis, "active");
  policy("draft", project, "retired");
  const found = policiesInForce(s.log.reader, "run.start", project, s.genesis);
  expect(found.map(({ ledger, mode, record }) => ({ ledger, mode, record }))).toEqual([
    { ledger: true, mode: "active", record: ledgers },
    { ledger: false, mode: "shadow", record: own },
  ]);
  expect(policiesInForce(s.log.reader, "run.start", s.genesis, s.genesis)).toHaveLength(1);
  expect(policiesInForce(s.log.reader, "alias.set", project, s.genesis)).toEqual([]);
});
