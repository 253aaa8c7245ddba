/** The sizes that a record's parts may have (`docs/architecture.md`), so that one request cannot fill a commit or a page. */

import type { Draft } from "../log/submission.ts";
import { canonicalize } from "../record/canonical.ts";
import type { Json, JsonObject } from "../record/json.ts";
import { MAX_LINKS } from "../record/record.ts";
import { Fault } from "../std/faults.ts";

export const MAX_LABELS = 32;
export const MAX_TEXT_BYTES = 16 * 1_024;
export const MAX_INLINE_DOCUMENT_BYTES = 256 * 1_024;
export const MAX_LISTED_FILES = 1_000;
export const MAX_BATCH = 1_000;

/** Members that hold a free document. */
const DOCUMENTS: ReadonlySet<string> = new Set(["action", "input"]);

const tooMuch = (message: string): Fault => new Fault("LIMIT_EXCEEDED", message);

export function checkCount(field: string, count: number, max: number): void {
  if (count > max)
    throw tooMuch(`${field} has ${count} members; at most ${max} are taken: split it, or use an artifact`);
}

/** Throws the fault LIMIT_EXCEEDED for a draft that is larger than records may be. */
export function checkLimits(draft: Draft): void {
  checkCount("links", draft.links.length, MAX_LINKS);
  const labels = draft.body["labels"];
  if (Array.isArray(labels)) checkCount("labels", labels.length, MAX_LABELS);
  const found = findExcess(draft.body);
  if (found !== undefined) throw tooMuch(`${found.path} ${found.message}`);
}

/** A text or a document that is too long; its path is put together on the way out. */
interface Excess {
  path: string;
  readonly message: string;
}

function findExcess(value: Json): Excess | undefined {
  if (typeof value === "string") {
    // A character takes three bytes at most, so most texts need no counting.
    return value.length * 3 > MAX_TEXT_BYTES && Buffer.byteLength(value) > MAX_TEXT_BYTES
      ? { message: "is longer than 16 KiB: put long content into an artifact", path: "" }
      : undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  if (Array.isArray(value)) {
    for (const item of value as readonly Json[]) {
      const found = findExcess(item);
      if (found !== undefined) return found;
    }
    return undefined;
  }
  const object = value as JsonObject;
  for (const name in object) {
    const found = DOCUMENTS.has(name) ? findLongDocument(object[name] as Json) : findExcess(object[name] as Json);
    if (found === undefined) continue;
    found.path = found.path === "" ? name : `${name}.${found.path}`;
    return found;
  }
  return undefined;
}

const findLongDocument = (value: Json): Excess | undefined =>
  Buffer.byteLength(canonicalize(value)) > MAX_INLINE_DOCUMENT_BYTES
    ? { message: "is longer than 256 KiB", path: "" }
    : undefined;
