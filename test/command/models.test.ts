/** Versions of models: where they come from, what they consist of, how they differ. */
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, it } from "vitest";
import { RunStatus } from "../../gen/ts/animus/datapilot/record/v1/execution_pb.ts";
import { CompareRequestSchema } from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import type { Caller } from "../../src/identity/caller.ts";
import { compareDatasetVersions } from "../../src/query/compare-dataset-versions.ts";
import { compareLocks } from "../../src/query/compare-locks.ts";
import { compareModelVersions } from "../../src/query/compare-model-versions.ts";
import { compareSchemas } from "../../src/query/compare-schemas.ts";
import { Lab, sha } from "./lab.ts";
import { createWorld, newProject, refused, type World } from "./world.ts";

let world: World;
let lab: Lab;
let caller: Caller;
beforeAll(async () => {
  world = await createWorld();
  await newProject(world, "fraud");
  caller = await world.member("fraud", "contributor");
  lab = new Lab(world, caller, "fraud");
  await lab.model("scorer");
  await lab.dataset("tx", "rows");
});
afterAll(() => world[Symbol.asyncDispose]());

it("registers what a run put out", async () => {
  const run = await lab.running(lab.plan(["fraud/tx@v1"]));
  const file = await lab.output(run, "weights");
  await lab.finish(run, 1);
  const made = await lab.version("scorer", [file], [run.id]);
  expect(made.resource).toMatchObject({ name: "projects/fraud/models/scorer/versions/1", ordinal: 1, status: "draft" });
  expect(made.resource?.body.value).toMatchObject({ contentDigest: expect.stringMatching(/^sha256:/), files: [file] });
  expect(made.resource?.links.map((l) => l.rel)).toEqual(["content", "model", "produced_by"]);
  const again = await lab.version("scorer", [file], [run.id]);
  expect(again.receipt).toMatchObject({ existing: true, record: made.resource?.record });
});

it("registers nothing of unknown or other origin", async () => {
  const run = await lab.running();
  const file = await lab.output(run, "weights of a run");
  await refused(() => lab.version("scorer", [file], []), "PROVENANCE_REQUIRED");
  const foreign = { ...(await world.artifact(caller, "fraud", "from somewhere")), path: "model.json" };
  await refused(() => lab.version("scorer", [foreign], [run.id]), "OUTPUT_NOT_FROM_RUN");
  await lab.batch(run, 1, { files: [{ assurance: 2, digest: sha("e"), path: "lost.bin", role: 1, sizeBytes: 3 }] });
  const absent = { digest: sha("e"), path: "lost.bin", sizeBytes: 3 };
  await refused(() => lab.version("scorer", [absent], [run.id]), "ARTIFACT_NOT_FOUND");
  await lab.finish(run, 2, RunStatus.FAILED);
  await refused(() => lab.version("scorer", [file], [run.id]), "RUN_NOT_SUCCEEDED");
});

it("lets a run's token register for its own run only", async () => {
  const [one, other] = [await lab.running(), await lab.running()];
  const file = await lab.output(one, "own weights");
  const foreign = await lab.output(other, "weights of another");
  expect((await lab.version("scorer", [file], [one.id], {}, one.token)).resource).toBeDefined();
  await refused(() => lab.version("scorer", [foreign], [other.id], {}, one.token), "PERMISSION_DENIED");
});

it("says why two versions differ", async () => {
  const made: string[] = [];
  for (const lr of ["0.1", "0.2"]) {
    const run = await lab.running(lab.plan(["fraud/tx@v1"], {}, { params: [{ key: "lr", value: lr }] }));
    const file = await lab.output(run, `weights for ${lr}`);
    await lab.batch(run, 1, { metrics: [{ key: "auc", value: Number(lr) }] });
    made.push((await lab.version("scorer", [file], [run.id])).resource?.record ?? "");
  }
  const [left = "", right = ""] = made;
  const request = create(CompareRequestSchema, { left, project: "fraud", right });
  const { differences, treeSize } = compareModelVersions(world.deps, caller, request);
  expect(treeSize).toBe(world.deps.log.index.watermark.size);
  expect(differences.map((d) => d.path)).toEqual(["files.model.json", "metrics.auc", "params.lr", "runs"]);
  expect(differences.find((d) => d.path === "params.lr")).toMatchObject({ left: '"0.1"', right: '"0.2"' });
});

it("says how two schemas and two locks differ", async () => {
  await lab.schema("old", [
    { name: "id", type: "int64" },
    { name: "gone", type: "bool" },
  ]);
  await lab.schema("new", [{ classes: ["key"], name: "id", type: "int64" }]);
  const schemas = create(CompareRequestSchema, { left: "fraud/old", project: "fraud", right: "fraud/new" });
  expect(compareSchemas(world.deps, caller, schemas).fields).toMatchObject([
    { path: "gone", right: "" },
    { left: '{"classes":[],"nullable":false,"type":"int64"}', path: "id" },
  ]);
  const [left, right] = [await lab.lock("py"), await lab.lock("py2", `sha256:${"d".repeat(64)}`)];
  const locks = create(CompareRequestSchema, { left: left.record, project: "fraud", right: right.record });
  expect(compareLocks(world.deps, caller, locks).differences).toMatchObject([
    { path: "packages_digest", right: `"sha256:${"d".repeat(64)}"` },
  ]);
  await refused(() => compareLocks(world.deps, caller, { ...locks, right: "fraud/new" }), "NOT_FOUND");
});

it("says how two versions of data differ", async () => {
  await lab.dataset("tx", "more rows");
  const request = create(CompareRequestSchema, { left: "fraud/tx@v1", project: "fraud", right: "fraud/tx@v2" });
  expect(compareDatasetVersions(world.deps, caller, request)).toMatchObject({
    fields: [],
    files: [{ path: "rows.jsonl" }],
    statistics: [{ left: "4", path: "rows", right: "9" }],
  });
});
