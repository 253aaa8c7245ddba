/** A project keeps an administrator: a principal in force that may bind roles, not through a binding that ends by itself. */
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
