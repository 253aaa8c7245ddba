/** Who answers for a named entity: an owner is a principal that is there. */
import { findPrincipal } from "../query/resolve.ts";
import type { JsonObject } from "../record/json.ts";
import type { RecordId } from "../std/brand.ts";
import type { Admission } from "./admission.ts";
import { invalid } from "./body.ts";

/** The principal that a field of the request names, by id or name, who is not disabled. */
export function resolvePrincipal(a: Admission, text: string, field: string): RecordId {
  const id = findPrincipal(a.reader, text);
  if (id === undefined) throw invalid(field, "names no principal: give its id or its name");
  if (a.reader.get("entity", id)?.value.status === "disabled") throw invalid(field, "names a disabled principal");
  return id;
}

/** The body with its owner as a principal's id. */
export function withOwner(a: Admission, body: JsonObject): JsonObject {
  const { owner } = body;
  return typeof owner === "string" ? { ...body, owner: resolvePrincipal(a, owner, "owner") } : body;
}
