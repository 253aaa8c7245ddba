/** Who may see a record: who may read its project; records of who asked for what, only who may audit it. */

import type { ViewReader } from "../fold/view.ts";
import { authorise, hidden, mayRead } from "../identity/authorise.ts";
import type { Caller } from "../identity/caller.ts";
import type { RecordId } from "../std/brand.ts";
import { projectOf } from "./resolve.ts";

/** Kinds that tell about persons' behaviour. */
const AUDITED: ReadonlySet<string> = new Set(["access"]);

/** Throws NOT_FOUND for what the caller may not see, in the words of what is not there. `now` is the newest state. */
export function checkVisible(now: ViewReader, caller: Caller, id: RecordId, nowMs: number, text: string): void {
  const project = projectOf(now, id);
  if (project === undefined || !mayRead(now, caller, project, nowMs)) throw hidden(text);
  if (AUDITED.has(now.record(id)?.record.kind ?? "")) authorise(now, caller, project, "audit", nowMs);
}

/** What listing these kinds needs. */
export const permissionToList = (kinds: readonly string[]): "audit" | "read" =>
  kinds.some((k) => AUDITED.has(k)) ? "audit" : "read";
