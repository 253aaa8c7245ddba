/**
 * The fold: what each kind of record does to the views. Pure: the same prefix of the log gives the same rows everywhere, whatever
 * the batches were, and the rolling digest of `state-digest.ts` says so.
 *
 * A record that was admitted never makes it throw. What the record says is recorded as it is, even where a writer should not have
 * let it in; who reads the log can then see it. A kind that this version does not know leaves its request and nothing else.
 */
import type { LedgerRecord } from "../record/record.ts";
import { foldEntity } from "./entities.ts";
import { type FoldedItem, Folding, type Op } from "./folding.ts";
import { foldAlias, foldApproval, foldApprovalRequest, foldDecision, foldLedger, foldSeal } from "./governance.ts";
import { foldRun, foldRunBatch, foldRunFinish, foldRunStart } from "./runs.ts";
import { foldBinding, foldTransition } from "./transitions.ts";
import { keys, type ViewReader } from "./view.ts";

export type { Op } from "./folding.ts";

/** Grows whenever a rule, a row or a key changes: an index of another version is rebuilt. */
export const FOLD_VERSION = 1;

type Rule = (folding: Folding) => void;

/** What a kind does beyond becoming an entity. */
const RULES: Readonly<Record<string, Rule>> = {
  alias: foldAlias,
  approval: foldApproval,
  "approval.request": foldApprovalRequest,
  decision: foldDecision,
  ledger: foldLedger,
  "ledger.seal": foldSeal,
  "role.binding": foldBinding,
  run: foldRun,
  "run.batch": foldRunBatch,
  "run.finish": foldRunFinish,
  "run.start": foldRunStart,
  token: foldToken,
  transition: foldTransition,
};

/** The rows that the next entry changes, each once. `reader` stands at the entry's own index. */
export function foldRecord(reader: ViewReader, item: FoldedItem): Op[] {
  if (item.record === null) return [];
  const folding = new Folding(reader, item, item.record);
  foldRequest(folding, item.record);
  foldEntity(folding);
  const rule = Object.hasOwn(RULES, item.record.kind) ? RULES[item.record.kind] : undefined;
  rule?.(folding);
  return folding.ops();
}

/** The records of one request are contiguous, so their first and their number say which they are. */
function foldRequest(folding: Folding, record: LedgerRecord): void {
  const key = keys.request(record.actor.principal, record.project, record.request_id);
  const row = folding.get("request", key);
  if (row === undefined) folding.put("request", key, { count: 1, first: folding.index });
  else if (row.first + row.count === folding.index)
    folding.put("request", key, { count: row.count + 1, first: row.first });
}

function foldToken(folding: Folding): void {
  const { principal } = folding.record.actor;
  const permissions = folding.record.body["permissions"];
  const owner = folding.link("principal") ?? principal;
  if (owner === undefined) return;
  folding.put("token", folding.text("secret_sha256"), {
    expires_at: folding.text("expires_at"),
    id: folding.id,
    permissions: Array.isArray(permissions) ? (permissions as readonly string[]) : [],
    principal: owner,
  });
}
