/** Get and list, now and then. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  CreateDatasetRequestSchema,
  CreateSchemaRequestSchema,
  UpdateDatasetRequestSchema,
} from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import { GetRequestSchema, ListRequestSchema } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { recorded } from "../../src/command/ask.ts";
import { createDataset, updateDataset } from "../../src/command/create-dataset.ts";
import { createSchema } from "../../src/command/create-schema.ts";
import type { Caller } from "../../src/identity/caller.ts";
import { parseFilter } from "../../src/query/filter.ts";
import { getResource, type Wanted } from "../../src/query/get.ts";
import { type Listed, listResources } from "../../src/query/list.ts";
import { formatPageToken, parsePageToken, questionOf } from "../../src/query/page-token.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { formatBase64Url, utf8 } from "../../src/std/bytes.ts";
import { accesses, createWorld, newProject, refused, type World } from "./world.ts";

let world: World;
let writer: Caller;
let stranger: Caller;
const DATASETS: Wanted & Listed = { kinds: ["dataset"], collection: "datasets" };
beforeAll(async () => {
  world = await createWorld();
  await newProject(world, "fraud");
  await newProject(world, "other");
  writer = await world.member("fraud", "contributor");
  stranger = await world.member("other", "viewer");
  for (let i = 0; i < 7; i++) await make(`set-${i}`);
});
afterAll(() => world[Symbol.asyncDispose]());

const make = async (name: string) =>
  assertDefined(
    (
      await createDataset(
        world.deps,
        writer,
        create(CreateDatasetRequestSchema, { project: "fraud", dataset: { name } }),
      )
    ).resource,
    "a dataset",
  );
const get = (name: string, more: MessageInitShape<typeof GetRequestSchema> = {}, wanted = DATASETS, caller = writer) =>
  getResource(world.deps, caller, create(GetRequestSchema, { name, project: "fraud", ...more }), wanted);
const list = (more: MessageInitShape<typeof ListRequestSchema> = {}, listed: Listed = DATASETS, caller = writer) =>
  listResources(world.deps, caller, create(ListRequestSchema, { project: "fraud", ...more }), listed);

describe("get", () => {
  it("finds by every form of a name", async () => {
    const { record } = await make("found");
    for (const name of [record, "found", "fraud/found", "projects/fraud/datasets/found"]) {
      expect(get(name).resource?.record).toBe(record);
    }
    expect(get("projects/fraud", {}, { kinds: ["project"] }).resource?.kind).toBe("project");
    expect(get("fraud", {}, { kinds: ["project"] }).resource?.name).toBe("projects/fraud");
    expect(get("root", {}, { kinds: ["principal"] }).resource?.name).toBe("principals/root");
  });

  it("finds by the names that it answers", async () => {
    const { resource } = await createSchema(
      world.deps,
      writer,
      create(CreateSchemaRequestSchema, {
        project: "fraud",
        schema: { name: "s", fields: [{ name: "a", type: "bool" }] },
      }),
    );
    const schemas = { kinds: ["schema"], collection: "schemas" };
    expect(get(resource?.name ?? "", {}, schemas).resource?.record).toBe(resource?.record);
    expect(get("s", {}, schemas).resource?.record).toBe(resource?.record);
    const token = list({ project: "" }, { kinds: ["token"], project: "_ledger" }).resources[0];
    expect(get(token?.name ?? "", {}, { kinds: ["token"] }).resource?.record).toBe(token?.record);
  });

  it("answers the past", async () => {
    const before = world.deps.log.index.watermark.size;
    const { etag, record } = await make("aged");
    const made = world.deps.log.index.watermark.size;
    await updateDataset(
      world.deps,
      writer,
      create(UpdateDatasetRequestSchema, { project: "fraud", dataset: { name: "aged", license: "MIT" }, etag }),
    );
    await refused(() => get("aged", { asOf: before }), "NOT_FOUND");
    expect(get("aged", { asOf: made })).toMatchObject({ treeSize: made, resource: { record, etag } });
    expect(get("aged").resource?.body).toMatchObject({ value: { license: "MIT" } });
  });

  it("answers no tree that is not here", async () => {
    const { size } = world.deps.log.index.watermark;
    await refused(() => get("set-0", { asOf: size + 1 }), "AS_OF_AHEAD");
    await refused(() => get("set-0", { minTreeSize: size + 1 }), "AS_OF_AHEAD");
    expect(get("set-0", { minTreeSize: size }).treeSize).toBe(size);
  });

  it("answers only what the caller may see", async () => {
    const { record } = get("set-0").resource ?? {};
    for (const name of [record ?? "", "fraud/set-0"]) {
      await refused(() => get(name, {}, DATASETS, stranger), "NOT_FOUND");
    }
    const before = accesses(world).length;
    await refused(
      () =>
        recorded(world.deps, stranger, { project: "fraud", permission: "read" }, () =>
          get("set-0", {}, DATASETS, stranger),
        ),
      "NOT_FOUND",
    );
    expect(accesses(world).slice(before)).toMatchObject([{ reason: "PERMISSION_DENIED", permission: "read" }]);
  });

  it("says when it is something else, and when it is nothing", async () => {
    await refused(() => get("set-0", {}, { kinds: ["model"] }), "REQUEST_INVALID");
    await refused(() => get("nothing"), "NOT_FOUND");
    await refused(() => get(`sha256:${"0".repeat(64)}`), "NOT_FOUND");
    for (const name of ["", "a b", "fraud/x/y", "../x", "projects/fraud/datasets/x/versions/0", "x@", "SHA256:00"]) {
      await refused(() => get(name), "REQUEST_INVALID");
    }
  });

  it("shows access records to who may audit", async () => {
    await refused(() => get("fraud/nothing", {}, DATASETS, stranger), "NOT_FOUND");
    using reader = world.deps.log.index.reader();
    const fraud = assertDefined(reader.get("name", "-/project/fraud"), "fraud").value.id;
    const [index] = reader.list({ kinds: ["access"], project: fraud, limit: 1 });
    const record = assertDefined(reader.entry(index ?? 0), "an access record").record;
    await refused(() => get(record, {}, { kinds: ["access"] }), "PERMISSION_DENIED");
    expect(get(record, {}, { kinds: ["access"] }, world.admin).resource?.kind).toBe("access");
    await refused(() => list({}, { kinds: ["access"] }), "PERMISSION_DENIED");
    expect(list({}, { kinds: ["access"] }, world.admin).resources.length).toBeGreaterThan(0);
  });
});

describe("list", () => {
  const walk = (more: MessageInitShape<typeof ListRequestSchema>, between?: () => Promise<unknown>) =>
    (async () => {
      const names: string[] = [];
      const sizes = new Set<number>();
      let pageToken = "";
      do {
        const page = list({ pageSize: 3, ...more, pageToken });
        names.push(...page.resources.map((r) => r.name.slice("projects/fraud/datasets/".length)));
        sizes.add(page.treeSize);
        pageToken = page.nextPageToken;
        await between?.();
      } while (pageToken !== "");
      return { names, sizes };
    })();

  it("gives each once, in log order, either way", async () => {
    const { names } = await walk({});
    expect(names.slice(0, 7)).toEqual(["set-0", "set-1", "set-2", "set-3", "set-4", "set-5", "set-6"]);
    expect(new Set(names).size).toBe(names.length);
    expect((await walk({ orderBy: "log_index desc" })).names).toEqual(names.toReversed());
  });

  it("answers for one tree whatever is appended meanwhile", async () => {
    let n = 0;
    const expected = (await walk({})).names;
    const { names, sizes } = await walk({}, () => make(`late-${n++}`));
    expect(names).toEqual(expected);
    expect(sizes.size).toBe(1);
  });

  it("answers the past", async () => {
    const size = list({ pageSize: 1 }).treeSize;
    await make("after");
    expect((await walk({ asOf: size })).names).not.toContain("after");
    expect((await walk({})).names).toContain("after");
  });

  it("keeps what the filter says", async () => {
    expect((await walk({ filter: 'name = "set-3"' })).names).toEqual(["set-3"]);
    expect((await walk({ filter: "name = set-3 AND status = approved" })).names).toEqual([]);
  });

  it("shows each dataset once, however often it was revised", async () => {
    const { etag } = await make("revised");
    await updateDataset(
      world.deps,
      writer,
      create(UpdateDatasetRequestSchema, { project: "fraud", dataset: { name: "revised", license: "MIT" }, etag }),
    );
    const found = list({ pageSize: 1_000, filter: "name = revised" }).resources;
    expect(found).toMatchObject([{ body: { value: { license: "MIT" } } }]);
  });

  it("shows projects where they may be read", () => {
    const projects = { kinds: ["project"], everywhere: true };
    const names = (caller: Caller) => list({ project: "" }, projects, caller).resources.map((r) => r.name);
    expect(names(writer)).toEqual(["projects/fraud"]);
    expect(names(stranger)).toEqual(["projects/other"]);
    expect(names(world.admin)).toEqual(["projects/_system", "projects/fraud", "projects/other"]);
  });

  it("answers who may read the project", async () => {
    await refused(() => list({}, DATASETS, stranger), "NOT_FOUND");
    await refused(() => list({ project: "nothing" }), "NOT_FOUND");
  });

  it("takes no page, order, filter or token that it does not know", async () => {
    await refused(() => list({ pageSize: 1_001 }), "LIMIT_EXCEEDED");
    await refused(() => list({ orderBy: "name" }), "REQUEST_INVALID");
    await refused(() => list({ parent: "set-0" }), "REQUEST_INVALID");
    const token = list({ pageSize: 1 }).nextPageToken;
    expect(token).not.toBe("");
    await refused(() => list({ pageToken: token, filter: "name = set-3" }), "REQUEST_INVALID");
    for (const filter of [
      "a",
      "status=",
      "status = a OR name = b",
      "status = a AND",
      "size = 3",
      'name = "a',
      "x".repeat(2_000),
    ]) {
      await refused(() => list({ filter }), "REQUEST_INVALID");
    }
  });
});

describe("page tokens", () => {
  const question = questionOf(["dataset"]);
  it("round trip, for their question only", async () => {
    const token = formatPageToken({ from: 3, size: 9 }, question);
    expect(parsePageToken(token, question)).toEqual({ from: 3, size: 9 });
    expect(parsePageToken("", question)).toBeUndefined();
    await refused(() => parsePageToken(token, questionOf(["model"])), "REQUEST_INVALID");
  });

  it("are parsed strictly", async () => {
    const made = (value: object): string => formatBase64Url(utf8(JSON.stringify(value)));
    for (const token of [
      "x",
      "%%%",
      made({ from: 3, question, size: 2, v: 1 }),
      made({ from: -1, question, size: 2, v: 1 }),
      made({ from: 0.5, question, size: 2, v: 1 }),
      made({ from: 0, question, size: 2, v: 2 }),
      made({ from: 0, question, size: 2, v: 1, z: 1 }),
      made({ size: 2, from: 0, question, v: 1 }),
      `${formatPageToken({ from: 3, size: 9 }, question)}=`,
      "A".repeat(600),
    ]) {
      await refused(() => parsePageToken(token, question), "REQUEST_INVALID");
    }
  });
});

describe("filters", () => {
  it("are terms joined by AND", () => {
    expect(parseFilter("")).toEqual([]);
    expect(parseFilter('status = approved AND name="a b"')).toEqual([
      { field: "status", value: "approved" },
      { field: "name", value: "a b" },
    ]);
  });
});
