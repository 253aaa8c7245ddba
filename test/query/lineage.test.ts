/** Lineage as a caller sees it: walks, what is withheld, paths, differences, impact. */
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, it } from "vitest";
import * as api from "../../gen/ts/animus/datapilot/v1/lineage_pb.ts";
import type { Caller } from "../../src/identity/caller.ts";
import { diffClosures, findPaths, getImpact, traverse } from "../../src/query/lineage.ts";
import type { RecordId } from "../../src/std/brand.ts";
import { Lab } from "../command/lab.ts";
import { createWorld, moveStatus, newProject, refused, type World } from "../command/world.ts";

let world: World;
let fraud: Lab;
let caller: Caller;
let outsider: Caller;
const ids = { raw: "", clean: "", run: "", model: "", foreign: "" };

beforeAll(async () => {
  world = await createWorld();
  await newProject(world, "fraud");
  await newProject(world, "shared");
  caller = await world.member("fraud", "contributor");
  await world.bind("shared", "contributor", caller);
  outsider = await world.member("fraud", "viewer");
  fraud = new Lab(world, caller, "fraud");
  ids.foreign = (await new Lab(world, caller, "shared").dataset("codes", "codes")).record;
  ids.raw = (await fraud.dataset("raw", "raw rows", [ids.foreign])).record;
  ids.clean = (await fraud.dataset("clean", "clean rows", [ids.raw])).record;
  const run = await fraud.running(fraud.plan(["fraud/clean@v1"]));
  ids.run = run.id;
  const file = await fraud.output(run, "weights");
  await fraud.finish(run, 1);
  await fraud.model("scorer");
  ids.model = (await fraud.version("scorer", [file], [run.id])).resource?.record ?? "";
});
afterAll(() => world[Symbol.asyncDispose]());

type Ask = Partial<Omit<api.TraverseRequest, "$typeName">>;

async function walked(
  walk: typeof traverse,
  who: Caller,
  roots: readonly string[],
  more: Ask = {},
): Promise<{ nodes: api.LineageNode[]; edges: api.LineageEdge[]; truncated: boolean; sizes: number[] }> {
  const nodes: api.LineageNode[] = [];
  const edges: api.LineageEdge[] = [];
  const sizes: number[] = [];
  let truncated = false;
  const request = create(api.TraverseRequestSchema, { project: "fraud", roots: [...roots], ...more });
  for await (const page of walk(world.deps, who, request)) {
    nodes.push(...page.nodes);
    edges.push(...page.edges);
    sizes.push(page.treeSize);
    ({ truncated } = page);
  }
  return { edges, nodes, sizes, truncated };
}

it("walks up to everything that a model rests on, nearest first", async () => {
  const up = await walked(traverse, caller, ["fraud/scorer@v1"], { direction: api.Direction.UP });
  const at = (id: string) => up.nodes.find((n) => n.record === id);
  expect(up.nodes[0]).toMatchObject({
    depth: 0,
    kind: "model.version",
    name: "projects/fraud/models/scorer/versions/1",
  });
  expect(at(ids.run)).toMatchObject({ depth: 1, status: "succeeded" });
  expect(at(ids.clean)).toMatchObject({ depth: 2 });
  expect(at(ids.foreign)).toMatchObject({ depth: 4, project: "shared", withheld: false });
  expect(up.nodes.map((n) => n.depth)).toEqual(up.nodes.map((n) => n.depth).toSorted((a, b) => a - b));
  expect(up.edges).toContainEqual(
    expect.objectContaining({ rel: "input", source: at(ids.run)?.logIndex, target: at(ids.clean)?.logIndex }),
  );
  expect(new Set(up.sizes)).toEqual(new Set([world.deps.log.index.watermark.size]));
});

it("answers the kinds that are asked for, and walks all", async () => {
  const down = await walked(traverse, caller, ["fraud/raw@v1"], {
    direction: api.Direction.DOWN,
    kinds: ["model.version"],
  });
  expect(down.nodes.map((n) => n.record)).toEqual([ids.model]);
});

it("says that something is withheld, and nothing of what it is", async () => {
  const up = await walked(traverse, outsider, ["fraud/scorer@v1"], { direction: api.Direction.UP });
  const hidden = up.nodes.filter((n) => n.withheld);
  expect(hidden).toMatchObject([{ depth: 4, kind: "", name: "", project: "", record: ids.foreign, status: "" }]);
  expect(JSON.stringify(up.nodes)).not.toContain("codes");
  await refused(() => walked(traverse, outsider, ["shared/codes@v1"]), "NOT_FOUND");
});

it("stops at a depth, at a limit, and answers for a smaller tree", async () => {
  const near = await walked(traverse, caller, ["fraud/scorer@v1"], { depth: 1 });
  expect(Math.max(...near.nodes.map((n) => n.depth))).toBe(1);
  const few = await walked(traverse, caller, ["fraud/scorer@v1"], { limit: 2 });
  expect(few).toMatchObject({ truncated: true });
  expect(few.nodes.length).toBe(2);
  using reader = world.deps.log.index.reader();
  const asOf = (reader.indexOf(ids.model as RecordId) ?? 0) as number;
  const past = await walked(traverse, caller, ["fraud/clean@v1"], { asOf, direction: api.Direction.DOWN });
  expect(past.nodes.some((n) => n.record === ids.model)).toBe(false);
  await refused(() => walked(traverse, caller, ["fraud/clean@v1"], { asOf: 4_000_000 }), "AS_OF_AHEAD");
});

it("finds the path from a model to its data", () => {
  const request = create(api.FindPathsRequestSchema, { from: "fraud/scorer@v1", project: "fraud", to: "fraud/raw@v1" });
  const { paths } = findPaths(world.deps, caller, request);
  expect(paths[0]?.nodes.map((n) => n.record)).toEqual([ids.model, ids.run, ids.clean, ids.raw]);
  expect(paths[0]?.edges.map((e) => e.rel)).toEqual(["produced_by", "input", "derived_from"]);
});

it("says what is upstream of one only", () => {
  const request = create(api.DiffClosuresRequestSchema, {
    kinds: ["dataset.version"],
    left: "fraud/scorer@v1",
    project: "fraud",
    right: "fraud/raw@v1",
  });
  const difference = diffClosures(world.deps, caller, request);
  expect(difference.onlyLeft).toMatchObject([{ depth: 2, record: ids.clean }]);
  expect(difference.onlyRight).toEqual([]);
  expect(difference.common).toBeGreaterThan(1);
});

it("shows as impact what is relied on downstream", async () => {
  expect((await walked(getImpact, caller, ["fraud/raw@v1"])).nodes).toEqual([]);
  await moveStatus(world, ids.model as RecordId, "draft", "validated");
  const impact = await walked(getImpact, caller, ["fraud/raw@v1"]);
  expect(impact.nodes).toMatchObject([{ record: ids.model, status: "validated", tainted: false }]);
});

it("counts what an alias points at as relied on", async () => {
  using reader = world.deps.log.index.reader();
  const row = reader.get("entity", ids.clean)?.value;
  const draft = {
    actor: { method: "system" } as const,
    body: { entity: row?.parent ?? "", name: "latest" },
    kind: "alias" as const,
    links: [{ rel: "target", to: ids.clean as RecordId }],
    project: row?.project as RecordId,
    requestId: "alias-1",
  };
  await world.deps.log.submit({ admit: () => ({ drafts: [draft], value: undefined }), project: draft.project });
  const impact = await walked(getImpact, caller, ["fraud/raw@v1"], { kinds: ["dataset.version"] });
  expect(impact.nodes.map((n) => n.record)).toEqual([ids.clean]);
});

it("begins at all data with fields of a class", async () => {
  const person = { classes: ["pii"], name: "email", type: "string" };
  const deep = { children: [person], name: "who", type: "struct" };
  const schema = await fraud.schema("people", [{ name: "id", type: "int64" }, deep]);
  const plain = await fraud.schema("codes", [{ classes: ["key"], name: "id", type: "int64" }]);
  const people = await fraud.dataset("people", "people", [], schema.record);
  await fraud.dataset("zip", "zip codes", [], plain.record);
  const kept = await fraud.dataset("segments", "segments", [people.record]);
  const ask: Ask = { classes: ["pii"], direction: api.Direction.DOWN, kinds: ["dataset.version"] };
  const { nodes } = await walked(traverse, caller, [], ask);
  expect(nodes.map((n) => n.record)).toEqual([people.record, kept.record]);
  expect((await walked(traverse, caller, [], { ...ask, classes: ["pci"] })).nodes).toEqual([]);
  await refused(() => walked(traverse, outsider, [], { ...ask, project: "shared" }), "NOT_FOUND");
  await refused(() => walked(traverse, caller, [], { ...ask, classes: [] }), "REQUEST_INVALID");
});
