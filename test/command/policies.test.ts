/** Policies compile and pass their tests before they are recorded; what binds, what would be decided, and what would have been. */
import { create, fromJson, type JsonObject } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, it } from "vitest";
import {
  Outcome,
  PolicySchema,
  PolicyTestSchema,
  RuleOutcome,
} from "../../gen/ts/animus/datapilot/record/v1/governance_pb.ts";
import * as governance from "../../gen/ts/animus/datapilot/v1/governance_pb.ts";
import { TransitionRequestSchema } from "../../gen/ts/animus/datapilot/v1/status_pb.ts";
import { createPolicy } from "../../src/command/create-policy.ts";
import { transition } from "../../src/command/transition.ts";
import type { Caller } from "../../src/identity/caller.ts";
import { backtestPolicy } from "../../src/query/backtest.ts";
import { evaluatePolicy, listEffectivePolicies } from "../../src/query/policy.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { Lab } from "./lab.ts";
import { createWorld, newProject, refused, type World } from "./world.ts";

let world: World;
let lab: Lab;
let author: Caller;
let steward: Caller;

beforeAll(async () => {
  world = await createWorld();
  await newProject(world, "fraud");
  lab = new Lab(world, await world.member("fraud", "contributor"), "fraud");
  author = await world.member("fraud", "policy-author");
  steward = await world.member("fraud", "steward");
});
afterAll(() => world[Symbol.asyncDispose]());

const policy = (require: string, more: JsonObject = {}) =>
  fromJson(PolicySchema, {
    name: "size",
    rules: [{ id: "rows", message: "Too few rows.", otherwise: "OTHERWISE_DENY", require }],
    target: "dataset.version.transition",
    ...more,
  });

const make = (body: ReturnType<typeof policy>, caller = author, project = "fraud") =>
  createPolicy(world.deps, caller, create(governance.CreatePolicyRequestSchema, { policy: body, project }));

const move = (caller: Caller, name: string, to: string) =>
  transition(world.deps, caller, create(TransitionRequestSchema, { name, project: "fraud", reason: "a test", to }));

const effective = () =>
  listEffectivePolicies(
    world.deps,
    author,
    create(governance.ListEffectivePoliciesRequestSchema, { project: "fraud", target: "dataset.version.transition" }),
  ).resources.map((r) => `${r.name} ${r.status}`);

it("records only what compiles and passes its own tests", async () => {
  const invalid = await refused(() => make(policy("input.data[0].rows >")), "POLICY_INVALID");
  expect(invalid.fields[0]?.field).toBe("rules[0].require");
  const tests = [{ input: { data: [{ rows: 1 }] }, outcome: "OUTCOME_ALLOW" }];
  await refused(() => make(policy("input.data[0].rows > 1.0", { tests })), "POLICY_TEST_FAILED");
  await refused(() => make(policy("true"), lab.caller), "PERMISSION_DENIED");
  await refused(() => make(policy("true"), author, "_ledger"), "PERMISSION_DENIED");
  const gate = policy("true", { name: "gate", target: "quality.gate" });
  await refused(() => make(gate), "PERMISSION_DENIED");
  expect((await make(gate, steward)).resource?.name).toBe("projects/fraud/policies/gate/versions/1");
  const shared = await make(policy("true", { name: "everywhere" }), world.admin, "_ledger");
  expect(shared.resource?.project).toBe("_ledger");
});

it("puts versions in force, judges by them, and back-tests the next", async () => {
  const small = await lab.dataset("small", "12");
  const large = await lab.dataset("large", "1234567");
  const one = assertDefined((await make(policy("input.data[0].rows >= 1.0"))).resource, "a policy");
  expect(one).toMatchObject({ name: "projects/fraud/policies/size/versions/1", status: "draft" });
  expect((await make(policy("input.data[0].rows >= 1.0"))).receipt?.existing).toBe(true);
  expect(effective()).toEqual([]);
  await move(author, one.record, "shadow");
  expect(effective()).toEqual(["projects/fraud/policies/size/versions/1 shadow"]);
  await move(author, one.record, "active");
  expect((await move(steward, small.record, "approved")).resource?.kind).toBe("transition");

  const two = assertDefined((await make(policy("input.data[0].rows >= 5.0"))).resource, "a policy");
  expect(two.links).toContainEqual(expect.objectContaining({ rel: "supersedes", to: one.record }));
  await move(steward, large.record, "approved");
  const run = async (against = "") => {
    const answers: governance.BacktestPolicyResponse[] = [];
    const request = create(governance.BacktestPolicyRequestSchema, { against, candidate: "size@v2", project: "fraud" });
    for await (const answer of backtestPolicy(world.deps, author, request)) answers.push(answer);
    return answers;
  };
  for (const answers of [await run(), await run("size@v1")]) {
    expect(answers.at(-1)?.totals).toMatchObject({ evaluated: 2, flips: 1, notEvaluable: 0 });
    const [flip] = answers;
    expect(flip).toMatchObject({ was: Outcome.ALLOW, wouldBe: Outcome.DENY });
    expect(flip?.decision?.links.some((l) => l.rel === "subject" && l.to === small.record)).toBe(true);
    expect(flip?.rules[0]).toMatchObject({ id: "rows", message: "Too few rows.", result: RuleOutcome.FAILS });
    expect(flip?.rules[0]?.seen.length).toBeGreaterThan(0);
  }

  await move(author, two.record, "active");
  expect(effective()).toEqual(["projects/fraud/policies/size/versions/2 active"]);
  const denied = await move(steward, (await lab.dataset("tiny", "1")).record, "approved");
  expect(denied.resource).toBeUndefined();
  expect(denied.decision?.body.value).toMatchObject({ outcome: Outcome.DENY });
  await move(author, two.record, "retired");
  expect(effective()).toEqual([]);
});

it("names the model version of a flip itself", async () => {
  await lab.model("scorer");
  const run = await lab.running();
  const file = await lab.output(run, "weights");
  await lab.finish(run, 1);
  const version = assertDefined((await lab.version("scorer", [file], [run.id])).resource, "a model version");
  await move(lab.caller, version.record, "validated");
  await make(policy('input.model.tier == "high"', { name: "tier", target: "model.version.transition" }));
  const request = create(governance.BacktestPolicyRequestSchema, { candidate: "tier", project: "fraud" });
  const built: string[] = [];
  for await (const answer of backtestPolicy(world.deps, author, request))
    built.push(...answer.builtSince.map((r) => r.record));
  expect(built).toEqual([version.record]);
});

it("counts what a candidate cannot judge", async () => {
  await make(policy('input.data[0].statistics["x"] > 0.0', { name: "newer" }));
  const request = create(governance.BacktestPolicyRequestSchema, { candidate: "newer", project: "fraud" });
  let totals: governance.BacktestTotals | undefined;
  for await (const answer of backtestPolicy(world.deps, author, request)) totals = answer.totals ?? totals;
  expect(totals?.flips).toBe(0);
  expect(totals?.notEvaluable).toBeGreaterThan(0);
});

it("evaluates without recording", () => {
  const { size } = world.deps.log.index.watermark;
  const request = create(governance.EvaluatePolicyRequestSchema, {
    input: { data: [{ rows: 3 }] },
    policy: policy("input.data.all(d, d.rows > 4.0)"),
  });
  const answer = evaluatePolicy(world.deps, author, request);
  expect(answer.outcome).toBe(Outcome.DENY);
  expect(answer.warnings).toHaveLength(1);
  expect(world.deps.log.index.watermark.size).toBe(size);
});

it("tests without an input, and judges nothing then", async () => {
  const candidate = policy("input.data.all(d, d.rows > 4.0)");
  const answer = evaluatePolicy(
    world.deps,
    author,
    create(governance.EvaluatePolicyRequestSchema, { policy: candidate }),
  );
  expect(answer).toMatchObject({ outcome: Outcome.UNSPECIFIED, rules: [] });
  expect(answer.warnings).toHaveLength(1);
  const tests = [create(PolicyTestSchema, { input: { data: [{ rows: 3 }] }, outcome: Outcome.ALLOW })];
  const wrong = create(governance.EvaluatePolicyRequestSchema, { policy: { ...candidate, tests } });
  await refused(() => evaluatePolicy(world.deps, author, wrong), "POLICY_TEST_FAILED");
});
