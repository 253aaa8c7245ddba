/**
 * Looks after uploads whose clients are gone: what lies in the store as it was declared is recorded by the server itself, what was
 * never put is given up, and chunks without a manifest wait for one as long as they are locked. Runs on the leader only.
 *
 * Nothing is removed from a store with locks: what nobody completed is held for a week, and after that the eraser's.
 */

import { contentIdentity } from "../fold/identity.ts";
import type { ViewReader } from "../fold/view.ts";
import type { Draft } from "../log/submission.ts";
import { digestOf, idOf, type RecordId } from "../std/brand.ts";
import { artifactKey } from "../store/keys.ts";
import { bodyOf } from "./body.ts";
import type { Deps } from "./context.ts";
import { outstandingOf, type Upload } from "./outstanding.ts";
import { Rounds } from "./rounds.ts";
import { checkStored, retainUntil } from "./stored-bytes.ts";

const SWEEP_MS = 60_000;
/** Uploads that are looked at in one sweep. */
const MAX_SWEPT = 1_000;

type Parts = Pick<Deps, "clock" | "log" | "logger" | "store">;

export interface Swept {
  abandoned: number;
  abandoned_bytes: number;
  completed: number;
}

export class UploadSweeper implements AsyncDisposable {
  readonly #parts: Parts;
  readonly #sweepTemporary: () => void;
  readonly #rounds = new Rounds();
  readonly #swept: Swept;

  /** `sweepTemporary` removes what dead processes left half written; `swept` counts over the life of the process. */
  constructor(parts: Parts, swept: Swept, sweepTemporary: () => void = () => undefined) {
    this.#parts = parts;
    this.#swept = swept;
    this.#sweepTemporary = sweepTemporary;
  }

  /** Sweeps once a minute until it is disposed of. */
  start(): void {
    this.#rounds.start(this.#parts, SWEEP_MS, () => this.sweep(), "uploads could not be swept");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#rounds[Symbol.asyncDispose]();
  }

  async sweep(): Promise<void> {
    this.#sweepTemporary();
    const { clock, log, logger } = this.#parts;
    for (const upload of outstandingOf(log).due(clock.now(), MAX_SWEPT)) {
      if (this.#rounds.signal.aborted) return;
      try {
        await this.#look(upload);
      } catch (error) {
        if (this.#rounds.signal.aborted) return;
        outstandingOf(log).defer(upload, clock.now());
        logger.error({ digest: upload.artifact.digest, error }, "an upload could not be looked after");
      }
    }
  }

  async #look(upload: Upload): Promise<void> {
    const { clock, log, store } = this.#parts;
    const { signal } = this.#rounds;
    const { artifact, isChunk, project } = upload;
    const outstanding = outstandingOf(log);
    // A manifest that was completed meanwhile took its chunks along.
    if (!outstanding.holds(upload)) return;
    const key = artifactKey(digestOf(project), digestOf(artifact.digest as RecordId));
    if ((await store.head("ledger", key, { signal })) === null) this.#giveUp(upload);
    else if (isChunk) {
      if (!outstanding.defer(upload, clock.now())) this.#giveUp(upload);
    } else await this.#complete(upload);
  }

  async #complete(upload: Upload): Promise<void> {
    const { clock, log, logger } = this.#parts;
    const { artifact, project } = upload;
    const outstanding = outstandingOf(log);
    const { digest } = artifact;
    if (!this.#isWanted(upload)) {
      outstanding.release(project, [digest]);
      return;
    }
    const checked = await checkStored(
      this.#parts,
      project,
      artifact,
      retainUntil(this.#parts, project),
      this.#rounds.signal,
    );
    if (checked.flaw !== undefined) {
      // Other bytes, or chunks that may still come.
      if (!outstanding.defer(upload, clock.now())) this.#giveUp(upload);
      return;
    }
    const { committed } = await log.submit({
      admit: (reader) => ({ drafts: isWanted(reader, upload) ? [draftOf(upload)] : [], value: undefined }),
      project,
      signal: this.#rounds.signal,
    });
    outstanding.release(project, [digest, ...(checked.manifest?.chunks.map(idOf) ?? [])]);
    if (committed === null) return;
    this.#swept.completed++;
    logger.info(
      { digest, log_index: committed.records[0]?.index, principal: upload.principal },
      "an upload whose client is gone was completed",
    );
  }

  #isWanted(upload: Upload): boolean {
    using reader = this.#parts.log.index.reader();
    return isWanted(reader, upload);
  }

  #giveUp(upload: Upload): void {
    const { artifact, principal, project } = upload;
    const { digest, sizeBytes } = artifact;
    outstandingOf(this.#parts.log).release(project, [digest]);
    this.#swept.abandoned++;
    this.#swept.abandoned_bytes += sizeBytes;
    this.#parts.logger.info({ digest, principal, size_bytes: sizeBytes }, "an upload was given up");
  }
}

/** Whether the project has no such artifact yet, and takes one. */
function isWanted(reader: ViewReader, { artifact, project }: Upload): boolean {
  const key = contentIdentity("artifact", project, { digest: artifact.digest }, []);
  return (
    key !== undefined &&
    reader.get("content", key) === undefined &&
    reader.get("project", project)?.value.status !== "archived"
  );
}

const draftOf = ({ artifact, project }: Upload): Draft => ({
  // The client that declared it did not say that it was done.
  actor: { method: "system" },
  body: bodyOf("artifact", artifact),
  kind: "artifact",
  links: [],
  project,
  requestId: `upload:${artifact.digest.slice(7)}`,
});
