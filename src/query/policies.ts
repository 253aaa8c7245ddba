/** The policies in force for a target in a project: the ledger's own, which bind everybody, and the project's. */
import { keys, type PolicyRef, type ViewReader } from "../fold/view.ts";
import { ledgerOf } from "../identity/ledger.ts";
import type { PolicyInForce } from "../policy/judgement.ts";
import type { RecordId } from "../std/brand.ts";

export interface Effective extends PolicyRef {
  readonly ledger: boolean;
}

export function effectivePolicies(reader: ViewReader, project: RecordId, target: string): Effective[] {
  const ledger = ledgerOf(reader);
  return [...new Set([ledger, project])].flatMap((owner) =>
    (reader.get("policies", keys.policies(owner, target))?.value.policies ?? []).map((ref) => ({
      ...ref,
      ledger: owner === ledger,
    })),
  );
}

/** As the engine takes them. */
export const inForce = (reader: ViewReader, project: RecordId, target: string): PolicyInForce[] =>
  effectivePolicies(reader, project, target).flatMap(({ id, ledger, mode }) => {
    const body = reader.record(id)?.record.body;
    return body === undefined ? [] : [{ body, ledger, mode, record: id }];
  });
