/**
 * The views: what a ledger of `n` entries says now, as rows under string keys. Owns the shape of every row and the key of
 * every view, and nothing about how rows are stored.
 *
 * A key is made of ids, hex, numbers and names joined by `/`, so it never holds a NUL; the functions of `keys` are the only
 * place that builds one. Rows are JSON objects and part of the state digest: a new member of a row is a new fold version.
 * A status is lower-case. `entity.status` is the status of everything that has one; the rows `project`, `run` and `approval`
 * carry the same value beside what belongs to it.
 */

import type { LedgerRecord } from "../record/record.ts";
import type { LogIndex, RecordId, TreeSize } from "../std/brand.ts";

export type RunState =
  | "planned"
  | "refused"
  | "awaiting_approval"
  | "running"
  | "succeeded"
  | "failed"
  | "canceled"
  | "lost";

export type ProjectRow = { readonly name: string; readonly status: string; readonly revision: RecordId };

export type EntityRow = {
  readonly kind: string;
  readonly project: RecordId;
  readonly status?: string;
  /** What it is a version of; the parent run of a run. */
  readonly parent?: RecordId;
  /** Its number below the parent, from 1. */
  readonly ordinal?: number;
  /** The newest record that revises it; itself before any. */
  readonly revision: RecordId;
  /** Present when something that it was built from was revoked as invalid, or it was itself. */
  readonly tainted?: true;
  readonly name?: string;
};

export type Binding = {
  readonly id: RecordId;
  readonly role: string;
  readonly principal?: RecordId;
  readonly group?: { readonly name: string; readonly members: readonly RecordId[] };
  readonly expires_at?: string;
};

export type TokenRow = {
  /** The `token` record, or the `run.start` record of a run's token. */
  readonly id: RecordId;
  readonly principal: RecordId;
  /** Empty for all of the principal's. */
  readonly permissions: readonly string[];
  readonly expires_at: string;
  readonly run?: RecordId;
  readonly project?: RecordId;
};

export type PolicyRef = { readonly id: RecordId; readonly name: string; readonly mode: "active" | "shadow" };

export type GateOutcome = "pass" | "warn" | "fail" | "error" | "no_rule";

export type GateRow = {
  readonly outcome: GateOutcome;
  readonly decision: RecordId;
  readonly report?: RecordId;
  /** `evaluated_at` of the decision. */
  readonly at: string;
};

export type RunRow = {
  readonly status: RunState;
  /** Number of its `run.batch` records. */
  readonly batches: number;
  readonly last?: RecordId;
  readonly start?: RecordId;
  readonly finish?: RecordId;
  /** The newest decision on its start that was no preview. */
  readonly decision?: RecordId;
};

export type Vote = {
  readonly id: RecordId;
  readonly principal: RecordId;
  readonly verdict: "approve" | "reject";
  readonly meaning: string;
};

export type ApprovalRow = {
  /** open, approved, rejected, or what a transition said; expiry is a function of the asker's time, not of the fold. */
  readonly status: string;
  readonly votes: readonly Vote[];
  readonly decision: RecordId;
};

export interface Rows {
  readonly project: ProjectRow;
  readonly name: { readonly id: RecordId };
  readonly entity: EntityRow;
  readonly nth: { readonly id: RecordId };
  readonly count: { readonly n: number };
  readonly content: { readonly id: RecordId };
  readonly request: { readonly first: number; readonly count: number };
  readonly bindings: { readonly bindings: readonly Binding[] };
  readonly token: TokenRow;
  readonly alias: { readonly target: RecordId; readonly id: RecordId };
  readonly policies: { readonly policies: readonly PolicyRef[] };
  readonly gate: GateRow;
  readonly run: RunRow;
  readonly approval: ApprovalRow;
  /** How many runs are running: below a run, or in a project. */
  readonly "children-active": { readonly n: number };
  readonly ledger: { readonly record: RecordId; readonly seal?: RecordId };
}

export type View = keyof Rows;

/** Every view; its position is its number in stored keys, so the order never changes and new views go to the end. */
export const VIEWS = [
  "project",
  "name",
  "entity",
  "nth",
  "count",
  "content",
  "request",
  "bindings",
  "token",
  "alias",
  "policies",
  "gate",
  "run",
  "approval",
  "children-active",
  "ledger",
] as const satisfies readonly View[];

export interface ViewRow<V extends View> {
  readonly value: Rows[V];
  /** Index of the record that last changed the row. */
  readonly changedAt: LogIndex;
}

/** The state after the first `size` entries. */
export interface ViewReader {
  readonly size: TreeSize;
  get<V extends View>(view: V, key: string): ViewRow<V> | undefined;
  record(id: RecordId): { readonly index: LogIndex; readonly record: LedgerRecord } | undefined;
  /** The records that link to `id`, ascending by index. */
  dependents(id: RecordId): Iterable<{ readonly id: RecordId; readonly rel: string }>;
}

/** Keys of the views. `owner` of a name is a project, or `-` for kinds whose names are unique in the whole ledger. */
export const keys = {
  name: (owner: RecordId | "-", kind: string, name: string): string => `${owner}/${kind}/${name}`,
  /** Where policies are numbered: versions share a name, not a record. */
  series: (project: RecordId, name: string): string => `${project}:${name}`,
  nth: (parent: string, kind: string, k: number): string => `${parent}/${kind}/${k}`,
  count: (parent: string, kind: string): string => `${parent}/${kind}`,
  /** `project` is absent in the record that creates one. */
  request: (principal: RecordId | undefined, project: RecordId | undefined, requestId: string): string =>
    `${principal ?? "-"}/${project ?? "-"}/${requestId}`,
  alias: (entity: RecordId, name: string): string => `${entity}/${name}`,
  policies: (project: RecordId, target: string): string => `${project}/${target}`,
} as const;
