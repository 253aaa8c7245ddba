/**
 * Authorisation: which binding gives a caller a permission in a project, as a function of the views and of the asker's time.
 *
 * Called inside admission, so that what it read is guarded: no change is sequenced after the revocation of the binding that
 * allowed it. The project is the resource's, never one that the client names. Unknown roles and expired bindings give nothing.
 * Who may not read a project does not learn that it exists.
 */

import type { Binding, ViewReader } from "../fold/view.ts";
import type { RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";
import { parseTime } from "../std/ports.ts";
import type { Caller } from "./caller.ts";
import { ledgerOf, projectName } from "./ledger.ts";
import { type Permission, permissionsOfRole, RUN_TOKEN_PERMISSIONS } from "./roles.ts";

/** A permission and the binding that gives it; none for what needs no binding. */
export interface Grant {
  readonly binding?: RecordId;
  readonly role: string;
}

const inForce = (binding: Binding, nowMs: number): boolean => {
  if (binding.expires_at === undefined) return true;
  const end = parseTime(binding.expires_at);
  return end !== undefined && nowMs < end;
};

const names = (binding: Binding, principal: RecordId): boolean =>
  binding.principal === principal || binding.group?.members.includes(principal) === true;

/** The bindings of a project that name a principal, directly or as a member of a group, and are in force. */
export function bindingsOf(reader: ViewReader, principal: RecordId, project: RecordId, nowMs: number): Binding[] {
  const row = reader.get("bindings", project)?.value;
  return (row?.bindings ?? []).filter((b) => names(b, principal) && inForce(b, nowMs));
}

/** What a binding in the ledger's own project gives in every other project. */
function reach(binding: Binding): readonly Permission[] {
  if (binding.role === "auditor") return permissionsOfRole("auditor").filter((p) => p !== "log.read");
  // Groups that the ledger names approve in every project, because its policies bind every project.
  const approves = binding.group !== undefined && permissionsOfRole(binding.role).includes("approve");
  return approves ? ["read", "approve"] : [];
}

/**
 * What a principal may do in a project, each with the binding that gives it. A disabled principal may do nothing. Everybody
 * may read the ledger's own project: it holds the keys, policies and roles that bind everybody.
 */
export function permissionsOf(
  reader: ViewReader,
  principal: RecordId,
  project: RecordId,
  nowMs: number,
): Map<Permission, Grant> {
  const grants = new Map<Permission, Grant>();
  const entity = reader.get("entity", principal)?.value;
  if (entity?.kind !== "principal" || entity.status === "disabled") return grants;
  const add = (permissions: readonly Permission[], grant: Grant): void => {
    for (const p of permissions) if (!grants.has(p)) grants.set(p, grant);
  };
  const ledger = ledgerOf(reader);
  for (const b of bindingsOf(reader, principal, project, nowMs)) {
    add(permissionsOfRole(b.role), { binding: b.id, role: b.role });
  }
  if (project === ledger) add(["read"], { role: "everybody" });
  else for (const b of bindingsOf(reader, principal, ledger, nowMs)) add(reach(b), { binding: b.id, role: b.role });
  return grants;
}

/**
 * What a run's token permits: all of it while the run is running, and when it was called LOST and may still say what became of
 * it. Once the run has ended only reports are heard, so that a reporter who missed the answer may ask for it again; what would be
 * new is refused. Nothing for a run that never started.
 */
export function runTokenPermissions(reader: ViewReader, run: RecordId): readonly Permission[] {
  switch (reader.get("run", run)?.value.status) {
    case "running":
    case "lost":
      return RUN_TOKEN_PERMISSIONS;
    case "succeeded":
    case "failed":
    case "canceled":
      return ["run.report"];
    case "planned":
    case "refused":
    case "awaiting_approval":
    case undefined:
    default:
      return [];
  }
}

/** What a caller may do in a project: the principal's permissions within the limits of the token. */
export function callerPermissions(
  reader: ViewReader,
  caller: Caller,
  project: RecordId,
  nowMs: number,
): Map<Permission, Grant> {
  if (caller.run !== undefined) {
    const own = caller.runProject === project && reader.get("entity", caller.principal)?.value.status !== "disabled";
    return new Map(own ? runTokenPermissions(reader, caller.run).map((p) => [p, { role: "run-token" }]) : []);
  }
  if (reader.get("entity", caller.token)?.value.status === "revoked") return new Map();
  const grants = permissionsOf(reader, caller.principal, project, nowMs);
  if (caller.permissions.length === 0) return grants;
  return new Map([...grants].filter(([p]) => caller.permissions.includes(p)));
}

/** Whether the caller may know that the project exists: who may do anything there may. */
export const mayRead = (reader: ViewReader, caller: Caller, project: RecordId, nowMs: number): boolean =>
  callerPermissions(reader, caller, project, nowMs).has("read");

/** The grant, or the fault PERMISSION_DENIED, or NOT_FOUND when the caller may do nothing there. */
export function authorise(
  reader: ViewReader,
  caller: Caller,
  project: RecordId,
  permission: Permission,
  nowMs: number,
): Grant {
  const grants = callerPermissions(reader, caller, project, nowMs);
  const grant = grants.get(permission);
  if (grant !== undefined) return grant;
  if (grants.size === 0) throw hidden("project");
  const name = projectName(reader, project);
  throw new Fault(
    "PERMISSION_DENIED",
    `${permission} in ${name} is not among your permissions: ask its administrator`,
    {
      metadata: { permission, project: name },
    },
  );
}

/** Cause of a NOT_FOUND that hides what the caller may not see: recorded as a denial, told as an absence. */
export const HIDDEN = Symbol("hidden");

const absent = (what: string): string => `${what} not found, or not yours to see: check the name and your access`;

/** What is not there. */
export const notFound = (what: string): Fault => new Fault("NOT_FOUND", absent(what));

/** What the caller may not see, in the words of what is not there. */
export const hidden = (what: string): Fault => new Fault("NOT_FOUND", absent(what), { cause: HIDDEN });

/** Names of the groups that a principal belongs to in a project: the project's own and the ledger's. */
export function groupsOf(reader: ViewReader, principal: RecordId, project: RecordId, nowMs: number): string[] {
  const ledger = ledgerOf(reader);
  const projects = project === ledger ? [ledger] : [project, ledger];
  const groups = projects.flatMap((p) =>
    bindingsOf(reader, principal, p, nowMs).flatMap((b) =>
      b.group?.members.includes(principal) === true ? [b.group.name] : [],
    ),
  );
  return [...new Set(groups)].toSorted();
}

/** Names of the roles that a principal has in a project, through its own bindings. */
export const rolesOf = (reader: ViewReader, principal: RecordId, project: RecordId, nowMs: number): string[] =>
  [...new Set(bindingsOf(reader, principal, project, nowMs).map((b) => b.role))].toSorted();
