/**
 * Uploads that were declared and not completed: what a project may still put into the store, and what the sweeper looks after.
 *
 * In memory of the leader. A restart, or another leader, forgets them: the addresses that were given hold for ten minutes at most,
 * what was put under them is locked for a week and then the eraser's, and completing asks for no declaration.
 */
import type { Artifact } from "../../gen/ts/animus/datapilot/record/v1/data_pb.ts";
import type { Log } from "../log/log.ts";
import type { RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";

/** Bytes of a project that may be outstanding, unless the server is told otherwise. */
export const UPLOAD_QUOTA_BYTES = 1_024 ** 4;
/** Uploads of a project that may be outstanding, whatever their length. */
const MAX_UPLOADS = 100_000;
/** How long an upload is left alone: longer than its address holds and the last PUT under it takes. */
export const UPLOAD_GRACE_MS = 3_600_000;
/** How long bytes that nobody completed are locked. */
export const UPLOAD_LOCK_MS = 7 * 86_400_000;
const LAST_PAUSE_MS = 86_400_000;

export interface Upload {
  readonly project: RecordId;
  readonly artifact: Artifact;
  readonly isChunk: boolean;
  /** Who declared it. */
  readonly principal: RecordId;
  readonly declaredMs: number;
}

interface Outstanding extends Upload {
  dueMs: number;
  pauseMs: number;
}

const keyOf = (project: RecordId, digest: string): string => `${project} ${digest}`;

export class OutstandingUploads {
  readonly #uploads = new Map<string, Outstanding>();
  readonly #projects = new Map<RecordId, { bytes: number; count: number }>();
  #bytes = 0;

  get stats(): { readonly bytes: number; readonly count: number } {
    return { bytes: this.#bytes, count: this.#uploads.size };
  }

  /** Takes all or none; the fault LIMIT_EXCEEDED when the project has no room for them. What is declared again counts once. */
  reserve(uploads: readonly Upload[], quotaBytes: number): void {
    const fresh = new Map<string, Upload>();
    for (const upload of uploads) fresh.set(keyOf(upload.project, upload.artifact.digest), upload);
    const project = uploads[0]?.project;
    if (project === undefined) return;
    const held = this.#projects.get(project) ?? { bytes: 0, count: 0 };
    let { bytes, count } = held;
    for (const [key, upload] of fresh) {
      const before = this.#uploads.get(key);
      bytes += upload.artifact.sizeBytes - (before?.artifact.sizeBytes ?? 0);
      count += before === undefined ? 1 : 0;
    }
    if (bytes > quotaBytes || count > MAX_UPLOADS) throw exceeded(held, fresh.size, quotaBytes, bytes > quotaBytes);
    for (const [key, upload] of fresh) {
      this.#drop(key);
      this.#uploads.set(key, { ...upload, dueMs: upload.declaredMs + UPLOAD_GRACE_MS, pauseMs: UPLOAD_GRACE_MS });
      this.#count(project, upload.artifact.sizeBytes, 1);
    }
  }

  /** What was completed, given up, or is no upload after all. */
  release(project: RecordId, digests: Iterable<string>): void {
    for (const digest of digests) this.#drop(keyOf(project, digest));
  }

  /** Uploads that nobody was heard of for long, oldest first. */
  due(nowMs: number, limit: number): Upload[] {
    const due: Outstanding[] = [];
    for (const upload of this.#uploads.values()) {
      if (upload.dueMs > nowMs) continue;
      due.push(upload);
      if (due.length >= limit) break;
    }
    return due;
  }

  /** Whether it was neither completed nor given up since. */
  holds({ artifact, project }: Upload): boolean {
    return this.#uploads.has(keyOf(project, artifact.digest));
  }

  /** Looks at it later again, less and less often. False, and forgotten, once what was put is not locked any more. */
  defer({ artifact, project }: Upload, nowMs: number): boolean {
    const key = keyOf(project, artifact.digest);
    const upload = this.#uploads.get(key);
    if (upload === undefined) return false;
    if (nowMs >= upload.declaredMs + UPLOAD_LOCK_MS) {
      this.#drop(key);
      return false;
    }
    upload.pauseMs = Math.min(LAST_PAUSE_MS, 2 * upload.pauseMs);
    upload.dueMs = nowMs + upload.pauseMs;
    return true;
  }

  #drop(key: string): void {
    const upload = this.#uploads.get(key);
    if (upload === undefined) return;
    this.#uploads.delete(key);
    this.#count(upload.project, -upload.artifact.sizeBytes, -1);
  }

  #count(project: RecordId, bytes: number, count: number): void {
    const held = this.#projects.get(project) ?? { bytes: 0, count: 0 };
    this.#bytes += bytes;
    held.bytes += bytes;
    held.count += count;
    if (held.count === 0) this.#projects.delete(project);
    else this.#projects.set(project, held);
  }
}

const exceeded = (
  held: { readonly bytes: number; readonly count: number },
  asked: number,
  quotaBytes: number,
  isOfBytes: boolean,
): Fault =>
  new Fault(
    "LIMIT_EXCEEDED",
    `${asked} more uploads do not fit: the project has ${held.count} that were declared and not completed, of ${held.bytes} bytes, and ${isOfBytes ? `${quotaBytes} bytes` : `${MAX_UPLOADS} uploads`} are allowed. Complete what was uploaded; what was given up ends by itself after an hour, or declare less at once. The operator sets the limit with --upload-quota.`,
    {
      metadata: {
        limit: isOfBytes ? "upload_quota_bytes" : "uploads",
        outstanding_bytes: String(held.bytes),
        outstanding_uploads: String(held.count),
      },
      retryAfterMs: UPLOAD_GRACE_MS,
    },
  );

const all = new WeakMap<Log, OutstandingUploads>();

/** The outstanding uploads of a ledger. */
export function outstandingOf(log: Log): OutstandingUploads {
  let outstanding = all.get(log);
  if (outstanding === undefined) {
    outstanding = new OutstandingUploads();
    all.set(log, outstanding);
  }
  return outstanding;
}
