/** Runs from plan to end: what is resolved, compared, refused; tokens; heartbeats. */
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { InputRole, RunStatus } from "../../gen/ts/animus/datapilot/record/v1/execution_pb.ts";
import { Outcome } from "../../gen/ts/animus/datapilot/record/v1/governance_pb.ts";
import { GetRequestSchema, type Resource } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import * as api from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import { cancelRun } from "../../src/command/cancel-run.ts";
import { updateEnvironment } from "../../src/command/create-environment.ts";
import { createExperiment, updateExperiment } from "../../src/command/create-experiment.ts";
import { heartbeat } from "../../src/command/heartbeat.ts";
import { planRun } from "../../src/command/plan-run.ts";
import { startRun } from "../../src/command/start-run.ts";
import type { Caller } from "../../src/identity/caller.ts";
import { compareRuns } from "../../src/query/compare-runs.ts";
import { listMetricHistory } from "../../src/query/metric-history.ts";
import { getRun } from "../../src/query/run.ts";
import type { RecordId } from "../../src/std/brand.ts";
import { Lab, sha } from "./lab.ts";
import { createWorld, newProject, refused, type World } from "./world.ts";

let world: World;
let lab: Lab;
let caller: Caller;
let tx: Resource;
beforeAll(async () => {
  world = await createWorld();
  await newProject(world, "fraud");
  await newProject(world, "other");
  caller = await world.member("fraud", "contributor");
  lab = new Lab(world, caller, "fraud");
  tx = await lab.dataset("tx", "rows");
});
afterAll(() => world[Symbol.asyncDispose]());

const planRequest = (plan: api.RunPlan, more: object = {}) =>
  create(api.PlanRunRequestSchema, { plan, project: "fraud", ...more });
const size = (): number => world.deps.log.index.watermark.size;
const decisionOf = (resource: Resource | undefined) =>
  resource?.body.case === "decision" ? resource.body.value : undefined;
const digestOf = (resource: Resource) =>
  resource.body.case === "datasetVersion" ? resource.body.value.contentDigest : "";

describe("planning", () => {
  it("records the plan with ids, the names that were asked for, and a preview", async () => {
    const lock = await lab.lock("py");
    const code = await lab.code();
    const done = await planRun(
      world.deps,
      caller,
      planRequest(lab.plan(["fraud/tx@v1"], { code: code.record, environmentLock: "fraud/py@v1" })),
    );
    expect(done.run).toMatchObject({ kind: "run", project: "fraud", status: "planned" });
    expect(done.run?.body.value).toMatchObject({
      inputs: [{ record: tx.record, requestedAs: "fraud/tx@v1", role: InputRole.TRAIN }],
    });
    expect(done.run?.links).toMatchObject([
      { rel: "code", to: code.record },
      { rel: "environment", to: lock.record },
      { rel: "input", to: tx.record },
    ]);
    expect(decisionOf(done.decision)).toMatchObject({ outcome: Outcome.ALLOW, preview: true, target: "run.start" });
    expect(done.decision?.links).toContainEqual(expect.objectContaining({ rel: "subject", to: done.run?.record }));
    expect(done.receipt).toMatchObject({ record: done.run?.record });
  });

  it("records the preview alone in a dry run", async () => {
    const before = size();
    const done = await planRun(world.deps, caller, planRequest(lab.plan(["fraud/tx@v1"]), { dryRun: true }));
    expect(done.run).toBeUndefined();
    expect(size()).toBe(before + 1);
    expect(decisionOf(done.decision)).toMatchObject({ outcome: Outcome.ALLOW, preview: true });
    expect(done.receipt).toMatchObject({ record: done.decision?.record });
  });

  it("compares what was read with what is recorded", async () => {
    const record = { record: "fraud/tx@v1", role: InputRole.TRAIN };
    const right = lab.plan([], {}, { inputs: [{ ...record, observedDigest: digestOf(tx) }] });
    expect((await planRun(world.deps, caller, planRequest(right))).run).toBeDefined();
    const wrong = lab.plan([], {}, { inputs: [{ ...record, observedDigest: sha("f") }] });
    await refused(() => planRun(world.deps, caller, planRequest(wrong)), "INPUT_MISMATCH");
  });

  it("puts inputs in order of record and role", async () => {
    const other = await lab.dataset("ty", "others");
    const inputs = [other.record, tx.record].flatMap((record) =>
      [InputRole.VALIDATION, InputRole.TRAIN].map((role) => ({ record, role })),
    );
    const done = await planRun(world.deps, caller, planRequest(lab.plan([], {}, { inputs })));
    const got = done.run?.body.case === "run" ? done.run.body.value.inputs : [];
    expect(got.map((i) => i.record)).toEqual([other.record, other.record, tx.record, tx.record].toSorted());
    expect(got.map((i) => i.role)).toEqual([
      InputRole.TRAIN,
      InputRole.VALIDATION,
      InputRole.TRAIN,
      InputRole.VALIDATION,
    ]);
  });

  it("keeps who started the CI job out of the record", async () => {
    const plan = lab.plan([], {}, { ci: { initiator: "ada@corp", provider: "gitlab" } });
    const { run } = await planRun(world.deps, caller, planRequest(plan));
    const reference = run?.body.case === "run" ? run.body.value.ci?.initiator : undefined;
    expect(reference).toMatch(/^personal:sha256:/);
    expect(await world.deps.personal.get(reference ?? "")).toBe("ada@corp");
  });

  it("answers a repeat, and refuses another plan under its id", async () => {
    const request = planRequest(lab.plan(["fraud/tx@v1"]), { requestId: "plan-1" });
    const first = await planRun(world.deps, caller, request);
    const before = size();
    const again = await planRun(world.deps, caller, request);
    expect(again.run?.record).toBe(first.run?.record);
    expect(size()).toBe(before);
    const other = planRequest(lab.plan([]), { requestId: "plan-1" });
    await refused(() => planRun(world.deps, caller, other), "REQUEST_ID_REUSED");
  });

  it("wants a running parent, known steps, and their needs done", async () => {
    const steps = [{ name: "clean" }, { name: "fit", needs: ["clean"] }];
    const unknown = lab.plan([], {}, { steps: [{ name: "fit", needs: ["clean"] }] });
    await refused(() => planRun(world.deps, caller, planRequest(unknown)), "STEP_UNKNOWN");
    const planned = (await planRun(world.deps, caller, planRequest(lab.plan([], {}, { steps })))).run?.record ?? "";
    const child = (parent: string, step: string) => planRequest(lab.plan([], { parent }, { step }));
    await refused(() => planRun(world.deps, caller, child(planned, "clean")), "PARENT_NOT_RUNNING");
    const parent = await lab.running(lab.plan([], {}, { steps }));
    await refused(() => planRun(world.deps, caller, child(parent.id, "deploy")), "STEP_UNKNOWN");
    await refused(() => planRun(world.deps, caller, child(parent.id, "fit")), "STEP_NOT_READY");
    const clean = await lab.running(lab.plan([], { parent: parent.id }, { step: "clean" }));
    await lab.finish(clean, 0);
    expect((await planRun(world.deps, caller, child(parent.id, "fit"))).run).toBeDefined();
  });

  it("tries again only what is over", async () => {
    const run = await lab.running();
    const retry = planRequest(lab.plan([], { retryOf: run.id }));
    await refused(() => planRun(world.deps, caller, retry), "RETRY_OF_ACTIVE");
    await lab.finish(run, 0, RunStatus.FAILED);
    expect((await planRun(world.deps, caller, retry)).run?.links).toContainEqual(
      expect.objectContaining({ rel: "retry_of", to: run.id }),
    );
  });
});

describe("starting", () => {
  it("starts a recorded plan, and answers its token once", async () => {
    const { run } = await planRun(world.deps, caller, planRequest(lab.plan()));
    const request = create(api.StartRunRequestSchema, {
      project: "fraud",
      requestId: "start-1",
      run: run?.record ?? "",
    });
    const first = await startRun(world.deps, caller, request);
    expect(first.run).toMatchObject({ record: run?.record, status: "running" });
    expect(first.start?.links).toMatchObject([
      { rel: "decision", to: first.decision?.record },
      { rel: "run", to: run?.record },
    ]);
    expect(decisionOf(first.decision)).toMatchObject({ outcome: Outcome.ALLOW, preview: false });
    expect(first.runToken).toMatch(/^dpr_/);
    expect(world.caller(first.runToken)).toMatchObject({ method: "run-token", run: run?.record });
    const before = size();
    const again = await startRun(world.deps, caller, request);
    expect(again).toMatchObject({ runToken: "", start: { record: first.start?.record } });
    expect(size()).toBe(before);
    const other = create(api.StartRunRequestSchema, { project: "fraud", run: run?.record ?? "" });
    await refused(() => startRun(world.deps, caller, other), "RUN_NOT_PLANNED");
  });

  it("plans and starts in one group", async () => {
    const before = size();
    const started = await lab.start(lab.plan(["fraud/tx@v1"]), "both-1");
    expect(size()).toBe(before + 3);
    expect(started.run).toMatchObject({ status: "running" });
    const again = await lab.start(lab.plan(["fraud/tx@v1"]), "both-1");
    expect(again).toMatchObject({
      run: { record: started.run?.record },
      runToken: "",
      start: { record: started.start?.record },
    });
    await refused(() => lab.start(lab.plan([]), "both-1"), "REQUEST_ID_REUSED");
  });

  it("writes nothing and answers no token when it only validates", async () => {
    const before = size();
    const plan = lab.plan();
    const done = await startRun(
      world.deps,
      caller,
      create(api.StartRunRequestSchema, { plan, project: "fraud", validateOnly: true }),
    );
    expect(done).toMatchObject({ runToken: "" });
    expect(size()).toBe(before);
  });

  it.each([
    [
      "all that is pinned",
      { imageDigest: sha("b"), lockfiles: [{ digest: sha("c"), path: "uv.lock" }], packagesDigest: sha("a") },
      1,
    ],
    [
      "something else",
      { imageDigest: sha("b"), lockfiles: [{ digest: sha("d"), path: "uv.lock" }], packagesDigest: sha("a") },
      2,
    ],
    ["less", { imageDigest: sha("b") }, 3],
  ])("compares the environment: %s", async (_, observed, match) => {
    await lab.lock("py");
    const plan = lab.plan([], { environmentLock: "fraud/py@v1" });
    const done = await startRun(
      world.deps,
      caller,
      create(api.StartRunRequestSchema, { observed, plan, project: "fraud" }),
    );
    const start = done.start?.body.case === "runStart" ? done.start.body.value : undefined;
    expect(start?.environmentMatch).toBe(match);
    expect(start?.differences.length).toBe(match === 2 ? 1 : 0);
  });

  it("does not start what another project planned", async () => {
    const stranger = await world.member("other", "contributor");
    const { run } = await planRun(world.deps, caller, planRequest(lab.plan()));
    const request = create(api.StartRunRequestSchema, { project: "other", run: run?.record ?? "" });
    await refused(() => startRun(world.deps, stranger, request), "NOT_FOUND");
  });
});

describe("a running run", () => {
  it("hears at its next heartbeat that it shall end", async () => {
    const run = await lab.running();
    const beat = create(api.HeartbeatRequestSchema, { project: "fraud", run: run.id });
    const before = size();
    expect(await heartbeat(world.deps, run.token, beat)).toMatchObject({ cancelRequested: false });
    await cancelRun(world.deps, caller, create(api.CancelRunRequestSchema, { project: "fraud", run: run.id }));
    expect(await heartbeat(world.deps, run.token, beat)).toMatchObject({ cancelRequested: true });
    expect(size()).toBe(before);
    await lab.finish(run, 0, RunStatus.CANCELED);
    const cancel = create(api.CancelRunRequestSchema, { project: "fraud", run: run.id });
    await refused(() => cancelRun(world.deps, caller, cancel), "RUN_NOT_RUNNING");
  });

  it("speaks for itself only", async () => {
    const [one, other] = [await lab.running(), await lab.running()];
    const beat = create(api.HeartbeatRequestSchema, { project: "fraud", run: other.id });
    await refused(() => heartbeat(world.deps, one.token, beat), "PERMISSION_DENIED");
    const ci = await world.member("fraud", "ci");
    const cancel = create(api.CancelRunRequestSchema, { project: "fraud", run: one.id });
    await refused(() => cancelRun(world.deps, ci, cancel), "PERMISSION_DENIED");
  });

  it("shows the last of each metric, by step and then by order, now and as of then", async () => {
    const run = await lab.running(lab.plan(["fraud/tx@v1"], {}, { params: [{ key: "lr", value: "0.1" }] }));
    await lab.batch(run, 0, {
      metrics: [
        { key: "auc", step: 2, value: 0.8 },
        { key: "auc", step: 1, value: 0.7 },
        { key: "auc", slice: "north", value: 0.5 },
      ],
      params: [{ key: "seed", value: "3" }],
    });
    const then = size();
    await lab.batch(run, 1, { metrics: [{ key: "auc", step: 2, value: 0.9 }] });
    await lab.finish(run, 2);
    const get = (asOf = 0) =>
      getRun(world.deps, caller, create(GetRequestSchema, { asOf, name: run.id, project: "fraud" }));
    const now = get();
    expect(now).toMatchObject({ run: { status: "succeeded" }, start: { kind: "run.start" }, treeSize: size() });
    expect(now.summary).toMatchObject({
      batches: 2,
      finish: { status: RunStatus.SUCCEEDED },
      metrics: [{ value: 0.9 }, { slice: "north", value: 0.5 }],
      params: [{ key: "lr" }, { key: "seed" }],
    });
    const past = get(then);
    expect(past).toMatchObject({ run: { status: "running" }, treeSize: then });
    expect(past.summary).toMatchObject({ batches: 1, metrics: [{ value: 0.8 }, { value: 0.5 }] });
    expect(past.summary?.finish).toBeUndefined();
    const history = listMetricHistory(
      world.deps,
      caller,
      create(api.ListMetricHistoryRequestSchema, { key: "auc", project: "fraud", run: run.id }),
    );
    expect(history.metrics.map((m) => m.value)).toEqual([0.8, 0.7, 0.5, 0.9]);
  });

  it("is compared with others by all that they have", async () => {
    const runs: string[] = [];
    for (const [lr, auc] of [
      ["0.1", 0.8],
      ["0.2", 0.9],
    ] as const) {
      const run = await lab.running(lab.plan(["fraud/tx@v1"], {}, { params: [{ key: "lr", value: lr }] }));
      await lab.batch(run, 0, { metrics: [{ key: "auc", value: auc }] });
      runs.push(run.id);
    }
    const compare = (of: readonly string[]) =>
      compareRuns(world.deps, caller, create(api.CompareRunsRequestSchema, { project: "fraud", runs: [...of] }));
    const { values } = compare(runs);
    expect(values).toContainEqual(
      expect.objectContaining({ differs: true, path: "metrics.auc", values: ["0.8", "0.9"] }),
    );
    expect(values).toContainEqual(
      expect.objectContaining({ differs: true, path: "params.lr", values: ['"0.1"', '"0.2"'] }),
    );
    expect(values.find((v) => v.path === "inputs.train")).toMatchObject({ differs: false });
    await refused(() => compare(Array.from({ length: 11 }, () => runs[0] ?? "")), "REQUEST_INVALID");
    const stranger = await world.member("other", "viewer");
    const asked = create(api.CompareRunsRequestSchema, { project: "fraud", runs });
    await refused(() => compareRuns(world.deps, stranger, asked), "NOT_FOUND");
  });
});

it("keeps the token's secret out of the ledger", async () => {
  const started = await lab.start(lab.plan());
  using reader = world.deps.log.index.reader();
  const bytes = reader.bytes(reader.indexOf(started.start?.record as RecordId) ?? -1);
  expect(new TextDecoder().decode(bytes)).not.toContain(started.runToken.slice(4));
});

it("revises experiments and environments for those who know the newest", async () => {
  const made = await createExperiment(
    world.deps,
    caller,
    create(api.CreateExperimentRequestSchema, { experiment: { name: "e" }, project: "fraud" }),
  );
  const etag = made.resource?.etag ?? "";
  const next = { etag, experiment: { description: "later", name: "e" }, project: "fraud" };
  const request = create(api.UpdateExperimentRequestSchema, next);
  const { resource } = await updateExperiment(world.deps, caller, request);
  expect(resource).toMatchObject({ body: { value: { description: "later" } }, record: made.resource?.record });
  await refused(() => updateExperiment(world.deps, caller, request), "ETAG_MISMATCH");
  await lab.lock("revised");
  const environment = { description: "pinned", name: "revised" };
  await refused(
    () =>
      updateEnvironment(
        world.deps,
        caller,
        create(api.UpdateEnvironmentRequestSchema, { environment, etag, project: "fraud" }),
      ),
    "ETAG_MISMATCH",
  );
});
