/**
 * The fold: what each kind of record does to the views. Pure: the same prefix of the log gives the same rows everywhere, whatever
 * the batches were, and the rolling digest of `state-digest.ts` says so.
 *
 * A record that was admitted never makes it throw. What the record says is recorded as it is, even where a writer should not have
 * let it in; who reads the log can then see it. A kind that this version does not know leaves its request and nothing else.
 */
import type { ValidItem } from "../record/chain.ts";
import type { JsonObject } from "../record/json.ts";
import type { ActorMethod, LedgerRecord, Link } from "../record/record.ts";
import { type Digest, idOf, type RecordId } from "../std/brand.ts";
import { foldEntity } from "./entities.ts";
import { Folding, type Op } from "./folding.ts";
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
export function foldRecord(reader: ViewReader, item: ValidItem): Op[] {
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

/** Members of bodies that the fold reads, of the kinds whose bodies are large or many; of the others it may read all. */
const READS: Readonly<Record<string, readonly string[]>> = {
  access: [],
  "approval.request": ["action_digest", "evidence_digest", "target"],
  decision: ["evaluated_at", "outcome", "policies", "preview", "target"],
  "evidence.export": [],
  "ledger.seal": ["ledger"],
  "quality.report": [],
  run: [],
  "run.batch": [],
  "run.finish": ["status"],
  "run.start": ["token"],
};

/**
 * The part of a record that the fold reads: kind, method, principal, whether a project is named, request, time, relations and targets
 * in turn, body. As JSON it costs half of what the record costs to hand to another thread.
 */
export type Facts = readonly [
  kind: string,
  method: ActorMethod,
  principal: RecordId | 0,
  hasProject: 0 | 1,
  requestId: string,
  time: string,
  links: readonly string[],
  body: JsonObject,
];

export function factsOf({ actor, body, kind, links, project, request_id, time }: LedgerRecord): Facts {
  const reads = Object.hasOwn(READS, kind) ? READS[kind] : undefined;
  const part: Record<string, JsonObject[string]> = {};
  for (const name of reads ?? []) if (body[name] !== undefined) part[name] = body[name];
  const ends: string[] = [];
  for (const { rel, to } of links) ends.push(rel, to);
  return [
    kind,
    actor.method,
    actor.principal ?? 0,
    project === undefined ? 0 : 1,
    request_id,
    time,
    ends,
    reads === undefined ? body : part,
  ];
}

/** What of a record its facts say; folding it gives the same rows. `project` is the one of its entry. */
export function recordOf(facts: Facts, project: Digest): LedgerRecord {
  const [kind, method, principal, hasProject, requestId, time, ends, body] = facts;
  const links: Link[] = [];
  for (let i = 0; i < ends.length; i += 2) links.push({ rel: ends[i] ?? "", to: ends[i + 1] as RecordId });
  return {
    actor: principal === 0 ? { method } : { method, principal },
    body,
    kind,
    links,
    request_id: requestId,
    salt: "",
    time,
    v: 1,
    ...(hasProject === 1 ? { project: idOf(project) } : {}),
  };
}
