/**
 * Messages as bytes, the same that `toBinary` writes, into a buffer that is kept: `toBinary` makes a new one for each message and
 * lets it grow, which costs more than all else about an answer.
 *
 * Messages with maps or of google.protobuf are left to `toBinary`, and so is every message that holds such.
 */
import { type DescField, type DescMessage, type Message, ScalarType, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

type Write = (value: unknown) => void;

/** A message larger than this is an exception, and its buffer is not kept. */
const KEPT_BYTES = 1 << 20;

let writer = new BinaryWriter();

export function encode(desc: DescMessage, message: Message): Uint8Array {
  const write = messageWrite(desc);
  if (write === undefined) return toBinary(desc, message);
  try {
    write(message);
    const bytes = writer.finish();
    if (bytes.length > KEPT_BYTES) writer = new BinaryWriter();
    return bytes;
  } catch (error) {
    // What was written of it is not to begin the next one.
    writer = new BinaryWriter();
    throw error;
  }
}

const writes = new Map<DescMessage, Write | undefined>();

function messageWrite(desc: DescMessage): Write | undefined {
  if (writes.has(desc)) return writes.get(desc);
  const write = isPlain(desc) ? compile(desc) : undefined;
  writes.set(desc, write);
  return write;
}

const SCALARS: Readonly<Partial<Record<ScalarType, readonly [WireType, Write]>>> = {
  [ScalarType.BOOL]: [WireType.Varint, (value) => void writer.bool(value as boolean)],
  [ScalarType.BYTES]: [WireType.LengthDelimited, (value) => void writer.bytes(value as Uint8Array)],
  [ScalarType.DOUBLE]: [WireType.Bit64, (value) => void writer.double(value as number)],
  [ScalarType.INT32]: [WireType.Varint, (value) => void writer.int32(value as number)],
  [ScalarType.STRING]: [WireType.LengthDelimited, (value) => void writer.string(value as string)],
  [ScalarType.UINT32]: [WireType.Varint, (value) => void writer.uint32(value as number)],
};

/** Enum values are written as int32. Undefined for messages. */
function scalarOf(field: DescField): ScalarType | undefined {
  if (field.enum !== undefined) return ScalarType.INT32;
  return field.fieldKind === "scalar" || (field.fieldKind === "list" && field.listKind === "scalar")
    ? field.scalar
    : undefined;
}

/** Whether it is made, all the way down, of what is written here. */
function isPlain(desc: DescMessage, seen = new Set<DescMessage>()): boolean {
  if (seen.has(desc)) return true;
  seen.add(desc);
  if (desc.typeName.startsWith("google.protobuf.")) return false;
  return desc.fields.every((field) => {
    if (field.fieldKind === "map") return false;
    if (field.message !== undefined) return !isDelimited(field) && isPlain(field.message, seen);
    const scalar = scalarOf(field);
    return scalar !== undefined && SCALARS[scalar] !== undefined;
  });
}

const isDelimited = (field: DescField): boolean =>
  (field.fieldKind === "message" || (field.fieldKind === "list" && field.listKind === "message")) &&
  field.delimitedEncoding;

function compile(desc: DescMessage): Write {
  const fields = desc.fields.toSorted((a, b) => a.number - b.number).map(fieldWrite);
  return (value) => {
    const message = value as Message & Readonly<Record<string, unknown>>;
    if (message.$typeName !== desc.typeName) throw new Error(`cannot write ${message.$typeName} as ${desc.typeName}`);
    for (const write of fields) write(message);
    for (const { data, no, wireType } of message.$unknown ?? []) writer.tag(no, wireType).raw(data);
  };
}

/** Writes one value of a field, with its tag. */
function valueWrite(field: DescField): Write {
  const { message, number } = field;
  if (message !== undefined) {
    let write: Write | undefined;
    return (value) => {
      write ??= messageWrite(message);
      writer.tag(number, WireType.LengthDelimited).fork();
      write?.(value);
      writer.join();
    };
  }
  const [wireType, write] = plainScalar(field);
  return (value) => {
    writer.tag(number, wireType);
    write(value);
  };
}

function plainScalar(field: DescField): readonly [WireType, Write] {
  const scalar = scalarOf(field);
  const found = scalar === undefined ? undefined : SCALARS[scalar];
  if (found === undefined) throw new Error(`assertion failed: ${field.name} is of a plain type`);
  return found;
}

/** Writes a field of a message, if it is set. */
function fieldWrite(field: DescField): (message: Readonly<Record<string, unknown>>) => void {
  const { localName, number, oneof } = field;
  if (field.fieldKind === "list" && field.message === undefined && field.packed) {
    const [, write] = plainScalar(field);
    return (message) => {
      const items = message[localName] as readonly unknown[];
      if (items.length === 0) return;
      writer.tag(number, WireType.LengthDelimited).fork();
      for (const item of items) write(item);
      writer.join();
    };
  }
  const write = valueWrite(field);
  if (field.fieldKind === "list")
    return (message) => {
      for (const item of message[localName] as readonly unknown[]) write(item);
    };
  if (oneof !== undefined)
    return (message) => {
      const chosen = message[oneof.localName] as { readonly case?: string; readonly value?: unknown };
      if (chosen.case === localName) write(chosen.value);
    };
  if (field.message !== undefined || field.proto.proto3Optional)
    return (message) => {
      const value = message[localName];
      if (value !== undefined) write(value);
    };
  return (message) => {
    const value = message[localName];
    if (!isZero(value)) write(value);
  };
}

/** -0 is not zero. */
const isZero = (value: unknown): boolean =>
  value === "" || value === false || Object.is(value, 0) || (value instanceof Uint8Array && value.length === 0);
