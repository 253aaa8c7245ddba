/**
 * From a request's message to a record's body: ProtoJSON, sets in order and without repeats, checked. What a caller
 * wrote wrong becomes the fault REQUEST_INVALID that names the field.
 */
import type { DescMessage, Message } from "@bufbuild/protobuf";
import { bodyFromMessage } from "../record/body.ts";
import { isObject, type Json, type JsonObject } from "../record/json.ts";
import { type Kind, kindSpec } from "../record/kinds.ts";
import { parseName, parseProjectName } from "../record/names.ts";
import { SETS } from "../record/sets.ts";
import { isText } from "../record/text.ts";
import { assertDefined } from "../std/assert.ts";
import { Fault } from "../std/faults.ts";
import { parseTime } from "../std/ports.ts";
import { Violation } from "../std/violation.ts";

/** The body of a record of `kind`; the fault REQUEST_INVALID when the message is absent or is not a body. */
export function bodyOf(kind: Kind, message: Message | undefined): JsonObject {
  if (message === undefined) {
    throw invalid(kind.replaceAll(".", "_"), "is missing");
  }
  try {
    const body = bodyFromMessage(kind, message);
    const { schema } = assertDefined(kindSpec(kind), `kind ${kind} is known`);
    checkUnique(schema, body, "");
    checkTexts(body, "");
    return body;
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    const field = /body\.(\S+)/.exec(error.message)?.[1] ?? "";
    throw new Fault("REQUEST_INVALID", `the ${kind} cannot be recorded: ${error.message}`, {
      cause: error,
      metadata: { code: error.code },
      fields: [{ field, description: error.message }],
    });
  }
}

/** A text of a body; empty when absent, as the body omits it then. */
export function textOf(body: JsonObject | undefined, member: string): string {
  const value = body?.[member];
  return typeof value === "string" ? value : "";
}

export const invalid = (field: string, description: string): Fault =>
  new Fault("REQUEST_INVALID", `${field} ${description}`, { fields: [{ field, description }] });

/**
 * No text of a request looks like another one, whatever it is for: records hold `(text)` fields to that, this holds the rest,
 * such as keys of labels and names of CI jobs. Names of members are held to it by the record.
 */
function checkTexts(value: Json, at: string): void {
  if (typeof value === "string") {
    if (!isText(value)) throw invalid(at, "is not in Unicode form C, or has bidirectional or control characters");
  } else if (Array.isArray(value)) {
    for (const item of value as readonly Json[]) checkTexts(item, at);
  } else if (isObject(value)) {
    for (const [name, member] of Object.entries(value)) checkTexts(member, at === "" ? name : `${at}.${name}`);
  }
}

/** Rows of a set have different keys: policy input and comparisons look them up by these. */
function checkUnique(desc: DescMessage, body: JsonObject, at: string): void {
  for (const field of desc.fields) {
    const value = body[field.name];
    const path = at === "" ? field.name : `${at}.${field.name}`;
    const by = SETS[`${desc.name}.${field.name}`];
    if (Array.isArray(value) && by !== undefined && by.length > 0) checkKeys(value as readonly Json[], by, path);
    if (value === undefined || field.message === undefined || field.message.typeName === STRUCT) continue;
    for (const item of Array.isArray(value) ? (value as readonly Json[]) : [value]) {
      if (isObject(item)) checkUnique(field.message, item, path);
    }
  }
}

const STRUCT = "google.protobuf.Struct";

function checkKeys(rows: readonly Json[], by: readonly string[], path: string): void {
  const seen = new Set<string>();
  for (const row of rows) {
    const key = by.map((member) => (isObject(row) ? textOf(row, member) : "")).join("\u0000");
    if (seen.has(key)) throw invalid(path, `names ${key.replaceAll("\u0000", ", ")} more than once`);
    seen.add(key);
  }
}

/** A name by the grammar, or the fault NAME_INVALID. */
export function checkName(name: string): string {
  if (parseName(name) !== undefined) return name;
  throw new Fault(
    "NAME_INVALID",
    "a name is 1 to 128 of lower-case letters, digits and . _ -, and starts with a letter or digit",
    { fields: [{ field: "name", description: "not of the grammar of names" }] },
  );
}

/** A new project's name by the grammar; reserved names are refused too. */
export function checkProjectName(name: string): string {
  if (!name.startsWith("_") && parseProjectName(name) !== undefined) return name;
  throw new Fault(
    "NAME_INVALID",
    "a project's name is 2 to 63 of lower-case letters, digits and -, and starts with a letter",
    { fields: [{ field: "project.name", description: "not of the grammar of project names" }] },
  );
}

/** Milliseconds of a time in the ledger's form. */
export function checkTime(field: string, text: string): number {
  const ms = parseTime(text);
  if (ms === undefined) throw invalid(field, "is not a time of the form 2026-11-23T08:00:00.000Z");
  return ms;
}

const DIGEST = /^sha256:[0-9a-f]{64}$/;

export function checkDigest(field: string, text: string): string {
  if (!DIGEST.test(text)) throw invalid(field, "is not sha256: and 64 lower-case hex characters");
  return text;
}

/** A relative path with `/`, without empty, `.` or `..` parts. */
export function checkPath(field: string, path: string): string {
  const parts = path.split("/");
  if (path.length > 1_024 || parts.some((p) => p === "" || p === "." || p === "..") || path.includes("\\")) {
    throw invalid(field, "is not a relative path of parts joined by /");
  }
  return path;
}
