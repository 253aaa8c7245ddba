/**
 * What a command's plan is made from and what it is: the state to decide on, and drafts with the place of what was asked for.
 * Everything here is synchronous and pure over the reader.
 */
import { contentIdentity } from "../fold/identity.ts";
import { keys, type ViewReader } from "../fold/view.ts";
import { authorise, callerPermissions, hidden, notFound } from "../identity/authorise.ts";
import type { Caller } from "../identity/caller.ts";
import { projectName } from "../identity/ledger.ts";
import type { Permission } from "../identity/roles.ts";
import type { Draft, DraftLink, DraftRef } from "../log/submission.ts";
import { resolveRef } from "../query/resolve.ts";
import type { JsonObject } from "../record/json.ts";
import type { Kind } from "../record/kinds.ts";
import type { Actor } from "../record/record.ts";
import { assert } from "../std/assert.ts";
import { parseRecordId, type RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";

export interface Admission {
  readonly reader: ViewReader;
  readonly caller: Caller;
  /** The project of the request. */
  readonly project: RecordId;
  readonly requestId: string;
  readonly nowMs: number;
  /** The approval request that is being carried out: its votes count in decisions. */
  readonly approvalRequest?: RecordId;
}

/** What is to be written, and which of it answers the request. */
export interface Plan<T = undefined> {
  /** The first one lies in the project of the request. */
  readonly drafts: readonly Draft[];
  /** Position of the resource that was asked for; absent when the request is refused, waits, or is answered by `existing`. */
  readonly primary?: number;
  readonly existing?: Existing;
  /** Positions of drafts, or records that are there. */
  readonly decision?: number | RecordId;
  readonly approvalRequest?: number | RecordId;
  readonly value?: T;
}

/** A record that is there already. With `body`, it must equal the newest one, else the fault is ALREADY_EXISTS. */
export interface Existing {
  readonly id: RecordId;
  readonly body?: JsonObject;
}

export const actorOf = (caller: Caller): Actor => ({ method: caller.method, principal: caller.principal });

export function draft(
  a: Admission,
  kind: Kind,
  body: JsonObject,
  links: readonly DraftLink[] = [],
  project: DraftRef | undefined = a.project,
): Draft {
  return {
    kind,
    ...(project === undefined ? {} : { project }),
    actor: actorOf(a.caller),
    body,
    links,
    requestId: a.requestId,
  };
}

/** A link for each target that is there. */
export function link(rel: string, ...to: readonly (DraftRef | undefined)[]): DraftLink[] {
  const links: DraftLink[] = [];
  for (const target of to) if (target !== undefined) links.push({ rel, to: target });
  return links;
}

/** A plan that writes one resource, with further records behind it. */
export const created = (first: Draft, ...more: readonly Draft[]): Plan => ({ drafts: [first, ...more], primary: 0 });

/** Identity N: the record that has the name already, when its body is equal, else a new one. */
export function named(a: Admission, first: Draft, ...more: readonly Draft[]): Plan {
  const name = first.body["name"];
  assert(typeof name === "string", `a ${first.kind} has a name`);
  const owner = first.kind === "project" || first.kind === "principal" ? "-" : a.project;
  const row = a.reader.get("name", keys.name(owner, first.kind, name))?.value;
  return row === undefined ? created(first, ...more) : { drafts: [], existing: { id: row.id, body: first.body } };
}

/** Identity C: the record of equal content, whoever wrote it, else a new one. */
export function byContent(a: Admission, first: Draft, ...more: readonly Draft[]): Plan {
  const existing = findByContent(a, first);
  return existing === undefined ? created(first, ...more) : { drafts: [], existing: { id: existing } };
}

export function findByContent(a: Admission, first: Draft): RecordId | undefined {
  const links = first.links.map(({ rel, to }) => ({ rel, to: parseRecordId(to) }));
  // A link to a record of the same group is a link to something new: nothing equal can be there.
  if (links.some((l) => l.to === undefined)) return undefined;
  const key = contentIdentity(first.kind, a.project, first.body, links as { rel: string; to: RecordId }[]);
  return key === undefined ? undefined : a.reader.get("content", key)?.value.id;
}

/** The newest revision, or the fault ETAG_MISMATCH when the caller knows another one. */
export function checkEtag(a: Admission, id: RecordId, etag: string): RecordId {
  const revision = a.reader.get("entity", id)?.value.revision ?? id;
  if (etag === revision) return revision;
  throw new Fault("ETAG_MISMATCH", "the resource was changed since it was read: read it again and repeat the change", {
    metadata: { etag: revision },
  });
}

/** A plan that writes a revision of the entity `id`, when the caller knows its newest. */
export function revised(a: Admission, id: RecordId, etag: string, revision: Draft): Plan {
  checkEtag(a, id, etag);
  return created(revision);
}

/** Kinds that records of another project may link to. */
const SHARED: ReadonlySet<string> = new Set(["dataset.version", "schema", "environment.lock", "model.version"]);

const COLLECTION_OF: Readonly<Record<string, string>> = {
  artifact: "artifacts",
  code: "code",
  dataset: "datasets",
  "dataset.version": "datasets",
  decision: "decisions",
  "approval.request": "requests",
  environment: "environments",
  "environment.lock": "environments",
  experiment: "experiments",
  model: "models",
  "model.version": "models",
  policy: "policies",
  run: "runs",
  schema: "schemas",
};

/**
 * The record that a field of the request names: one of `kinds`, in the project of the request, or in another one for kinds
 * that may be shared. Throws NOT_FOUND, CROSS_PROJECT_DENIED, or REQUEST_INVALID for another kind.
 */
export function resolve(a: Admission, text: string, kinds: readonly Kind[], field: string): RecordId {
  const id = parseRecordId(text) ?? resolveAny(a, text, [...new Set(kinds.map((k) => COLLECTION_OF[k]))]);
  const found = a.reader.record(id);
  if (found === undefined) throw notFound(text);
  const { kind, project: owner = id } = found.record;
  if (owner !== a.project) checkShared(a, owner, kind, text);
  if (!kinds.includes(kind as Kind)) {
    throw new Fault("REQUEST_INVALID", `${field} names a ${kind}; what is needed is a ${kinds.join(" or a ")}`, {
      fields: [{ field, description: `is a ${kind}` }],
    });
  }
  return id;
}

/** As `resolve`; undefined for an empty field. */
export const resolveOptional = (
  a: Admission,
  text: string,
  kinds: readonly Kind[],
  field: string,
): RecordId | undefined => (text === "" ? undefined : resolve(a, text, kinds, field));

function resolveAny(a: Admission, text: string, collections: readonly (string | undefined)[]): RecordId {
  for (const [i, collection] of collections.entries()) {
    try {
      return resolveRef(a.reader, text, a.project, collection);
    } catch (error) {
      if (!(error instanceof Fault) || error.reason !== "NOT_FOUND" || i === collections.length - 1) throw error;
    }
  }
  throw notFound(text);
}

function checkShared(a: Admission, owner: RecordId, kind: string, text: string): void {
  const grants = callerPermissions(a.reader, a.caller, owner, a.nowMs);
  if (grants.size === 0) throw hidden(text);
  if (SHARED.has(kind) && grants.has("use")) return;
  const project = projectName(a.reader, owner);
  throw new Fault(
    "CROSS_PROJECT_DENIED",
    SHARED.has(kind)
      ? `use in ${project} is not among your permissions: ask its administrator for the role consumer`
      : `a ${kind} of another project cannot be linked`,
    { metadata: { project, reference: text.slice(0, 200) } },
  );
}

/** Asks for one more permission, in the project of the request. */
export const require = (a: Admission, permission: Permission): void => {
  authorise(a.reader, a.caller, a.project, permission, a.nowMs);
};

/** What a run's token may write about: its own run. */
export function checkOwnRun(a: Admission, run: RecordId | undefined): void {
  if (a.caller.run === undefined || a.caller.run === run) return;
  throw new Fault("PERMISSION_DENIED", "a run's token serves that run only: name it, or use your own token", {
    metadata: { permission: "run.report" },
  });
}
