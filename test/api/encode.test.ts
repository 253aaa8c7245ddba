import { create, type DescField, type DescMessage, type Message, ScalarType, toBinary } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import * as access from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import * as ledger from "../../gen/ts/animus/datapilot/v1/ledger_pb.ts";
import * as lineage from "../../gen/ts/animus/datapilot/v1/lineage_pb.ts";
import * as resource from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import * as run from "../../gen/ts/animus/datapilot/v1/run_pb.ts";
import { encode } from "../../src/api/encode.ts";

const text = fc.oneof(fc.string({ maxLength: 5 }), fc.string({ maxLength: 200, minLength: 100, unit: "binary" }));

const SCALARS = new Map<ScalarType | undefined, fc.Arbitrary<unknown>>([
  [ScalarType.BOOL, fc.boolean()],
  [ScalarType.BYTES, fc.uint8Array({ maxLength: 300 })],
  [ScalarType.DOUBLE, fc.double()],
  [ScalarType.INT32, fc.integer()],
  [ScalarType.STRING, text],
  [ScalarType.UINT32, fc.oneof(fc.constant(0), fc.integer({ max: 2 ** 32 - 1, min: 0 }))],
]);

function scalar(type: ScalarType | undefined): fc.Arbitrary<unknown> {
  const found = SCALARS.get(type);
  if (found === undefined) throw new Error(`no answer has a field of type ${type}`);
  return found;
}

function one(field: DescField, depth: number): fc.Arbitrary<unknown> {
  if (field.enum !== undefined) return fc.constantFrom(...field.enum.values.map((v) => v.number), 77);
  if (field.message?.typeName === "google.protobuf.Struct") return fc.constantFrom({}, { a: [1, "b", null] });
  if (field.message !== undefined) return messageOf(field.message, depth + 1);
  return scalar(
    field.fieldKind === "scalar" || (field.fieldKind === "list" && field.listKind === "scalar")
      ? field.scalar
      : undefined,
  );
}

function valueOf(field: DescField, depth: number): fc.Arbitrary<unknown> {
  if (field.message !== undefined && depth > 2) return fc.constant(field.fieldKind === "list" ? [] : undefined);
  if (field.fieldKind === "list") return fc.array(one(field, depth), { maxLength: 3 });
  if (field.fieldKind === "message" || field.proto.proto3Optional)
    return fc.option(one(field, depth), { nil: undefined });
  return one(field, depth);
}

function messageOf(desc: DescMessage, depth = 0): fc.Arbitrary<Message> {
  const members: Record<string, fc.Arbitrary<unknown>> = {};
  for (const field of desc.fields) if (field.oneof === undefined) members[field.localName] = valueOf(field, depth);
  for (const oneof of desc.oneofs) {
    const [none, ...cases] = [
      fc.constant({ case: undefined }),
      ...oneof.fields
        .filter((field) => field.message === undefined || depth < 2)
        .slice(0, 4)
        .map((field) => one(field, depth).map((value) => ({ case: field.localName, value }))),
    ];
    members[oneof.localName] = fc.oneof(none, ...cases);
  }
  return fc.record(members).map((value) => create(desc, value as never));
}

const ANSWERS: readonly DescMessage[] = [
  access.CreateTokenResponseSchema,
  ledger.GetHealthResponseSchema,
  lineage.TraverseResponseSchema,
  resource.ReceiptSchema,
  resource.WriteResponseSchema,
  run.BatchAppendRunEventsResponseSchema,
];

describe("a message", () => {
  it.each(ANSWERS.map((desc) => [desc.typeName, desc] as const))("%s is written as toBinary writes it", (_, desc) => {
    fc.assert(
      fc.property(messageOf(desc), (message) => {
        expect(encode(desc, message)).toEqual(toBinary(desc, message));
      }),
      { numRuns: 60 },
    );
  });

  it("keeps fields that are not known", () => {
    const message = create(resource.ReceiptSchema, { record: "r" });
    message.$unknown = [{ data: new Uint8Array([3]), no: 99, wireType: 0 }];
    expect(encode(resource.ReceiptSchema, message)).toEqual(toBinary(resource.ReceiptSchema, message));
  });

  it("that cannot be written leaves nothing behind", () => {
    const bad = create(resource.ReceiptSchema, { entry: "e", logIndex: -1, record: "r" });
    expect(() => encode(resource.ReceiptSchema, bad)).toThrow();
    const good = create(resource.ReceiptSchema, { record: "r" });
    expect(encode(resource.ReceiptSchema, good)).toEqual(toBinary(resource.ReceiptSchema, good));
    expect(() => encode(resource.ResourceSchema, good)).toThrow();
    expect(encode(resource.ReceiptSchema, good)).toEqual(toBinary(resource.ReceiptSchema, good));
  });

  it("larger than the buffer that is kept is whole", () => {
    const large = create(resource.ReceiptSchema, { inclusionProof: ["x".repeat(3 << 20), "y"], record: "r" });
    expect(Buffer.from(encode(resource.ReceiptSchema, large)).equals(toBinary(resource.ReceiptSchema, large))).toBe(
      true,
    );
  });
});
