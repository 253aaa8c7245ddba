/** Stage 8: the times that the operator wrote, against the times at which others saw the log. */
import { parseTime } from "../std/ports.ts";
import type { Witnessed } from "./checkpoint.ts";
import type { PackRecord } from "./records.ts";
import type { Stage } from "./report.ts";

const FUTURE_MS = 60_000;
const BACKDATED_MS = 600_000;

export function checkTimes(records: readonly PackRecord[], notes: readonly Witnessed[], stage: Stage): void {
  const seen = notes
    .flatMap((n) => (n.quorumTimeS === undefined ? [] : [{ ms: n.quorumTimeS * 1000, size: n.checkpoint.size }]))
    .toSorted((a, b) => a.size - b.size);
  if (seen.length === 0) return; // no quorum is asked: there is nothing to compare with
  for (const { entry, index, record } of records) {
    const time = record === undefined ? undefined : parseTime(record.time);
    if (time === undefined) continue;
    const after = seen.filter((n) => n.size > index).map((n) => n.ms);
    const before = seen.filter((n) => n.size <= index).map((n) => n.ms);
    if (after.length > 0 && time > Math.min(...after) + FUTURE_MS)
      stage.fail("time.future", entry.record, `is dated ${record?.time}, after others had seen it`);
    if (before.length > 0 && time < Math.max(...before) - BACKDATED_MS)
      stage.fail(
        "time.backdated",
        entry.record,
        `is dated ${record?.time}, when others had seen the log without it later`,
      );
  }
}
