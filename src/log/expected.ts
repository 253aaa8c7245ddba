/**
 * What the log says must lie in the ledger bucket, commit by commit: the commit, its records, the artifacts that they name, the tiles
 * that it completed, the checkpoint that it sealed. And whether it lies there: `lookAt` finds the version that has the right bytes,
 * whatever was laid over it.
 */
import type { Index, IndexedCommit, IndexReader } from "../index/index.ts";
import { sha256Hex, sha256Stream } from "../merkle/hash.ts";
import { type NodeReader, subtreeRoot } from "../merkle/proofs.ts";
import { entriesPath, fullTiles, TILE_WIDTH, tilePath } from "../merkle/tiles.ts";
import { parseCheckpoint } from "../note/checkpoint.ts";
import { parseNote } from "../note/note.ts";
import { chunksOf, isChunked, MAX_CHUNK_MANIFEST_BYTES, parseChunkManifest } from "../record/chunks.ts";
import { type Digest, digestOf, parseRecordId, type RecordId } from "../std/brand.ts";
import { equalBytes, formatHex } from "../std/bytes.ts";
import { Fault } from "../std/faults.ts";
import { parseTime } from "../std/ports.ts";
import { Violation } from "../std/violation.ts";
import { findBlob } from "../store/find-blob.ts";
import { artifactKey, commitKey, HEAD_CHECKPOINT, type LedgerKey, recordKey, tileKey } from "../store/keys.ts";
import type { LockInfo, ObjectStore, StoreOptions } from "../store/object-store.ts";
import { type Placing, persist } from "../store/place.ts";
import { type Over, readRight } from "../store/right-version.ts";
import { archived } from "./archive.ts";
import { artifactDays, DAY_MS, floorDays } from "./retention.ts";
import { entryBundle, hashTile } from "./tile-bytes.ts";
import { LogTree } from "./tree.ts";

export interface ExpectedObject {
  readonly key: string;
  readonly type: LedgerKey["type"];
  /** For how many days such an object is locked. */
  readonly termDays: number;
  /** Until when it was locked at first, as far as the log says. */
  readonly lockedUntil: number;
  /** Until when it is to be locked now: an artifact may have been given a longer term since. */
  readonly wantedUntil: number;
  readonly content:
    | { isRight(body: Uint8Array): boolean }
    /** Too long to be held in memory. */
    | { readonly sha256: Digest; readonly sizeBytes: number };
}

/** The objects of one commit, by the index. Undefined for a slot that a later commit voids. */
export class Expectations {
  readonly #index: Index;
  readonly #store: ObjectStore;

  constructor(index: Index, store: ObjectStore) {
    this.#index = index;
    this.#store = store;
  }

  commit(n: number): IndexedCommit | undefined {
    using reader = this.#index.reader();
    return reader.commit(n);
  }

  /** The commit's own object comes first. */
  async ofCommit(commit: IndexedCommit, signal: AbortSignal): Promise<ExpectedObject[]> {
    const { first, hash, n, size, time } = commit;
    using reader = this.#index.reader();
    const termDays = floorDays(reader);
    const from = parseTime(time) ?? 0;
    // Rounded up to a day, a lock of yesterday is a day short of today's.
    const lockedUntil = from + (floorDays(reader, first) - 1) * DAY_MS;
    const usual = { lockedUntil, termDays, wantedUntil: lockedUntil };
    const objects: ExpectedObject[] = [
      { ...usual, content: { isRight: (body) => sha256Hex(body) === hash }, key: commitKey(n), type: "commit" },
    ];
    const { materialised, published } = this.#index.watermark;
    for (let i: number = first; i < size; i++) {
      const entry = reader.entry(i);
      if (entry === undefined) continue;
      const digest = digestOf(entry.record);
      const isRight = (body: Uint8Array): boolean => sha256Hex(body) === digest;
      if (i < materialised) objects.push({ ...usual, content: { isRight }, key: recordKey(digest), type: "record" });
      if (entry.kind === "artifact")
        objects.push(...(await this.#artifact(reader, entry.record, entry.project, { ...usual, from }, signal)));
    }
    objects.push(...this.#tiles(first, Math.min(size, published), usual));
    if (size <= published && reader.entry(size - 1)?.kind === "ledger.seal")
      for await (const checkpoint of this.#checkpoints(size, signal)) objects.push({ ...usual, ...checkpoint });
    return objects;
  }

  /** The bytes that a record names, and the chunks that they name where they are a manifest. */
  async #artifact(
    reader: IndexReader,
    record: RecordId,
    project: RecordId,
    { from, ...usual }: Pick<ExpectedObject, "lockedUntil" | "termDays" | "wantedUntil"> & { readonly from: number },
    signal: AbortSignal,
  ): Promise<ExpectedObject[]> {
    const body = reader.record(record)?.record.body ?? {};
    const { digest, size_bytes: sizeBytes = 0 } = body;
    const id = typeof digest === "string" ? parseRecordId(digest) : undefined;
    if (id === undefined || typeof sizeBytes !== "number") return [];
    const termDays = artifactDays(reader, project, usual.termDays);
    const wantedUntil = Math.max(usual.wantedUntil, from + (termDays - 1) * DAY_MS);
    const object = (sha256: Digest, size: number): ExpectedObject => ({
      ...usual,
      content: { sha256, sizeBytes: size },
      key: artifactKey(digestOf(project), sha256),
      termDays,
      type: "artifact",
      wantedUntil,
    });
    const own = object(digestOf(id), sizeBytes);
    if (!isChunked(body) || sizeBytes > MAX_CHUNK_MANIFEST_BYTES) return [own];
    const isRight = (bytes: Uint8Array): boolean => sha256Hex(bytes) === digestOf(id);
    try {
      const found = await readRight(this.#store, own.key, isRight, { signal });
      // What is wrong with the manifest itself is found where it is looked at.
      if (found?.isRight !== true) return [own];
      return [own, ...[...chunksOf(parseChunkManifest(found.body))].map(([chunk, size]) => object(chunk, size))];
    } catch (error) {
      if (error instanceof Violation || (error instanceof Fault && !signal.aborted)) return [own];
      throw error;
    }
  }

  *#tiles(
    first: number,
    size: number,
    usual: Pick<ExpectedObject, "lockedUntil" | "termDays" | "wantedUntil">,
  ): Generator<ExpectedObject> {
    const tile = (path: string, bytes: () => Uint8Array): ExpectedObject => ({
      ...usual,
      content: { isRight: (body) => equalBytes(body, bytes()) },
      key: tileKey(path),
      type: "tile",
    });
    for (let level = 0; fullTiles(level, size) > fullTiles(level, first); level++)
      for (let n = fullTiles(level, first); n < fullTiles(level, size); n++) {
        yield tile(tilePath(level, n), () => hashTile(this.#tree(size), level, n, TILE_WIDTH));
        if (level === 0) yield tile(entriesPath(n), () => this.#bundle(n));
      }
  }

  #bundle(n: number): Uint8Array {
    using reader = this.#index.reader();
    return entryBundle(reader, n, TILE_WIDTH);
  }

  #tree(size: number): NodeReader {
    return new LogTree(size, this.#index.nodes()).read;
  }

  async *#checkpoints(
    size: number,
    signal: AbortSignal,
  ): AsyncGenerator<Pick<ExpectedObject, "content" | "key" | "type">> {
    for await (const found of archived(this.#store, size, signal)) {
      if (found.size !== size) return;
      yield {
        content: { isRight: (body) => this.isCheckpoint(found.key, size, body) },
        key: found.key,
        type: "checkpoint",
      };
    }
  }

  /** Whether it is the note that its key names, of the tree of this size. Who signed it is for those who verify. */
  isCheckpoint(key: string, size: number, body: Uint8Array): boolean {
    try {
      const { root, size: said } = parseCheckpoint(parseNote(body).text);
      const isNamed = key.endsWith(`-${sha256Hex(body).slice(0, 16)}`);
      return isNamed && said === size && equalBytes(root, subtreeRoot(0, size, this.#tree(size)));
    } catch (error) {
      if (error instanceof Violation) return false;
      throw error;
    }
  }
}

export type Look =
  | {
      readonly is: "right";
      /** Of the version that has the right bytes; absent on a store without versions. */
      readonly versionId: string | undefined;
      /** What lies over it. */
      readonly over?: Over;
      readonly lock: LockInfo;
      readonly sizeBytes: number;
    }
  | { readonly is: "changed" | "missing" };

/** Finds an object by its content. */
export async function lookAt(
  store: ObjectStore,
  { content, key }: Pick<ExpectedObject, "content" | "key">,
  options: StoreOptions,
): Promise<Look> {
  if ("sha256" in content) return lookAtBlob(store, key, content, options);
  const found = await readRight(store, key, (body) => content.isRight(body), options);
  if (found === null) return { is: "missing" };
  if (!found.isRight) return { is: "changed" };
  const { body, over, versionId } = found;
  return {
    ...(await lockOf(store, key, versionId, options)),
    ...(over === undefined ? {} : { over }),
    is: "right",
    sizeBytes: body.length,
    versionId,
  };
}

/**
 * Asks for something about one object, for a while. A store that refuses this one and answers for another keeps something from us:
 * `refused`. Throws its Fault when it answers for none.
 */
export async function askAbout<T>(
  asking: Placing,
  key: string,
  ask: () => Promise<T>,
): Promise<{ readonly answer: T } | { readonly refused: string }> {
  try {
    return { answer: await persist<T>(asking, ask) };
  } catch (error) {
    if (asking.signal.aborted || !(error instanceof Fault) || error.reason !== "STORE_UNAVAILABLE") throw error;
    const { signal, store } = asking;
    if (key === commitKey(0)) await store.get("head", HEAD_CHECKPOINT, { signal });
    else await store.head("ledger", commitKey(0), { signal });
    return { refused: error.message };
  }
}

async function lockOf(
  store: ObjectStore,
  key: string,
  versionId: string | undefined,
  { signal }: StoreOptions,
): Promise<{ readonly lock: LockInfo }> {
  const { lockMode, retainUntil } = (await store.head("ledger", key, { signal, versionId })) ?? {};
  return {
    lock: { ...(lockMode === undefined ? {} : { lockMode }), ...(retainUntil === undefined ? {} : { retainUntil }) },
  };
}

/** A store that checked the digest at the upload is believed; else the bytes are read. */
async function lookAtBlob(
  store: ObjectStore,
  key: string,
  { sha256, sizeBytes }: { readonly sha256: Digest; readonly sizeBytes: number },
  options: StoreOptions,
): Promise<Look> {
  const found = await findBlob(store, key, sha256, options.signal);
  const newest = await store.head("ledger", key, options);
  if (found === undefined) return { is: newest === null ? "missing" : "changed" };
  const { info, isVerified } = found;
  if (info.sizeBytes !== sizeBytes || !(isVerified || (await isBlob(store, key, info.versionId, sha256, options))))
    return { is: "changed" };
  const { lockMode, retainUntil, versionId } = info;
  const over = newest === null ? "object.hidden" : newest.versionId === versionId ? undefined : "object.shadowed";
  return {
    ...(over === undefined ? {} : { over }),
    is: "right",
    lock: { ...(lockMode === undefined ? {} : { lockMode }), ...(retainUntil === undefined ? {} : { retainUntil }) },
    sizeBytes,
    versionId,
  };
}

async function isBlob(
  store: ObjectStore,
  key: string,
  versionId: string | undefined,
  sha256: Digest,
  { signal }: StoreOptions,
): Promise<boolean> {
  const opened = await store.open("ledger", key, { signal, versionId });
  if (opened === null) return false;
  const hash = sha256Stream();
  for await (const piece of opened.stream) hash.update(piece);
  return formatHex(hash.digest()) === sha256;
}
