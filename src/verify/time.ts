/** Stage 8: the times that the operator wrote, against the times at which others saw the log. */
import { parseTime } from "../std/ports.ts";
import type { Witnessed } from "./checkpoint.ts";
import type { PackRecord } from "./records.ts";
import type { Stage } from "./report.ts";

const FUTURE_MS = 60_000;
const BACKDATED_MS = 600_000;

/** `records` ascend by index. */
export function checkTimes(records: readonly PackRecord[], notes: readonly Witnessed[], stage: Stage): void {
  if (notes.every((n) => n.quorum === null)) return; // no quorum is asked: there is nothing to compare with
  const seen = notes
    .flatMap((n) => (n.quorumTimeS === undefined ? [] : [{ ms: n.quorumTimeS * 1000, size: n.checkpoint.size }]))
    .toSorted((a, b) => a.size - b.size);
  if (seen.length === 0) return stage.skip("times: no cosignature says when the log was seen");
  // Smallest time from each note on; the notes up to an entry grow with its index.
  const smallest = seen.map((n) => n.ms);
  for (let i = smallest.length - 2; i >= 0; i--)
    smallest[i] = Math.min(smallest[i] ?? 0, smallest[i + 1] ?? Number.POSITIVE_INFINITY);
  let passed = 0;
  let latest = Number.NEGATIVE_INFINITY;
  for (const { entry, index, record } of records) {
    for (let next = seen[passed]; next !== undefined && next.size <= index; next = seen[++passed])
      latest = Math.max(latest, next.ms);
    const time = record === undefined ? undefined : parseTime(record.time);
    if (time === undefined) continue;
    if (time > (smallest[passed] ?? Number.POSITIVE_INFINITY) + FUTURE_MS)
      stage.fail("time.future", entry.record, `is dated ${record?.time}, after others had seen it`);
    if (time < latest - BACKDATED_MS)
      stage.fail(
        "time.backdated",
        entry.record,
        `is dated ${record?.time}, when others saw the log without it after that`,
      );
  }
}
