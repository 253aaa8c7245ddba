/**
 * Artifacts in chunks, the quota of what is outstanding, and the leader's duties beside: what is recorded is what the store holds, and
 * nothing is claimed that was not read.
 */
import { createHash } from "node:crypto";
import { chmodSync, writeFileSync } from "node:fs";
import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Artifact } from "../../gen/ts/animus/datapilot/record/v1/data_pb.ts";
import { ArtifactSchema } from "../../gen/ts/animus/datapilot/record/v1/data_pb.ts";
import * as artifact from "../../gen/ts/animus/datapilot/v1/artifact_pb.ts";
import { completeArtifact } from "../../src/command/complete-artifact.ts";
import { batchCreateArtifacts, createArtifact } from "../../src/command/create-artifact.ts";
import { batchGetDownloadUrls } from "../../src/command/get-download-urls.ts";
import { outstandingOf, UPLOAD_GRACE_MS } from "../../src/command/outstanding.ts";
import { ChunkedReader } from "../../src/command/read-chunked.ts";
import { UploadSweeper } from "../../src/command/sweep-uploads.ts";
import type { Caller } from "../../src/identity/caller.ts";
import {
  CHUNKS_MEDIA_TYPE,
  type ChunkManifest,
  chunkRange,
  formatChunkManifest,
  parseChunkManifest,
} from "../../src/record/chunks.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { type Digest, digestOf, idOf, parseRecordId, type RecordId } from "../../src/std/brand.ts";
import { artifactKey } from "../../src/store/keys.ts";
import { createWorld, newProject, put, refused, type World } from "./world.ts";

const DAY_MS = 86_400_000;
const PROJECT = "vision";
let world: World;
let caller: Caller;
let project: RecordId;

beforeEach(async () => {
  world = await createWorld();
  await newProject(world, PROJECT);
  caller = await world.member(PROJECT, "contributor");
  using reader = world.deps.log.index.reader();
  project = assertDefined(reader.get("name", `-/project/${PROJECT}`), "a project").value.id;
});
afterEach(() => world[Symbol.asyncDispose]());

const sha256 = (bytes: Uint8Array): Digest => createHash("sha256").update(bytes).digest("hex") as Digest;
const keyOf = (digest: Digest): string => artifactKey(digestOf(project), digest);

interface Split {
  readonly manifest: ChunkManifest;
  readonly bytes: Uint8Array;
  readonly artifact: Artifact;
  readonly parts: readonly Uint8Array[];
}

function split(text: string, chunkBytes: number, more: Partial<ChunkManifest> = {}): Split {
  const content = Buffer.from(text);
  const size = { chunkBytes, sizeBytes: content.length };
  const parts = Array.from({ length: Math.ceil(content.length / chunkBytes) }, (_, position) => {
    const { from, to } = chunkRange(size, position);
    return content.subarray(from, to);
  });
  const manifest = { ...size, chunks: parts.map(sha256), sha256Claimed: sha256(content), ...more };
  const bytes = formatChunkManifest(manifest);
  const body = { digest: idOf(sha256(bytes)), mediaType: CHUNKS_MEDIA_TYPE, name: "big.bin", sizeBytes: bytes.length };
  return { artifact: create(ArtifactSchema, body), bytes, manifest, parts };
}

const declare = (body: Artifact, isChunk = false) =>
  createArtifact(
    world.deps,
    caller,
    create(artifact.CreateArtifactRequestSchema, { artifact: body, isChunk, project: PROJECT }),
  );
const complete = (body: Artifact, validateOnly = false) =>
  completeArtifact(
    world.deps,
    caller,
    create(artifact.CompleteArtifactRequestSchema, { artifact: body, project: PROJECT, validateOnly }),
  );
const download = (text: string, firstChunk = 0, maxChunks = 0) =>
  batchGetDownloadUrls(
    world.deps,
    caller,
    create(artifact.BatchGetDownloadUrlsRequestSchema, { artifacts: [text], firstChunk, maxChunks, project: PROJECT }),
  );

const plain = (bytes: Uint8Array): Artifact =>
  create(ArtifactSchema, { digest: idOf(sha256(bytes)), sizeBytes: bytes.length });

/** Declares and puts; gives what was answered. */
async function send(bytes: Uint8Array, isChunk: boolean, body = plain(bytes)) {
  const place = await declare(body, isChunk);
  if (place.uploadUrl !== "") await put(world, place.uploadUrl, bytes);
  return place;
}
async function sendAll({ artifact: body, bytes, parts }: Split): Promise<void> {
  for (const part of parts) await send(part, true);
  await send(bytes, false, body);
}
const stats = () => outstandingOf(world.deps.log).stats;

const operations = () => {
  using reader = world.deps.log.index.reader();
  return reader
    .list({ kinds: ["operation"], limit: 100 })
    .map((i) => assertDefined(reader.record(assertDefined(reader.entry(i), "an entry").record), "a record").record);
};
const artifactsOf = () => {
  using reader = world.deps.log.index.reader();
  return reader
    .list({ kinds: ["artifact"], limit: 100 })
    .map((i) => assertDefined(reader.record(assertDefined(reader.entry(i), "an entry").record), "a record").record);
};

describe("content in chunks", () => {
  it("is recorded once all chunks are stored, and every one is locked as long as the ledger", async () => {
    const content = split("0123456789", 4);
    for (const part of content.parts.slice(0, 2)) await send(part, true);
    await send(content.bytes, false, content.artifact);
    const lacking = await refused(() => complete(content.artifact), "ARTIFACT_NOT_UPLOADED");
    expect(lacking.message).toMatch(/^1 of 3 chunks are not in the store as the manifest says: 2 \(/);
    expect(lacking.metadata).toEqual({
      chunks: "3",
      digest: idOf(content.manifest.chunks[2] as Digest),
      missing: "1",
      position: "2",
    });
    expect(artifactsOf()).toEqual([]);
    // Only what is whole is held for long.
    for (const digest of content.manifest.chunks.slice(0, 2))
      expect((await world.store.head("ledger", keyOf(digest)))?.retainUntil).toBe(world.clock.ms + 1e9);
    await send(content.parts[2] as Uint8Array, true);
    const done = await complete(content.artifact);
    expect(done.resource?.body).toMatchObject({
      case: "artifact",
      value: { digest: content.artifact.digest, mediaType: CHUNKS_MEDIA_TYPE, sizeBytes: content.bytes.length },
    });
    for (const digest of [...content.manifest.chunks, sha256(content.bytes)])
      expect((await world.store.head("ledger", keyOf(digest)))?.retainUntil).toBeGreaterThan(
        world.clock.ms + 364 * DAY_MS,
      );
    expect(artifactsOf()).toHaveLength(1);
    expect(stats()).toEqual({ bytes: 0, count: 0 });
  });

  it("asks for no chunk again that is there, nor for the whole when it is recorded", async () => {
    const content = split("0123456789", 4);
    expect(await send(content.parts[0] as Uint8Array, true)).toMatchObject({ isStored: false });
    expect(await declare(plain(content.parts[0] as Uint8Array), true)).toMatchObject({ isStored: true, uploadUrl: "" });
    await sendAll(content);
    expect(await declare(content.artifact)).toMatchObject({ isStored: true, uploadUrl: "" });
    await complete(content.artifact);
    expect((await declare(content.artifact)).existing?.kind).toBe("artifact");
    // A chunk is no artifact, so it is there and not recorded; and it is no upload any more.
    expect(await declare(plain(content.parts[1] as Uint8Array), true)).toMatchObject({ isStored: true });
    expect(stats()).toEqual({ bytes: 0, count: 0 });
  });

  it("locks nothing when it is only validated", async () => {
    const content = split("0123456789", 4);
    await sendAll(content);
    await complete(content.artifact, true);
    for (const digest of content.manifest.chunks)
      expect((await world.store.head("ledger", keyOf(digest)))?.retainUntil).toBe(world.clock.ms + 1e9);
    expect(artifactsOf()).toEqual([]);
  });

  it("does not believe a chunk that was changed on the disk", async () => {
    const content = split("0123456789", 4);
    await sendAll(content);
    await overwrite(content.manifest.chunks[1] as Digest, "4567".replace("5", "x"));
    const flaw = await refused(() => complete(content.artifact), "DIGEST_MISMATCH");
    expect(flaw.metadata).toMatchObject({ position: "1" });
    expect(artifactsOf()).toEqual([]);
  });

  it("has chunks of the length that its manifest says", async () => {
    const content = split("01234567", 4);
    // The manifest says 4 bytes of what has 3.
    const short = sha256(Buffer.from("456"));
    const lying = split("01234567", 4, { chunks: [content.manifest.chunks[0] as Digest, short] });
    await send(Buffer.from("0123"), true);
    await send(Buffer.from("456"), true);
    await send(lying.bytes, false, lying.artifact);
    await refused(() => complete(lying.artifact), "DIGEST_MISMATCH");
  });

  it.each([
    ["no JSON", "chunks", "chunks.noncanonical"],
    ["a manifest of files", '{"digest":"","path":"","size_bytes":1}\n', "chunks.noncanonical"],
    ["too few chunks", `{"chunk":4,"chunks":[],"sha256_claimed":"${"0".repeat(64)}","size":10}`, "chunks.count"],
  ])("is not %s", async (_, text, code) => {
    const bytes = Buffer.from(text);
    const body = create(ArtifactSchema, { ...plain(bytes), mediaType: CHUNKS_MEDIA_TYPE });
    await send(bytes, false, body);
    const flaw = await refused(() => complete(body), "REQUEST_INVALID");
    expect(flaw.metadata["code"]).toBe(code);
    expect(flaw.message).toContain("leave the media type out");
    expect(artifactsOf()).toEqual([]);
  });

  it("is told by its record, and not by the look of its bytes", async () => {
    const content = split("0123456789", 4);
    // A file that looks like a manifest is a file: its chunks are nobody's business.
    await send(content.bytes, false, plain(content.bytes));
    await complete(plain(content.bytes));
    expect((await download(content.artifact.digest)).urls[0]?.content).toBeUndefined();
    await refused(() => download(content.artifact.digest, 0, 1), "REQUEST_INVALID");
    // And it cannot become one afterwards.
    const taken = await refused(() => declare(content.artifact), "IDENTITY_TAKEN");
    expect(taken.message).toContain("chunks of another length");
    await refused(() => complete(content.artifact), "IDENTITY_TAKEN");
    const other = split("0123456789", 5);
    await sendAll(other);
    expect((await complete(other.artifact)).resource?.kind).toBe("artifact");
  });

  it("gives the manifest and pages of chunks, each page recorded first", async () => {
    const content = split("0123456789", 4);
    await sendAll(content);
    const done = await complete(content.artifact);
    for (const name of [content.artifact.digest, content.artifact.digest.slice(7), done.resource?.record ?? ""]) {
      const before = world.deps.log.index.watermark.size;
      const { urls } = await download(name, 1, 5);
      expect(world.deps.log.index.watermark.size).toBe(before + 1);
      expect(urls).toMatchObject([
        {
          content: {
            chunkBytes: 4,
            chunkCount: 3,
            chunks: [
              { digest: idOf(content.manifest.chunks[1] as Digest), position: 1, sizeBytes: 4 },
              { digest: idOf(content.manifest.chunks[2] as Digest), position: 2, sizeBytes: 2 },
            ],
            readBy: "",
            sha256Claimed: idOf(content.manifest.sha256Claimed),
            sha256Read: "",
            sizeBytes: 10,
          },
          digest: content.artifact.digest,
          sizeBytes: content.bytes.length,
        },
      ]);
    }
    expect((await download(content.artifact.digest, 9, 5)).urls[0]?.content?.chunks).toEqual([]);
    await refused(() => download(content.artifact.digest, 0, 1_001), "LIMIT_EXCEEDED");
    // The SHA-256 of the whole names nothing: it is only claimed.
    await refused(() => download(idOf(content.manifest.sha256Claimed)), "NOT_FOUND");
  });
});

/** Changes bytes on the disk, past the store. */
async function overwrite(digest: Digest, text: string): Promise<void> {
  const { path } = await pathOf(digest);
  chmodSync(path, 0o644);
  writeFileSync(path, text);
}

async function pathOf(digest: Digest): Promise<{ path: string }> {
  const { globSync } = await import("node:fs");
  const { tmpdir } = await import("node:os");
  const [path] = globSync(`${tmpdir()}/datapilot-command-*/store/ledger/${keyOf(digest)}`);
  return { path: assertDefined(path, "a file") };
}

describe("the reading of the whole", () => {
  const count = () => ({ differing: 0, unreadable: 0, verified: 0 });

  it("records what it read, once", async () => {
    const content = split("0123456789", 4);
    await sendAll(content);
    const record = parseRecordId((await complete(content.artifact)).resource?.record ?? "");
    const read = count();
    for (let i = 0; i < 2; i++) {
      await using reader = new ChunkedReader(world.deps, read);
      await reader.round();
      await reader.round();
    }
    expect(read).toEqual({ ...count(), verified: 1 });
    expect(operations()).toMatchObject([
      {
        actor: { method: "system" },
        body: {
          digests: [idOf(content.manifest.sha256Claimed)],
          outcome: "OPERATION_OUTCOME_DONE",
          type: "OPERATION_TYPE_SCRUB",
        },
        links: [{ rel: "subject", to: record }],
        project,
      },
    ]);
    const [url] = (await download(content.artifact.digest)).urls;
    expect(url?.content?.sha256Read).toBe(idOf(content.manifest.sha256Claimed));
    expect(url?.content?.readBy).toMatch(/^sha256:/);
  });

  it("says it when the claim was wrong", async () => {
    const claim = sha256(Buffer.from("something else"));
    const content = split("0123456789", 4, { sha256Claimed: claim });
    await sendAll(content);
    await complete(content.artifact);
    const read = count();
    await using reader = new ChunkedReader(world.deps, read);
    await reader.round();
    expect(read).toEqual({ ...count(), differing: 1 });
    expect(operations()).toMatchObject([
      {
        body: {
          findings: [{ code: "artifact.claimed", object: keyOf(sha256(content.bytes)) }],
          outcome: "OPERATION_OUTCOME_FOUND",
        },
      },
    ]);
    const { content: told } = assertDefined((await download(content.artifact.digest)).urls[0], "an address");
    expect(told).toMatchObject({ sha256Claimed: idOf(claim), sha256Read: idOf(sha256(Buffer.from("0123456789"))) });
  });

  it("records nothing of a chunk that is not right, and tries again later", async () => {
    const content = split("0123456789", 4);
    await sendAll(content);
    await complete(content.artifact);
    await overwrite(content.manifest.chunks[1] as Digest, "45x7");
    const read = count();
    await using reader = new ChunkedReader(world.deps, read);
    await reader.round();
    await reader.round();
    expect(read).toEqual({ ...count(), unreadable: 1 });
    expect(operations()).toEqual([]);
    await overwrite(content.manifest.chunks[1] as Digest, "4567");
    world.clock.ms += 2 * 3_600_000;
    await reader.round();
    expect(read).toEqual({ differing: 0, unreadable: 1, verified: 1 });
    expect(operations()).toHaveLength(1);
  });

  it("does not read what only looks like a manifest", async () => {
    const content = split("0123456789", 4);
    await send(content.bytes, false, plain(content.bytes));
    await complete(plain(content.bytes));
    const read = count();
    await using reader = new ChunkedReader(world.deps, read);
    await reader.round();
    expect(read).toEqual(count());
  });
});

describe("what is outstanding", () => {
  it("is limited by project, and room comes back when it is completed", async () => {
    world = Object.assign(world, { deps: { ...world.deps, uploadQuotaBytes: 10 } });
    await send(Buffer.from("0123"), false);
    await declare(plain(Buffer.from("45678")));
    const full = await refused(() => declare(plain(Buffer.from("more"))), "LIMIT_EXCEEDED");
    expect(full.message).toMatch(/2 that were declared and not completed, of 9 bytes, and 10 bytes are allowed/);
    expect(full.message).toContain("--upload-quota");
    expect(full.retryAfterMs).toBe(UPLOAD_GRACE_MS);
    expect(full.metadata).toEqual({
      limit: "upload_quota_bytes",
      outstanding_bytes: "9",
      outstanding_uploads: "2",
    });
    // What is declared again counts once.
    await declare(plain(Buffer.from("45678")));
    await newProject(world, "other");
    await world.bind("other", "contributor", caller);
    await createArtifact(
      world.deps,
      caller,
      create(artifact.CreateArtifactRequestSchema, { artifact: plain(Buffer.from("more")), project: "other" }),
    );
    await complete(plain(Buffer.from("0123")));
    expect((await declare(plain(Buffer.from("more")))).uploadUrl).not.toBe("");
  });

  it("is reserved whole or not at all", async () => {
    world = Object.assign(world, { deps: { ...world.deps, uploadQuotaBytes: 10 } });
    const batch = (texts: readonly string[]) =>
      batchCreateArtifacts(
        world.deps,
        caller,
        create(artifact.BatchCreateArtifactsRequestSchema, {
          artifacts: texts.map((t) => plain(Buffer.from(t))),
          project: PROJECT,
        }),
      );
    await refused(() => batch(["0123456", "789x"]), "LIMIT_EXCEEDED");
    expect(stats()).toEqual({ bytes: 0, count: 0 });
    await batch(["0123456", "789", "0123456"]);
    expect(stats()).toEqual({ bytes: 10, count: 2 });
  });

  it("says nothing to who may not write", async () => {
    const viewer = await world.member(PROJECT, "viewer");
    const request = create(artifact.CreateArtifactRequestSchema, {
      artifact: plain(Buffer.from("0123")),
      project: PROJECT,
    });
    await refused(() => createArtifact(world.deps, viewer, request), "PERMISSION_DENIED");
    expect(stats()).toEqual({ bytes: 0, count: 0 });
  });
});

describe("the sweeper", () => {
  const start = () => ({ abandoned: 0, abandoned_bytes: 0, completed: 0 });

  it("completes what was put, and gives up what was not, after an hour", async () => {
    const swept = start();
    await using sweeper = new UploadSweeper(world.deps, swept);
    const named = create(ArtifactSchema, { ...plain(Buffer.from("0123")), name: "rows" });
    await send(Buffer.from("0123"), false, named);
    await declare(plain(Buffer.from("never")));
    await sweeper.sweep();
    expect([stats(), artifactsOf()]).toEqual([{ bytes: 9, count: 2 }, []]);
    world.clock.ms += UPLOAD_GRACE_MS;
    await sweeper.sweep();
    expect(swept).toEqual({ abandoned: 1, abandoned_bytes: 5, completed: 1 });
    expect(stats()).toEqual({ bytes: 0, count: 0 });
    expect(artifactsOf()).toMatchObject([
      { actor: { method: "system" }, body: { digest: named.digest, name: "rows", size_bytes: 4 }, project },
    ]);
    const { retainUntil } = assertDefined(
      await world.store.head("ledger", keyOf(sha256(Buffer.from("0123")))),
      "bytes",
    );
    expect(retainUntil).toBeGreaterThan(world.clock.ms + 364 * DAY_MS);
    // The client comes back, and finds it done.
    expect((await complete(named)).receipt?.existing).toBe(true);
  });

  it("completes a manifest only when its chunks are there, and makes no artifacts of chunks", async () => {
    const swept = start();
    await using sweeper = new UploadSweeper(world.deps, swept);
    const content = split("0123456789", 4);
    await send(content.parts[0] as Uint8Array, true);
    await send(content.bytes, false, content.artifact);
    world.clock.ms += UPLOAD_GRACE_MS;
    await sweeper.sweep();
    expect([swept, artifactsOf()]).toEqual([start(), []]);
    expect(stats().count).toBe(2);
    for (const part of content.parts.slice(1)) await send(part, true);
    world.clock.ms += 3 * UPLOAD_GRACE_MS;
    await sweeper.sweep();
    expect(swept).toEqual({ ...start(), completed: 1 });
    expect(artifactsOf()).toHaveLength(1);
    expect(stats()).toEqual({ bytes: 0, count: 0 });
  });

  it("forgets chunks without a manifest when they are not locked any more", async () => {
    const swept = start();
    await using sweeper = new UploadSweeper(world.deps, swept);
    await send(Buffer.from("0123"), true);
    for (let days = 0; days < 6; days++) {
      world.clock.ms += DAY_MS;
      await sweeper.sweep();
    }
    expect(stats()).toEqual({ bytes: 4, count: 1 });
    world.clock.ms += 2 * DAY_MS;
    await sweeper.sweep();
    expect([swept, stats()]).toEqual([
      { abandoned: 1, abandoned_bytes: 4, completed: 0 },
      { bytes: 0, count: 0 },
    ]);
    expect(artifactsOf()).toEqual([]);
  });

  it("does not record bytes that are not what was declared", async () => {
    const swept = start();
    await using sweeper = new UploadSweeper(world.deps, swept);
    await send(Buffer.from("0123"), false);
    await overwrite(sha256(Buffer.from("0123")), "012x");
    world.clock.ms += UPLOAD_GRACE_MS;
    await sweeper.sweep();
    expect([swept, artifactsOf()]).toEqual([start(), []]);
  });

  it("leaves what the client completed alone", async () => {
    const swept = start();
    await using sweeper = new UploadSweeper(world.deps, swept);
    await send(Buffer.from("0123"), false);
    await complete(plain(Buffer.from("0123")));
    world.clock.ms += UPLOAD_GRACE_MS;
    await sweeper.sweep();
    expect(swept).toEqual(start());
    expect(artifactsOf()).toHaveLength(1);
  });
});

it("keeps a manifest's bytes as they were put", async () => {
  const content = split("0123456789", 4);
  await sendAll(content);
  const { body } = assertDefined(await world.store.get("ledger", keyOf(sha256(content.bytes))), "the manifest");
  expect(parseChunkManifest(body)).toEqual(content.manifest);
});
