/** Links of records in a bucket: each names a record that came before. */
import type { Audit } from "./audit.ts";

export function checkLinks(
  links: readonly { readonly rel: string; readonly to: string }[],
  id: string,
  index: number,
  indexes: ReadonlyMap<string, number>,
  { stages }: Audit,
): void {
  for (const { rel, to } of links) {
    const target = indexes.get(to);
    if (target === undefined)
      stages.records.fail("link.dangling", id, `its link ${rel} to ${to} names no record before it`);
    else if (target >= index) stages.records.fail("link.order", id, `its link ${rel} names a record that came later`);
  }
}
