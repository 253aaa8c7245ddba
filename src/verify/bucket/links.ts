/** Links of records in a bucket: each names a record that came before. */
import type { RecordId } from "../../std/brand.ts";
import type { Audit } from "./audit.ts";
import type { RecordIndexes } from "./indexes.ts";

export function checkLinks(
  links: readonly { readonly rel: string; readonly to: RecordId }[],
  id: string,
  index: number,
  indexes: RecordIndexes,
  { stages }: Audit,
): void {
  for (const { rel, to } of links) {
    const target = indexes.get(to);
    // What comes later in the same commit has an index by now.
    if (target === undefined || target > index)
      stages.records.fail("link.dangling", id, `its link ${rel} to ${to} names no record before it`);
    else if (target === index) stages.records.fail("link.order", id, `its link ${rel} names the record itself`);
  }
}
