/**
 * From a request's message to a record's body: ProtoJSON, sets in order and without repeats, checked. What a caller
 * wrote wrong becomes the fault REQUEST_INVALID that names the field.
 */
import type { DescField, DescMessage, Message } from "@bufbuild/protobuf";
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
    checkTexts(body);
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
function checkTexts(body: JsonObject): void {
  const path = findHostile(body);
  if (path !== undefined) throw invalid(path, "is not in Unicode form C, or has bidirectional or control characters");
}

/** Path of the first text that is none; it is put together on the way out. */
function findHostile(value: Json): string | undefined {
  if (typeof value === "string") return isText(value) ? undefined : "";
  if (typeof value !== "object" || value === null) return undefined;
  if (Array.isArray(value)) {
    for (const item of value as readonly Json[]) {
      const path = findHostile(item);
      if (path !== undefined) return path;
    }
    return undefined;
  }
  const object = value as JsonObject;
  for (const name in object) {
    const path = findHostile(object[name] as Json);
    if (path !== undefined) return path === "" ? name : `${name}.${path}`;
  }
  return undefined;
}

/** A field that is a set, or below which there is one. */
interface SetField {
  readonly name: string;
  /** Members that tell its rows apart. */
  readonly by: readonly string[];
  readonly below: DescMessage | undefined;
}

const setFields = new Map<DescMessage, readonly SetField[]>();

const keyOf = (desc: DescMessage, field: DescField): readonly string[] => SETS[`${desc.name}.${field.name}`] ?? [];

/** Whether a message of this type may hold a set whose rows have keys, however deep. */
function holdsSets(desc: DescMessage, seen = new Set<DescMessage>()): boolean {
  if (seen.has(desc)) return false;
  seen.add(desc);
  return desc.fields.some(
    (field) => keyOf(desc, field).length > 0 || (field.message !== undefined && holdsSets(field.message, seen)),
  );
}

function setFieldsOf(desc: DescMessage): readonly SetField[] {
  let fields = setFields.get(desc);
  if (fields === undefined) {
    fields = desc.fields
      .map((field) => ({
        below: field.message !== undefined && holdsSets(field.message) ? field.message : undefined,
        by: keyOf(desc, field),
        name: field.name,
      }))
      .filter(({ below, by }) => below !== undefined || by.length > 0);
    setFields.set(desc, fields);
  }
  return fields;
}

/** Rows of a set have different keys: policy input and comparisons look them up by these. */
function checkUnique(desc: DescMessage, body: JsonObject, at: string): void {
  for (const { below, by, name } of setFieldsOf(desc)) {
    const value = body[name];
    const path = at === "" ? name : `${at}.${name}`;
    if (Array.isArray(value) && by.length > 0) checkKeys(value as readonly Json[], by, path);
    if (value === undefined || below === undefined) continue;
    for (const item of Array.isArray(value) ? (value as readonly Json[]) : [value]) {
      if (isObject(item)) checkUnique(below, item, path);
    }
  }
}

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
