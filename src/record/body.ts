/**
 * Bodies: ProtoJSON with proto field names, what is zero left out, and the rules that the protos state as options. The checks of a
 * message are compiled once from its descriptor.
 */
import { type DescEnum, type DescField, type DescMessage, fromJson, getOption, hasOption, type JsonValue, type Message, ScalarType, toJson } from "@bufbuild/protobuf";
import { personal, required, text } from "../../gen/ts/animus/datapilot/record/v1/options_pb.ts";
import { Violation } from "../std/violation.ts";
import { isObject, type Json, type JsonObject } from "./json.ts";
import { type Kind, kindSpec } from "./kinds.ts";

type CheckValue = (value: Json, at: string) => void;

const PERSONAL = /^personal:sha256:[0-9a-f]{64}$/;
// Bidirectional controls and control characters but LF and TAB.
// eslint-disable-next-line no-control-regex
const HOSTILE_TEXT = /[\u0000-\u0008\u000B-\u001F\u007F-\u009F\u061C\u200E\u200F\u202A-\u202E\u2066-\u2069]/;
const UINT32 = 2 ** 32 - 1;

const wrong = (at: string, detail: string): Violation => new Violation("record.schema", `body.${at} ${detail}`);
const typeWord = (value: Json): string => (value === null ? "null" : Array.isArray(value) ? "a list" : typeof value);

function checkString(field: DescField): CheckValue {
  const isPersonal = hasOption(field, personal) && getOption(field, personal);
  const isText = hasOption(field, text) && getOption(field, text);
  return (value, at) => {
    if (typeof value !== "string") throw wrong(at, `is ${typeWord(value)}, not a text`);
    if (value.startsWith("personal:")) {
      if (PERSONAL.test(value) !== isPersonal) throw wrong(at, isPersonal ? "is not the reference of a personal value" : "has the form of a personal value's reference, which is kept for personal fields");
    } else if (isPersonal) throw wrong(at, "is not the reference of a personal value");
    if (isText && (HOSTILE_TEXT.test(value) || value.normalize("NFC") !== value)) throw new Violation("record.text", `body.${at} is not NFC, or has bidirectional or control characters`);
  };
}

function checkNumber(scalar: ScalarType): CheckValue {
  if (scalar === ScalarType.UINT32)
    return (value, at) => {
      if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > UINT32) throw wrong(at, "is not a whole number from 0 to 2^32−1");
    };
  return (value, at) => {
    if (typeof value !== "number" || !Number.isFinite(value)) throw wrong(at, "is not a finite number");
  };
}

function checkEnum(desc: DescEnum): CheckValue {
  const names = new Set(desc.values.filter((v) => v.number !== 0).map((v) => v.name));
  return (value, at) => {
    if (typeof value !== "string" || !names.has(value)) throw wrong(at, `is not one of ${[...names].join(", ")}`);
  };
}

/** Any JSON object; member names are NFC without control characters. */
function checkStruct(value: Json, at: string): void {
  if (!isObject(value)) throw wrong(at, "is not an object");
  const walk = (inner: Json): void => {
    if (Array.isArray(inner)) inner.forEach(walk);
    else if (isObject(inner))
      for (const [name, item] of Object.entries(inner)) {
        if (name.normalize("NFC") !== name || /\p{Cc}/u.test(name)) throw wrong(at, "has a member name that is not NFC or has control characters");
        walk(item);
      }
  };
  walk(value);
}

function checkOne(field: DescField): CheckValue {
  const message = field.message;
  if (message !== undefined) {
    if (message.typeName === "google.protobuf.Struct") return checkStruct;
    const check = messageCheck(message);
    return (value, at) => check()(value, at);
  }
  if (field.enum !== undefined) return checkEnum(field.enum);
  const scalar = field.fieldKind === "scalar" ? field.scalar : field.fieldKind === "list" && field.listKind === "scalar" ? field.scalar : undefined;
  switch (scalar) {
    case ScalarType.STRING:
      return checkString(field);
    case ScalarType.BOOL:
      return (value, at) => {
        if (typeof value !== "boolean") throw wrong(at, `is ${typeWord(value)}, not true or false`);
      };
    case ScalarType.UINT32:
    case ScalarType.DOUBLE:
      return checkNumber(scalar);
    default:
      throw new Error(`assertion failed: ${field.name} has a type that bodies do not use`);
  }
}

const compiled = new Map<string, CheckValue>();

/** Checks of a message, compiled at first use, since messages may hold themselves. */
function messageCheck(desc: DescMessage): () => CheckValue {
  return () => {
    const known = compiled.get(desc.typeName);
    if (known !== undefined) return known;
    const check = compile(desc);
    compiled.set(desc.typeName, check);
    return check;
  };
}

interface FieldCheck {
  readonly check: CheckValue;
  readonly isList: boolean;
  /** Whether zero is written: `optional` fields and members of a oneof. */
  readonly keepsZero: boolean;
}

function compile(desc: DescMessage): CheckValue {
  const fields = new Map<string, FieldCheck>();
  const needed: string[] = [];
  for (const field of desc.fields) {
    fields.set(field.name, { check: checkOne(field), isList: field.fieldKind === "list", keepsZero: field.proto.proto3Optional || field.oneof !== undefined || field.fieldKind === "message" });
    if (hasOption(field, required) && getOption(field, required)) needed.push(field.name);
  }
  return (value, at) => {
    if (!isObject(value)) throw wrong(at, `is ${typeWord(value)}, not an object`);
    const prefix = at === "" ? "" : `${at}.`;
    for (const name of Object.keys(value)) {
      const field = fields.get(name);
      if (field === undefined) throw wrong(`${prefix}${name}`, "is not a field of this kind");
      const member = value[name] as Json;
      if (field.isList) {
        if (!Array.isArray(member) || member.length === 0) throw wrong(`${prefix}${name}`, "is not a list with members; an empty list is left out");
        for (let i = 0; i < member.length; i++) field.check(member[i] as Json, `${prefix}${name}[${i}]`);
      } else {
        if (!field.keepsZero && (member === 0 || member === "" || member === false)) throw wrong(`${prefix}${name}`, "is zero, which is left out");
        field.check(member, `${prefix}${name}`);
      }
    }
    for (const name of needed) if (!Object.hasOwn(value, name)) throw wrong(`${prefix}${name}`, "is missing");
  };
}

/** Checks the body of a known kind: fields, types, ranges, required fields, text, personal values. Unknown kinds pass. */
export function checkBody(kind: string, body: JsonObject): void {
  const spec = kindSpec(kind);
  if (spec !== undefined) messageCheck(spec.schema)()(body, "");
}

/** The body of a message, as records hold it. */
export function bodyFromMessage(kind: Kind, message: Message): JsonObject {
  const spec = kindSpec(kind);
  if (spec === undefined) throw new Error(`assertion failed: kind ${kind} is known`);
  const body = toJson(spec.schema, message, { useProtoFieldName: true }) as JsonObject;
  checkBody(kind, body);
  return body;
}

/** The message of a body that was checked. */
export function messageFromBody(kind: string, body: JsonObject): Message | undefined {
  const spec = kindSpec(kind);
  return spec === undefined ? undefined : fromJson(spec.schema, body as unknown as JsonValue, { ignoreUnknownFields: true });
}
