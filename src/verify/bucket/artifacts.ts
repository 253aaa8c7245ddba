/** The bytes of artifacts that records name: there and right, locked long enough, or erased as a record says. */
import { sha256Stream } from "../../merkle/hash.ts";
import type { ValidItem } from "../../record/chain.ts";
import { type Digest, digestOf, idOf, parseRecordId } from "../../std/brand.ts";
import { formatHex } from "../../std/bytes.ts";
import { artifactKey } from "../../store/keys.ts";
import { dataVersions, hasVersions } from "../../store/right-version.ts";
import { erasedIds } from "../records.ts";
import { type Audit, checkLock, each, lockOf } from "./audit.ts";

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
  readonly digest: Digest;
  readonly project: Digest;
  readonly sizeBytes: number;
  /** Until when it is locked at least. */
  readonly expectedMs: number;
}

export class ArtifactObjects {
  readonly #audit: Audit;
  readonly #named: Named[] = [];
  readonly #erased = new Set<string>();
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
    if (record.kind !== "artifact") return;
    const { digest, size_bytes: size = 0 } = record.body;
    const id = typeof digest === "string" ? parseRecordId(digest) : undefined;
    if (id !== undefined && typeof size === "number")
      this.#named.push({ digest: digestOf(id), expectedMs, project: entry.project, sizeBytes: size });
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
    const { options, stages } = this.#audit;
    const { digest, expectedMs, project } = named;
    const key = artifactKey(project, digest);
    const newest = await this.#holds(key, named, undefined);
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
  ): Promise<"absent" | "right" | "wrong"> {
    const { options, store } = this.#audit;
    const opened = await store.open("ledger", key, { signal: options.signal, versionId });
    if (opened === null) return "absent";
    if (opened.sizeBytes !== sizeBytes) return "wrong";
    const hash = sha256Stream();
    for await (const piece of opened.stream) hash.update(piece);
    return formatHex(hash.digest()) === digest ? "right" : "wrong";
  }
}
