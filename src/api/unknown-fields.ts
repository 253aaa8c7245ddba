/**
 * Fields of a binary request that this server does not know. Protobuf keeps them aside in silence; here they are refused, as in JSON:
 * what is recorded is all that was said, and nothing that was asked for is passed over.
 */
import { Fault } from "../std/faults.ts";

interface MessageLike {
  readonly $typeName: string;
  readonly $unknown?: readonly { readonly no: number }[];
}

const isMessage = (value: object): value is MessageLike => "$typeName" in value;

/** Throws the fault REQUEST_INVALID for a message that holds what is not in its schema, at any depth. */
export function refuseUnknown(value: unknown): void {
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return;
  if (Array.isArray(value)) {
    // Members of a list are alike: texts and numbers hold nothing.
    if (typeof value[0] === "object") for (const item of value) refuseUnknown(item);
    return;
  }
  if (!isMessage(value)) {
    // A oneof; free JSON has no fields.
    if ("case" in value && "value" in value) refuseUnknown(value.value);
    return;
  }
  const { $typeName, $unknown } = value;
  if ($unknown !== undefined && $unknown.length > 0) {
    const numbers = [...new Set($unknown.map(({ no }) => no))].slice(0, 16).join(", ");
    throw new Fault(
      "REQUEST_INVALID",
      `This server knows no field ${numbers} of ${$typeName}: nothing was read of the request. Use a client of the server's version.`,
      { fields: [{ description: `is not a field of ${$typeName}`, field: numbers }] },
    );
  }
  const members = value as unknown as Readonly<Record<string, unknown>>;
  for (const name in members) {
    const member = members[name];
    if (typeof member === "object") refuseUnknown(member);
  }
}

/** The messages of a stream, each as `refuseUnknown` lets it through. */
export async function* knownOnly(messages: AsyncIterable<unknown>): AsyncGenerator {
  for await (const message of messages) {
    refuseUnknown(message);
    yield message;
  }
}
