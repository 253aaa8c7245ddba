/** Artifacts, schemas, dataset versions and their quality. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Custody, SchemaFieldSchema, SchemaSchema } from "../../gen/ts/animus/datapilot/record/v1/data_pb.ts";
import {
  BatchCompleteArtifactsRequestSchema,
  BatchCreateArtifactsRequestSchema,
  BatchGetDownloadUrlsRequestSchema,
  CompleteArtifactRequestSchema,
  CreateArtifactRequestSchema,
} from "../../gen/ts/animus/datapilot/v1/artifact_pb.ts";
import {
  CreateDatasetRequestSchema,
  CreateDatasetVersionRequestSchema,
  CreateSchemaRequestSchema,
  EvaluateGateRequestSchema,
  ReportQualityRequestSchema,
} from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import { batchCompleteArtifacts, completeArtifact } from "../../src/command/complete-artifact.ts";
import { batchCreateArtifacts, blobKey, createArtifact } from "../../src/command/create-artifact.ts";
import { createDataset } from "../../src/command/create-dataset.ts";
import { createDatasetVersion } from "../../src/command/create-dataset-version.ts";
import { createSchema } from "../../src/command/create-schema.ts";
import { batchGetDownloadUrls } from "../../src/command/get-download-urls.ts";
import { contentDigest, formatManifest, parseManifest } from "../../src/command/manifest.ts";
import { evaluateGate, reportQuality } from "../../src/command/report-quality.ts";
import type { Caller } from "../../src/identity/caller.ts";
import type { Draft } from "../../src/log/submission.ts";
import { assertDefined } from "../../src/std/assert.ts";
import type { RecordId } from "../../src/std/brand.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { accesses, createWorld, newProject, put, refused, type World } from "./world.ts";

let world: World;
let writer: Caller;
let fraud: RecordId;
beforeAll(async () => {
  world = await createWorld({
    policies: [
      {
        name: "complete",
        target: "quality.gate",
        rules: [
          {
            id: "no-nulls",
            require: 'input.report.measurements["sex.nulls"] == 0.0',
            message: "sex has nulls",
          },
        ],
      },
    ],
  });
  fraud = assertDefined((await newProject(world, "fraud")).resource, "a project").record as RecordId;
  writer = await world.member("fraud", "contributor");
  await createDataset(
    world.deps,
    writer,
    create(CreateDatasetRequestSchema, { project: "fraud", dataset: { name: "rows" } }),
  );
});
afterAll(() => world[Symbol.asyncDispose]());

const size = (): number => world.deps.log.index.watermark.size;

describe("artifacts", () => {
  const digest = (text: string): string => contentDigest(utf8(text));
  const body = (text: string) => ({ digest: digest(text), sizeBytes: utf8(text).length });
  const complete = (text: string, more: object = {}) =>
    completeArtifact(
      world.deps,
      writer,
      create(CompleteArtifactRequestSchema, { project: "fraud", artifact: { ...body(text), ...more } }),
    );
  const declare = (text: string, caller = writer) =>
    createArtifact(world.deps, caller, create(CreateArtifactRequestSchema, { project: "fraud", artifact: body(text) }));

  it("are recorded once their bytes are stored", async () => {
    const { uploadUrl, headers, expiresAt } = await declare("hello");
    expect(uploadUrl).toMatch(/^http:\/\/localhost:8420\/blob\//);
    expect(headers).toMatchObject([{ name: "content-length", value: "5" }]);
    expect(Date.parse(expiresAt)).toBe(world.clock.ms + 600_000);
    await put(world, uploadUrl, utf8("hello"));
    const { resource, receipt } = await complete("hello");
    expect(resource?.body).toMatchObject({ case: "artifact", value: { digest: digest("hello"), sizeBytes: 5 } });
    expect(receipt?.existing).toBe(false);
  });

  it("are held as long as the ledger once they are recorded, and not before", async () => {
    const lockOf = async () => (await world.store.head("ledger", blobKey(fraud, digest("held"))))?.retainUntil ?? 0;
    const { uploadUrl } = await declare("held");
    await put(world, uploadUrl, utf8("held"));
    const uploaded = await lockOf();
    const request = { project: "fraud", artifact: body("held"), validateOnly: true };
    await completeArtifact(world.deps, writer, create(CompleteArtifactRequestSchema, request));
    expect(await lockOf()).toBe(uploaded);
    await complete("held");
    const year = 365 * 86_400_000;
    expect(uploaded).toBeLessThan(world.clock.ms + year);
    expect(await lockOf()).toBeGreaterThanOrEqual(world.clock.ms + year);
  });

  it("need no second upload, whoever asks", async () => {
    const before = size();
    const declared = await declare("hello", await world.member("fraud", "contributor"));
    const after = size();
    expect(declared.uploadUrl).toBe("");
    expect(declared.existing?.kind).toBe("artifact");
    expect(after).toBeGreaterThan(before);
    expect((await complete("hello")).receipt?.existing).toBe(true);
    expect(size()).toBe(after);
  });

  it("are not recorded before that, and the refusal is", async () => {
    await refused(() => complete("absent"), "ARTIFACT_NOT_UPLOADED");
    expect(accesses(world).at(-1)).toMatchObject({ reason: "ARTIFACT_NOT_UPLOADED" });
  });

  it("have the length that was declared", async () => {
    const { uploadUrl } = await declare("length");
    await put(world, uploadUrl, utf8("length"));
    await refused(() => complete("length", { sizeBytes: 7 }), "DIGEST_MISMATCH");
  });

  it("have the digest that was declared, even when the store holds something else", async () => {
    const key = blobKey(fraud, digest("right"));
    await world.store.create("ledger", key, utf8("wrong"), {});
    await refused(() => complete("right"), "DIGEST_MISMATCH");
    expect(accesses(world).at(-1)).toMatchObject({ reason: "DIGEST_MISMATCH" });
  });

  it.each([
    { digest: "sha256:ABC" },
    { digest: "" },
    { sizeBytes: 1.5 },
    { sizeBytes: -1 },
    { sizeBytes: 6 * 1_024 ** 3 },
  ])("are not %j", async (more) => {
    const artifact = { ...body("x"), ...more };
    await refused(
      () => createArtifact(world.deps, writer, create(CreateArtifactRequestSchema, { project: "fraud", artifact })),
      "REQUEST_INVALID",
    );
    await refused(() => complete("x", more), "REQUEST_INVALID");
  });

  it("are written by who may", async () => {
    const viewer = await world.member("fraud", "viewer");
    await refused(() => declare("no", viewer), "PERMISSION_DENIED");
    expect(accesses(world).at(-1)).toMatchObject({ permission: "artifact.write" });
  });

  it("are completed in batches, all or none, and repeated as the first time", async () => {
    const texts = ["b1", "b2", "b1", "hello"];
    const artifacts = texts.map(body);
    const declared = await batchCreateArtifacts(
      world.deps,
      writer,
      create(BatchCreateArtifactsRequestSchema, { project: "fraud", artifacts }),
    );
    expect(declared.artifacts.map((a) => a.uploadUrl !== "")).toEqual([true, true, true, false]);
    await put(world, assertDefined(declared.artifacts[0], "an address").uploadUrl, utf8("b1"));
    const request = create(BatchCompleteArtifactsRequestSchema, { project: "fraud", artifacts, requestId: "batch-1" });
    await refused(() => batchCompleteArtifacts(world.deps, writer, request), "ARTIFACT_NOT_UPLOADED");
    await put(world, assertDefined(declared.artifacts[1], "an address").uploadUrl, utf8("b2"));
    const before = size();
    const { responses } = await batchCompleteArtifacts(world.deps, writer, request);
    expect(size()).toBe(before + 2);
    expect(responses.map((r) => r.receipt?.existing)).toEqual([false, false, false, true]);
    expect(responses[0]?.resource?.record).toBe(responses[2]?.resource?.record);
    const again = await batchCompleteArtifacts(world.deps, writer, request);
    expect(again.responses.map((r) => r.resource?.record)).toEqual(responses.map((r) => r.resource?.record));
    expect(size()).toBe(before + 2);
  });

  it("are given out only after that was recorded", async () => {
    const { record, digest: content, sizeBytes } = await world.artifact(writer, "fraud", "secret rows");
    const reader = await world.member("fraud", "consumer");
    const before = accesses(world).length;
    const { urls, receipt } = await batchGetDownloadUrls(
      world.deps,
      reader,
      create(BatchGetDownloadUrlsRequestSchema, { project: "fraud", artifacts: [record, content] }),
    );
    expect(urls).toMatchObject([
      { artifact: record, digest: content, sizeBytes },
      { artifact: record, digest: content, sizeBytes },
    ]);
    expect(urls[0]?.downloadUrl).toContain("/blob/");
    expect(accesses(world).slice(before)).toMatchObject([
      { action: "ACCESS_ACTION_DOWNLOAD", permission: "artifact.read", count: 1 },
    ]);
    using index = world.deps.log.index.reader();
    const access = index.record(receipt?.record as RecordId)?.record;
    expect(access?.links).toEqual([{ rel: "subject", to: record }]);
    expect(access?.actor.principal).toBe(reader.principal);
  });

  it("are not given to who may only read", async () => {
    const { record } = await world.artifact(writer, "fraud", "secret rows");
    const viewer = await world.member("fraud", "viewer");
    const request = create(BatchGetDownloadUrlsRequestSchema, { project: "fraud", artifacts: [record] });
    await refused(() => batchGetDownloadUrls(world.deps, viewer, request), "PERMISSION_DENIED");
    await refused(
      () => batchGetDownloadUrls(world.deps, writer, { ...request, artifacts: [`sha256:${"0".repeat(64)}`] }),
      "NOT_FOUND",
    );
  });
});

describe("schemas", () => {
  type Fields = MessageInitShape<typeof SchemaFieldSchema>[];
  const schema = (fields: Fields, name = "s") =>
    createSchema(
      world.deps,
      writer,
      create(CreateSchemaRequestSchema, {
        project: "fraud",
        schema: create(SchemaSchema, { name, fields: fields.map((f) => create(SchemaFieldSchema, f)) }),
      }),
    );

  it("take Arrow's logical types", async () => {
    const { resource } = await schema([
      { name: "id", type: "int64", classes: ["pii", "key", "pii"] },
      { name: "at", type: "timestamp[us, tz=Europe/Berlin]", nullable: true },
      { name: "price", type: "decimal128(10, 2)" },
      { name: "tags", type: "list", children: [{ name: "item", type: "string" }] },
      { name: "box", type: "struct", children: [{ name: "w", type: "double" }] },
    ]);
    if (resource?.body.case !== "schema") return expect.fail("a schema was expected");
    expect(resource.body.value.fields[0]?.classes).toEqual(["key", "pii"]);
  });

  it.each(["varchar", "int", "Int64", "timestamp", "timestamp[us", "decimal128", "list<int64>", ""])(
    "do not take the type %j",
    async (type) => {
      await refused(() => schema([{ name: "a", type }]), "TYPE_UNKNOWN");
    },
  );

  it("take the children that a type has", async () => {
    await refused(() => schema([{ name: "a", type: "list" }]), "REQUEST_INVALID");
    await refused(
      () => schema([{ name: "a", type: "int64", children: [{ name: "b", type: "int64" }] }]),
      "REQUEST_INVALID",
    );
  });

  it("take each name once, 2,000 fields, and some depth", async () => {
    const field = { name: "a", type: "int64" };
    await refused(() => schema([field, field]), "REQUEST_INVALID");
    await refused(
      () => schema(Array.from({ length: 2_001 }, (_, i) => ({ ...field, name: `a${i}` }))),
      "LIMIT_EXCEEDED",
    );
    let deep: MessageInitShape<typeof SchemaFieldSchema> = field;
    for (let i = 0; i < 20; i++) deep = { name: "a", type: "struct", children: [deep] };
    await refused(() => schema([deep]), "REQUEST_INVALID");
    await refused(() => schema([]), "REQUEST_INVALID");
  });
});

describe("dataset versions", () => {
  type Init = MessageInitShape<typeof CreateDatasetVersionRequestSchema>;
  const version = (more: Init, caller = writer) =>
    createDatasetVersion(
      world.deps,
      caller,
      create(CreateDatasetVersionRequestSchema, { project: "fraud", dataset: "rows", ...more }),
    );
  const file = (path: string, { digest, sizeBytes }: { digest: string; sizeBytes: number }) => ({
    path,
    digest,
    sizeBytes,
  });

  it("are numbered, and are their files", async () => {
    const one = await world.artifact(writer, "fraud", "one");
    const two = await world.artifact(writer, "fraud", "two");
    const files = [file("b.csv", two), file("a.csv", one)];
    const { resource } = await version({ version: { custody: Custody.LEDGER, files, rows: 2 } });
    expect(resource).toMatchObject({
      name: "projects/fraud/datasets/rows/versions/1",
      status: "registered",
      ordinal: 1,
      gate: "not_evaluated",
    });
    if (resource?.body.case !== "datasetVersion") return expect.fail("a version was expected");
    expect(resource.body.value.files.map((f) => f.path)).toEqual(["a.csv", "b.csv"]);
    expect(resource.body.value.contentDigest).toBe(contentDigest(formatManifest(files)));
    expect(resource.links.filter((l) => l.rel === "content").map((l) => l.to)).toEqual(
      [one.record, two.record].toSorted(),
    );
    // The same content is the same version.
    const again = await version({ version: { custody: Custody.LEDGER, files: files.toReversed() } });
    expect(again.resource?.record).toBe(resource.record);
  });

  it("say the digest that the files have, or none", async () => {
    const files = [file("a.csv", await world.artifact(writer, "fraud", "one"))];
    const contentDigest = `sha256:${"0".repeat(64)}`;
    await refused(() => version({ version: { custody: Custody.LEDGER, files, contentDigest } }), "DIGEST_MISMATCH");
  });

  it("of the ledger's custody consist of artifacts of the project", async () => {
    const files = [{ path: "a", digest: `sha256:${"9".repeat(64)}`, sizeBytes: 1 }];
    await refused(() => version({ version: { custody: Custody.LEDGER, files } }), "ARTIFACT_NOT_FOUND");
    const one = await world.artifact(writer, "fraud", "one");
    const longer = [file("a", { ...one, sizeBytes: 4 })];
    await refused(() => version({ version: { custody: Custody.LEDGER, files: longer } }), "DIGEST_MISMATCH");
  });

  it("of others' custody say where they lie", async () => {
    const files = [{ path: "a", digest: `sha256:${"9".repeat(64)}`, sizeBytes: 1 }];
    await refused(() => version({ version: { custody: Custody.EXTERNAL, files } }), "REQUEST_INVALID");
    const there = files.map((f) => ({ ...f, uri: "s3://bucket/a" }));
    expect((await version({ version: { custody: Custody.EXTERNAL, files: there } })).resource?.ordinal).toBe(2);
  });

  it("may list their files in an artifact", async () => {
    const one = await world.artifact(writer, "fraud", "one");
    const bytes = formatManifest([file("m.csv", one)]);
    const manifest = await world.artifact(writer, "fraud", new TextDecoder().decode(bytes));
    const { resource } = await version({ manifest: manifest.record, version: { custody: Custody.LEDGER } });
    expect(resource?.body).toMatchObject({ value: { files: [], contentDigest: manifest.digest } });
    expect(resource?.links).toContainEqual(expect.objectContaining({ rel: "manifest", to: manifest.record }));
    const listed = await version({ version: { custody: Custody.LEDGER, files: [file("m.csv", one)] } });
    expect(listed.resource?.record).toBe(resource?.record);
  });

  it("take only manifests that are exactly manifests", async () => {
    const bad = await world.artifact(writer, "fraud", '{"path":"a"}\n');
    await refused(() => version({ manifest: bad.record, version: { custody: Custody.LEDGER } }), "REQUEST_INVALID");
    const line = '{"digest":"sha256:' + "1".repeat(64) + '","path":"a","size_bytes":1}';
    expect(parseManifest(utf8(`${line}\n`))).toHaveLength(1);
    for (const text of [
      "",
      line,
      `${line}\n${line}\n`,
      ` ${line}\n`,
      `${line}\r\n`,
      `${line.replace('"a"', '"../a"')}\n`,
    ]) {
      await refused(() => parseManifest(utf8(text)), "REQUEST_INVALID");
    }
  });

  it.each([
    { path: "/abs" },
    { path: "a/../b" },
    { path: "" },
    { path: "a\\b" },
    { digest: "sha256:0" },
    { sizeBytes: 0.5 },
  ])("do not take the file %j", async (more) => {
    const files = [{ path: "a", digest: `sha256:${"9".repeat(64)}`, sizeBytes: 1, uri: "x:y", ...more }];
    await refused(() => version({ version: { custody: Custody.EXTERNAL, files } }), "REQUEST_INVALID");
  });

  it("need files, a custody, and one list of files", async () => {
    const one = await world.artifact(writer, "fraud", "one");
    await refused(() => version({ version: { custody: Custody.LEDGER } }), "REQUEST_INVALID");
    await refused(() => version({ version: { files: [file("q", one)] } }), "REQUEST_INVALID");
    await refused(
      () => version({ manifest: one.record, version: { custody: Custody.LEDGER, files: [file("q", one)] } }),
      "REQUEST_INVALID",
    );
    const many = Array.from({ length: 1_001 }, (_, i) => file(`f${i}`, one));
    await refused(() => version({ version: { custody: Custody.LEDGER, files: many } }), "LIMIT_EXCEEDED");
  });

  it("name things of the right kind", async () => {
    const one = await world.artifact(writer, "fraud", "one");
    const good = { custody: Custody.LEDGER, files: [file("k", one)] };
    await refused(() => version({ version: good, schema: one.record }), "REQUEST_INVALID");
    await refused(() => version({ version: good, dataset: "absent" }), "NOT_FOUND");
    await refused(() => version({ version: good, derivedFrom: ["rows"] }), "REQUEST_INVALID");
    await refused(() => version({ version: good, derivedFrom: ["rows@v99"] }), "NOT_FOUND");
    await refused(() => version({ version: good, schema: "not a ref!" }), "REQUEST_INVALID");
  });

  it("that a run made are among what it put out", async () => {
    const one = await world.artifact(writer, "fraud", "one");
    const out = await world.artifact(writer, "fraud", "made by a run");
    const { run, start } = await runWith(out);
    const good = { custody: Custody.LEDGER, files: [file("out", out)] };
    const bad = { custody: Custody.LEDGER, files: [file("out", one)] };
    await refused(() => version({ version: bad, producedBy: run }), "OUTPUT_NOT_FROM_RUN");
    const token: Caller = { ...writer, method: "run-token", token: start, run, runProject: fraud };
    await refused(() => version({ version: good }, token), "PERMISSION_DENIED");
    const { resource } = await version({ version: good, producedBy: run }, token);
    expect(resource?.links).toContainEqual(expect.objectContaining({ rel: "produced_by", to: run }));
    const planned = await submit({ kind: "run", body: { purpose: "PURPOSE_EXPLORATION" }, links: [] });
    await refused(() => version({ version: good, producedBy: planned }), "RUN_NOT_SUCCEEDED");
  });
});

async function submit(part: Pick<Draft, "kind" | "body" | "links">): Promise<RecordId> {
  const draft: Draft = {
    ...part,
    project: fraud,
    actor: { method: "token", principal: writer.principal },
    requestId: `raw-${size()}`,
  };
  const { committed } = await world.deps.log.submit({
    admit: () => ({ drafts: [draft], value: undefined }),
    project: fraud,
  });
  return assertDefined(committed?.records[0], "a record").id;
}

async function runWith({ digest, sizeBytes }: { digest: string; sizeBytes: number }) {
  const run = await submit({ kind: "run", body: { purpose: "PURPOSE_EXPLORATION" }, links: [] });
  const token = { sha256: "a".repeat(64), expires_at: "2027-01-01T00:00:00.000Z" };
  const start = await submit({ kind: "run.start", body: { token }, links: [{ rel: "run", to: run }] });
  const role = { role: "FILE_ROLE_OUTPUT", assurance: "ASSURANCE_OBSERVED" };
  const files = [{ path: "out", digest, size_bytes: sizeBytes, ...role }];
  await submit({ kind: "run.batch", body: { files }, links: [{ rel: "run", to: run }] });
  return { run, start };
}

describe("quality", () => {
  let ref = "";
  beforeAll(async () => {
    const one = await world.artifact(writer, "fraud", "quality");
    const request = create(CreateDatasetVersionRequestSchema, {
      project: "fraud",
      dataset: "rows",
      version: { custody: Custody.LEDGER, files: [{ path: "q", digest: one.digest, sizeBytes: one.sizeBytes }] },
    });
    ref = assertDefined((await createDatasetVersion(world.deps, writer, request)).resource, "a version").record;
  });
  const report = (value: number, more: object = {}, measurements = [{ name: "nulls", column: "sex", value }]) =>
    reportQuality(
      world.deps,
      writer,
      create(ReportQualityRequestSchema, {
        project: "fraud",
        datasetVersion: ref,
        report: { tool: { name: "t" }, complete: true, measurements, ...more },
      }),
    );
  const gate = (): string | undefined => {
    using reader = world.deps.log.index.reader();
    return reader.get("gate", ref)?.value.outcome;
  };

  it("is judged in the group of the report", async () => {
    const { resource, decision, receipt } = await report(10);
    expect(resource?.kind).toBe("quality.report");
    expect(decision?.body).toMatchObject({ case: "decision", value: { target: "quality.gate" } });
    expect(decision?.logIndex).toBe((resource?.logIndex ?? 0) + 1);
    expect(receipt?.also).toEqual([decision?.record]);
    expect(decision?.links).toContainEqual(expect.objectContaining({ to: resource?.record }));
    expect(gate()).toBe("fail");
    await report(0);
    expect(gate()).toBe("pass");
  });

  it("is not judged by an incomplete report", async () => {
    const { decision } = await report(10, { complete: false });
    expect(decision).toBeUndefined();
    expect(gate()).toBe("pass");
  });

  it("that cannot be evaluated is an error", async () => {
    const { decision } = await report(0, {}, [{ name: "other", column: "", value: 1 }]);
    expect(decision?.body).toMatchObject({ value: { outcome: 4 } });
    expect(gate()).toBe("error");
  });

  it("is judged again when asked, by the newest complete report", async () => {
    await report(0);
    const request = create(EvaluateGateRequestSchema, { project: "fraud", datasetVersion: ref });
    const { resource, decision } = await evaluateGate(world.deps, writer, request);
    expect(resource?.kind).toBe("decision");
    expect(decision?.record).toBe(resource?.record);
    expect(gate()).toBe("pass");
  });

  it("repeats the first outcome", async () => {
    const request = create(ReportQualityRequestSchema, {
      project: "fraud",
      requestId: "q-1",
      datasetVersion: ref,
      report: { tool: { name: "t" }, complete: true, measurements: [{ name: "nulls", column: "sex", value: 3 }] },
    });
    const first = await reportQuality(world.deps, writer, request);
    await report(0);
    const before = size();
    const again = await reportQuality(world.deps, writer, request);
    expect(again.resource?.record).toBe(first.resource?.record);
    expect(again.decision?.record).toBe(first.decision?.record);
    expect(size()).toBe(before);
    expect(gate()).toBe("pass");
  });

  it("has measurements, each once, and a fraction that is one", async () => {
    const twice = { name: "nulls", column: "sex", value: 1 };
    await refused(() => report(0, {}, [twice, twice]), "REQUEST_INVALID");
    await refused(() => report(0, {}, []), "REQUEST_INVALID");
    await refused(() => report(0, { sampleFraction: 1.5 }), "REQUEST_INVALID");
    await refused(() => report(0, { sampleFraction: 0 }), "REQUEST_INVALID");
    await refused(() => report(0, { measuredAt: "now" }), "REQUEST_INVALID");
    await refused(() => report(Number.NaN), "REQUEST_INVALID");
    const many = Array.from({ length: 5_001 }, (_, i) => ({ name: `m${i}`, column: "", value: 1 }));
    await refused(() => report(0, {}, many), "LIMIT_EXCEEDED");
  });
});
