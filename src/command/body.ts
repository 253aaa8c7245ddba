/**
 * From a request's message to a record's body: ProtoJSON, sets ascending as the protos' comments say, checked. What a caller
 * wrote wrong becomes the fault REQUEST_INVALID that names the field.
 */
import type { Message } from "@bufbuild/protobuf";
import { bodyFromMessage } from "../record/body.ts";
import { isObject, type Json, type JsonObject } from "../record/json.ts";
import type { Kind } from "../record/kinds.ts";
import { parseName, parseProjectName } from "../record/names.ts";
import { Fault } from "../std/faults.ts";
import { parseTime } from "../std/ports.ts";
import { Violation } from "../std/violation.ts";

/**
 * Lists that are sets: their path (`[]` steps into a list) and the members that order them; none for texts.
 * `*` stands for every kind that has such a field.
 */
const SETS: Readonly<Record<string, readonly (readonly [path: string, ...by: string[]])[]>> = {
  "*": [["labels", "key"]],
  token: [["permissions"]],
  "role.binding": [["group.members"]],
  dataset: [["restrictions"]],
  "dataset.version": [
    ["files", "path"],
    ["statistics", "column", "metric"],
  ],
  "quality.report": [["measurements", "column", "name"]],
  code: [["submodules", "path"]],
  "environment.lock": [
    ["images", "name"],
    ["lockfiles", "path"],
    ["runtimes", "name"],
  ],
  run: [["params", "key"], ["inputs", "record", "role"], ["steps[].needs"]],
  "run.start": [
    ["observed.lockfiles", "path"],
    ["observed.runtimes", "name"],
  ],
  "model.version": [["files", "path"]],
  policy: [
    ["applies_to.datasets"],
    ["applies_to.models"],
    ["applies_to.environments"],
    ["applies_to.purposes"],
    ["rules[].approval.groups"],
  ],
};

/** The body of a record of `kind`; the fault REQUEST_INVALID when the message is absent or is not a body. */
export function bodyOf(kind: Kind, message: Message | undefined): JsonObject {
  if (message === undefined) {
    throw invalid(kind.replaceAll(".", "_"), "is missing");
  }
  try {
    let body = bodyFromMessage(kind, message);
    for (const [path, ...by] of [...(SETS["*"] ?? []), ...(SETS[kind] ?? [])]) {
      body = sortAt(body, path.split("."), by, path) as JsonObject;
    }
    return kind === "schema" ? sortClasses(body) : body;
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    const field = /^body\.(\S+)/.exec(error.message)?.[1] ?? "";
    throw new Fault("REQUEST_INVALID", `the ${kind} cannot be recorded: ${error.message}`, {
      cause: error,
      metadata: { code: error.code },
      fields: [{ field, description: error.message }],
    });
  }
}

export const invalid = (field: string, description: string): Fault =>
  new Fault("REQUEST_INVALID", `${field} ${description}`, { fields: [{ field, description }] });

function sortAt(value: Json, steps: readonly string[], by: readonly string[], path: string): Json {
  const [step, ...rest] = steps;
  if (!isObject(value) || step === undefined) return value;
  const each = step.endsWith("[]");
  const name = each ? step.slice(0, -2) : step;
  const member = value[name];
  if (member === undefined) return value;
  if (each) return { ...value, [name]: (member as readonly Json[]).map((m) => sortAt(m, rest, by, path)) };
  if (rest.length > 0) return { ...value, [name]: sortAt(member, rest, by, path) };
  return { ...value, [name]: sortUnique(member as readonly Json[], by, path) };
}

function sortUnique(list: readonly Json[], by: readonly string[], path: string): Json {
  const keyOf = (item: Json): string =>
    by.length === 0 ? String(item) : by.map((m) => (isObject(item) ? String(item[m] ?? "") : "")).join("\u0000");
  const keyed = list.map((item) => ({ item, key: keyOf(item) }));
  keyed.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  const twice = keyed.find((k, i) => i > 0 && k.key === keyed[i - 1]?.key);
  if (twice !== undefined) throw invalid(path, `names ${twice.key.replaceAll("\u0000", ", ")} more than once`);
  return keyed.map((k) => k.item);
}

function sortClasses(schema: JsonObject): JsonObject {
  const field = (value: Json): Json => {
    if (!isObject(value)) return value;
    const { children, classes } = value;
    return {
      ...value,
      ...(Array.isArray(children) ? { children: (children as readonly Json[]).map(field) } : {}),
      ...(Array.isArray(classes) ? { classes: sortUnique(classes as readonly Json[], [], "fields.classes") } : {}),
    };
  };
  return { ...schema, fields: (schema["fields"] as readonly Json[]).map(field) };
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
