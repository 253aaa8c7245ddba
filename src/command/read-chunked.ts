/**
 * Reads content that lies in chunks once, whole, and records its SHA-256: until then that of the whole is only claimed. Runs on the
 * leader, one artifact after the other.
 *
 * What is recorded is what was read (an `operation` of type SCRUB with the artifact as subject), also where it is not what was
 * claimed. Bytes that cannot be read, or that are not those of their chunk, are told and tried again; nothing is recorded of them.
 */
import { createHash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { OperationOutcome, OperationSchema, OperationType } from "../../gen/ts/animus/datapilot/record/v1/access_pb.ts";
import type { IndexReader } from "../index/index.ts";
import { type ChunkManifest, chunkRange, isChunked } from "../record/chunks.ts";
import { type Digest, digestOf, idOf, parseRecordId, type RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import { findBlob } from "../store/find-blob.ts";
import { artifactKey } from "../store/keys.ts";
import { link } from "./admission.ts";
import { bodyOf } from "./body.ts";
import type { Deps } from "./context.ts";
import { Rounds } from "./rounds.ts";
import { readManifest } from "./stored-bytes.ts";

const ROUND_MS = 5_000;
const RETRY_MS = 3_600_000;
/** Artifacts that are looked through at once, and that wait to be read. */
const PAGE = 1_000;
const MAX_WAITING = 10_000;

type Parts = Pick<Deps, "clock" | "log" | "logger" | "store">;

export interface ChunkedRead {
  /** Has another SHA-256 than was claimed. */
  differing: number;
  /** Could not be read; tried again. */
  unreadable: number;
  verified: number;
}

/** What a reading of the whole found. */
export interface Reading {
  /** `sha256:<hex>` of the whole. */
  readonly sha256: RecordId;
  /** The record that says so. */
  readonly record: RecordId;
}

/** What the server read of an artifact that lies in chunks; undefined when it did not yet. */
export function readingOf(reader: IndexReader, artifact: RecordId): Reading | undefined {
  const index = reader.indexOf(artifact);
  for (const { rel, source } of index === undefined ? [] : reader.in(index)) {
    const entry = rel === "subject" ? reader.entry(source) : undefined;
    if (entry?.kind !== "operation") continue;
    const { actor, body } = reader.record(entry.record)?.record ?? {};
    const { digests, type } = body ?? {};
    // Whoever may record operations has read nothing by that.
    if (actor?.method !== "system") continue;
    const [sha256] = Array.isArray(digests) ? digests : [];
    const read = typeof sha256 === "string" ? parseRecordId(sha256) : undefined;
    if (type === "OPERATION_TYPE_SCRUB" && read !== undefined) return { record: entry.record, sha256: read };
  }
  return undefined;
}

interface Waiting {
  readonly artifact: RecordId;
  readonly project: RecordId;
  readonly digest: Digest;
  readonly sizeBytes: number;
  dueMs: number;
}

export class ChunkedReader implements AsyncDisposable {
  readonly #parts: Parts;
  readonly #rounds = new Rounds();
  readonly #read: ChunkedRead;
  readonly #waiting = new Map<RecordId, Waiting>();
  /** Index of the first entry that was not looked at. */
  #next = 0;

  /** `read` counts over the life of the process. */
  constructor(parts: Parts, read: ChunkedRead) {
    this.#parts = parts;
    this.#read = read;
  }

  start(): void {
    this.#rounds.start(this.#parts, ROUND_MS, () => this.round(), "content in chunks could not be looked for");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#rounds[Symbol.asyncDispose]();
  }

  /** Reads what waits. */
  async round(): Promise<void> {
    const { clock, logger } = this.#parts;
    // Others get their turn.
    while (this.#look()) await clock.sleep(1, this.#rounds.signal);
    for (const waiting of this.#waiting.values()) {
      if (this.#rounds.signal.aborted) return;
      if (waiting.dueMs > clock.now()) continue;
      try {
        await this.#one(waiting);
        this.#waiting.delete(waiting.artifact);
      } catch (error) {
        if (this.#rounds.signal.aborted) return;
        waiting.dueMs = clock.now() + RETRY_MS;
        this.#read.unreadable++;
        logger.error(
          { artifact: waiting.artifact, error },
          "content in chunks could not be read: check the store with datapilot verify bucket --artifacts",
        );
      }
    }
  }

  /** Looks through the next artifacts of the log; false when there are no more, or enough wait. */
  #look(): boolean {
    if (this.#waiting.size >= MAX_WAITING) return false;
    using reader = this.#parts.log.index.reader();
    const found = reader.list({ from: this.#next, kinds: ["artifact"], limit: PAGE });
    for (const index of found) {
      const entry = reader.entry(index);
      const body = entry === undefined ? undefined : reader.record(entry.record)?.record.body;
      if (entry === undefined || body === undefined || !isChunked(body)) continue;
      const { digest, size_bytes: sizeBytes } = body;
      const id = typeof digest === "string" ? parseRecordId(digest) : undefined;
      if (id === undefined || typeof sizeBytes !== "number" || readingOf(reader, entry.record) !== undefined) continue;
      const { project, record: artifact } = entry;
      this.#waiting.set(artifact, { artifact, digest: digestOf(id), dueMs: 0, project, sizeBytes });
    }
    this.#next = found.length < PAGE ? reader.size : (found.at(-1) ?? 0) + 1;
    return found.length === PAGE;
  }

  async #one(waiting: Waiting): Promise<void> {
    const { log, logger } = this.#parts;
    const { artifact, project } = waiting;
    const manifest = await readManifest(this.#parts, waiting, this.#rounds.signal);
    const read = await this.#hash(waiting, manifest);
    const isRight = read === manifest.sha256Claimed;
    const claimed = {
      code: "artifact.claimed",
      detail: `the whole has SHA-256 ${read}; whoever uploaded it claimed ${manifest.sha256Claimed}`,
      object: artifactKey(digestOf(project), waiting.digest),
    };
    const operation = create(OperationSchema, {
      digests: [idOf(read)],
      findings: isRight ? [] : [claimed],
      outcome: isRight ? OperationOutcome.DONE : OperationOutcome.FOUND,
      type: OperationType.SCRUB,
    });
    const { committed } = await log.submit({
      admit: () => ({
        drafts: [
          {
            actor: { method: "system" },
            body: bodyOf("operation", operation),
            kind: "operation",
            links: link("subject", artifact),
            project,
            requestId: `read:${digestOf(artifact)}`,
          },
        ],
        value: undefined,
      }),
      project,
      signal: this.#rounds.signal,
    });
    this.#read[isRight ? "verified" : "differing"]++;
    const told = { artifact, log_index: committed?.records[0]?.index, size_bytes: manifest.sizeBytes };
    if (isRight) logger.info(told, "content in chunks was read, and is what was claimed");
    else
      logger.warn(
        { ...told, claimed: manifest.sha256Claimed, read },
        "content in chunks was read, and has another SHA-256 than was claimed",
      );
  }

  /** SHA-256 of the whole; throws a Fault when a chunk is not as the manifest says. */
  async #hash({ project }: Waiting, manifest: ChunkManifest): Promise<Digest> {
    const { store } = this.#parts;
    const { signal } = this.#rounds;
    const whole = createHash("sha256");
    for (const [position, digest] of manifest.chunks.entries()) {
      const key = artifactKey(digestOf(project), digest);
      const found = await findBlob(store, key, digest, signal);
      const versionId = found?.info.versionId;
      const opened = found === undefined ? null : await store.open("ledger", key, { signal, versionId });
      const { from, to } = chunkRange(manifest, position);
      if (opened?.sizeBytes !== to - from)
        throw new Fault("ERASED", `chunk ${position} is not in the store, or of another length`);
      const part = createHash("sha256");
      for await (const piece of opened.stream) {
        signal.throwIfAborted();
        part.update(piece);
        whole.update(piece);
      }
      const read = part.digest("hex");
      if (read !== digest) throw new Fault("DIGEST_MISMATCH", `chunk ${position} has SHA-256 ${read}`);
    }
    return whole.digest("hex") as Digest;
  }
}
