/** Changes of status, and what follows from them in other views. An impossible change is recorded as it is. */
import type { RecordId } from "../std/brand.ts";
import type { Folding } from "./folding.ts";
import { closeRequest } from "./governance.ts";
import { setRun } from "./runs.ts";
import { spreadTaint } from "./taint.ts";
import { type Binding, keys, type PolicyRef, type RunState } from "./view.ts";

export function foldTransition(folding: Folding): void {
  const to = folding.text("to");
  const invalidates = to === "revoked" && folding.text("severity") === "SEVERITY_INVALIDATES";
  for (const subject of folding.links("subject")) {
    const entity = folding.get("entity", subject);
    if (entity === undefined) continue;
    folding.put("entity", subject, { ...entity, status: to });
    switch (entity.kind) {
      case "project": {
        const row = folding.get("project", subject);
        if (row !== undefined) folding.put("project", subject, { ...row, status: to });
        break;
      }
      case "policy":
        movePolicy(folding, subject, entity.project, entity.name ?? "", to);
        break;
      case "role.binding":
        moveBinding(folding, subject, entity.project, to);
        break;
      case "approval.request":
        closeRequest(folding, subject, to);
        break;
      case "run":
        setRun(folding, subject, { status: to as RunState });
        break;
      default:
    }
    if (invalidates) spreadTaint(folding, subject);
  }
}

/** Active and shadow policies of a target, ascending by name and then in the order in which they came into force. */
function movePolicy(folding: Folding, id: RecordId, project: RecordId, name: string, to: string): void {
  if (to === "active") supersedeEarlier(folding, id, project, name);
  const target = targetOf(folding, id);
  if (target === undefined) return;
  const key = keys.policies(project, target);
  const others = (folding.get("policies", key)?.policies ?? []).filter((policy) => policy.id !== id);
  if (to === "active" || to === "shadow") setPolicies(folding, key, [...others, { id, mode: to, name }]);
  else setPolicies(folding, key, others);
}

/** An active policy ends the one of the same name that was active before. */
function supersedeEarlier(folding: Folding, id: RecordId, project: RecordId, name: string): void {
  const series = keys.series(project, name);
  const n = folding.get("count", keys.count(series, "policy"))?.n ?? 0;
  for (let k = 1; k <= n; k++) {
    const other = folding.get("nth", keys.nth(series, "policy", k))?.id;
    if (other === undefined || other === id || folding.get("entity", other)?.status !== "active") continue;
    folding.updateEntity(other, { status: "superseded" });
    const target = targetOf(folding, other);
    if (target === undefined) continue;
    const key = keys.policies(project, target);
    setPolicies(
      folding,
      key,
      (folding.get("policies", key)?.policies ?? []).filter((policy) => policy.id !== other),
    );
  }
}

function targetOf(folding: Folding, policy: RecordId): string | undefined {
  const target = folding.reader.record(policy)?.record.body["target"];
  return typeof target === "string" ? target : undefined;
}

function setPolicies(folding: Folding, key: string, policies: readonly PolicyRef[]): void {
  folding.put("policies", key, {
    policies: policies.toSorted((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0)),
  });
}

export function foldBinding(folding: Folding): void {
  addBinding(folding, folding.project, bindingOf(folding.id, folding.record.body));
}

function addBinding(folding: Folding, project: RecordId, binding: Binding): void {
  const bindings = (folding.get("bindings", project)?.bindings ?? []).filter((other) => other.id !== binding.id);
  folding.put("bindings", project, { bindings: [...bindings, binding] });
}

function moveBinding(folding: Folding, id: RecordId, project: RecordId, to: string): void {
  if (to === "active") {
    const record = folding.reader.record(id)?.record;
    if (record !== undefined) addBinding(folding, project, bindingOf(id, record.body));
    return;
  }
  const bindings = folding.get("bindings", project)?.bindings ?? [];
  if (bindings.some((binding) => binding.id === id))
    folding.put("bindings", project, { bindings: bindings.filter((binding) => binding.id !== id) });
}

function bindingOf(id: RecordId, body: Readonly<Record<string, unknown>>): Binding {
  const { role, principal, group, expires_at: expiresAt } = body as Partial<Binding>;
  return {
    ...(expiresAt === undefined ? {} : { expires_at: expiresAt }),
    ...(group === undefined ? {} : { group: { members: group.members ?? [], name: group.name } }),
    id,
    ...(principal === undefined ? {} : { principal }),
    role: role ?? "",
  };
}
