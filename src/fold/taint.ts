/**
 * Taint: what was built from something that was revoked as invalid is tainted for ever, through data, runs and models, whether it
 * was recorded before the revocation or after it.
 */
import type { RecordId } from "../std/brand.ts";
import type { Folding } from "./folding.ts";

/** The links by which one thing is built from another. */
const BUILT_FROM: ReadonlySet<string> = new Set(["derived_from", "input", "parent", "produced_by"]);

/** Whether the record is built from something tainted. */
export function inheritsTaint(folding: Folding): boolean {
  return folding.record.links.some(
    (link) => BUILT_FROM.has(link.rel) && folding.get("entity", link.to)?.tainted === true,
  );
}

/** Taints `root` and all that was built from it. What is tainted already tainted its own when it became so. */
export function spreadTaint(folding: Folding, root: RecordId): void {
  const seen = new Set<RecordId>([root]);
  const waiting: RecordId[] = [root];
  for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
    const row = folding.get("entity", id);
    if (row === undefined) continue;
    if (row.tainted === true && id !== root) continue;
    folding.put("entity", id, { ...row, tainted: true });
    for (const dependent of folding.reader.dependents(id)) {
      if (!BUILT_FROM.has(dependent.rel) || seen.has(dependent.id)) continue;
      seen.add(dependent.id);
      waiting.push(dependent.id);
    }
  }
}
