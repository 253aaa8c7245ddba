/** Stage 9: the artifacts' bytes. A blob's name is its content's digest, and some artifact record here names it. */
import { digestOf, parseRecordId } from "../std/brand.ts";
import type { Member } from "./container.ts";
import type { Manifest } from "./manifest.ts";
import { erasedIds, type PackRecord } from "./records.ts";
import type { Stage } from "./report.ts";

/** Sizes that artifact records state, by digest: several projects may have the same content, and must agree. */
function statedSizes(records: readonly PackRecord[]): Map<string, Set<number>> {
  const sizes = new Map<string, Set<number>>();
  for (const { record } of records) {
    if (record?.kind !== "artifact") continue;
    const { digest, size_bytes: size } = record.body;
    const id = typeof digest === "string" ? parseRecordId(digest) : undefined;
    if (id === undefined) continue;
    const stated = sizes.get(digestOf(id)) ?? new Set();
    sizes.set(digestOf(id), stated.add(typeof size === "number" ? size : 0));
  }
  return sizes;
}

export function checkBlobs(
  blobs: readonly Member[],
  records: readonly PackRecord[],
  { outside }: Manifest,
  allowed: ReadonlySet<string>,
  stage: Stage,
): void {
  const stated = statedSizes(records);
  const here = new Set<string>();
  for (const { name, sha256, sizeBytes } of blobs) {
    const digest = name.slice("blobs/".length);
    const sizes = stated.get(digest);
    here.add(digest);
    if (sha256 !== digest) stage.fail("artifact.digest", name, `its bytes have SHA-256 ${sha256}`);
    else if (sizes === undefined) stage.fail("pack.member", name, "no record here names this blob");
    else if ([...sizes].some((s) => s !== sizeBytes))
      stage.fail("artifact.digest", name, `has ${sizeBytes} bytes, its record says ${[...sizes].join(" and ")}`);
    if (outside.artifact.has(`sha256:${digest}`)) stage.fail("pack.manifest", name, "is listed as outside, yet here");
  }
  const erased = erasedIds(records);
  for (const digest of stated.keys()) {
    if (here.has(digest)) continue;
    const id = `sha256:${digest}`;
    const why = outside.artifact.get(id);
    if (why === undefined) stage.fail("artifact.missing", id, "is neither here nor listed as outside");
    else if (why === "erased" && !erased.has(id))
      stage.fail("erasure.unexplained", id, "is called erased, and no record here says so");
    else if (why === "not-granted" && !allowed.has(why))
      stage.skip(`artifact ${id} is not in the pack (${why}); accept that with --allow-outside ${why}`);
  }
}
