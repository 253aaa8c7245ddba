/**
 * Rebuilds an index from commits. A thread of its own checks them in order, exactly as a replica does, and hands over what the
 * fold reads; this thread folds and writes, many commits in one transaction. Neither waits for the other within the window.
 *
 * The commits are given from number 0 and the index is cleared first. What fails a check ends it with the Violation; what was
 * written until then stands at a consistent watermark.
 */
import { Worker } from "node:worker_threads";
import { type CommitFacts, itemOf } from "../fold/facts.ts";
import { leafHash } from "../merkle/hash.ts";
import type { ValidItem } from "../record/chain.ts";
import type { CommitHeader } from "../record/commit.ts";
import { parseEntry } from "../record/entry.ts";
import { assert } from "../std/assert.ts";
import type { Digest, LogIndex, TreeSize } from "../std/brand.ts";
import { Violation } from "../std/violation.ts";
import type { CheckedCommit, CheckReply } from "./check-worker.ts";
import type { AppliedCommit, Index, PackedItems } from "./index.ts";

/** Beside this file in the source; in the bundle at its top, where this code is in a file of the top or in a chunk one below. */
const WORKER = import.meta.url.endsWith(".ts")
  ? new URL("./check-worker.ts", import.meta.url)
  : new URL(import.meta.url.includes("/chunks/") ? "../check-worker.js" : "./check-worker.js", import.meta.url);

/** Records between two reports of progress. */
const REPORT_RECORDS = 8_192;
/** Bytes of commits that are on their way. */
const WINDOW_BYTES = 16 << 20;

export interface RebuildProgress {
  readonly size: TreeSize;
  readonly n: number;
}

/** `origin`, when given, is what the genesis must say. */
export async function rebuild(
  index: Index,
  commits: AsyncIterable<Uint8Array>,
  origin?: string,
  progress: (at: RebuildProgress) => void = () => undefined,
): Promise<void> {
  index.clear();
  await using checker = new Checker(origin);
  let reported = 0;
  const report = (): void => {
    const { n, size } = index.watermark;
    progress({ n, size });
    reported = size;
  };
  // Each at once, so that what the fold read of it is garbage while it is young; the index writes many together.
  for await (const commit of checker.check(commits)) {
    index.apply([new PackedCommit(commit)], true);
    if (index.watermark.size - reported >= REPORT_RECORDS) report();
  }
  if (index.watermark.size > reported) report();
}

/** The items are made one by one for an index that does not take them packed. */
class PackedCommit implements AppliedCommit {
  readonly n: number;
  readonly hash: Digest;
  readonly header: CommitHeader;
  readonly packed: PackedItems;

  constructor({ facts, hash, header, packed }: CheckedCommit) {
    this.n = header.n;
    this.hash = hash;
    this.header = header;
    this.packed = { ...packed, facts: JSON.parse(facts) as CommitFacts };
  }

  get items(): readonly ValidItem[] {
    const { bytes, count, facts, spans } = this.packed;
    let at = bytes.length - this.header.bytes;
    return Array.from({ length: count }, (_, i): ValidItem => {
      const [start = 0, end = 0] = spans.subarray(2 * i, 2 * i + 2);
      const entryBytes = bytes.subarray(at, start - 1);
      at = end + 1;
      const index = (this.header.first + i) as LogIndex;
      const { record } = itemOf(facts, i, index);
      const recordBytes = end === start ? null : bytes.subarray(start, end);
      return { entry: parseEntry(entryBytes), entryBytes, index, leaf: leafHash(entryBytes), record, recordBytes };
    });
  }
}

/** The thread that checks: commits go in and come out in order. */
class Checker implements AsyncDisposable {
  readonly #worker: Worker;
  readonly #done: CheckReply[] = [];
  #failed: Error | undefined;
  #wake: () => void = () => undefined;

  constructor(origin: string | undefined) {
    this.#worker = new Worker(WORKER, { workerData: { origin } });
    this.#worker.on("message", (reply: CheckReply) => {
      this.#done.push(reply);
      this.#wake();
    });
    this.#worker.on("error", (error) => {
      this.#failed = error instanceof Error ? error : new Error(String(error));
      this.#wake();
    });
  }

  async *check(commits: AsyncIterable<Uint8Array>): AsyncIterable<CheckedCommit> {
    const source = commits[Symbol.asyncIterator]();
    const sizes: number[] = [];
    let inFlight = 0;
    let reading: Promise<void> | undefined;
    let ended = false;
    const read = async (): Promise<void> => {
      const next = await source.next();
      if (next.done === true) ended = true;
      else {
        // The caller's bytes may be a part of a larger buffer, so they are copied and the copy is handed over.
        const copy = Uint8Array.from(next.value);
        sizes.push(copy.length);
        inFlight += copy.length;
        this.#worker.postMessage(copy, [copy.buffer]);
      }
    };
    for (;;) {
      if (!ended && reading === undefined && inFlight < WINDOW_BYTES)
        reading = read().finally(() => {
          reading = undefined;
          this.#wake();
        });
      const reply = this.#done.shift();
      if (reply !== undefined) {
        inFlight -= sizes.shift() ?? 0;
        if ("code" in reply) throw new Violation(reply.code, reply.detail);
        yield reply;
        continue;
      }
      if (this.#failed !== undefined) throw this.#failed;
      if (ended && sizes.length === 0) return;
      await this.#event(reading);
    }
  }

  /** Waits for a reply, or for what is being read. */
  #event(reading: Promise<void> | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#wake = resolve;
      reading?.catch(reject);
      if (this.#done.length > 0 || this.#failed !== undefined) resolve();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    assert((await this.#worker.terminate()) >= 0, "a thread ends");
  }
}
