/** Statuses move along their machines, aliases along versions, and nothing moves on grounds that policies refuse. */
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, it } from "vitest";
import { RunStatus } from "../../gen/ts/animus/datapilot/record/v1/execution_pb.ts";
import { Severity } from "../../gen/ts/animus/datapilot/record/v1/governance_pb.ts";
import { ListRequestSchema, type Resource } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { SetAliasRequestSchema, TransitionRequestSchema } from "../../gen/ts/animus/datapilot/v1/status_pb.ts";
import { setAlias } from "../../src/command/set-alias.ts";
import { transition } from "../../src/command/transition.ts";
import type { Caller } from "../../src/identity/caller.ts";
import { listAliases } from "../../src/query/aliases.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { Lab } from "./lab.ts";
import { createWorld, newProject, refused, type World } from "./world.ts";

let world: World;
let lab: Lab;
let steward: Caller;

beforeAll(async () => {
  world = await createWorld();
  await newProject(world, "fraud");
  lab = new Lab(world, await world.member("fraud", "contributor"), "fraud");
  steward = await world.member("fraud", "steward");
});
afterAll(() => world[Symbol.asyncDispose]());

const move = (
  caller: Caller,
  name: string,
  to: string,
  more: { severity?: Severity; project?: string; requestId?: string; reason?: string } = {},
) =>
  transition(
    world.deps,
    caller,
    create(TransitionRequestSchema, { name, project: "fraud", reason: "a test", to, ...more }),
  );

it("moves a dataset version along its machine", async () => {
  const v = await lab.dataset("moves", "a");
  const denied = await refused(() => move(lab.caller, v.record, "approved"), "PERMISSION_DENIED");
  expect(denied.metadata["permission"]).toBe("data.transition");
  const wrong = await refused(() => move(steward, v.record, "deprecated"), "TRANSITION_NOT_ALLOWED");
  expect(wrong.metadata["allowed"]).toBe("approved,revoked");
  const done = await move(steward, v.record, "approved");
  expect(done.resource?.kind).toBe("transition");
  expect(done.decision?.kind).toBe("decision");
  const links = assertDefined(done.resource, "a transition").links;
  expect(links.find((l) => l.rel === "decision")?.to).toBe(done.decision?.record);
  const again = await move(steward, "moves@v1", "approved");
  expect(again.resource?.record).toBe(done.resource?.record);
  expect(again.receipt?.existing).toBe(true);
  await move(steward, v.record, "deprecated");
  await refused(() => move(steward, v.record, "revoked"), "REQUEST_INVALID");
  await refused(() => move(steward, v.record, "approved", { severity: Severity.INFORMS }), "REQUEST_INVALID");
  await refused(() => move(steward, v.record, "approved", { reason: "" }), "REQUEST_INVALID");
  await move(steward, v.record, "revoked", { severity: Severity.INVALIDATES });
  const over = await refused(() => move(steward, v.record, "approved"), "TRANSITION_NOT_ALLOWED");
  expect(over.message).toContain("no more");
});

it("answers a repeat as before", async () => {
  const v = await lab.dataset("repeats", "r");
  const first = await move(steward, v.record, "approved", { requestId: "approve-it" });
  const repeat = await move(steward, v.record, "approved", { requestId: "approve-it" });
  expect(repeat.resource?.record).toBe(first.resource?.record);
  await refused(
    () => move(steward, v.record, "revoked", { requestId: "approve-it", severity: Severity.INFORMS }),
    "REQUEST_ID_REUSED",
  );
});

async function modelVersion(
  name: string,
  status?: RunStatus,
): Promise<{ version: Resource; readonly finish: () => Promise<unknown> }> {
  await lab.model(name);
  const run = await lab.running();
  const file = await lab.output(run, `${name} weights`);
  const made = await lab.version(name, [file], [run.id]);
  if (status !== undefined) await lab.finish(run, 1, status);
  return { finish: () => lab.finish(run, 1), version: assertDefined(made.resource, "a version") };
}

it("lets a model leave its draft when its runs succeeded", async () => {
  const { finish, version } = await modelVersion("scorer");
  const early = await refused(() => move(lab.caller, version.record, "validated"), "RUN_NOT_SUCCEEDED");
  expect(early.metadata["status"]).toBe("running");
  await finish();
  await refused(() => move(lab.caller, version.record, "approved"), "TRANSITION_NOT_ALLOWED");
  await move(lab.caller, version.record, "validated");
  await move(lab.caller, version.record, "approved");
});

it("revokes a model whose run failed", async () => {
  const { version } = await modelVersion("failed", RunStatus.FAILED);
  await refused(() => move(lab.caller, version.record, "validated"), "RUN_NOT_SUCCEEDED");
  await move(lab.caller, version.record, "revoked", { severity: Severity.INFORMS });
});

it("moves aliases and keeps what they named", async () => {
  const one = await modelVersion("named", RunStatus.SUCCEEDED);
  const run = await lab.running();
  const file = await lab.output(run, "second weights");
  const two = assertDefined((await lab.version("named", [file], [run.id])).resource, "a version");
  const set = (alias: string, target: string) =>
    setAlias(world.deps, lab.caller, create(SetAliasRequestSchema, { alias, project: "fraud", target }));
  for (const alias of ["v7", "7", "latest"]) await refused(() => set(alias, two.record), "ALIAS_RESERVED");
  const first = await set("production", one.version.record);
  const same = await set("production", "named@v1");
  expect(same.resource?.record).toBe(first.resource?.record);
  const second = await set("production", two.record);
  const links = assertDefined(second.resource, "an alias").links;
  expect(links.find((l) => l.rel === "previous")?.to).toBe(first.resource?.record);
  expect(links.find((l) => l.rel === "decision")?.to).toBe(second.decision?.record);
  const list = (filter: string) =>
    listAliases(
      world.deps,
      lab.caller,
      create(ListRequestSchema, { filter, parent: "named", project: "fraud" }),
    ).resources.map((r) => r.record);
  expect(list("")).toEqual([second.resource?.record]);
  expect(list("history = true")).toEqual([first.resource?.record, second.resource?.record]);
});

it("sees a run that starts while a project is being archived", async () => {
  await newProject(world, "busy");
  const other = new Lab(world, await world.member("busy", "contributor"), "busy");
  // Both are admitted before either is committed.
  const starting = other.running();
  const [started, archived] = await Promise.allSettled([
    starting,
    move(world.admin, "projects/busy", "archived", { project: "busy" }),
  ]);
  expect([started.status, archived.status].toSorted()).toEqual(["fulfilled", "rejected"]);
  const { reason } = (started.status === "rejected" ? started : archived) as PromiseRejectedResult;
  expect((reason as { reason: string }).reason).toBe(
    started.status === "rejected" ? "PROJECT_ARCHIVED" : "RUNS_ACTIVE",
  );
});

it("archives a project without runs, and keeps an administrator", async () => {
  await newProject(world, "old");
  const other = new Lab(world, await world.member("old", "contributor"), "old");
  const run = await other.running();
  const archive = (to: string) => move(world.admin, "projects/old", to, { project: "old" });
  await refused(() => archive("archived"), "RUNS_ACTIVE");
  await other.finish(run, 0);
  await archive("archived");
  await refused(() => other.dataset("late", "x"), "PROJECT_ARCHIVED");
  await archive("active");
  using reader = world.deps.log.index.reader();
  const project = assertDefined(reader.get("name", "-/project/old"), "the project").value.id;
  const bindings = assertDefined(reader.get("bindings", project), "bindings").value.bindings;
  const admin = assertDefined(
    bindings.find((b) => b.role === "project-admin"),
    "an administrator",
  ).id;
  const worker = assertDefined(
    bindings.find((b) => b.role === "contributor"),
    "a contributor",
  ).id;
  await refused(() => move(world.admin, admin, "revoked", { project: "old" }), "NO_ADMIN");
  await move(world.admin, worker, "revoked", { project: "old" });
  await refused(() => other.dataset("gone", "x"), "NOT_FOUND");
  await refused(() => move(world.admin, "principals/root", "disabled", { project: "_ledger" }), "NO_ADMIN");
});

it("revokes tokens and disables principals", async () => {
  const leaving = await world.member("fraud", "viewer");
  await move(world.admin, leaving.token, "revoked", { project: "_ledger" });
  await refused(
    () => move(world.admin, `principals/${leaving.name}`, "archived", { project: "" }),
    "TRANSITION_NOT_ALLOWED",
  );
  await move(world.admin, `principals/${leaving.name}`, "disabled", { project: "" });
  await move(world.admin, `principals/${leaving.name}`, "active", { project: "_ledger" });
});
