/** The frame of writes: rights, repeats, identities, limits, denials. */
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Custody } from "../../gen/ts/animus/datapilot/record/v1/data_pb.ts";
import { CreateProjectRequestSchema, UpdateProjectRequestSchema } from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import {
  CreateDatasetRequestSchema,
  CreateDatasetVersionRequestSchema,
  CreateSchemaRequestSchema,
  UpdateDatasetRequestSchema,
} from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import { textOf } from "../../src/command/body.ts";
import { createDataset, updateDataset } from "../../src/command/create-dataset.ts";
import { createDatasetVersion } from "../../src/command/create-dataset-version.ts";
import { createProject } from "../../src/command/create-project.ts";
import { createSchema } from "../../src/command/create-schema.ts";
import { updateProject } from "../../src/command/update-project.ts";
import type { Caller } from "../../src/identity/caller.ts";
import { assertDefined } from "../../src/std/assert.ts";
import type { RecordId } from "../../src/std/brand.ts";
import { accesses, createWorld, moveStatus, newProject, refused, type World } from "./world.ts";

let world: World;
let steward: Caller;
let viewer: Caller;
let stranger: Caller;
beforeAll(async () => {
  world = await createWorld();
  await newProject(world, "fraud");
  await newProject(world, "other");
  steward = await world.member("fraud", "contributor");
  viewer = await world.member("fraud", "viewer");
  stranger = await world.member("other", "viewer");
});
afterAll(() => world[Symbol.asyncDispose]());

const dataset = (name: string, more: object = {}) =>
  create(CreateDatasetRequestSchema, { project: "fraud", dataset: { name }, ...more });
const size = (): number => world.deps.log.index.watermark.size;

describe("rights", () => {
  it("admits who has the permission", async () => {
    const { resource, receipt } = await createDataset(world.deps, steward, dataset("one"));
    expect(resource).toMatchObject({
      name: "projects/fraud/datasets/one",
      kind: "dataset",
      project: "fraud",
      actor: steward.principal,
      etag: resource?.record,
    });
    expect(receipt).toMatchObject({ record: resource?.record, logIndex: resource?.logIndex, existing: false });
    expect(receipt?.treeSize).toBeGreaterThan(receipt?.logIndex ?? 0);
  });

  it("refuses who has not, and records it before the answer", async () => {
    const before = accesses(world).length;
    const fault = await refused(() => createDataset(world.deps, viewer, dataset("two")), "PERMISSION_DENIED");
    expect(fault.metadata).toEqual({ permission: "dataset.write", project: "fraud" });
    expect(accesses(world).slice(before)).toMatchObject([
      { action: "ACCESS_ACTION_DENIED", reason: "PERMISSION_DENIED", permission: "dataset.write", count: 1 },
    ]);
  });

  it("keeps the client's address out of the record", async () => {
    const last = accesses(world).at(-1);
    expect(last?.["address"]).toMatch(/^personal:sha256:/);
    expect(await world.deps.personal.get(textOf(last, "address"))).toBe("192.0.2.7");
    expect(await world.deps.personal.get(textOf(last, "agent"))).toBe("test/1");
  });

  it("does not say that a project is there to who may not see it", async () => {
    const before = accesses(world).length;
    const hidden = await refused(() => createDataset(world.deps, stranger, dataset("two")), "NOT_FOUND");
    const absent = await refused(
      () => createDataset(world.deps, stranger, dataset("two", { project: "nothing" })),
      "NOT_FOUND",
    );
    expect(hidden.message).toBe(absent.message);
    // What was hidden is recorded as what it was, what is not there is not.
    expect(accesses(world).slice(before)).toMatchObject([{ reason: "PERMISSION_DENIED" }]);
  });

  it("limits a token to its permissions", async () => {
    const limited: Caller = { ...steward, permissions: ["read"] };
    await refused(() => createDataset(world.deps, limited, dataset("two")), "PERMISSION_DENIED");
  });

  it("refuses what a revoked token asks, even when it was authenticated before", async () => {
    const other = await world.member("fraud", "contributor");
    await moveStatus(world, other.token, "active", "revoked");
    await refused(() => createDataset(world.deps, other, dataset("two")), "NOT_FOUND");
  });
});

describe("repeats", () => {
  it("answers the first outcome again, and writes nothing", async () => {
    const request = dataset("three", { requestId: "r-3" });
    const first = await createDataset(world.deps, steward, request);
    const before = size();
    const again = await createDataset(world.deps, steward, request);
    expect(again.resource?.record).toBe(first.resource?.record);
    expect(again.receipt).toMatchObject({ logIndex: first.receipt?.logIndex, existing: true });
    expect(size()).toBe(before);
  });

  it("answers it also when what it made was changed since", async () => {
    const request = dataset("four", { requestId: "r-4" });
    const first = await createDataset(world.deps, steward, request);
    const etag = first.resource?.etag ?? "";
    await updateDataset(
      world.deps,
      steward,
      create(UpdateDatasetRequestSchema, { project: "fraud", dataset: { name: "four", description: "new" }, etag }),
    );
    const again = await createDataset(world.deps, steward, request);
    expect(again.receipt?.record).toBe(first.resource?.record);
  });

  it("refuses another request under the same id, and records that", async () => {
    await createDataset(world.deps, steward, dataset("five", { requestId: "r-5" }));
    await refused(() => createDataset(world.deps, steward, dataset("six", { requestId: "r-5" })), "REQUEST_ID_REUSED");
    await refused(
      () =>
        createDataset(
          world.deps,
          steward,
          create(CreateDatasetRequestSchema, {
            project: "fraud",
            requestId: "r-5",
            dataset: { name: "five", license: "MIT" },
          }),
        ),
      "REQUEST_ID_REUSED",
    );
    expect(accesses(world).at(-1)).toMatchObject({ reason: "REQUEST_ID_REUSED" });
  });

  it("keeps the ids of principals apart", async () => {
    const other = await world.member("fraud", "contributor");
    await createDataset(world.deps, steward, dataset("seven", { requestId: "shared" }));
    const { resource } = await createDataset(world.deps, other, dataset("eight", { requestId: "shared" }));
    expect(resource?.name).toBe("projects/fraud/datasets/eight");
  });

  it("answers a repeat of the request that created a project", async () => {
    const request = create(CreateProjectRequestSchema, { project: { name: "repeated" }, requestId: "p-1" });
    const first = await createProject(world.deps, world.admin, request);
    const again = await createProject(world.deps, world.admin, request);
    expect(again.resource?.record).toBe(first.resource?.record);
    expect(again.receipt?.existing).toBe(true);
  });

  it("lets one of two equal requests at once write", async () => {
    const request = dataset("nine", { requestId: "r-9" });
    const before = size();
    const answers = await Promise.all([1, 2, 3].map(() => createDataset(world.deps, steward, request)));
    expect(new Set(answers.map((a) => a.resource?.record)).size).toBe(1);
    expect(size()).toBe(before + 1);
  });

  it.each(["", "a b", "x".repeat(129), "ä"].filter((id) => id !== ""))(
    "refuses the request id %j",
    async (requestId) => {
      await refused(() => createDataset(world.deps, steward, dataset("ten", { requestId })), "REQUEST_INVALID");
    },
  );
});

describe("identity", () => {
  it("answers what has the name already when it is equal", async () => {
    const first = await createDataset(world.deps, steward, dataset("named"));
    const again = await createDataset(world.deps, steward, dataset("named"));
    expect(again.resource?.record).toBe(first.resource?.record);
    expect(again.receipt?.existing).toBe(true);
  });

  it("refuses the name for something else", async () => {
    await refused(
      () => createDataset(world.deps, steward, dataset("named", { dataset: { name: "named", license: "MIT" } })),
      "ALREADY_EXISTS",
    );
  });

  it("answers equal content, whoever asks", async () => {
    const other = await world.member("fraud", "contributor");
    const request = create(CreateSchemaRequestSchema, {
      project: "fraud",
      schema: { name: "same", fields: [{ name: "a", type: "int64" }] },
    });
    const first = await createSchema(world.deps, steward, request);
    const again = await createSchema(world.deps, other, request);
    expect(again.resource?.record).toBe(first.resource?.record);
    expect(again.receipt?.existing).toBe(true);
  });
});

describe("validation only", () => {
  it("writes nothing and shows what would be written", async () => {
    const before = size();
    const { resource, receipt } = await createDataset(world.deps, steward, dataset("dry", { validateOnly: true }));
    expect(resource?.body).toMatchObject({ case: "dataset", value: { name: "dry" } });
    expect(resource?.record).toBe("");
    expect(receipt).toBeUndefined();
    expect(size()).toBe(before);
  });

  it("gives the faults of the real thing", async () => {
    await refused(() => createDataset(world.deps, steward, dataset("Dry", { validateOnly: true })), "NAME_INVALID");
  });

  it("records a denial of rights all the same", async () => {
    const before = accesses(world).length;
    await refused(() => createDataset(world.deps, viewer, dataset("dry", { validateOnly: true })), "PERMISSION_DENIED");
    expect(accesses(world)).toHaveLength(before + 1);
  });
});

describe("updates", () => {
  it("replaces the body and keeps the record", async () => {
    const { resource } = await createDataset(world.deps, steward, dataset("updated"));
    const update = create(UpdateDatasetRequestSchema, {
      project: "fraud",
      dataset: { name: "updated", description: "second" },
      etag: resource?.etag ?? "",
    });
    const after = await updateDataset(world.deps, steward, update);
    expect(after.resource).toMatchObject({
      record: resource?.record,
      name: "projects/fraud/datasets/updated",
      body: { case: "dataset", value: { description: "second" } },
    });
    expect(after.resource?.etag).toBe(after.receipt?.record);
    await refused(() => updateDataset(world.deps, steward, update), "ETAG_MISMATCH");
  });

  it("answers a repeated update as the first time", async () => {
    const { resource } = await createDataset(world.deps, steward, dataset("twice"));
    const update = create(UpdateDatasetRequestSchema, {
      project: "fraud",
      requestId: "u-1",
      dataset: { name: "twice", description: "second" },
      etag: resource?.etag ?? "",
    });
    const first = await updateDataset(world.deps, steward, update);
    const again = await updateDataset(world.deps, steward, update);
    expect(again.receipt?.record).toBe(first.receipt?.record);
  });

  it("does not find what has no such name", async () => {
    const update = create(UpdateDatasetRequestSchema, { project: "fraud", dataset: { name: "absent" }, etag: "" });
    await refused(() => updateDataset(world.deps, steward, update), "NOT_FOUND");
  });

  it("revises a project, whose creator administers it", async () => {
    const made = await newProject(world, "revised");
    const { resource } = await updateProject(
      world.deps,
      world.admin,
      create(UpdateProjectRequestSchema, {
        project: { name: "revised", description: "better" },
        etag: made.resource?.etag ?? "",
      }),
    );
    expect(resource).toMatchObject({
      record: made.resource?.record,
      name: "projects/revised",
      body: { case: "projectBody", value: { description: "better" } },
    });
  });
});

describe("limits", () => {
  const labels = (n: number) => Array.from({ length: n }, (_, i) => ({ key: `k${i}`, value: "v" }));
  it("takes 32 labels and not 33", async () => {
    await createDataset(world.deps, steward, dataset("l32", { dataset: { name: "l32", labels: labels(32) } }));
    await refused(
      () => createDataset(world.deps, steward, dataset("l33", { dataset: { name: "l33", labels: labels(33) } })),
      "LIMIT_EXCEEDED",
    );
  });

  it("takes 16 KiB of text and not a byte more", async () => {
    const long = "ä".repeat(8_192);
    await createDataset(world.deps, steward, dataset("t16", { dataset: { name: "t16", description: long } }));
    await refused(
      () => createDataset(world.deps, steward, dataset("t17", { dataset: { name: "t17", description: `${long}a` } })),
      "LIMIT_EXCEEDED",
    );
  });

  it("takes each label once", async () => {
    const twice = [
      { key: "a", value: "1" },
      { key: "a", value: "2" },
    ];
    await refused(
      () => createDataset(world.deps, steward, dataset("twice-l", { dataset: { name: "twice-l", labels: twice } })),
      "REQUEST_INVALID",
    );
  });

  it.each(["Upper", "-dash", "a".repeat(129), "ümlaut", ""])("refuses the name %j", async (name) => {
    await refused(
      () => createDataset(world.deps, steward, dataset(name)),
      name === "" ? "REQUEST_INVALID" : "NAME_INVALID",
    );
  });

  it("refuses text that hides or reorders itself", async () => {
    await refused(
      () => createDataset(world.deps, steward, dataset("bidi", { dataset: { name: "bidi", description: "a\u202eb" } })),
      "REQUEST_INVALID",
    );
  });

  it("refuses a personal reference in a public field", async () => {
    const description = `personal:sha256:${"a".repeat(64)}`;
    await refused(
      () => createDataset(world.deps, steward, dataset("pers", { dataset: { name: "pers", description } })),
      "REQUEST_INVALID",
    );
  });
});

describe("projects", () => {
  it("refuses writes to an archived one", async () => {
    const { resource } = await newProject(world, "archived");
    const member = await world.member("archived", "contributor");
    await moveStatus(world, resource?.record as RecordId, "active", "archived");
    await refused(() => createDataset(world.deps, member, dataset("x", { project: "archived" })), "PROJECT_ARCHIVED");
    expect(accesses(world).at(-1)).toMatchObject({ reason: "PROJECT_ARCHIVED" });
  });

  it("links across projects only what may be shared, with the permission to use it", async () => {
    await newProject(world, "source");
    const source = await world.member("source", "contributor");
    await createDataset(world.deps, source, dataset("rows", { project: "source" }));
    const files = [{ path: "a", digest: `sha256:${"1".repeat(64)}`, sizeBytes: 1, uri: "s3://elsewhere/a" }];
    const version = { custody: Custody.EXTERNAL, files };
    const made = await createDatasetVersion(
      world.deps,
      source,
      create(CreateDatasetVersionRequestSchema, { project: "source", dataset: "rows", version }),
    );
    const ours = (derivedFrom: string[]) =>
      create(CreateDatasetVersionRequestSchema, { project: "fraud", dataset: "one", version, derivedFrom });
    // Not even visible.
    await refused(() => createDatasetVersion(world.deps, steward, ours(["source/rows@v1"])), "NOT_FOUND");
    const reader = await world.member("fraud", "contributor");
    await world.bind("source", "viewer", reader);
    const denied = await refused(
      () => createDatasetVersion(world.deps, reader, ours(["source/rows@v1"])),
      "CROSS_PROJECT_DENIED",
    );
    expect(denied.metadata).toMatchObject({ project: "source" });
    const consumer = await world.member("fraud", "contributor");
    await world.bind("source", "consumer", consumer);
    const linked = await createDatasetVersion(world.deps, consumer, ours(["source/rows@v1"]));
    expect(linked.resource?.links).toContainEqual(
      expect.objectContaining({ rel: "derived_from", to: made.resource?.record }),
    );
    // A dataset itself is never shared.
    await refused(
      () =>
        createDatasetVersion(
          world.deps,
          consumer,
          create(CreateDatasetVersionRequestSchema, { project: "fraud", dataset: "source/rows", version }),
        ),
      "CROSS_PROJECT_DENIED",
    );
  });
});

describe("denials", () => {
  it("counts what is above ten a second, and records the count", async () => {
    const noisy = await world.member("fraud", "viewer");
    const before = accesses(world).length;
    for (let i = 0; i < 25; i++)
      await refused(() => createDataset(world.deps, noisy, dataset("no")), "PERMISSION_DENIED");
    expect(accesses(world)).toHaveLength(before + 10);
    await world.deps.denials.flush();
    expect(accesses(world)).toHaveLength(before + 11);
    expect(accesses(world).at(-1)).toMatchObject({ count: 15, window_ms: 60_000, reason: "PERMISSION_DENIED" });
    world.clock.ms += 1_000;
    await refused(() => createDataset(world.deps, noisy, dataset("no")), "PERMISSION_DENIED");
    expect(accesses(world)).toHaveLength(before + 12);
  });

  it("counts failed authentication by network, reason and minute", async () => {
    const before = accesses(world).length;
    const { denials } = world.deps;
    for (const host of [1, 2, 3])
      denials.countUnauthenticated("unknown", { rpc: "s/M", address: `198.51.100.${host}` });
    denials.countUnauthenticated("expired", { rpc: "s/M", address: "198.51.100.9" });
    denials.countUnauthenticated("unknown", { rpc: "s/M", address: "2001:db8:1:2::5" });
    for (let i = 0; i < 100; i++) denials.countUnauthenticated("unknown", { rpc: "s/M", address: `10.${i}.0.1` });
    await denials.flush();
    const recorded = accesses(world).slice(before);
    expect(recorded).toHaveLength(61);
    expect(recorded[0]).toMatchObject({ reason: "unknown", count: 3 });
    expect(await world.deps.personal.get(textOf(recorded[0], "address"))).toBe("198.51.100.0/24");
    expect(await world.deps.personal.get(textOf(recorded[2], "address"))).toBe("2001:db8:1::/48");
    expect(recorded.at(-1)).toMatchObject({ reason: "OVERFLOW", count: 43 });
  });

  it("records a hidden denial in the project that was asked for", () => {
    using reader = world.deps.log.index.reader();
    const fraud = assertDefined(reader.get("name", "-/project/fraud"), "the project").value.id;
    const denials = reader.list({ project: fraud, kinds: ["access"], limit: 1_000 });
    expect(denials.length).toBeGreaterThan(0);
  });
});
