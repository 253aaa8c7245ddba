/**
 * The bytes of artifacts that records name: there and right, locked long enough, or erased as a record says. An artifact in chunks is
 * as its worst part is.
 */
import { type Sha256Stream, sha256Hex, sha256Stream } from "../../merkle/hash.ts";
import type { ValidItem } from "../../record/chain.ts";
import {
  type ChunkManifest,
  chunkRange,
  isChunked,
  MAX_CHUNK_MANIFEST_BYTES,
  parseChunkManifest,
} from "../../record/chunks.ts";
import type { Json } from "../../record/json.ts";
import type { LedgerRecord } from "../../record/record.ts";
import { type Digest, digestOf, idOf, parseRecordId, type RecordId } from "../../std/brand.ts";
import { formatHex } from "../../std/bytes.ts";
import { each } from "../../std/each.ts";
import { Violation } from "../../std/violation.ts";
import { artifactKey } from "../../store/keys.ts";
import { dataVersions, hasVersions, readSized } from "../../store/right-version.ts";
import { erasedIds } from "../records.ts";
import { type Audit, checkLock, lockOf } from "./audit.ts";

/** How many artifacts are in which state. */
export interface ArtifactStates {
  /** Gone, as an erasure's record says. */
  erased: number;
  /** Gone after their lock had ended, and no record says so. */
  expired_unrecorded: number;
  lock_short: number;
  /** Gone, or of other bytes. */
  missing: number;
  /** Right, under something that was laid over them. */
  shadowed: number;
  verified: number;
}

interface Named {
  readonly record: RecordId;
  readonly digest: Digest;
  readonly project: Digest;
  readonly sizeBytes: number;
  /** Until when it is locked at least. */
  readonly expectedMs: number;
  readonly isManifest: boolean;
}

/** From bad to good. */
const WORST = ["missing", "expired_unrecorded", "shadowed", "lock_short", "erased", "verified"] as const;

export class ArtifactObjects {
  readonly #audit: Audit;
  readonly #named: Named[] = [];
  readonly #erased = new Set<string>();
  /** By the artifact's record: SHA-256 of the whole, as records say that it was read. */
  readonly #read = new Map<string, string>();
  readonly states: ArtifactStates = {
    erased: 0,
    expired_unrecorded: 0,
    lock_short: 0,
    missing: 0,
    shadowed: 0,
    verified: 0,
  };

  constructor(audit: Audit) {
    this.#audit = audit;
  }

  /** Takes what the log says of artifacts. */
  take({ entry, record }: ValidItem, expectedMs: number): void {
    if (record === null) return;
    if (record.kind === "operation") for (const id of erasedIds([{ record }])) this.#erased.add(id);
    if (record.kind === "operation" && record.body["type"] === "OPERATION_TYPE_SCRUB") this.#takeReading(record);
    if (record.kind !== "artifact") return;
    const { digest, size_bytes: size = 0 } = record.body;
    const id = typeof digest === "string" ? parseRecordId(digest) : undefined;
    if (id !== undefined && typeof size === "number")
      this.#named.push({
        digest: digestOf(id),
        expectedMs,
        isManifest: isChunked(record.body),
        project: entry.project,
        record: entry.record,
        sizeBytes: size,
      });
  }

  #takeReading({ body, links }: LedgerRecord): void {
    const subject = links.find((l) => l.rel === "subject")?.to;
    const [digest] = Array.isArray(body["digests"]) ? (body["digests"] as readonly Json[]) : [];
    if (subject !== undefined && typeof digest === "string") this.#read.set(subject, digest);
  }

  async check(): Promise<void> {
    const { options } = this.#audit;
    let done = 0;
    await each(this.#named, options.concurrency, async (named) => {
      options.signal?.throwIfAborted();
      this.states[await this.#stateOf(named)]++;
      options.progress?.(++done, this.#named.length, "artifacts");
    });
  }

  async #stateOf(named: Named): Promise<keyof ArtifactStates> {
    const state = await this.#stateOfBytes(named);
    const isHere = state === "verified" || state === "shadowed" || state === "lock_short";
    return named.isManifest && isHere ? this.#stateOfChunks(named, state) : state;
  }

  async #stateOfChunks(named: Named, own: keyof ArtifactStates): Promise<keyof ArtifactStates> {
    const { options, stages, store } = this.#audit;
    const key = artifactKey(named.project, named.digest);
    let manifest: ChunkManifest;
    try {
      const isRight = (body: Uint8Array): boolean => sha256Hex(body) === named.digest;
      const size = Math.min(named.sizeBytes, MAX_CHUNK_MANIFEST_BYTES + 1);
      const bytes = await readSized(store, key, size, isRight, { signal: options.signal });
      manifest = parseChunkManifest(bytes ?? new Uint8Array());
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      stages.artifacts.fail("artifact.digest", key, `its record calls it a manifest of chunks: ${error.message}`);
      return "missing";
    }
    const states = new Map<Digest, keyof ArtifactStates>();
    const whole = sha256Stream();
    for (const [position, digest] of manifest.chunks.entries()) {
      options.signal?.throwIfAborted();
      const before = states.get(digest);
      // What is not right was told, and the whole cannot be right then.
      if (before !== undefined && before !== "verified") continue;
      const { from, to } = chunkRange(manifest, position);
      states.set(
        digest,
        await this.#stateOfBytes({ ...named, digest, isManifest: false, sizeBytes: to - from }, whole),
      );
    }
    const found = new Set([own, ...states.values()]);
    if ([...states.values()].every((s) => s === "verified" || s === "lock_short"))
      this.#checkWhole(named, key, manifest, formatHex(whole.digest()));
    return WORST.find((state) => found.has(state)) ?? "verified";
  }

  /** The SHA-256 of the whole is a claim, until a record says that it was read. */
  #checkWhole({ record }: Named, key: string, { sha256Claimed }: ChunkManifest, whole: string): void {
    const read = this.#read.get(record);
    if (read !== undefined && read !== `sha256:${whole}`)
      this.#audit.stages.artifacts.fail(
        "artifact.digest",
        key,
        `a record says that the whole has ${read}, it has ${whole}`,
      );
    if (whole !== sha256Claimed)
      this.#audit.notes.push(
        `artifact.claimed: ${key}: the whole has SHA-256 ${whole}; whoever uploaded it claimed ${sha256Claimed}`,
      );
  }

  /** `also` takes the bytes of the newest version, whatever they are. */
  async #stateOfBytes(named: Named, also?: Sha256Stream): Promise<keyof ArtifactStates> {
    const { options, stages } = this.#audit;
    const { digest, expectedMs, project } = named;
    const key = artifactKey(project, digest);
    const newest = await this.#holds(key, named, undefined, also);
    let versionId: string | undefined;
    if (newest !== "right") {
      const found = await this.#older(key, named);
      if (found === undefined) {
        if (newest === "wrong") stages.artifacts.fail("artifact.digest", key, "holds other bytes than its record says");
        if (newest === "wrong") return "missing";
        if (this.#erased.has(idOf(digest))) return "erased";
        const isOver = expectedMs <= options.nowMs;
        stages.artifacts.fail(
          "artifact.missing",
          key,
          isOver ? "is absent since its lock ended, and no record says that it was erased" : "is absent",
        );
        return isOver ? "expired_unrecorded" : "missing";
      }
      versionId = found;
    }
    const lock = await lockOf(this.#audit, key, versionId === undefined ? {} : { versionId });
    const isLocked = checkLock(key, lock, expectedMs, this.#audit, stages.artifacts);
    return versionId !== undefined ? "shadowed" : isLocked ? "verified" : "lock_short";
  }

  /** The version below the newest that holds the bytes. */
  async #older(key: string, named: Named): Promise<string | undefined> {
    const { options, store } = this.#audit;
    if (!hasVersions(store)) return undefined;
    for (const { sizeBytes, versionId } of await dataVersions(store, key, { signal: options.signal }))
      if (sizeBytes === named.sizeBytes && (await this.#holds(key, named, versionId)) === "right") return versionId;
    return undefined;
  }

  async #holds(
    key: string,
    { digest, sizeBytes }: Named,
    versionId: string | undefined,
    also?: Sha256Stream,
  ): Promise<"absent" | "right" | "wrong"> {
    const { options, store } = this.#audit;
    const opened = await store.open("ledger", key, { signal: options.signal, versionId });
    if (opened === null) return "absent";
    if (opened.sizeBytes !== sizeBytes) return "wrong";
    const hash = sha256Stream();
    for await (const piece of opened.stream) {
      hash.update(piece);
      also?.update(piece);
    }
    return formatHex(hash.digest()) === digest ? "right" : "wrong";
  }
}
