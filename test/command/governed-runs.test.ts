/** Runs that policies refuse, or make wait for approval. */
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Purpose } from "../../gen/ts/animus/datapilot/record/v1/execution_pb.ts";
import { Meaning, Outcome } from "../../gen/ts/animus/datapilot/record/v1/governance_pb.ts";
import * as governance from "../../gen/ts/animus/datapilot/v1/governance_pb.ts";
import type { Resource } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import * as api from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import { approve, reject } from "../../src/command/approve.ts";
import { planRun } from "../../src/command/plan-run.ts";
import { startRun } from "../../src/command/start-run.ts";
import type { Caller } from "../../src/identity/caller.ts";
import { Lab, sha } from "./lab.ts";
import { createWorld, newProject, refused, type World } from "./world.ts";

let world: World;
let lab: Lab;
let ann: Caller;
beforeAll(async () => {
  world = await createWorld({
    approvers: [{ displayName: "Ann Approver", name: "ann" }],
    policies: [
      {
        name: "starts",
        rules: [
          {
            id: "code",
            message: "a production run names its code",
            require: "input.run.code != null",
            when: 'input.run.purpose == "production"',
          },
          {
            approval: { groups: ["governance"], meaning: "MEANING_APPROVED", quorum: 1 },
            id: "evaluations",
            message: "evaluations are approved",
            otherwise: "OTHERWISE_REQUIRE_APPROVAL",
            require: "false",
            when: 'input.run.purpose == "evaluation"',
          },
          {
            id: "environment",
            message: "the environment is another",
            require: 'input.run.environment == null || input.run.environment.match != "mismatch"',
          },
        ],
        target: "run.start",
      },
    ],
  });
  await newProject(world, "fraud");
  lab = new Lab(world, await world.member("fraud", "contributor"), "fraud");
  ann = world.caller(world.secrets.get("ann") ?? "");
});
afterAll(() => world[Symbol.asyncDispose]());

const size = (): number => world.deps.log.index.watermark.size;
const decisionOf = (resource: Resource | undefined) =>
  resource?.body.case === "decision" ? resource.body.value : undefined;
const requestOf = (resource: Resource | undefined) =>
  resource?.body.case === "approvalRequest" ? resource.body.value : undefined;
const startOf = (run: string, requestId = "") =>
  startRun(world.deps, lab.caller, create(api.StartRunRequestSchema, { project: "fraud", requestId, run }));
const statusOf = (run: string | undefined): string | undefined => {
  using reader = world.deps.log.index.reader();
  return reader.get("run", run ?? "")?.value.status;
};
const production = (more: object = {}) => lab.plan([], more, { purpose: Purpose.PRODUCTION });
const evaluation = () => lab.plan([], {}, { purpose: Purpose.EVALUATION });

it("previews a refusal and still records the plan", async () => {
  const request = create(api.PlanRunRequestSchema, { plan: production(), project: "fraud" });
  const done = await planRun(world.deps, lab.caller, request);
  expect(done.run).toMatchObject({ status: "planned" });
  expect(decisionOf(done.decision)).toMatchObject({ outcome: Outcome.DENY, preview: true });
});

it("records a refused start: plan and decision, no start, no token", async () => {
  const before = size();
  const done = await lab.start(production(), "refused-1");
  expect(done).toMatchObject({ run: { status: "refused" }, runToken: "" });
  expect(done.start).toBeUndefined();
  expect(decisionOf(done.decision)).toMatchObject({ outcome: Outcome.DENY, preview: false });
  expect(done.receipt).toMatchObject({ record: done.decision?.record });
  expect(size()).toBe(before + 2);
  const again = await lab.start(production(), "refused-1");
  expect(again.decision?.record).toBe(done.decision?.record);
  expect(size()).toBe(before + 2);
  await refused(() => startOf(done.run?.record ?? ""), "RUN_NOT_PLANNED");
  const code = await lab.code();
  expect((await lab.start(production({ code: code.record }))).start).toBeDefined();
});

it("lets policies see how the environment compares", async () => {
  await lab.lock("py");
  const plan = lab.plan([], { environmentLock: "fraud/py@v1" });
  const start = (packagesDigest: string) =>
    startRun(
      world.deps,
      lab.caller,
      create(api.StartRunRequestSchema, { observed: { packagesDigest }, plan, project: "fraud" }),
    );
  expect((await start(sha("a"))).start).toBeDefined();
  expect((await start(sha("9"))).start).toBeUndefined();
});

const vote = (asked: Resource | undefined) => ({
  actionDigest: requestOf(asked)?.actionDigest ?? "",
  project: "fraud",
  request: asked?.record ?? "",
  statement: "seen and agreed",
});

it("waits for approval, and starts when asked again", async () => {
  const waiting = await lab.start(evaluation(), "wait-1");
  const run = waiting.run?.record ?? "";
  expect(waiting.start).toBeUndefined();
  expect(waiting.runToken).toBe("");
  expect(requestOf(waiting.approvalRequest)).toMatchObject({ apply: false, target: "run.start" });
  expect(statusOf(run)).toBe("awaiting_approval");
  const before = size();
  const again = await lab.start(evaluation(), "wait-1");
  expect(again.approvalRequest?.record).toBe(waiting.approvalRequest?.record);
  expect((await startOf(run)).approvalRequest?.record).toBe(waiting.approvalRequest?.record);
  expect(size()).toBe(before);
  const ballot = create(governance.ApproveRequestSchema, {
    ...vote(waiting.approvalRequest),
    meaning: Meaning.APPROVED,
  });
  await approve(world.deps, ann, ballot);
  const started = await startOf(run, "after-1");
  expect(started).toMatchObject({ run: { status: "running" } });
  expect(started.runToken).toMatch(/^dpr_/);
  expect(started.decision?.links.filter((l) => l.rel === "approval").length).toBe(1);
  expect((await startOf(run, "after-1")).start?.record).toBe(started.start?.record);
});

it("does not start on votes for another environment", async () => {
  await lab.lock("py");
  const plan = lab.plan([], { environmentLock: "fraud/py@v1" }, { purpose: Purpose.EVALUATION });
  const waiting = await lab.start(plan);
  const ballot = create(governance.ApproveRequestSchema, {
    ...vote(waiting.approvalRequest),
    meaning: Meaning.APPROVED,
  });
  await approve(world.deps, ann, ballot);
  const elsewhere = create(api.StartRunRequestSchema, {
    observed: { imageDigest: sha("b") },
    project: "fraud",
    run: waiting.run?.record ?? "",
  });
  const done = await startRun(world.deps, lab.caller, elsewhere);
  expect(done.start).toBeUndefined();
  expect(done.approvalRequest?.record).not.toBe(waiting.approvalRequest?.record);
});

it("does not start what was rejected", async () => {
  const waiting = await lab.start(evaluation());
  await reject(world.deps, ann, create(governance.RejectRequestSchema, vote(waiting.approvalRequest)));
  expect(statusOf(waiting.run?.record)).toBe("refused");
  await refused(() => startOf(waiting.run?.record ?? ""), "RUN_NOT_PLANNED");
});
