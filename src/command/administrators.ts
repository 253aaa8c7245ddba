/**
 * A project keeps an administrator: a principal in force that may bind roles, not through a binding that ends by itself. A group that
 * the ledger names keeps its second person: without him the rules of the baseline would lapse (`policy/baseline.ts`).
 */
import type { Binding, ViewReader } from "../fold/view.ts";
import { projectName } from "../identity/ledger.ts";
import type { RecordId } from "../std/brand.ts";
import { Fault } from "../std/faults.ts";

/** What is about to go. */
export interface Leaving {
  readonly binding?: RecordId;
  readonly principal?: RecordId;
}

/** Throws NO_ADMIN when the project has an administrator now and would have none without what leaves. */
export function checkAdmins(reader: ViewReader, project: RecordId, leaving: Leaving): void {
  const bindings = (reader.get("bindings", project)?.value.bindings ?? []).filter((b) => b.role === "project-admin");
  if (!bindings.some((b) => administers(reader, b, {}))) return;
  if (bindings.some((b) => administers(reader, b, leaving))) return;
  const name = projectName(reader, project);
  throw new Fault("NO_ADMIN", `${name} would be left without an administrator: bind another one first`, {
    metadata: { project: name },
  });
}

function administers(reader: ViewReader, binding: Binding, leaving: Leaving): boolean {
  if (binding.id === leaving.binding || binding.expires_at !== undefined) return false;
  const members = binding.principal === undefined ? (binding.group?.members ?? []) : [binding.principal];
  return members.some((m) => m !== leaving.principal && reader.get("entity", m)?.value.status === "active");
}

/** Throws NO_ADMIN when the ledger's group that a binding names would be left without a member, or without a second person. */
export function checkGroupKept(reader: ViewReader, ledger: RecordId, binding: RecordId): void {
  const bindings = reader.get("bindings", ledger)?.value.bindings ?? [];
  const name = bindings.find((b) => b.id === binding)?.group?.name;
  if (name === undefined) return;
  const rest = bindings.filter((b) => b.id !== binding);
  const kept = rest.filter((b) => b.group?.name === name);
  if (kept.length > 0 && (personsOf(rest, name) > 1 || personsOf(bindings, name) < 2)) return;
  throw new Fault("NO_ADMIN", `${name} would be left without a second person: bind another member first`, {
    metadata: { group: name },
  });
}

/** Members of a group, and the administrators. */
function personsOf(bindings: readonly Binding[], group: string): number {
  const counted = bindings.filter((b) => b.group?.name === group || b.role === "project-admin");
  return new Set(counted.flatMap((b) => (b.principal === undefined ? (b.group?.members ?? []) : [b.principal]))).size;
}
