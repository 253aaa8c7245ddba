/** Stage 5, personal values: each is the one that a record here names; what is not here is listed, and what was erased explained. */
import { sha256Hex } from "../merkle/hash.ts";
import { canonicalBytes } from "../record/canonical.ts";
import type { Json } from "../record/json.ts";
import { idOf } from "../std/brand.ts";
import type { Manifest } from "./manifest.ts";
import { erasedIds, type PackRecord } from "./records.ts";
import type { Stage } from "./report.ts";
import { isPersonalId, type PersonalRow } from "./rows.ts";

const ID_CHARACTERS = 80;

/** Every text of the personal form in a value. */
export function personalIds(value: Json, into: Set<string>): void {
  if (typeof value === "string") {
    if (value.length === ID_CHARACTERS && isPersonalId(value)) into.add(value);
  } else if (Array.isArray(value)) for (const item of value as readonly Json[]) personalIds(item, into);
  else if (typeof value === "object" && value !== null)
    for (const item of Object.values(value)) personalIds(item, into);
}

/** Gives the values by their ids. */
export function checkPersonal(
  rows: readonly PersonalRow[],
  records: readonly PackRecord[],
  { outside }: Manifest,
  stage: Stage,
): Map<string, string> {
  const named = new Set<string>();
  for (const { record } of records) if (record !== undefined) personalIds(record.body, named);
  const values = new Map<string, string>();
  for (const { id, salt, value } of rows) {
    if (id !== `personal:${idOf(sha256Hex(canonicalBytes({ salt, value })))}`)
      stage.fail("personal.digest", id, "the value has another digest");
    else if (!named.has(id)) stage.fail("pack.member", id, "no record here names this personal value");
    else values.set(id, value);
    if (outside.personal.has(id)) stage.fail("pack.manifest", id, "is listed as outside, yet here");
  }
  const here = new Set(rows.map((r) => r.id));
  const erased = erasedIds(records);
  for (const id of named) {
    if (here.has(id)) continue;
    const why = outside.personal.get(id);
    if (why === undefined) stage.fail("personal.missing", id, "is neither here nor listed as outside");
    else if (why === "erased" && !erased.has(id))
      stage.fail("erasure.unexplained", id, "is called erased, and no record here says so");
  }
  return values;
}
