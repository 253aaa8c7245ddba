/** Which policies are in force: those of the ledger, which bind every project, and the project's own. */
import { keys, type ViewReader } from "../fold/view.ts";
import type { RecordId } from "../std/brand.ts";
import type { PolicyInForce } from "./judgement.ts";
import type { Target } from "./targets.ts";

export function policiesInForce(
  reader: ViewReader,
  target: Target,
  project: RecordId,
  ledger: RecordId,
): PolicyInForce[] {
  return [...new Set([ledger, project])].flatMap((owner) =>
    (reader.get("policies", keys.policies(owner, target))?.value.policies ?? []).flatMap(({ id, mode }) => {
      const body = reader.record(id)?.record.body;
      return body === undefined ? [] : [{ body, ledger: owner === ledger, mode, record: id }];
    }),
  );
}
