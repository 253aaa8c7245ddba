/**
 * From what callers write (`fraud/transactions@v7`, `projects/fraud/datasets/transactions/versions/7`, `sha256:…`) to the id
 * of a record. Says nothing about who may see it: every caller of this asks that next.
 */

import { keys, type ViewReader } from "../fold/view.ts";
import { notFound } from "../identity/authorise.ts";
import { findProject } from "../identity/ledger.ts";
import { parseRef } from "../record/names.ts";
import { idOf, parseDigest, parseRecordId, type RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";

interface Collection {
  readonly kind: string;
  /** Kind of the versions; absent where there are none. */
  readonly versions?: string;
}

/** Segments of resource names whose members have names. */
export const COLLECTIONS: Readonly<Record<string, Collection>> = {
  datasets: { kind: "dataset", versions: "dataset.version" },
  models: { kind: "model", versions: "model.version" },
  environments: { kind: "environment", versions: "environment.lock" },
  experiments: { kind: "experiment" },
  policies: { kind: "policy", versions: "policy" },
  /** Their name leads to the newest of that name. */
  schemas: { kind: "schema" },
};

/** Segments of resource names whose members have a digest only. */
export const BY_DIGEST: Readonly<Record<string, string>> = {
  access: "access",
  aliases: "alias",
  approvals: "approval",
  artifacts: "artifact",
  batches: "run.batch",
  bindings: "role.binding",
  code: "code",
  decisions: "decision",
  exports: "evidence.export",
  finishes: "run.finish",
  ledger: "ledger",
  operations: "operation",
  reports: "quality.report",
  requests: "approval.request",
  retentions: "retention",
  runs: "run",
  seals: "ledger.seal",
  starts: "run.start",
  tokens: "token",
  transitions: "transition",
};

/**
 * The record that a text names. Short names are looked up in `project`, and in `collection` when one is given, else in all.
 * Throws the fault REQUEST_INVALID for a text of no known form, NOT_FOUND for what is not there.
 */
export function resolveRef(reader: ViewReader, text: string, project?: RecordId, collection?: string): RecordId {
  const ref = parseRef(text);
  if (ref === undefined) {
    throw new Fault(
      "REQUEST_INVALID",
      "a reference is a record id, a resource name, or project/name with @v7 or @alias behind it",
      { metadata: { reference: text.slice(0, 200) } },
    );
  }
  switch (ref.type) {
    case "id":
      if (reader.record(ref.id) === undefined) throw notFound(text);
      return ref.id;
    case "project": {
      const id = findProject(reader, ref.project);
      if (id === undefined) throw notFound(text);
      return id;
    }
    case "named": {
      const owner = ref.project === undefined ? project : findProject(reader, ref.project);
      if (owner === undefined) throw notFound(text);
      const where = ref.collection ?? collection;
      const kind = where === undefined ? undefined : BY_DIGEST[where];
      if (kind !== undefined) return byDigest(reader, ref.name, kind, owner, text);
      const collections = where === undefined ? Object.values(COLLECTIONS) : [COLLECTIONS[where]];
      for (const c of collections) {
        const id = c === undefined ? undefined : inCollection(reader, owner, c, ref, text);
        if (id !== undefined) return id;
      }
      throw notFound(text);
    }
  }
}

function byDigest(reader: ViewReader, name: string, kind: string, owner: RecordId, text: string): RecordId {
  const digest = parseDigest(name);
  const id = digest === undefined ? undefined : idOf(digest);
  const record = id === undefined ? undefined : reader.record(id)?.record;
  if (id === undefined || record?.kind !== kind || record.project !== owner) throw notFound(text);
  return id;
}

interface Selector {
  readonly name: string;
  readonly version: number | undefined;
  readonly alias: string | undefined;
}

function inCollection(
  reader: ViewReader,
  owner: RecordId,
  c: Collection,
  ref: Selector,
  text: string,
): RecordId | undefined {
  if (c.kind === "schema" && parseDigest(ref.name) !== undefined) {
    return byDigest(reader, ref.name, c.kind, owner, text);
  }
  if (c.kind === "policy") {
    const series = keys.series(owner, ref.name);
    if (ref.alias !== undefined) return undefined;
    const n = ref.version ?? reader.get("count", keys.count(series, "policy"))?.value.n;
    return n === undefined ? undefined : reader.get("nth", keys.nth(series, "policy", n))?.value.id;
  }
  const entity = reader.get("name", keys.name(owner, c.kind, ref.name))?.value.id;
  if (entity === undefined || (ref.version === undefined && ref.alias === undefined)) return entity;
  if (c.versions === undefined) return undefined;
  if (ref.alias !== undefined) return reader.get("alias", keys.alias(entity, ref.alias))?.value.target;
  return ref.version === undefined ? undefined : reader.get("nth", keys.nth(entity, c.versions, ref.version))?.value.id;
}

/** A principal by its id or name; undefined when there is none. */
export function findPrincipal(reader: ViewReader, text: string): RecordId | undefined {
  const id = parseRecordId(text) ?? reader.get("name", keys.name("-", "principal", text))?.value.id;
  return id !== undefined && reader.get("entity", id)?.value.kind === "principal" ? id : undefined;
}

/** The project whose entry a record is: its own id for the record that creates one. */
export const projectOf = (reader: ViewReader, id: RecordId): RecordId | undefined => {
  const found = reader.record(id);
  return found === undefined ? undefined : (found.record.project ?? id);
};
