/** A ledger to copy: records, artifacts, personal values, seals and more than a tile of entries. */
import { createHash } from "node:crypto";
import type { Draft, Log } from "../../src/log/log.ts";
import { nativeVerifier } from "../../src/log/native-verifier.ts";
import { formatNote } from "../../src/note/note.ts";
import { parseTrustPolicy } from "../../src/note/trust-policy.ts";
import { canonicalBytes } from "../../src/record/canonical.ts";
import { CommitChain } from "../../src/record/chain.ts";
import { CHUNKS_MEDIA_TYPE, formatChunkManifest } from "../../src/record/chunks.ts";
import { formatCommit } from "../../src/record/commit.ts";
import type { JsonObject } from "../../src/record/json.ts";
import { formatRecord, parseRecord, recordId } from "../../src/record/record.ts";
import type { ReplicaOptions, Source, Target } from "../../src/replicate/ports.ts";
import { type ReplicaReport, replicate } from "../../src/replicate/replicate.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { type Digest, digestOf, idOf, type RecordId } from "../../src/std/brand.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { artifactKey, commitKey, HEAD_CHECKPOINT, personalKey, recordKey } from "../../src/store/keys.ts";
import type { ObjectStore } from "../../src/store/object-store.ts";
import { type BucketOptions, type BucketReader, type BucketReport, verifyBucket } from "../../src/verify/bucket.ts";
import type { Trust } from "../../src/verify/checkpoint.ts";
import { createMemoryStore, type MemoryStore } from "../fakes/memory-store.ts";
import { createDataset, createProject, createWorld, JumpingClock, openIn, testKeys, type World } from "../log/world.ts";

export const NOW_MS = Date.parse("2026-11-24T00:00:00.000Z");
const POLICY = `log ${testKeys.log.vkey}\nlog ${testKeys.logPq.vkey}\nquorum none\n`;

export const trust: Trust = {
  kept: [],
  mirrors: new Set(),
  policy: parseTrustPolicy(POLICY),
  requirePq: false,
  verifier: nativeVerifier,
};

export const sha256 = (bytes: Uint8Array): Digest => createHash("sha256").update(bytes).digest("hex") as Digest;

/** An object store that takes streams as the file store does. */
export const withReceive = <S extends ObjectStore>(store: S): S & Target => {
  const receive: Target["receive"] = async (key, digest, sizeBytes, stream, options) => {
    const parts: Uint8Array[] = [];
    for await (const part of stream) parts.push(part);
    const body = new Uint8Array(Buffer.concat(parts));
    if (body.length !== sizeBytes)
      return { expected: String(sizeBytes), field: "length", outcome: "mismatch", received: String(body.length) };
    const received = sha256(body);
    return received === digest
      ? store.create("ledger", key, body, options)
      : { expected: digest, field: "sha256", outcome: "mismatch", received };
  };
  return Object.assign(store, { receive });
};

export class Lab {
  readonly store: MemoryStore;
  readonly world: World;
  readonly log: Log;
  readonly project: RecordId;
  /** Key and bytes. */
  readonly artifacts = new Map<string, Uint8Array>();
  #datasets = 0;

  private constructor(store: MemoryStore, world: World, log: Log, project: RecordId) {
    this.store = store;
    this.world = world;
    this.log = log;
    this.project = project;
  }

  static async create(store = createMemoryStore()): Promise<Lab> {
    const world = await createWorld(store);
    const log = await openIn(world, store);
    await log.submit(createProject("fraud", world.init.system));
    const project = assertDefined(log.index.reader().get("name", "-/project/fraud"), "a project").value.id;
    return new Lab(store, world, log, project);
  }

  async datasets(count: number): Promise<void> {
    for (let i = 0; i < count; i++) await this.log.submit(createDataset(this.project, `set-${this.#datasets++}`));
  }

  async record(kind: Draft["kind"], body: JsonObject, requestId: string): Promise<void> {
    const { project } = this;
    const draft = { actor: { method: "system" }, body, kind, links: [], project, requestId } as const;
    await this.log.submit({ admit: () => ({ drafts: [draft], value: true }), project });
  }

  /** Bytes in the store, and their record. */
  async artifact(text: string): Promise<string> {
    const bytes = utf8(text);
    const digest = sha256(bytes);
    const key = artifactKey(digestOf(this.project), digest);
    await this.store.create("ledger", key, bytes, { retainUntil: NOW_MS * 2 });
    await this.record("artifact", { digest: `sha256:${digest}`, size_bytes: bytes.length }, `artifact-${digest}`);
    this.artifacts.set(key, bytes);
    return key;
  }

  /** Content in chunks, and the record of its manifest; keys of the manifest and of the chunks. */
  async chunked(texts: readonly string[], claim = sha256(utf8(texts.join("")))): Promise<string[]> {
    const parts = texts.map(utf8);
    const bytes = formatChunkManifest({
      chunkBytes: assertDefined(parts[0], "a chunk").length,
      chunks: parts.map(sha256),
      sha256Claimed: claim,
      sizeBytes: parts.reduce((sum, p) => sum + p.length, 0),
    });
    const digest = sha256(bytes);
    const keys = [bytes, ...parts].map((part) => {
      const key = artifactKey(digestOf(this.project), sha256(part));
      this.artifacts.set(key, part);
      return key;
    });
    for (const key of new Set(keys))
      await this.store.create("ledger", key, assertDefined(this.artifacts.get(key), key), { retainUntil: NOW_MS * 2 });
    const body = { digest: `sha256:${digest}`, media_type: CHUNKS_MEDIA_TYPE, size_bytes: bytes.length };
    await this.record("artifact", body, `artifact-${digest}`);
    return keys;
  }

  /** A person whose printed name is held apart. */
  async person(name: string): Promise<string> {
    const preimage = canonicalBytes({ salt: "AAAAAAAAAAAAAAAAAAAAAA", value: name });
    const key = personalKey(sha256(preimage));
    await this.store.create("personal", key, preimage, {});
    await this.record(
      "principal",
      { display_name: `personal:sha256:${sha256(preimage)}`, name: name.toLowerCase(), type: "PRINCIPAL_TYPE_HUMAN" },
      `principal-${name}`,
    );
    return key;
  }
}

/** Appends, with the ledger's keys, a record that is an object of its own only, and a checkpoint; gives the object's key. */
export async function appendDetached(store: MemoryStore, project: RecordId): Promise<string> {
  let chain = CommitChain.genesis();
  for (let n = 0; ; n++) {
    const found = await store.get("ledger", commitKey(n));
    if (found === null) break;
    chain = chain.advance(chain.check(found.body, nativeVerifier));
  }
  const bytes = formatRecord({
    actor: { method: "system" },
    body: { classification: "CLASSIFICATION_INTERNAL", name: "apart" },
    kind: "dataset",
    links: [],
    project,
    request_id: "apart",
    salt: "A".repeat(22),
    time: chain.time,
    v: 1,
  });
  const id = recordId(bytes);
  const { first, items, root } = chain.next([{ bytes, id, record: parseRecord(bytes) }]);
  const header = {
    count: 1,
    epoch: chain.epoch,
    first,
    n: chain.n,
    prev: idOf(chain.prevHash),
    root,
    time: chain.time,
    voids: [],
    writer: "0".repeat(32),
  };
  const commit = formatCommit(
    chain.origin,
    header,
    items.map((i) => ({ entry: i.entryBytes, record: null })),
    testKeys.commit,
  );
  await store.create("ledger", commitKey(chain.n), commit, {});
  await store.create("ledger", recordKey(digestOf(id)), bytes, {});
  const text = `${chain.origin}\n${first + 1}\n${Buffer.from(root, "hex").toString("base64")}\n`;
  const { id: key, name } = testKeys.log;
  const note = formatNote(text, [{ id: key, name, signature: testKeys.log.sign(utf8(text)) }]);
  await store.replace("head", HEAD_CHECKPOINT, note);
  return recordKey(digestOf(id));
}

/** A copy of a store, byte for byte. */
export async function cloned(store: MemoryStore): Promise<MemoryStore> {
  const out = createMemoryStore();
  for (const bucket of ["ledger", "head", "personal"] as const)
    for (const key of store.keys(bucket)) {
      const { body } = assertDefined(await store.get(bucket, key), key);
      const { retainUntil } = assertDefined(await store.head(bucket, key), key);
      await out.create(bucket, key, body, { retainUntil });
    }
  return out;
}

export const copyTo = (source: Source, target: Target, more: Partial<ReplicaOptions> = {}): Promise<ReplicaReport> =>
  replicate(source, target, {
    clock: new JumpingClock(),
    concurrency: 7,
    fromStart: false,
    personal: false,
    signal: new AbortController().signal,
    trust,
    ...more,
  });

export const verify = (store: BucketReader, more: Partial<BucketOptions> = {}): Promise<BucketReport> =>
  verifyBucket(store, trust, { concurrency: 7, nowMs: NOW_MS, records: "objects", state: true, ...more });

/** Digests of what a bucket holds, key by key. */
export async function contents(
  store: ObjectStore,
  bucket: "ledger" | "head" | "personal",
): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for await (const { key } of store.list(bucket, ""))
    found.set(key, sha256(assertDefined(await store.get(bucket, key), key).body));
  return found;
}
