/** Stage 1, the manifest: what the pack claims to hold, compared with what it holds. */
import { parseCanonical } from "../record/canonical.ts";
import type { Json } from "../record/json.ts";
import { parseDigest, parseRecordId } from "../std/brand.ts";
import { Violation } from "../std/violation.ts";
import type { Member } from "./container.ts";
import type { Limits } from "./limits.ts";
import type { Stage } from "./report.ts";
import { isPersonalId, isRow } from "./rows.ts";

export const PACK_FORMAT = "datapilot-evidence/v1";

/** Why what a pack refers to may be absent from it. */
const REASONS = {
  artifact: ["not-granted", "not-included", "erased"],
  personal: ["not-granted", "erased"],
  record: ["other-project", "depth", "not-granted"],
} as const;
type Type = keyof typeof REASONS;
const isType = (text: Json | undefined): text is Type => typeof text === "string" && Object.hasOwn(REASONS, text);

/** What is left out: why, by its id. */
export type Outside = { readonly [T in Type]: ReadonlyMap<string, string> };

export interface Manifest {
  /** Projects of which every entry up to the seal is here. */
  readonly complete: ReadonlySet<string>;
  readonly outside: Outside;
  readonly roots: ReadonlySet<string>;
}

const ascending = (values: readonly string[]): boolean => values.every((v, i) => i === 0 || (values[i - 1] ?? "") < v);

function listOf(value: Json | undefined, parse: (text: string) => string | undefined): string[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const texts = value.filter((v): v is string => typeof v === "string" && parse(v) !== undefined);
  return texts.length === value.length && ascending(texts) ? texts : undefined;
}

/** The rows of `outside`, ascending by id, then by type: bytes may be an artifact and a record alike. */
function readOutside(rows: Json | undefined): Outside {
  const bad = (detail: string): Violation => new Violation("pack.manifest", `outside ${detail}`);
  if (!Array.isArray(rows)) throw bad("is not a list");
  const outside = {
    artifact: new Map<string, string>(),
    personal: new Map<string, string>(),
    record: new Map<string, string>(),
  };
  let before = "";
  for (const row of rows as readonly Json[]) {
    if (!isRow(row, "id", "type", "why")) throw bad("has a row of another form");
    const { id, type, why } = row;
    if (!isType(type) || typeof id !== "string" || typeof why !== "string") throw bad("has a row of another form");
    if (type === "personal" ? !isPersonalId(id) : parseRecordId(id) === undefined)
      throw bad(`names ${JSON.stringify(id)} as ${type}`);
    // No id holds a space.
    if (`${id} ${type}` <= before) throw bad("does not ascend, or names something twice");
    before = `${id} ${type}`;
    const reasons: readonly string[] = REASONS[type];
    if (!reasons.includes(why)) throw bad(`gives ${JSON.stringify(why)} for ${type} ${id}`);
    outside[type].set(id, why);
  }
  return outside;
}

/** Checks the manifest against the members; undefined when it cannot be relied on. */
export function checkManifest(members: readonly Member[], limits: Limits, stage: Stage): Manifest | undefined {
  const bad = (detail: string): undefined => stage.fail("pack.manifest", "manifest.json", detail) as undefined;
  const bytes = members[0]?.bytes;
  if (bytes?.at(-1) !== 0x0a) return bad("does not end with a line feed");
  let value: Json;
  let outside: Outside;
  try {
    value = parseCanonical(bytes.subarray(0, -1), { maxBytes: limits.manifest });
    if (!isRow(value, "complete", "files", "format", "outside", "roots"))
      return bad("has other members than complete, files, format, outside, roots");
    if (value["format"] !== PACK_FORMAT)
      return bad(`has format ${JSON.stringify(value["format"])}; this verifier knows ${PACK_FORMAT}`);
    outside = readOutside(value["outside"]);
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    return bad(error.message);
  }
  const complete = listOf(value["complete"], parseDigest);
  if (complete === undefined) return bad("complete is not an ascending list of project ids");
  const roots = listOf(value["roots"], parseRecordId);
  if (roots === undefined || roots.length === 0) return bad("roots is not an ascending list of record ids");
  const { files } = value;
  if (!Array.isArray(files) || files.length !== members.length - 1)
    return bad(`lists ${Array.isArray(files) ? files.length : "no"} files, the archive has ${members.length - 1}`);
  for (const [i, file] of (files as readonly Json[]).entries()) {
    const member = members[i + 1];
    if (!isRow(file, "name", "sha256", "size") || member === undefined || file["name"] !== member.name)
      return bad(`files[${i}] is not member ${member?.name}`);
    if (file["size"] !== member.sizeBytes || file["sha256"] !== member.sha256)
      stage.fail("pack.digest", member.name, "size or SHA-256 is not what the manifest says");
  }
  return { complete: new Set(complete), outside, roots: new Set(roots) };
}
