/** Names of records for answers that mention them: the id alone where the caller may not read the project. */
import { mayRead } from "../identity/authorise.ts";
import type { Caller } from "../identity/caller.ts";
import type { IndexReader } from "../index/index.ts";
import type { RecordId } from "../std/brand.ts";
import type { Reads } from "./as-of.ts";
import { projectOf } from "./resolve.ts";
import { findResource } from "./resource.ts";

/** Whether the caller may read a project, asked of the newest state once for each. */
export function visibleTo(reads: Reads, caller: Caller): (project: RecordId) => boolean {
  const known = new Map<RecordId, boolean>();
  return (project) => {
    let may = known.get(project);
    if (may === undefined) {
      using now = reads.log.index.reader();
      may = mayRead(now, caller, project, reads.clock.now());
      known.set(project, may);
    }
    return may;
  };
}

/** Resource names at the reader's size. */
export function namesFor(reads: Reads, caller: Caller, reader: IndexReader): (id: RecordId) => string {
  const visible = visibleTo(reads, caller);
  return (id) => {
    const project = projectOf(reader, id);
    if (project === undefined || !visible(project)) return id;
    return findResource(reader, id)?.name ?? id;
  };
}
