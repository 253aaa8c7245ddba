/**
 * Writes what was judged, in the order that readers of a ledger rely on: below a checkpoint everything is there before it is.
 *
 * - Everything is create-if-absent and determined by the source, so that a copy that was killed is made whole by the next.
 * - The watermark moves over what is whole only, and never beyond the checkpoint that comes out last.
 * - A record that the source lacks holds back every checkpoint above it; an artifact does not, and is owed.
 */

import { sha256Hex } from "../merkle/hash.ts";
import { fullTiles, parseTilePath, TILE_WIDTH } from "../merkle/tiles.ts";
import type { ValidItem } from "../record/chain.ts";
import { chunksOf, isChunked, MAX_CHUNK_MANIFEST_BYTES, parseChunkManifest } from "../record/chunks.ts";
import type { LedgerRecord } from "../record/record.ts";
import { type Digest, digestOf, parseDigest, parseRecordId } from "../std/brand.ts";
import { equalBytes, formatHex } from "../std/bytes.ts";
import { each } from "../std/each.ts";
import { Violation } from "../std/violation.ts";
import {
  artifactKey,
  commitKey,
  HEAD_CHECKPOINT,
  partialTileKey,
  personalKey,
  recordKey,
  tileKey,
} from "../store/keys.ts";
import type { UploadMismatch } from "../store/object-store.ts";
import { persist, placeHead, placeLocked } from "../store/place.ts";
import { dataVersions, describeOver, hasVersions, type Over, readSized } from "../store/right-version.ts";
import { DAY_MS } from "../verify/bucket/audit.ts";
import { personalIds } from "../verify/personal.ts";
import { readRecord } from "../verify/records.ts";
import type { Stage } from "../verify/report.ts";
import type { TileObject } from "./edge.ts";
import { Flights } from "./flights.ts";
import type { Claim, Judged } from "./judge.ts";
import { ask, patience, readContent, type Sides } from "./ports.ts";
import { type Step, walk } from "./walk.ts";
import {
  type Artifact,
  again,
  MAX_OWED,
  noteLedger,
  type Sealed,
  type Watermark,
  writeWatermark,
} from "./watermark.ts";

/** Objects that were not there before. */
export interface Written {
  artifact_bytes: number;
  artifacts: number;
  checkpoints: number;
  commits: number;
  personal: number;
  records: number;
  tiles: number;
}

const STRIDE = 20_000;
/** Chunks of one artifact under way at once. */
const CHUNKS_IN_FLIGHT = 4;

/** What the copy's checkpoint will be, with the tiles that it needs. */
interface Head {
  readonly note: Uint8Array;
  readonly partials: readonly TileObject[];
  readonly size: number;
}

export class Copy {
  readonly #sides: Sides;
  readonly #judged: Judged;
  readonly #stage: Stage;
  readonly #flights: Flights;
  readonly #claims: ReadonlyMap<number, readonly Claim[]>;
  /** Size of the checkpoint that comes out last. */
  readonly #last: number;
  #mark: Watermark;
  #owed: Artifact[] = [];
  #unarchived: readonly Sealed[];
  /** Index of the first record that the source lacks. */
  #hole = Number.POSITIVE_INFINITY;
  #head: Head | undefined;
  #markedSize: number;
  readonly written: Written = {
    artifact_bytes: 0,
    artifacts: 0,
    checkpoints: 0,
    commits: 0,
    personal: 0,
    records: 0,
    tiles: 0,
  };

  constructor(sides: Sides, start: Watermark, judged: Judged, stage: Stage) {
    this.#sides = sides;
    this.#judged = judged;
    this.#stage = stage;
    this.#flights = new Flights(sides.options.concurrency);
    this.#claims = Map.groupBy(judged.claims, (c) => c.size);
    this.#last = judged.claims.at(-1)?.size ?? 0;
    this.#mark = { ...again(start), personal: sides.options.personal };
    this.#unarchived = start.unarchived;
    this.#markedSize = start.chain.size;
  }

  /** Size of the copy's checkpoint. Throws the Violations `object.*` of a target that holds something else. */
  async run(): Promise<number> {
    const { owed } = this.#mark;
    try {
      for (const artifact of owed) await this.#flights.add(() => this.#artifact(artifact));
      for (const claim of this.#judged.claims) if (claim.size < this.#mark.chain.size) await this.#archive(claim);
      await this.#checkpoint(true);
      for await (const step of walk(this.#sides, this.#mark.chain, this.#judged.end)) await this.#step(step);
    } finally {
      await this.#flights.settled();
    }
    await this.#flights.drain();
    return this.#publish();
  }

  get #placing() {
    const { notes, options, target } = this.#sides;
    const onOver = (key: string, over: Over): void =>
      void notes.add(`${over}: the copy's ${key}: ${describeOver(over)}, which counts`);
    return { ...patience(options), onOver, store: target };
  }

  /** The ledger's floor from now, or the source's lock where that is longer. */
  async #lockOf(key: string): Promise<number> {
    const { options, source } = this.#sides;
    const floor = Math.ceil((options.clock.now() + this.#mark.retentionDays * DAY_MS) / DAY_MS) * DAY_MS;
    if (source.lock === "advisory") return floor;
    const info = await ask(options, () => source.head("ledger", key, { signal: options.signal }));
    return Math.max(floor, info?.retainUntil ?? 0);
  }

  async #step({ after, bytes, commit, junk, n }: Step): Promise<void> {
    for (const item of commit.items) this.#mark = { ...this.#mark, ...noteLedger(this.#mark, item) };
    const key = commitKey(n);
    const retainUntil = await this.#lockOf(key);
    for (const slot of [...junk, { bytes, n }])
      await this.#flights.add(async () => {
        const placed = await placeLocked(this.#placing, commitKey(slot.n), slot.bytes, retainUntil);
        if (placed === "created") this.written.commits++;
      });
    this.#mark = { ...this.#mark, chain: after };
    for (const item of commit.items) {
      await this.#flights.add(() => this.#record(item, retainUntil));
      const { edge } = this.#mark;
      for (const tile of edge.append(item.entryBytes, item.leaf))
        if (edge.size <= this.#last) await this.#flights.add(() => this.#tile(tile, retainUntil));
      const isSeal = item.record?.kind === "ledger.seal";
      if (isSeal)
        this.#unarchived = [...this.#unarchived, { root: formatHex(edge.frontier().root()), size: edge.size }];
      if (this.#claims.has(edge.size)) await this.#checkpoint(edge.size === after.size);
    }
    const { progress, stride = STRIDE } = this.#sides.options;
    progress?.(after.size, this.#judged.size, "copied");
    if (after.size - this.#markedSize >= stride && after.size <= this.#last) await this.#save();
  }

  async #record(item: ValidItem, retainUntil: number): Promise<void> {
    const { options, source } = this.#sides;
    const key = recordKey(digestOf(item.entry.record));
    let { record, recordBytes } = item;
    if (recordBytes === null) {
      const digest = digestOf(item.entry.record);
      const found = await readContent(this.#sides, source, key, (bytes) => sha256Hex(bytes) === digest);
      record = found === null ? null : this.#detached(found.body, item, key);
      if (found === null || record === null) {
        this.#hole = Math.min(this.#hole, item.index);
        if (found === null)
          this.#stage.fail("record.missing", `entry ${item.index}`, "is apart from its commit, and not at the source");
        return;
      }
      recordBytes = found.body;
    }
    if ((await placeLocked(this.#placing, key, recordBytes, retainUntil)) === "created") this.written.records++;
    if (record === null) return;
    const artifact = artifactOf(record, item);
    if (artifact !== undefined) await this.#artifact(artifact);
    if (options.personal) await this.#personal(record);
  }

  /** A record that is apart from its commit, as it would have been in there; null when it is not. */
  #detached(bytes: Uint8Array, { entry, index }: ValidItem, key: string): LedgerRecord | null {
    try {
      return readRecord(bytes, entry, index);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      this.#stage.fail(error.code, key, error.message);
      return null;
    }
  }

  /** The bytes that a record names, and the chunks when they are a manifest. */
  async #artifact(artifact: Artifact): Promise<void> {
    if (!(await this.#bytes(artifact)) || !artifact.isManifest) return;
    const { options, target } = this.#sides;
    const { digest, project, sizeBytes } = artifact;
    const key = artifactKey(project, digest);
    const isRight = (body: Uint8Array): boolean => sha256Hex(body) === digest;
    const size = Math.min(sizeBytes, MAX_CHUNK_MANIFEST_BYTES + 1);
    const bytes = await ask(options, () => readSized(target, key, size, isRight, { signal: options.signal }));
    let chunks: ReadonlyMap<Digest, number>;
    try {
      chunks = chunksOf(parseChunkManifest(bytes ?? new Uint8Array()));
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      this.#stage.fail("artifact.digest", key, `its record calls it a manifest of chunks: ${error.message}`);
      return;
    }
    await each(chunks, CHUNKS_IN_FLIGHT, async ([chunk, length]) => {
      await this.#bytes({ digest: chunk, isManifest: false, project, sizeBytes: length });
    });
  }

  /** Whether the copy has them. */
  async #bytes(artifact: Artifact): Promise<boolean> {
    const { notes, options, source, target } = this.#sides;
    const { signal } = options;
    const { digest, project, sizeBytes } = artifact;
    const key = artifactKey(project, digest);
    const retainUntil = await this.#lockOf(key);
    const held = await ask(options, () => target.head("ledger", key, { signal }));
    if (held !== null) {
      if (held.sizeBytes !== sizeBytes)
        throw new Violation("object.shadowed", `${key} holds ${held.sizeBytes} bytes in the copy, not ${sizeBytes}`);
      if ((held.retainUntil ?? 0) < retainUntil)
        await ask(options, () => target.extend("ledger", key, retainUntil, { signal }));
      return true;
    }
    let mismatch: UploadMismatch | undefined;
    for await (const versionId of this.#versionsOf(key, sizeBytes)) {
      const done = await persist(patience(options), async () => {
        const opened = await source.open("ledger", key, { signal, versionId });
        if (opened === null) return { outcome: "absent" } as const;
        const received = await target.receive(key, digest, sizeBytes, opened.stream, { retainUntil, signal });
        return received.outcome === "unknown" ? "unknown" : received;
      });
      if (done.outcome === "mismatch") mismatch ??= done;
      else if (done.outcome !== "absent") {
        if (done.outcome === "created") this.written.artifacts++;
        if (done.outcome === "created") this.written.artifact_bytes += sizeBytes;
        if (versionId !== undefined)
          notes.add(`object.shadowed: ${key}: the right version is not the newest one, and was taken`);
        return true;
      }
    }
    if (mismatch === undefined) this.#owe(artifact, "artifact.missing", key, "is not at the source");
    else
      this.#owe(
        artifact,
        "artifact.digest",
        key,
        `has ${mismatch.field} ${mismatch.received}, not ${mismatch.expected}`,
      );
    return false;
  }

  /** Where the bytes of an artifact may be: in the newest version, else in an older one of their length. */
  async *#versionsOf(key: string, sizeBytes: number): AsyncGenerator<string | undefined> {
    const { options, source } = this.#sides;
    yield undefined;
    if (!hasVersions(source)) return;
    const all = await ask(options, () => dataVersions(source, key, { signal: options.signal }));
    for (const version of all) if (version.sizeBytes === sizeBytes) yield version.versionId;
  }

  #owe(artifact: Artifact, code: string, key: string, detail: string): void {
    this.#stage.fail(code, key, detail);
    if (this.#owed.length < MAX_OWED) this.#owed.push(artifact);
  }

  async #personal(record: LedgerRecord): Promise<void> {
    const { options, source, target } = this.#sides;
    const { signal } = options;
    const ids = new Set<string>();
    personalIds(record.body, ids);
    for (const id of ids) {
      const digest = parseDigest(id.slice(-64));
      if (digest === undefined) continue;
      const found = await ask(options, () => source.get("personal", personalKey(digest), { signal }));
      if (found === null) continue; // Erased, which is nobody's fault.
      if (sha256Hex(found.body) !== digest) this.#stage.fail("personal.digest", id, "the value has another digest");
      else {
        const { outcome } = await persist(patience(options), async () => {
          const done = await target.create("personal", personalKey(digest), found.body, { signal });
          return done.outcome === "unknown" ? "unknown" : done;
        });
        if (outcome === "created") this.written.personal++;
      }
    }
  }

  async #tile({ body, path }: TileObject, retainUntil: number): Promise<void> {
    if ((await placeLocked(this.#placing, tileKey(path), body, retainUntil)) === "created") this.written.tiles++;
  }

  /** The copy is at a size that a checkpoint of the source signs; `isWhole`: a commit ends there. */
  async #checkpoint(isWhole: boolean): Promise<void> {
    const { edge } = this.#mark;
    const claims = this.#claims.get(edge.size);
    if (claims === undefined) return;
    await this.#flights.drain();
    if (edge.size > this.#hole) return;
    for (const claim of claims) await this.#archive(claim);
    const note = claims.find((c) => c.key === undefined) ?? claims[0];
    if (note !== undefined) this.#head = { note: note.bytes, partials: edge.partials(), size: edge.size };
    if (isWhole) await this.#save();
  }

  async #archive({ bytes, key, size }: Claim): Promise<void> {
    if (key === undefined) return;
    if ((await placeLocked(this.#placing, key, bytes, await this.#lockOf(key))) === "created")
      this.written.checkpoints++;
    this.#unarchived = this.#unarchived.filter((s) => s.size !== size);
  }

  /** All up to here is written, or owed. */
  async #save(): Promise<void> {
    await this.#flights.drain();
    const { edge } = this.#mark;
    if (edge.size > this.#hole) return;
    this.#markedSize = edge.size;
    await writeWatermark(this.#sides, { ...this.#mark, owed: this.#owed, unarchived: this.#unarchived });
  }

  /** The tiles of the last checkpoint that are not full, then the checkpoint, never of a smaller size than the one it replaces. */
  async #publish(): Promise<number> {
    const { options, target } = this.#sides;
    const { signal } = options;
    const head = this.#head;
    if (head === undefined || head.size < this.#judged.published) return this.#judged.published;
    for (const { body, path } of head.partials) await placeHead(this.#placing, partialTileKey(path), body);
    await persist(patience(options), async () => {
      const found = await target.get("head", HEAD_CHECKPOINT, { signal });
      if (found !== null && equalBytes(found.body, head.note)) return "swapped";
      const { outcome } = await target.swap("head", HEAD_CHECKPOINT, head.note, found?.etag ?? null, { signal });
      if (outcome === "swapped") this.written.checkpoints++;
      return outcome === "moved" ? "unknown" : outcome;
    });
    await this.#sweep(head.size);
    return head.size;
  }

  /** Partial tiles go once their full tile exists. */
  async #sweep(size: number): Promise<void> {
    const { options, target } = this.#sides;
    const { signal } = options;
    await ask(options, async () => {
      for await (const { key } of target.list("head", "tile/", { signal })) {
        const tile = parseTilePath(key);
        if (tile === undefined || tile.width === TILE_WIDTH) continue;
        if (tile.n < fullTiles(tile.level === "entries" ? 0 : tile.level, size))
          await target.remove("head", key, { signal });
      }
    });
  }
}

function artifactOf({ body, kind }: LedgerRecord, { entry }: ValidItem): Artifact | undefined {
  if (kind !== "artifact") return undefined;
  const { digest, size_bytes: size = 0 } = body;
  const id = typeof digest === "string" ? parseRecordId(digest) : undefined;
  return id === undefined || typeof size !== "number"
    ? undefined
    : { digest: digestOf(id), isManifest: isChunked(body), project: entry.project, sizeBytes: size };
}
