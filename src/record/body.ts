/**
 * Bodies: ProtoJSON with proto field names, what is zero left out, and the rules that the protos state as options. The checks of a
 * message are compiled once from its descriptor.
 *
 * A check gives the first flaw that it finds, and its path is put together on the way out: nothing is built for a body that is right.
 */
import {
  type DescEnum,
  type DescField,
  type DescMessage,
  fromJson,
  getOption,
  type JsonValue,
  type Message,
  ScalarType,
  toJson,
} from "@bufbuild/protobuf";
import { personal, required, text } from "../../gen/ts/animus/datapilot/record/v1/options_pb.ts";
import { assertDefined } from "../std/assert.ts";
import { Violation } from "../std/violation.ts";
import { isObject, type Json, type JsonObject } from "./json.ts";
import { type Kind, kindSpec } from "./kinds.ts";
import { arrangeSet, SETS } from "./sets.ts";
import { isFreeName, isIdentifier, isText } from "./text.ts";

interface Flaw {
  readonly code: "record.schema" | "record.text" | "record.noncanonical";
  readonly detail: string;
  path: string;
}

type Check = (value: Json) => Flaw | undefined;

const UINT32_MAX = 2 ** 32 - 1;
const PERSONAL = /^personal:sha256:[0-9a-f]{64}$/;
/** Structs whose member names are free: the input of a decision, and so the inputs that a policy is tested with. */
const FREE_STRUCTS: ReadonlySet<string> = new Set(["Decision.input", "PolicyTest.input"]);

const flaw = (detail: string, code: Flaw["code"] = "record.schema"): Flaw => ({ code, detail, path: "" });
const typeWord = (value: Json): string =>
  value === null ? "null" : Array.isArray(value) ? "a list" : isObject(value) ? "an object" : `a ${typeof value}`;

function inside(found: Flaw, name: string): Flaw {
  found.path = found.path === "" || found.path.startsWith("[") ? name + found.path : `${name}.${found.path}`;
  return found;
}

export const isPersonalReference = (value: string): boolean => value.length === 80 && PERSONAL.test(value);

function stringCheck(field: DescField): Check {
  const isPersonal = getOption(field, personal);
  const isFreeText = getOption(field, text);
  return (value) => {
    if (typeof value !== "string") return flaw(`is ${typeWord(value)}, not a text`);
    if (isPersonalReference(value) !== isPersonal)
      return flaw(
        isPersonal
          ? "is not the reference of a personal value"
          : "has the form that is kept for references of personal values",
      );
    if (isFreeText && !isText(value))
      return flaw("is not NFC, or has bidirectional or control characters", "record.text");
    return undefined;
  };
}

const uint32Check: Check = (value) =>
  typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= UINT32_MAX
    ? undefined
    : flaw("is not a whole number from 0 to 2^32−1");
const doubleCheck: Check = (value) =>
  typeof value === "number" && Number.isFinite(value) ? undefined : flaw("is not a finite number");
const boolCheck: Check = (value) =>
  typeof value === "boolean" ? undefined : flaw(`is ${typeWord(value)}, not true or false`);

function enumCheck(desc: DescEnum): Check {
  const names = new Set(desc.values.map((v) => v.name));
  return (value) =>
    typeof value === "string" && names.has(value) ? undefined : flaw(`is not one of ${[...names].slice(1).join(", ")}`);
}

/** Names the first member below `value` whose name is not allowed. */
export function badName(value: Json, isName: (name: string) => boolean): string | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  if (Array.isArray(value)) {
    for (const item of value as readonly Json[]) {
      const bad = badName(item, isName);
      if (bad !== undefined) return bad;
    }
    return undefined;
  }
  for (const [name, member] of Object.entries(value)) {
    const bad = isName(name) ? badName(member, isName) : name;
    if (bad !== undefined) return bad;
  }
  return undefined;
}

function structCheck(isName: (name: string) => boolean): Check {
  return (value) => {
    if (!isObject(value)) return flaw(`is ${typeWord(value)}, not an object`);
    const bad = badName(value, isName);
    return bad === undefined ? undefined : flaw(`has a member name ${JSON.stringify(bad)}`, "record.noncanonical");
  };
}

const scalarOf = (field: DescField): ScalarType | undefined =>
  field.fieldKind === "scalar" || (field.fieldKind === "list" && field.listKind === "scalar")
    ? field.scalar
    : undefined;

/** The check of a field's value, or of one item when it is a list. */
function valueCheck(field: DescField): Check {
  const { enum: enumType, message } = field;
  if (message?.typeName === "google.protobuf.Struct")
    return structCheck(FREE_STRUCTS.has(`${field.parent.name}.${field.name}`) ? isFreeName : isIdentifier);
  if (message !== undefined) {
    // Looked up at first use, since messages may hold themselves.
    let check: Check | undefined;
    return (value) => (check ??= messageCheck(message))(value);
  }
  if (enumType !== undefined) return enumCheck(enumType);
  const scalar = scalarOf(field);
  if (scalar === ScalarType.STRING) return stringCheck(field);
  if (scalar === ScalarType.BOOL) return boolCheck;
  if (scalar === ScalarType.UINT32) return uint32Check;
  if (scalar === ScalarType.DOUBLE) return doubleCheck;
  throw new Error(`assertion failed: ${field.parent.name}.${field.name} has a type that bodies do not use`);
}

/** Whether the field tells zero from absent: messages, `optional` fields and members of a oneof. */
const hasPresence = (field: DescField): boolean =>
  field.fieldKind === "message" || field.proto.proto3Optional || field.oneof !== undefined;

function fieldCheck(field: DescField): Check {
  const check = valueCheck(field);
  if (field.fieldKind === "list")
    return (value) => {
      if (!Array.isArray(value)) return flaw(`is ${typeWord(value)}, not a list`);
      const items = value as readonly Json[];
      if (items.length === 0) return flaw("is an empty list, which is left out");
      for (let i = 0; i < items.length; i++) {
        const found = check(items[i] as Json);
        if (found !== undefined) return inside(found, `[${i}]`);
      }
      return undefined;
    };
  if (hasPresence(field)) return check;
  const zeroOfEnum = field.enum?.values.find((v) => v.number === 0)?.name;
  return (value) => {
    if (value === 0 || value === "" || value === false || (zeroOfEnum !== undefined && value === zeroOfEnum))
      return flaw("is zero, which is left out");
    return check(value);
  };
}

interface FieldRule {
  readonly check: Check;
  readonly isRequired: boolean;
}

function compile(desc: DescMessage): Check {
  const rules = new Map<string, FieldRule>(
    desc.fields.map((f) => [f.name, { check: fieldCheck(f), isRequired: getOption(f, required) }]),
  );
  const needed = [...rules].filter(([, r]) => r.isRequired).map(([name]) => name);
  return (value) => {
    if (!isObject(value)) return flaw(`is ${typeWord(value)}, not an object`);
    let missing = needed.length;
    // Bodies are plain objects, of JSON.parse or of ProtoJSON: nothing is inherited.
    for (const name in value) {
      const rule = rules.get(name);
      if (rule === undefined)
        return inside(
          isIdentifier(name)
            ? flaw("is not a field of this kind")
            : flaw("is not a member name of letters, digits and _", "record.noncanonical"),
          name,
        );
      if (rule.isRequired) missing--;
      const found = rule.check(value[name] as Json);
      if (found !== undefined) return inside(found, name);
    }
    if (missing === 0) return undefined;
    return inside(flaw("is missing"), needed.find((name) => !Object.hasOwn(value, name)) ?? "");
  };
}

const checks = new Map<string, Check>();

function messageCheck(desc: DescMessage): Check {
  let check = checks.get(desc.typeName);
  if (check === undefined) {
    check = compile(desc);
    checks.set(desc.typeName, check);
  }
  return check;
}

/**
 * Checks the body of a known kind: fields, types, ranges, required fields, text, personal values, and names in free JSON. Passes
 * the body of a kind that this version does not know. Throws the Violations record.schema, record.text, record.noncanonical.
 */
export function checkBody(kind: string, body: JsonObject): void {
  const spec = kindSpec(kind);
  const found = spec === undefined ? undefined : messageCheck(spec.schema)(body);
  if (found !== undefined) throw new Violation(found.code, `${kind}: body.${found.path} ${found.detail}`);
}

const canonicalFields = new Map<DescMessage, readonly DescField[]>();

/** Fields in the order in which canonical JSON has them, so that it is written at once. */
function fieldsOf(desc: DescMessage): readonly DescField[] {
  let fields = canonicalFields.get(desc);
  if (fields === undefined) {
    fields = desc.fields.toSorted((a, b) => (a.name < b.name ? -1 : 1));
    canonicalFields.set(desc, fields);
  }
  return fields;
}

/** ProtoJSON as records hold it: sets in order, and no -0, which canonical JSON cannot tell from the zero that is left out. */
function arrange(desc: DescMessage, object: JsonObject): JsonObject {
  const out: Record<string, Json> = {};
  for (const field of fieldsOf(desc)) {
    const value = object[field.name];
    if (value === undefined || (Object.is(value, -0) && !hasPresence(field))) continue;
    out[field.name] = arrangeField(field, value);
  }
  return out;
}

function arrangeField(field: DescField, value: Json): Json {
  const { message } = field;
  const inner = (item: Json): Json =>
    message !== undefined && message.typeName !== "google.protobuf.Struct"
      ? arrange(message, item as JsonObject)
      : Object.is(item, -0)
        ? 0
        : item;
  if (field.fieldKind !== "list") return inner(value);
  const items = (value as readonly Json[]).map(inner);
  const by = SETS[`${field.parent.name}.${field.name}`];
  return by === undefined ? items : arrangeSet(items, by);
}

/** What a message's value is in a body; undefined where only ProtoJSON itself can say. */
type Short = (value: unknown) => Json | undefined;

const byProtoJson: Short = () => undefined;

function shortValue(field: DescField): Short {
  const { enum: enumType, message } = field;
  if (message !== undefined) {
    if (message.typeName.startsWith("google.protobuf.")) return byProtoJson;
    let short: Short | undefined;
    return (value) => (short ??= shortMessage(message))(value);
  }
  if (enumType !== undefined) {
    const names = new Map<unknown, string>(enumType.values.map((v) => [v.number, v.name]));
    return (value) => names.get(value);
  }
  const scalar = scalarOf(field);
  if (scalar === ScalarType.STRING) return (value) => (typeof value === "string" ? value : undefined);
  if (scalar === ScalarType.BOOL) return (value) => (typeof value === "boolean" ? value : undefined);
  if (scalar === ScalarType.UINT32)
    return (value) => (uint32Check(value as Json) === undefined ? (value as number) : undefined);
  // Adding 0 leaves no -0.
  if (scalar === ScalarType.DOUBLE)
    return (value) => (doubleCheck(value as Json) === undefined ? (value as number) + 0 : undefined);
  return byProtoJson;
}

function shortList(field: DescField): Short {
  const short = shortValue(field);
  const by = SETS[`${field.parent.name}.${field.name}`];
  return (value) => {
    if (!Array.isArray(value)) return undefined;
    const items: Json[] = [];
    for (const item of value) {
      const made = short(item);
      if (made === undefined) return undefined;
      items.push(made);
    }
    return by === undefined ? items : arrangeSet(items, by);
  };
}

interface ShortField {
  readonly name: string;
  readonly short: Short;
  /** The value of a message; undefined when the body leaves it out, null when it should be there and is not. */
  readonly read: (message: Readonly<Record<string, unknown>>) => unknown;
}

function shortField(field: DescField): ShortField {
  const { localName, name, oneof } = field;
  const read: ShortField["read"] =
    oneof !== undefined
      ? (message) => {
          const chosen = message[oneof.localName] as { readonly case?: string; readonly value?: unknown } | undefined;
          return chosen?.case === localName ? chosen.value : undefined;
        }
      : field.fieldKind === "list"
        ? (message) => {
            const list = message[localName] ?? null;
            return Array.isArray(list) && list.length === 0 ? undefined : list;
          }
        : hasPresence(field)
          ? (message) => message[localName]
          : (message) => {
              const value = message[localName] ?? null;
              return value === 0 || value === "" || value === false ? undefined : value;
            };
  return { name, read, short: field.fieldKind === "list" ? shortList(field) : shortValue(field) };
}

const shortMessages = new Map<DescMessage, Short>();

/** The body of a message at once: what ProtoJSON and `arrange` make of it, for messages of what bodies usually hold. */
function shortMessage(desc: DescMessage): Short {
  let short = shortMessages.get(desc);
  if (short === undefined) {
    const fields = fieldsOf(desc).map(shortField);
    short = (value) => {
      const message = value as Message & Readonly<Record<string, unknown>>;
      if (message.$typeName !== desc.typeName) return undefined;
      const out: Record<string, Json> = {};
      for (const { name, read, short: make } of fields) {
        const member = read(message);
        if (member === undefined) continue;
        const made = make(member);
        if (made === undefined) return undefined;
        out[name] = made;
      }
      return out;
    };
    shortMessages.set(desc, short);
  }
  return short;
}

/** The same by way of ProtoJSON, which refuses what has none. */
function longBody(schema: DescMessage, kind: Kind, message: Message): JsonObject {
  let json: JsonObject;
  try {
    json = toJson(schema, message, { useProtoFieldName: true }) as JsonObject;
  } catch (error) {
    // Numbers that are not finite and enum values without a name, from a client that sent binary.
    throw new Violation("record.schema", `${kind}: ${error instanceof Error ? error.message : "has no JSON"}`);
  }
  return arrange(schema, json);
}

/** The body of a message, checked. Throws a Violation for what no record can hold. */
export function bodyFromMessage(kind: Kind, message: Message): JsonObject {
  const { schema } = assertDefined(kindSpec(kind), `kind ${kind} is known`);
  const body = (shortMessage(schema)(message) as JsonObject | undefined) ?? longBody(schema, kind, message);
  checkBody(kind, body);
  return body;
}

/** The message of a body that was checked; undefined for a kind that this version does not know. */
export function messageFromBody(kind: string, body: JsonObject): Message | undefined {
  const spec = kindSpec(kind);
  return spec === undefined
    ? undefined
    : fromJson(spec.schema, body as unknown as JsonValue, { ignoreUnknownFields: true });
}
