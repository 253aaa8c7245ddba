/**
 * Reading for an input: every record that a value came from is noted as a fact, so that the same function over the facts alone
 * gives the same value. Where a view says something (a status, a gate, a taint), the records that made it so are noted.
 *
 * Absence has no record: that nothing revoked a version is shown by the complete chain of its project, not by facts.
 */
import { LEDGER_NAME } from "../fold/entities.ts";
import type { EntityRow, ViewReader } from "../fold/view.ts";
import type { JsonObject } from "../record/json.ts";
import type { LedgerRecord } from "../record/record.ts";
import type { LogIndex, RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";

/** Facts of one decision; its links hold subjects, policies and approvals too, and a record has at most 1,024 links. */
export const MAX_FACTS = 896;

/** Statuses that no transition led to. */
const INITIAL = new Set(["registered", "draft", "planned", "open", "requested"]);
const BUILT_FROM = ["derived_from", "input", "parent", "produced_by"];
/** Records looked at to find what tainted something. */
const MAX_TAINT_SEARCH = 10_000;

export class Reading {
  readonly reader: ViewReader;
  /** Records of the same group: no id named them when the input was made. */
  readonly #pending: ReadonlySet<RecordId>;
  readonly #facts = new Set<RecordId>();

  constructor(reader: ViewReader, pending: ReadonlySet<RecordId> = new Set()) {
    this.reader = reader;
    this.#pending = pending;
  }

  /** Ascending. */
  facts(): RecordId[] {
    if (this.#facts.size > MAX_FACTS)
      throw new Fault(
        "LIMIT_EXCEEDED",
        `A decision can be based on at most ${MAX_FACTS} records; this one would need ${this.#facts.size}. Split the run or the model into steps.`,
      );
    return [...this.#facts].toSorted();
  }

  shown(id: RecordId): string | null {
    return this.#pending.has(id) ? null : id;
  }

  record(id: RecordId): LedgerRecord | undefined {
    const found = this.reader.record(id)?.record;
    if (found !== undefined) this.#facts.add(id);
    return found;
  }

  body(id: RecordId): JsonObject {
    return this.record(id)?.body ?? {};
  }

  indexOf(id: RecordId): LogIndex | undefined {
    return this.reader.record(id)?.index;
  }

  entity(id: RecordId): EntityRow | undefined {
    return this.reader.get("entity", id)?.value;
  }

  /** Newest body of a named entity. */
  newest(id: RecordId): JsonObject {
    const created = this.record(id);
    const revision = this.entity(id)?.revision;
    return revision === undefined || revision === id ? (created?.body ?? {}) : this.body(revision);
  }

  /** A status by transitions, noting the one that led to it. */
  status(id: RecordId): string | null {
    this.record(id);
    const status = this.entity(id)?.status;
    if (status === undefined) return null;
    if (!INITIAL.has(status)) this.#noteTransition(id, status);
    return status;
  }

  #noteTransition(id: RecordId, status: string): void {
    let last: RecordId | undefined;
    for (const dependent of this.reader.dependents(id)) {
      if (dependent.rel !== "subject") continue;
      const record = this.reader.record(dependent.id)?.record;
      if (record?.kind === "transition" && record.body["to"] === status) last = dependent.id;
    }
    if (last !== undefined) this.record(last);
  }

  /** Whether something is tainted, noting one path to what was revoked. */
  tainted(id: RecordId): boolean {
    this.record(id);
    if (this.entity(id)?.tainted !== true) return false;
    for (const step of this.#pathToRevoked(id)) this.record(step);
    return true;
  }

  /** From a tainted record to a revoked one, and the revocation. */
  #pathToRevoked(id: RecordId): RecordId[] {
    const from = new Map<RecordId, RecordId | undefined>([[id, undefined]]);
    for (const at of from.keys()) {
      if (from.size > MAX_TAINT_SEARCH) break;
      const revocation = this.#revocationOf(at);
      if (revocation !== undefined) return [...trace(from, at), revocation];
      for (const link of this.reader.record(at)?.record.links ?? [])
        if (BUILT_FROM.includes(link.rel) && !from.has(link.to) && this.entity(link.to)?.tainted === true)
          from.set(link.to, at);
    }
    return [];
  }

  #revocationOf(id: RecordId): RecordId | undefined {
    if (this.entity(id)?.status !== "revoked") return undefined;
    for (const dependent of this.reader.dependents(id)) {
      const body = dependent.rel === "subject" ? this.reader.record(dependent.id)?.record : undefined;
      if (
        body?.kind === "transition" &&
        body.body["to"] === "revoked" &&
        body.body["severity"] === "SEVERITY_INVALIDATES"
      )
        return dependent.id;
    }
    return undefined;
  }

  /** Ids of what a record links to by a relation, ascending. */
  links(id: RecordId, rel: string): RecordId[] {
    return (this.record(id)?.links ?? []).filter((link) => link.rel === rel).map((link) => link.to);
  }

  link(id: RecordId, rel: string): RecordId | undefined {
    return this.links(id, rel)[0];
  }

  projectName(project: RecordId): string {
    const record = this.record(project);
    if (record?.kind === "ledger") return LEDGER_NAME;
    return typeof record?.body["name"] === "string" ? record.body["name"] : "";
  }

  /** Names of the groups that a principal belongs to in these projects at a time, noting the bindings that say so. */
  groups(principal: RecordId, projects: readonly RecordId[], now: string): string[] {
    const names = new Set<string>();
    for (const project of new Set(projects))
      for (const binding of this.reader.get("bindings", project)?.value.bindings ?? []) {
        const { group, expires_at: expiresAt } = binding;
        // Times of the ledger's form are in the order of their texts.
        if (group === undefined || !group.members.includes(principal) || (expiresAt !== undefined && now >= expiresAt))
          continue;
        names.add(group.name);
        this.record(binding.id);
      }
    return [...names].toSorted();
  }

  /**
   * For each group that the ledger names, how many persons there are: its members, the ledger's administrators, and who asks. Notes
   * the bindings that say so. Whether a binding is over, or a person disabled, does not count: that would let rules lapse.
   */
  persons(ledger: RecordId, asks: RecordId | null): JsonObject {
    const bindings = this.reader.get("bindings", ledger)?.value.bindings ?? [];
    const always = new Set(asks === null ? [] : [asks]);
    const groups = new Map<string, RecordId[]>();
    for (const { group, id, principal, role } of bindings) {
      const members = principal === undefined ? (group?.members ?? []) : [principal];
      if (role === "project-admin") for (const member of members) always.add(member);
      if (group !== undefined) groups.set(group.name, [...(groups.get(group.name) ?? []), ...members]);
      if (role === "project-admin" || group !== undefined) this.record(id);
    }
    return Object.fromEntries([...groups].map(([name, members]) => [name, new Set([...always, ...members]).size]));
  }
}

function trace(from: ReadonlyMap<RecordId, RecordId | undefined>, end: RecordId): RecordId[] {
  const path: RecordId[] = [];
  for (let at: RecordId | undefined = end; at !== undefined; at = from.get(at)) path.push(at);
  return path;
}

/** Attestations come with trust anchors; the list is part of the input's shape. */
export const NO_ATTESTATIONS: readonly JsonObject[] = [];

export const number = (value: JsonObject[string] | undefined): number | null =>
  typeof value === "number" ? value : null;
export const string = (value: JsonObject[string] | undefined): string | null =>
  typeof value === "string" ? value : null;

/** Labels as a map. */
export function labelsOf(body: JsonObject): JsonObject {
  return mapOf(body["labels"]);
}

/** A list of {key, value} as a map. */
export function mapOf(pairs: JsonObject[string] | undefined): JsonObject {
  const entries = Array.isArray(pairs) ? (pairs as readonly JsonObject[]) : [];
  return Object.fromEntries(entries.map((pair) => [string(pair["key"]) ?? "", pair["value"] ?? ""]));
}
