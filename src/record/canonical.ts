/**
 * Canonical JSON (RFC 8785): one text for one value. What is parsed is canonical exactly when writing it again gives the same
 * bytes; that one comparison rules out duplicate keys, spacing, other escapes, `1.0`, `-0` and everything alike.
 */
import { parseUtf8, utf8 } from "../std/bytes.ts";
import { Violation } from "../std/violation.ts";
import type { Json } from "./json.ts";

const MAX_BYTES = 1024 * 1024;
const MAX_DEPTH = 32;

const refuse = (detail: string): Violation => new Violation("record.noncanonical", detail);

/** Order of UTF-16 code units, which is what `<` compares. */
const byCodeUnits = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** Writes a value; throws a Violation for what canonical JSON cannot hold. */
export function canonicalize(value: Json, depth: number = MAX_DEPTH): string {
  switch (typeof value) {
    case "string":
      if (!value.isWellFormed()) throw refuse("a text has a lone surrogate");
      return JSON.stringify(value);
    case "number":
      if (!Number.isFinite(value)) throw refuse("a number is not finite");
      return Object.is(value, -0) ? "0" : String(value);
    case "boolean":
      return value ? "true" : "false";
    default:
  }
  if (value === null) return "null";
  if (depth <= 0) throw refuse(`the value is nested deeper than ${MAX_DEPTH}`);
  let out = "";
  if (Array.isArray(value)) {
    for (const item of value as readonly Json[]) out += `${out === "" ? "" : ","}${canonicalize(item, depth - 1)}`;
    return `[${out}]`;
  }
  const object = value as Readonly<Record<string, Json>>;
  const names = Object.keys(object);
  if (!isSorted(names)) names.sort(byCodeUnits);
  for (const name of names) {
    if (!name.isWellFormed()) throw refuse("a member name has a lone surrogate");
    out += `${out === "" ? "" : ","}${JSON.stringify(name)}:${canonicalize(object[name] as Json, depth - 1)}`;
  }
  return `{${out}}`;
}

function isSorted(names: readonly string[]): boolean {
  for (let i = 1; i < names.length; i++) if ((names[i - 1] as string) >= (names[i] as string)) return false;
  return true;
}

export const canonicalBytes = (value: Json): Uint8Array => utf8(canonicalize(value));

export interface ParseOptions {
  readonly maxBytes?: number;
}

/** Parses bytes that must be canonical; the root counts as depth 1. */
export function parseCanonical(bytes: Uint8Array, options: ParseOptions = {}): Json {
  const limit = options.maxBytes ?? MAX_BYTES;
  if (bytes.length > limit) throw refuse(`${bytes.length} bytes, the limit is ${limit}`);
  const text = parseUtf8(bytes);
  if (text === undefined) throw refuse("the bytes are not UTF-8");
  let value: Json;
  try {
    value = JSON.parse(text) as Json;
  } catch {
    throw refuse("the text is not JSON");
  }
  if (canonicalize(value) !== text) throw refuse("the text is not the canonical form of its value");
  return value;
}
