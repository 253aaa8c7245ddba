/** Stage 9: the artifacts' bytes. A blob's name is its content's digest, and some artifact record here names it. */
import { digestOf, parseRecordId } from "../std/brand.ts";
import type { Member } from "./container.ts";
import type { Manifest } from "./manifest.ts";
import { erasedIds, type PackRecord } from "./records.ts";
import type { Stage } from "./report.ts";

export function checkBlobs(
  members: readonly Member[],
  records: readonly PackRecord[],
  manifest: Manifest,
  stage: Stage,
): void {
  const named = new Set<string>();
  const sizes = new Map<string, number>();
  for (const { record } of records) {
    const digest = record?.kind === "artifact" ? record.body["digest"] : undefined;
    const id = typeof digest === "string" ? parseRecordId(digest) : undefined;
    if (id === undefined) continue;
    named.add(digestOf(id));
    const size = record?.body["size_bytes"];
    sizes.set(digestOf(id), typeof size === "number" ? size : 0);
  }
  const here = new Set<string>();
  for (const member of members) {
    if (!member.name.startsWith("blobs/")) continue;
    const digest = member.name.slice("blobs/".length);
    here.add(digest);
    if (member.sha256 !== digest) stage.fail("artifact.digest", member.name, `its bytes have SHA-256 ${member.sha256}`);
    else if (!named.has(digest)) stage.fail("pack.member", member.name, "no record here names this blob");
    else if (sizes.get(digest) !== member.sizeBytes)
      stage.fail("artifact.digest", member.name, `has ${member.sizeBytes} bytes, its record says ${sizes.get(digest)}`);
  }
  const erased = erasedIds(records);
  for (const digest of named) {
    if (here.has(digest)) continue;
    const left = manifest.outside.get(`sha256:${digest}`);
    if (left === undefined || left.type !== "artifact")
      stage.fail("artifact.missing", `sha256:${digest}`, "is neither here nor listed as outside");
    else if (left.why === "erased" && !erased.has(`sha256:${digest}`))
      stage.fail("erasure.unexplained", `sha256:${digest}`, "is called erased, and no record here says so");
    else if (left.why === "not-granted") stage.skip(`artifact sha256:${digest} is not in the pack (not-granted)`);
  }
}
