/** What a run put out, by the digests that its batches name. */
import { keys, type ViewReader } from "../fold/view.ts";
import { isObject, type Json } from "../record/json.ts";
import type { RecordId } from "../std/brand.ts";

/** Digests of all files that the run reported, whatever their role. */
export function outputsOf(reader: ViewReader, run: RecordId): ReadonlySet<string> {
  const digests = new Set<string>();
  const batches = reader.get("count", keys.count(run, "run.batch"))?.value.n ?? 0;
  for (let k = 1; k <= batches; k++) {
    const batch = reader.get("nth", keys.nth(run, "run.batch", k))?.value.id;
    const files = batch === undefined ? undefined : reader.record(batch)?.record.body["files"];
    for (const file of Array.isArray(files) ? (files as readonly Json[]) : []) {
      const digest = isObject(file) ? file["digest"] : undefined;
      if (typeof digest === "string") digests.add(digest);
    }
  }
  return digests;
}
