/**
 * Holds the artifacts of a project for longer than the ledger's floor; said of `_ledger`, those of all projects. What is uploaded from
 * now on is locked for so long at once, what is there already when the leader looks at it next. A lock is never shortened, so this is
 * never taken back: the longest counts.
 */
import { RetentionMode } from "../../gen/ts/animus/datapilot/record/v1/access_pb.ts";
import type { CreateRetentionRequest } from "../../gen/ts/animus/datapilot/v1/retention_pb.ts";
import { assertDefined } from "../std/assert.ts";
import { Fault } from "../std/faults.ts";
import { created, draft } from "./admission.ts";
import { bodyOf, checkName, invalid } from "./body.ts";
import type { Caller, Deps } from "./context.ts";
import { specOf, write } from "./write.ts";

/** A hundred years: a slip of a digit locks disks for ever. */
const MAX_DAYS = 36_525;

export function createRetention(deps: Deps, caller: Caller, request: CreateRetentionRequest, signal?: AbortSignal) {
  const { retention } = request;
  checkName(retention?.name ?? "");
  const body = bodyOf("retention", retention);
  const { days = 0, mode } = retention ?? {};
  if (mode !== RetentionMode.PERIOD) throw invalid("retention.mode", "is not PERIOD");
  if (days > MAX_DAYS) throw invalid("retention.days", `is more than ${MAX_DAYS}, and a lock is never shortened`);
  return write(
    deps,
    caller,
    specOf(request, "retention.write", { lane: "control" }),
    (a) => {
      const ledger = assertDefined(a.reader.get("ledger", ""), "a ledger has its record").value.record;
      const floor = Number(a.reader.record(ledger)?.record.body["default_retention_days"]);
      if (days <= floor)
        throw new Fault(
          "RETENTION_SHORTENED",
          `the ledger holds everything for ${floor} days already: name more days`,
          {
            metadata: { floor_days: String(floor) },
          },
        );
      return created(draft(a, "retention", body));
    },
    signal,
  );
}
