/** Packs of a real ledger: what they hold for whom, that they verify, and that the same question gives the same bytes. */
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  CompleteArtifactRequestSchema,
  CreateArtifactRequestSchema,
} from "../../gen/ts/animus/datapilot/v1/artifact_pb.ts";
import { completeArtifact } from "../../src/command/complete-artifact.ts";
import { createArtifact } from "../../src/command/create-artifact.ts";
import { buildPack, type PackRequest } from "../../src/evidence/pack.ts";
import type { Seal } from "../../src/log/log.ts";
import { nativeVerifier } from "../../src/log/native-verifier.ts";
import { sha256Hex } from "../../src/merkle/hash.ts";
import { formatNote } from "../../src/note/note.ts";
import { parseTrustPolicy } from "../../src/note/trust-policy.ts";
import { CHUNKS_MEDIA_TYPE, formatChunkManifest } from "../../src/record/chunks.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { type Digest, digestOf, parseRecordId, type RecordId, type TreeSize } from "../../src/std/brand.ts";
import { concat, utf8 } from "../../src/std/bytes.ts";
import type { Fault } from "../../src/std/faults.ts";
import { DEFAULT_LIMITS } from "../../src/verify/limits.ts";
import { type PackOptions, verifyPack } from "../../src/verify/pack.ts";
import { COMMIT, Lab } from "../command/lab.ts";
import { createWorld, newProject, ORIGIN, put, type World } from "../command/world.ts";
import { GOVERNED_KEYS } from "../verify/governed.ts";
import { agreeing, archiveOf, partsOf } from "../verify/pack-lab.ts";

let world: World;
let seal: Seal;
let early: Uint8Array;
/** What the packs are about, from the far end of the lineage to the near. */
let ids: Readonly<Record<"raw" | "joined" | "model" | "fraud" | "other" | "genesis" | "system", RecordId>>;

const idOf = (text: string): RecordId => assertDefined(parseRecordId(text), "a record");

beforeAll(async () => {
  world = await createWorld({ approvers: [{ displayName: "Ada", name: "ada" }], keys: GOVERNED_KEYS });
  const { log } = world.deps;
  early = utf8(log.checkpoint());
  await newProject(world, "other");
  await newProject(world, "fraud");
  const member = await world.member("fraud", "contributor");
  await world.bind("other", "contributor", member);
  const other = new Lab(world, member, "other");
  const fraud = new Lab(world, member, "fraud");
  const raw = await other.dataset("raw", "far");
  const table = await fraud.dataset("table", "near", [raw.record]);
  const joined = await fraud.dataset("joined", "nearer", [table.record]);
  await other.code(COMMIT);
  const run = await fraud.running(fraud.plan([]));
  const file = await fraud.output(run, "weights");
  await fraud.finish(run, 1);
  await fraud.model("scorer");
  const model = assertDefined((await fraud.version("scorer", [file], [run.id])).resource, "a version");
  seal = await log.seal();
  using reader = log.index.reader();
  const named = (name: string): RecordId => assertDefined(reader.get("name", `-/project/${name}`), name).value.id;
  ids = {
    fraud: named("fraud"),
    genesis: log.genesis,
    joined: idOf(joined.record),
    model: idOf(model.record),
    other: named("other"),
    raw: idOf(raw.record),
    system: named("_system"),
  };
});
afterAll(() => world[Symbol.asyncDispose]());

interface Wanted extends Partial<Omit<PackRequest, "roots">> {
  readonly roots?: readonly RecordId[];
}

async function build({ roots = [ids.joined], ...more }: Wanted = {}) {
  const { deps, store } = world;
  using reader = deps.log.index.reader(seal.size);
  using before = deps.log.index.reader(seal.index as number as TreeSize);
  const pack = await buildPack(reader, deps.log.index.nodes(), store, {
    anchors: [],
    blobs: undefined,
    checkpoint: seal.checkpoint,
    complete: [],
    depth: undefined,
    governance: true,
    heads: before.heads(),
    personal: undefined,
    visible: () => true,
    ...more,
    roots: roots.map((id) => assertDefined(reader.indexOf(id), "a root")),
  });
  const parts: Uint8Array[] = [];
  for await (const part of pack.stream()) parts.push(part);
  const bytes = concat(...parts);
  expect(bytes.length).toBe(pack.sizeBytes);
  return { bytes, pack };
}

async function verify(bytes: Uint8Array, more: Partial<PackOptions> = {}, kept: readonly Uint8Array[] = []) {
  const policy = parseTrustPolicy(`log ${GOVERNED_KEYS.log.vkey}\nlog ${GOVERNED_KEYS.logPq.vkey}\nquorum none\n`);
  const trust = { kept, mirrors: new Set<string>(), policy, requirePq: true, verifier: nativeVerifier };
  async function* source(): AsyncGenerator<Uint8Array> {
    await Promise.resolve();
    yield bytes;
  }
  const options = { allowOutside: new Set<string>(), complete: [], genesis: ids.genesis, limits: DEFAULT_LIMITS };
  const verified = await verifyPack(source(), trust, { ...options, ...more });
  const codes = verified.report.checks.flatMap((c) => c.failures.map((f) => f.code));
  if (codes.length > 0) throw new Error(codes.join());
  return verified;
}

const textOf = (bytes: Uint8Array, name: string): string =>
  new TextDecoder().decode(partsOf(bytes).find((p) => p.name === name)?.bytes);
const manifestOf = (bytes: Uint8Array) =>
  JSON.parse(textOf(bytes, "manifest.json")) as {
    complete: string[];
    outside: { id: string; type: string; why: string }[];
  };
const reasons = (bytes: Uint8Array, type: string): string[] =>
  manifestOf(bytes)
    .outside.filter((o) => o.type === type)
    .map((o) => o.why);

describe("a pack", () => {
  it("gives the same bytes for the same question, whatever the order of its parts", async () => {
    const { deps } = world;
    const question: Wanted = {
      anchors: [early],
      blobs: () => true,
      complete: [ids.fraud, ids.other],
      personal: (ref) => deps.personal.preimage(ref),
      roots: [ids.joined, ids.model],
    };
    const one = await build(question);
    const two = await build({ ...question, complete: [ids.other, ids.fraud], roots: [ids.model, ids.joined] });
    expect(two.pack.id).toBe(one.pack.id);
    expect(Buffer.compare(one.bytes, two.bytes)).toBe(0);
    const { personal, records, report } = await verify(one.bytes, { complete: [digestOf(ids.fraud)] }, [early]);
    expect(report.verdict).toBe("pass");
    expect(report.pack).toBe(one.pack.id);
    expect(records.filter((r) => r.record !== undefined).length).toBe(one.pack.records);
    expect([...personal.values()]).toContain("Ada");
    expect(partsOf(one.bytes).filter((p) => p.name.startsWith("blobs/")).length).toBe(4);
  });

  it("says what is left out: personal values, artifacts", async () => {
    const { bytes, pack } = await build();
    expect(new Set(reasons(bytes, "personal"))).toEqual(new Set(["not-granted"]));
    expect(new Set(reasons(bytes, "artifact"))).toEqual(new Set(["not-included"]));
    expect(pack.omitted).toBe(manifestOf(bytes).outside.length);
    expect((await verify(bytes)).personal.size).toBe(0);
  });

  it("is complete for _ledger and what is asked for", async () => {
    const { bytes } = await build({ complete: [ids.fraud] });
    expect(manifestOf(bytes).complete).toEqual([digestOf(ids.fraud), digestOf(ids.genesis)].toSorted());
    const wanted = [digestOf(ids.fraud), digestOf(ids.other)] as readonly Digest[];
    const { report } = await verify(bytes, { complete: wanted });
    expect(report.verdict).toBe("incomplete");
    expect(report.checks.find((c) => c.id === "chains")?.skipped).toHaveLength(1);
    expect(
      (await verify((await build({ complete: [ids.fraud, ids.other] })).bytes, { complete: wanted })).report.verdict,
    ).toBe("pass");
  });
});

describe("governance", () => {
  it("of what the pack is about is in it, not that of the project around it", async () => {
    const kinds = async (wanted: Wanted): Promise<(string | undefined)[]> =>
      (await verify((await build(wanted)).bytes)).records.map((r) => r.record?.kind);
    expect(await kinds({ roots: [ids.joined] })).not.toContain("decision");
    expect(await kinds({ roots: [ids.model] })).toContain("decision");
    expect(await kinds({ governance: false, roots: [ids.model] })).not.toContain("run.batch");
    expect(await kinds({ governance: true, roots: [ids.model] })).toContain("run.batch");
  });
});

describe("depth", () => {
  it("leaves out what is further, and says so", async () => {
    const deep = await build({ governance: false });
    const near = await build({ depth: 1, governance: false });
    expect(near.pack.records).toBeLessThan(deep.pack.records);
    expect(new Set(reasons(near.bytes, "record"))).toEqual(new Set(["depth"]));
    expect((await verify(near.bytes)).report.verdict).toBe("incomplete");
    const { records, report } = await verify(near.bytes, { allowOutside: new Set(["depth"]) });
    expect(report.checks.find((c) => c.id === "records")?.status).toBe("pass");
    expect(records.find((r) => r.entry.record === ids.joined)?.record).toBeDefined();
    // Its entry stays, so that the link to it leads somewhere.
    expect(records.find((r) => r.entry.record === ids.raw)?.record).toBeUndefined();
    expect(records.some((r) => r.entry.record === ids.raw)).toBe(true);
  });

  it("is no matter in a complete project", async () => {
    const { bytes } = await build({ complete: [ids.fraud, ids.other], depth: 1 });
    expect(reasons(bytes, "record")).not.toContain("depth");
  });
});

describe("who may not read a project", () => {
  const visible = (project: RecordId): boolean => project !== ids.other && project !== ids.system;

  it("gets its entries, and nothing of its records but the seal", async () => {
    const { bytes } = await build({ personal: (ref) => world.deps.personal.preimage(ref), visible });
    expect(new Set(reasons(bytes, "record"))).toEqual(new Set(["other-project"]));
    const { records, report } = await verify(bytes);
    expect(report.checks.find((c) => c.id === "records")?.status).toBe("pass");
    const shown = records.filter((r) => r.record !== undefined);
    expect(shown.some((r) => r.entry.project === digestOf(ids.other))).toBe(false);
    expect(shown.filter((r) => r.entry.project === digestOf(ids.system)).map((r) => r.record?.kind)).toEqual([
      "ledger.seal",
    ]);
    expect(records.some((r) => r.entry.record === ids.raw)).toBe(true);
    expect(textOf(bytes, "records.jsonl")).not.toContain('"raw"');
  });

  it("of whose roots one is, gets it as not granted", async () => {
    const { bytes } = await build({ roots: [ids.joined], visible: (p) => p !== ids.fraud }).catch(() => ({
      bytes: undefined,
    }));
    // The root itself is then left out: the pack proves nothing, and says so.
    if (bytes === undefined) return;
    expect(reasons(bytes, "record")).toContain("not-granted");
  });

  it("gets bytes of no artifact that is not granted", async () => {
    const { bytes } = await build({ blobs: (project) => project === ids.fraud });
    expect(reasons(bytes, "artifact")).toEqual(["not-granted"]);
    expect(partsOf(bytes).filter((p) => p.name.startsWith("blobs/")).length).toBe(2);
    expect((await verify(bytes)).report.verdict).toBe("incomplete");
    const accepted = await verify(bytes, { allowOutside: new Set(["not-granted"]) });
    expect(accepted.report.checks.find((c) => c.id === "blobs")?.status).toBe("pass");
  });
});

describe("anchors", () => {
  it("of the log's own past are kept, with their proof", async () => {
    const { bytes } = await build({ anchors: [early], complete: [ids.fraud, ids.other] });
    expect(JSON.parse(textOf(bytes, "history.jsonl"))).toMatchObject({ note: new TextDecoder().decode(early) });
    expect((await verify(bytes, {}, [early])).report.verdict).toBe("pass");
  });

  it("of another past are no anchors, and get the proof that convicts", async () => {
    const text = `${ORIGIN}\n3\n${Buffer.alloc(32, 7).toString("base64")}\n`;
    const other = formatNote(text, [GOVERNED_KEYS.log.line(text)]);
    const { bytes } = await build({ anchors: [other] });
    expect(Object.keys(JSON.parse(textOf(bytes, "history.jsonl")) as object)).toEqual(["hashes", "size"]);
    await verify(bytes);
    await expect(verify(bytes, {}, [other])).rejects.toThrow("consistency.mismatch");
  });

  it("that are none are refused", async () => {
    await expect(build({ anchors: [utf8("hello")] })).rejects.toMatchObject({
      reason: "REQUEST_INVALID",
    } satisfies Partial<Fault>);
  });
});

describe("content in chunks", () => {
  it("is in the pack with its manifest, and verifies", async () => {
    const { deps } = world;
    const member = await world.member("fraud", "contributor");
    const parts = ["0123", "4567", "89"].map(utf8);
    const manifest = formatChunkManifest({
      chunkBytes: 4,
      chunks: parts.map(sha256Hex),
      sha256Claimed: sha256Hex(concat(...parts)),
      sizeBytes: 10,
    });
    const send = async (bytes: Uint8Array, isChunk: boolean, mediaType = "") => {
      const body = { digest: `sha256:${sha256Hex(bytes)}`, mediaType, sizeBytes: bytes.length };
      const request = create(CreateArtifactRequestSchema, { artifact: body, isChunk, project: "fraud" });
      await put(world, (await createArtifact(deps, member, request)).uploadUrl, bytes);
      return body;
    };
    for (const part of parts) await send(part, true);
    const body = await send(manifest, false, CHUNKS_MEDIA_TYPE);
    const request = create(CompleteArtifactRequestSchema, { artifact: body, project: "fraud" });
    const root = idOf((await completeArtifact(deps, member, request)).resource?.record ?? "");
    seal = await deps.log.seal();
    const names = (bytes: Uint8Array) => partsOf(bytes).flatMap((p) => (p.name.startsWith("blobs/") ? [p.name] : []));
    const { bytes } = await build({ blobs: () => true, roots: [root] });
    expect(names(bytes)).toEqual([...parts, manifest].map((p) => `blobs/${sha256Hex(p)}`).toSorted());
    expect((await verify(bytes)).report.verdict).toBe("pass");
    const bare = await build({ roots: [root] });
    expect(names(bare.bytes)).toEqual([]);
    expect((await verify(bare.bytes)).report.verdict).toBe("pass");
    const short = partsOf(bytes).filter((p) => p.name !== `blobs/${sha256Hex(parts[1] ?? manifest)}`);
    await expect(verify(archiveOf(agreeing(short)))).rejects.toThrow("artifact.missing");
  });
});
