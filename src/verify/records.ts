/** Stage 5: every record is the one that its entry names, is well formed, and names only records that came before it. */
import { sha256Hex } from "../merkle/hash.ts";
import { canonicalBytes, parseCanonical } from "../record/canonical.ts";
import type { Json, JsonObject } from "../record/json.ts";
import { type LedgerRecord, parseRecord } from "../record/record.ts";
import { digestOf, idOf } from "../std/brand.ts";
import { parseBase64Url } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import type { PackEntry } from "./entries.ts";
import { endsWithLineFeed, type Limits, linesOf } from "./limits.ts";
import type { Manifest } from "./manifest.ts";
import type { Stage } from "./report.ts";

export interface PackRecord extends PackEntry {
  /** Absent when the record is outside of the pack. */
  readonly record: LedgerRecord | undefined;
  readonly bytes: Uint8Array | undefined;
}

const PERSONAL = /^personal:sha256:[0-9a-f]{64}$/;

/** Every text of the personal form in a value. */
export function personalIds(value: Json, into: Set<string>): void {
  if (typeof value === "string") {
    if (value.length === 80 && PERSONAL.test(value)) into.add(value);
  } else if (Array.isArray(value)) for (const item of value) personalIds(item, into);
  else if (typeof value === "object" && value !== null)
    for (const item of Object.values(value)) personalIds(item, into);
}

/** Digests and personal ids that an erasure among the records names. */
export function erasedIds(records: readonly PackRecord[]): Set<string> {
  const erased = new Set<string>();
  const collect = (value: Json): void => {
    if (typeof value === "string") erased.add(value);
    else if (Array.isArray(value)) value.forEach(collect);
    else if (typeof value === "object" && value !== null) Object.values(value).forEach(collect);
  };
  for (const { record } of records)
    if (record?.kind === "operation" && record.body["type"] === "OPERATION_TYPE_ERASURE") collect(record.body);
  return erased;
}

export function checkRecords(
  records: Uint8Array,
  entries: readonly PackEntry[],
  manifest: Manifest,
  allowed: ReadonlySet<string>,
  limits: Limits,
  stage: Stage,
): PackRecord[] {
  if (!endsWithLineFeed(records)) stage.fail("pack.malformed", "records.jsonl", "does not end with a line feed");
  const lines = [...linesOf(records)];
  if (lines.length !== entries.length)
    stage.fail("record.missing", "records.jsonl", `has ${lines.length} lines for ${entries.length} entries`);
  const indexOf = new Map(entries.map((e) => [e.entry.record as string, e.index]));
  const rootProjects = new Set(
    entries.filter((e) => manifest.roots.includes(e.entry.record)).map((e) => e.entry.project as string),
  );
  const out = entries.map((item, i): PackRecord => {
    const line = lines[i] ?? new Uint8Array();
    const at = item.entry.record;
    const left = manifest.outside.get(at);
    if (line.length === 0) {
      if (left === undefined || left.type !== "record")
        stage.fail("record.missing", at, "is neither here nor listed as outside");
      else if (
        left.why === "other-project" &&
        (manifest.complete.has(item.entry.project) || rootProjects.has(item.entry.project))
      )
        stage.fail(
          "record.missing",
          at,
          "is withheld as of another project, but its project is complete or that of a root",
        );
      else if (left.why !== "other-project" && !allowed.has(left.why))
        stage.skip(`${at} is not in the pack (${left.why}); accept that with --allow-outside ${left.why}`);
      return { ...item, bytes: undefined, record: undefined };
    }
    if (left !== undefined) stage.fail("pack.manifest", at, "is listed as outside, yet here");
    if (line.length > limits.record) {
      stage.fail("pack.limit", at, "over the limit record");
      return { ...item, bytes: undefined, record: undefined };
    }
    if (sha256Hex(line) !== digestOf(item.entry.record)) {
      stage.fail("record.digest", at, "the bytes have another SHA-256 than the entry names");
      return { ...item, bytes: undefined, record: undefined };
    }
    try {
      const record = parseRecord(line);
      const project = record.project ?? item.entry.record;
      if (digestOf(project) !== item.entry.project)
        stage.fail("record.project", at, "is of another project than its entry");
      for (const link of record.links) {
        const target = indexOf.get(link.to);
        if (target === undefined)
          stage.fail("link.dangling", at, `its link ${link.rel} to ${link.to} is neither in the pack nor outside`);
        else if (target >= item.index)
          stage.fail("link.order", at, `its link ${link.rel} names a record that came later`);
      }
      return { ...item, bytes: line, record };
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      stage.fail(error.code, at, error.message);
      return { ...item, bytes: line, record: undefined };
    }
  });
  for (const root of manifest.roots)
    if (!out.some((r) => r.entry.record === root && r.record !== undefined))
      stage.fail("pack.manifest", root, "is a root, and not in the pack");
  for (const left of manifest.outside.values())
    if (left.type === "record" && !indexOf.has(left.id))
      stage.fail("pack.manifest", left.id, "is listed as outside, but has no entry here");
  return out;
}

export function checkPersonal(
  personal: Uint8Array | undefined,
  records: readonly PackRecord[],
  manifest: Manifest,
  limits: Limits,
  stage: Stage,
): Map<string, string> {
  const named = new Set<string>();
  for (const { record } of records) if (record !== undefined) personalIds(record.body, named);
  const values = new Map<string, string>();
  let before = "";
  for (const line of personal === undefined ? [] : linesOf(personal)) {
    try {
      const row = parseCanonical(line, { maxBytes: limits.line }) as JsonObject;
      const { id, salt, value } = row;
      if (
        typeof id !== "string" ||
        typeof salt !== "string" ||
        typeof value !== "string" ||
        Object.keys(row).length !== 3 ||
        parseBase64Url(salt)?.length !== 16 ||
        id <= before
      )
        throw new Violation("pack.malformed", "a line of personal.jsonl has another form, or ids do not ascend");
      before = id;
      if (id !== `personal:${idOf(sha256Hex(canonicalBytes({ salt, value })))}`)
        stage.fail("personal.digest", id, "the value has another digest");
      else if (!named.has(id)) stage.fail("pack.member", id, "no record here names this personal value");
      else values.set(id, value);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      stage.fail(error.code.startsWith("pack.") ? error.code : "pack.malformed", "personal.jsonl", error.message);
    }
  }
  const erased = erasedIds(records);
  for (const id of named) {
    if (values.has(id)) continue;
    const left = manifest.outside.get(id);
    if (left === undefined) stage.fail("personal.missing", id, "is neither here nor listed as outside");
    else if (left.why === "erased" && !erased.has(id))
      stage.fail("erasure.unexplained", id, "is called erased, and no record here says so");
  }
  return values;
}
