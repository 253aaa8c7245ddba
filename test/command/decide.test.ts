/** Decisions inside commands: what is refused, what waits, and what the owners of data say. */
import { create } from "@bufbuild/protobuf";
import { afterEach, describe, expect, it } from "vitest";
import { Custody } from "../../gen/ts/animus/datapilot/record/v1/data_pb.ts";
import { CreateRoleBindingRequestSchema } from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import { BatchGetDownloadUrlsRequestSchema } from "../../gen/ts/animus/datapilot/v1/artifact_pb.ts";
import {
  CreateDatasetRequestSchema,
  CreateDatasetVersionRequestSchema,
} from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import { parseAction } from "../../src/command/action.ts";
import { createDataset } from "../../src/command/create-dataset.ts";
import { createDatasetVersion } from "../../src/command/create-dataset-version.ts";
import { createRoleBinding } from "../../src/command/create-role-binding.ts";
import { batchGetDownloadUrls } from "../../src/command/get-download-urls.ts";
import type { JsonObject } from "../../src/record/json.ts";
import { accesses, createWorld, newProject, refused, type World } from "./world.ts";

let world: World | undefined;
afterEach(() => world?.[Symbol.asyncDispose]());

const policy = (target: string, require: string, more: JsonObject = {}): JsonObject => ({
  name: "p",
  target,
  rules: [{ id: "r", require, message: "not so", ...more }],
});
const approval = { quorum: 1, groups: ["governance"], meaning: "MEANING_APPROVED" };
const bind = (w: World, more: object) =>
  createRoleBinding(w.deps, w.admin, create(CreateRoleBindingRequestSchema, { project: "fraud", ...more }));

async function start(...policies: JsonObject[]): Promise<World> {
  world = await createWorld({ policies });
  await newProject(world, "fraud");
  return world;
}
const size = (w: World): number => w.deps.log.index.watermark.size;

describe("a refusal", () => {
  it("is an answer: the decision, without the effect", async () => {
    const w = await start(policy("role.binding.grant", 'input.request.role != "approver"'));
    const member = await w.member("fraud", "viewer");
    const request = { role: "approver", principal: member.principal, requestId: "deny-1" };
    const before = size(w);
    const answer = await bind(w, request);
    expect(answer.resource).toBeUndefined();
    expect(answer.decision?.body).toMatchObject({ case: "decision", value: { outcome: 3, preview: false } });
    expect(answer.receipt?.record).toBe(answer.decision?.record);
    expect(size(w)).toBe(before + 1);
    // A repeat answers the first refusal.
    const again = await bind(w, request);
    expect(again.decision?.record).toBe(answer.decision?.record);
    expect(size(w)).toBe(before + 1);
    await refused(() => bind(w, { ...request, role: "project-admin" }), "REQUEST_ID_REUSED");
  });

  it("is what a rule that cannot be evaluated comes to", async () => {
    const w = await start(policy("role.binding.grant", 'input.actor.claims["sub"] == "x"'));
    const answer = await bind(w, { role: "viewer", principal: w.admin.principal }).catch((e: unknown) => e);
    expect(answer).toMatchObject({ reason: "SELF_GRANT" });
    const principal = (await w.member("fraud")).principal;
    expect((await bind(w, { role: "viewer", principal })).decision?.body).toMatchObject({ value: { outcome: 4 } });
  });

  it("is not made where no policy is bound: that allows, and is recorded", async () => {
    const w = await start();
    const { principal } = await w.member("fraud");
    const { resource, decision } = await bind(w, { role: "viewer", principal });
    expect(resource?.kind).toBe("role.binding");
    expect(decision?.body).toMatchObject({ value: { outcome: 1 } });
  });
});

describe("a request for approval", () => {
  it("holds the action, its digests, and the end of its life", async () => {
    const w = await start(policy("role.binding.grant", "false", { otherwise: "OTHERWISE_REQUIRE_APPROVAL", approval }));
    const { principal } = await w.member("fraud");
    const { resource, decision, approvalRequest, receipt } = await bind(w, {
      role: "viewer",
      principal,
      requestId: "wait-1",
    });
    expect(resource).toBeUndefined();
    expect(receipt?.record).toBe(decision?.record);
    if (approvalRequest?.body.case !== "approvalRequest") return expect.fail("a request was expected");
    expect(approvalRequest.status).toBe("open");
    const { action, actionDigest, evidenceDigest, expiresAt, apply } = approvalRequest.body.value;
    expect(actionDigest).toMatch(/^[0-9a-f]{64}$/);
    expect(evidenceDigest).toMatch(/^[0-9a-f]{64}$/);
    expect(Date.parse(expiresAt)).toBe(w.clock.ms + 7 * 86_400_000);
    expect(apply).toBe(true);
    expect(parseAction(action as JsonObject)).toMatchObject({
      method: "CreateRoleBinding",
      request: { project: "fraud", role: "viewer", principal, requestId: "" },
    });
    // The same thing asked again, under another id, is the open request.
    const before = size(w);
    const again = await bind(w, { role: "viewer", principal });
    expect(again.approvalRequest?.record).toBe(approvalRequest.record);
    expect(again.decision?.record).toBe(decision?.record);
    expect(size(w)).toBe(before);
    // Until it expires.
    w.clock.ms += 7 * 86_400_000;
    expect((await bind(w, { role: "viewer", principal })).approvalRequest?.record).not.toBe(approvalRequest.record);
  });

  it("is found again by its request id", async () => {
    const w = await start(policy("role.binding.grant", "false", { otherwise: "OTHERWISE_REQUIRE_APPROVAL", approval }));
    const { principal } = await w.member("fraud");
    const request = { role: "viewer", principal, requestId: "wait-2" };
    const first = await bind(w, request);
    w.clock.ms += 60_000;
    const again = await bind(w, request);
    expect(again.approvalRequest?.record).toBe(first.approvalRequest?.record);
    expect(again.decision?.record).toBe(first.decision?.record);
  });
});

describe("downloads", () => {
  it("are decided only where a policy is bound, and then each", async () => {
    const w = await start();
    const member = await w.member("fraud", "contributor");
    const { record } = await w.artifact(member, "fraud", "x");
    const ask = create(BatchGetDownloadUrlsRequestSchema, { project: "fraud", artifacts: [record] });
    expect((await batchGetDownloadUrls(w.deps, member, ask)).receipt?.also).toEqual([]);
    await w[Symbol.asyncDispose]();
    const bound = await start(policy("artifact.download", 'input.actor.type == "human"'));
    const service = await bound.member("fraud", "contributor");
    const held = await bound.artifact(service, "fraud", "x");
    const before = accesses(bound).length;
    const fault = await refused(
      () => batchGetDownloadUrls(bound.deps, service, { ...ask, artifacts: [held.record] }),
      "POLICY_DENIED",
    );
    expect(fault.metadata["decision"]).toMatch(/^sha256:/);
    expect(accesses(bound)).toHaveLength(before);
  });
});

describe("the use of data across projects", () => {
  it("is judged by its owner, where the decision is recorded too", async () => {
    const w = await start(policy("dataset.version.use", 'input.project.name != "secret"'));
    await newProject(w, "secret");
    await newProject(w, "public");
    const member = await w.member("fraud", "contributor");
    const files = [{ path: "a", digest: `sha256:${"1".repeat(64)}`, sizeBytes: 1, uri: "s3://elsewhere/a" }];
    const version = { custody: Custody.EXTERNAL, files };
    for (const project of ["secret", "public", "fraud"]) {
      await w.bind(project, "contributor", member);
      const made = create(CreateDatasetRequestSchema, { project, dataset: { name: "rows" } });
      await createDataset(w.deps, member, made);
    }
    const register = (project: string, derivedFrom: string[]) =>
      createDatasetVersion(
        w.deps,
        member,
        create(CreateDatasetVersionRequestSchema, { project, dataset: "rows", version, derivedFrom }),
      );
    await register("secret", []);
    await register("public", []);
    const denied = await register("fraud", ["secret/rows@v1"]);
    expect(denied.resource).toBeUndefined();
    expect(denied.decision).toMatchObject({ project: "secret", body: { value: { target: "dataset.version.use" } } });
    const allowed = await register("fraud", ["public/rows@v1"]);
    expect(allowed.resource?.name).toBe("projects/fraud/datasets/rows/versions/1");
    expect(allowed.also).toMatchObject([{ project: "public", kind: "decision" }]);
  });
});
