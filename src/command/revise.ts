/** Revises a named entity: a record of the same kind with the whole new body, that links to the record which created the name. */
import { keys } from "../fold/view.ts";
import { notFound } from "../identity/authorise.ts";
import type { JsonObject } from "../record/json.ts";
import type { Kind } from "../record/kinds.ts";
import { type Admission, checkEtag, created, draft, link, type Plan } from "./admission.ts";
import { withOwner } from "./owner.ts";

export function revise(a: Admission, kind: Kind, body: JsonObject, etag: string): Plan {
  const name = typeof body["name"] === "string" ? body["name"] : "";
  const id = a.reader.get("name", keys.name(a.project, kind, name))?.value.id;
  if (id === undefined) throw notFound(name);
  checkEtag(a, id, etag);
  return created(draft(a, kind, withOwner(a, body), link("revises", id)));
}
