/**
 * The state that a read answers for: the newest, or an earlier one that the caller names. Who may read is asked of the newest
 * state: a right that was taken away opens no past.
 */
import type { IndexReader } from "../index/index.ts";
import type { Log } from "../log/log.ts";
import type { TreeSize } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import type { Clock } from "../std/ports.ts";

/** What reads need of the server. */
export interface Reads {
  readonly log: Pick<Log, "index">;
  readonly clock: Clock;
}

const RETRY_MS = 500;

/** A reader of the first `asOf` entries, of all for 0; the fault AS_OF_AHEAD when they are not all here. The caller disposes. */
export function readerAsOf({ log }: Reads, asOf: number, minTreeSize = 0): IndexReader {
  const { size } = log.index.watermark;
  if (asOf > size || minTreeSize > size) {
    throw new Fault("AS_OF_AHEAD", `the tree has ${size} entries: ask again when it has grown, or ask for less`, {
      metadata: { tree_size: String(size) },
      retryAfterMs: RETRY_MS,
    });
  }
  return log.index.reader(asOf === 0 ? undefined : (asOf as TreeSize));
}
