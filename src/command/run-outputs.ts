/** What a run put out, by the digests that its batches name. */
import { batchKey } from "../fold/runs.ts";
import type { ViewReader } from "../fold/view.ts";
import { isObject, type Json } from "../record/json.ts";
import type { RecordId } from "../std/brand.ts";

/** Digests of all files that the run reported, whatever their role. */
export function outputsOf(reader: ViewReader, run: RecordId): ReadonlySet<string> {
  const digests = new Set<string>();
  const batches = reader.get("run", run)?.value.batches ?? 0;
  for (let seq = 0; seq < batches; seq++) {
    const batch = reader.get("nth", batchKey(run, seq))?.value.id;
    const files = batch === undefined ? undefined : reader.record(batch)?.record.body["files"];
    for (const file of Array.isArray(files) ? (files as readonly Json[]) : []) {
      const digest = isObject(file) ? file["digest"] : undefined;
      if (typeof digest === "string") digests.add(digest);
    }
  }
  return digests;
}
