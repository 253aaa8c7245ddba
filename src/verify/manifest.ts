/** Stage 1, the manifest: what the pack claims to hold, compared with what it holds. */
import { parseCanonical } from "../record/canonical.ts";
import type { Json } from "../record/json.ts";
import { parseDigest, parseRecordId } from "../std/brand.ts";
import { Violation } from "../std/violation.ts";
import type { Member } from "./container.ts";
import type { Limits } from "./limits.ts";
import type { Stage } from "./report.ts";

export const PACK_FORMAT = "datapilot-evidence/v1";

export interface Outside {
  readonly id: string;
  readonly type: "record" | "artifact" | "personal";
  readonly why: string;
}

export interface Manifest {
  readonly complete: ReadonlySet<string>;
  readonly outside: ReadonlyMap<string, Outside>;
  readonly roots: readonly string[];
}

const REASONS: Readonly<Record<Outside["type"], readonly string[]>> = {
  artifact: ["not-granted", "not-included", "erased"],
  personal: ["not-granted", "erased"],
  record: ["other-project", "depth", "not-granted"],
};
const PERSONAL_ID = /^personal:sha256:[0-9a-f]{64}$/;

type Row = Readonly<Record<string, Json>>;
const isRow = (value: Json | undefined, ...names: readonly string[]): value is Row =>
  typeof value === "object" && value !== null && !Array.isArray(value) && Object.keys(value).join() === names.join();
const ascending = (values: readonly string[]): boolean => values.every((v, i) => i === 0 || (values[i - 1] ?? "") < v);

/** Checks the manifest against the members; undefined when it cannot be relied on. */
export function checkManifest(members: readonly Member[], limits: Limits, stage: Stage): Manifest | undefined {
  const bad = (detail: string): undefined => stage.fail("pack.manifest", "manifest.json", detail) as undefined;
  const bytes = members[0]?.bytes;
  if (bytes === undefined || bytes.at(-1) !== 0x0a) return bad("does not end with a line feed");
  let value: Json;
  try {
    value = parseCanonical(bytes.subarray(0, -1), { maxBytes: limits.manifest });
  } catch (error) {
    return bad(error instanceof Violation ? error.message : "is not canonical JSON");
  }
  if (!isRow(value, "complete", "files", "format", "outside", "roots"))
    return bad("has other members than complete, files, format, outside, roots");
  const { complete, files, format, outside, roots } = value;
  if (format !== PACK_FORMAT) return bad(`has format ${JSON.stringify(format)}; this verifier knows ${PACK_FORMAT}`);
  if (
    !Array.isArray(complete) ||
    !complete.every((c): c is string => typeof c === "string" && parseDigest(c) !== undefined) ||
    !ascending(complete)
  )
    return bad("complete is not an ascending list of project ids");
  if (
    !Array.isArray(roots) ||
    roots.length === 0 ||
    !roots.every((r): r is string => typeof r === "string" && parseRecordId(r) !== undefined) ||
    !ascending(roots)
  )
    return bad("roots is not an ascending list of record ids");
  if (!Array.isArray(files) || files.length !== members.length - 1)
    return bad(`lists ${Array.isArray(files) ? files.length : "no"} files, the archive has ${members.length - 1}`);
  for (const [i, file] of files.entries()) {
    const member = members[i + 1];
    if (!isRow(file, "name", "sha256", "size") || member === undefined || file["name"] !== member.name)
      return bad(`files[${i}] is not member ${member?.name}`);
    if (file["size"] !== member.sizeBytes || file["sha256"] !== member.sha256)
      stage.fail("pack.digest", member.name, "size or SHA-256 is not what the manifest says");
  }
  const left = new Map<string, Outside>();
  if (!Array.isArray(outside)) return bad("outside is not a list");
  let before = "";
  for (const row of outside) {
    if (!isRow(row, "id", "type", "why")) return bad("outside has a row of another form");
    const { id, type, why } = row;
    if (typeof id !== "string" || id <= before) return bad("outside is not ascending and unique by id");
    before = id;
    if (type !== "record" && type !== "artifact" && type !== "personal")
      return bad(`outside names type ${JSON.stringify(type)}`);
    if (typeof why !== "string" || !REASONS[type].includes(why))
      return bad(`outside gives ${JSON.stringify(why)} for ${type} ${id}`);
    if (type === "personal" ? !PERSONAL_ID.test(id) : parseRecordId(id) === undefined)
      return bad(`outside names ${JSON.stringify(id)}`);
    left.set(id, { id, type, why });
  }
  return { complete: new Set(complete), outside: left, roots };
}
