import {
  create,
  type DescField,
  type DescMessage,
  fromJson,
  getOption,
  type Message,
  ScalarType,
  toJson,
} from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { QualityReportSchema } from "../../gen/ts/animus/datapilot/record/v1/data_pb.ts";
import { RunBatchSchema, RunSchema } from "../../gen/ts/animus/datapilot/record/v1/execution_pb.ts";
import { DecisionSchema } from "../../gen/ts/animus/datapilot/record/v1/governance_pb.ts";
import { personal } from "../../gen/ts/animus/datapilot/record/v1/options_pb.ts";
import { ResourceSchema } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { bodyFromMessage, checkBody, messageFromBody } from "../../src/record/body.ts";
import { canonicalBytes, parseCanonical } from "../../src/record/canonical.ts";
import type { JsonObject } from "../../src/record/json.ts";
import { KINDS, type Kind, kindSpec } from "../../src/record/kinds.ts";

const kinds = Object.keys(KINDS) as Kind[];
const schemaViolation = expect.objectContaining({ code: "record.schema" });

/** A message of any content that a client may send and a record may hold. */
function messageOf(desc: DescMessage, depth = 0): fc.Arbitrary<Message> {
  const fields = Object.fromEntries(desc.fields.map((f) => [f.localName, fieldOf(f, depth)]));
  return fc.record(fields).map((value) => create(desc, value as never));
}

function fieldOf(field: DescField, depth: number): fc.Arbitrary<unknown> {
  const one = valueOf(field, depth);
  const isAlways = field.fieldKind === "message" && depth > 4;
  if (field.fieldKind === "list")
    return depth > 2 && field.message !== undefined
      ? fc.constant([])
      : fc.array(one, { maxLength: 3, minLength: depth > 2 ? 0 : 1 });
  return field.proto.proto3Optional && !isAlways ? fc.option(one, { nil: undefined }) : one;
}

const anyStruct = fc.object({
  key: fc.stringMatching(/^[a-z_][a-z0-9_]{0,5}$/),
  maxDepth: 3,
  values: [fc.string(), fc.boolean(), fc.constant(null), fc.integer()],
});

function valueOf(field: DescField, depth: number): fc.Arbitrary<unknown> {
  if (field.message?.typeName === "google.protobuf.Struct") return anyStruct;
  if (field.message !== undefined) return depth > 6 ? fc.constant(undefined) : messageOf(field.message, depth + 1);
  if (field.enum !== undefined) return fc.constantFrom(...field.enum.values.slice(1).map((v) => v.number));
  if (getOption(field, personal)) return fc.constant(`personal:sha256:${"a".repeat(64)}`);
  const scalar =
    field.fieldKind === "scalar" || (field.fieldKind === "list" && field.listKind === "scalar")
      ? field.scalar
      : undefined;
  if (scalar === ScalarType.STRING) return fc.string({ minLength: 1, maxLength: 8 });
  if (scalar === ScalarType.BOOL) return fc.boolean();
  if (scalar === ScalarType.UINT32) return fc.nat().map((n) => n + 1);
  return fc
    .double({ noDefaultInfinity: true, noNaN: true })
    .filter((n) => n !== 0 || !["size", "treeSize"].includes(field.localName));
}

const holdsMinusZero = (value: unknown): boolean =>
  typeof value === "object" && value !== null ? Object.values(value).some(holdsMinusZero) : Object.is(value, -0);

describe("every kind", () => {
  it.each(kinds)("%s: what is sent comes back from the bytes", (kind) => {
    const { schema } = KINDS[kind];
    fc.assert(
      fc.property(messageOf(schema), (message) => {
        let body: JsonObject;
        try {
          body = bodyFromMessage(kind, message);
        } catch (error) {
          // A required list or text can be left out deep inside; nothing else may be refused.
          expect((error as Error).message).toMatch(/is missing$/);
          return;
        }
        const read = parseCanonical(canonicalBytes(body)) as JsonObject;
        checkBody(kind, read);
        expect(bodyFromMessage(kind, messageFromBody(kind, read) ?? message)).toEqual(read);
      }),
      { numRuns: 50 },
    );
  });

  it.each(kinds)("%s: a body is the message's ProtoJSON, with sets in order", (kind) => {
    const { schema } = KINDS[kind];
    /** Equal for lists that are equal as sets. */
    const plain = (value: unknown): unknown =>
      Array.isArray(value)
        ? [...new Set(value.map((item) => JSON.stringify(plain(item))))].toSorted()
        : typeof value === "object" && value !== null
          ? Object.fromEntries(
              Object.entries(value)
                .toSorted(([a], [b]) => (a < b ? -1 : 1))
                .map(([name, member]) => [name, plain(member)]),
            )
          : value;
    fc.assert(
      fc.property(messageOf(schema), (message) => {
        let body: JsonObject;
        try {
          body = bodyFromMessage(kind, message);
        } catch {
          return;
        }
        const json = toJson(schema, message, { useProtoFieldName: true });
        // What becomes of -0 is told below.
        fc.pre(!holdsMinusZero(json));
        expect(plain(body)).toEqual(plain(json));
        expect(Object.keys(body)).toEqual(Object.keys(body).toSorted());
      }),
      { numRuns: 50 },
    );
  });

  it.each(kinds)("%s stands in a resource under the field that is named", (kind) => {
    const field = ResourceSchema.fields.find((f) => f.localName === KINDS[kind].resourceField);
    expect(field?.oneof?.localName).toBe("body");
    expect(field?.message?.typeName).toBe(KINDS[kind].schema.typeName);
    expect(kindSpec(kind)).toBe(KINDS[kind]);
  });

  it("is one of the resource's", () => {
    const bodies = ResourceSchema.oneofs.find((o) => o.localName === "body")?.fields ?? [];
    expect(bodies.map((f) => f.localName).toSorted()).toEqual(kinds.map((k) => KINDS[k].resourceField).toSorted());
    expect(kindSpec("constructor")).toBeUndefined();
  });
});

it("puts sets in order, and leaves lists as they are", () => {
  const message = fromJson(RunSchema, {
    command: ["z", "a"],
    inputs: [
      { record: "b", role: "INPUT_ROLE_TRAIN" },
      { record: "a", role: "INPUT_ROLE_TRAIN" },
      { record: "a", role: "INPUT_ROLE_TEST" },
    ],
    params: [{ key: "b" }, { key: "a" }],
    purpose: "PURPOSE_EXPLORATION",
    steps: [{ name: "s", needs: ["y", "x", "y"] }],
  });
  expect(bodyFromMessage("run", message)).toEqual({
    command: ["z", "a"],
    inputs: [
      { record: "a", role: "INPUT_ROLE_TEST" },
      { record: "a", role: "INPUT_ROLE_TRAIN" },
      { record: "b", role: "INPUT_ROLE_TRAIN" },
    ],
    params: [{ key: "a" }, { key: "b" }],
    purpose: "PURPOSE_EXPLORATION",
    steps: [{ name: "s", needs: ["x", "y"] }],
  });
});

it("leaves -0 out where it leaves out zero, and writes it as zero elsewhere", () => {
  const batch = create(RunBatchSchema, { metrics: [{ key: "loss", value: -0 }], seq: 1 });
  expect(bodyFromMessage("run.batch", batch)).toEqual({ metrics: [{ key: "loss" }], seq: 1 });
  const report = create(QualityReportSchema, {
    measurements: [{ name: "n" }],
    sampleFraction: -0,
    tool: { name: "t" },
  });
  expect(Object.is(bodyFromMessage("quality.report", report)["sample_fraction"], 0)).toBe(true);
});

it.each([
  [
    "a number that is not one",
    () => bodyFromMessage("run.batch", create(RunBatchSchema, { metrics: [{ key: "a", value: Number.NaN }] })),
  ],
  ["an enum value without a name", () => bodyFromMessage("run", create(RunSchema, { purpose: 99 as never }))],
  [
    "a number that is not one in free JSON",
    () => bodyFromMessage("decision", create(DecisionSchema, { input: { a: Number.POSITIVE_INFINITY } })),
  ],
  ["a whole number that is none", () => bodyFromMessage("run.batch", create(RunBatchSchema, { seq: 1.5 }))],
  ["a message of another kind", () => bodyFromMessage("run", create(RunBatchSchema, { seq: 1 }))],
])("refuses %s", (_, make) => {
  expect(make).toThrow(schemaViolation);
});

it("says where the flaw is", () => {
  const body = { inputs: [{ record: "a", role: "INPUT_ROLE_TEST" }, { record: "a" }], purpose: "PURPOSE_PRODUCTION" };
  expect(() => checkBody("run", body)).toThrow("run: body.inputs[1].role is missing");
  expect(() => checkBody("run.start", { differences: ["a", "\u202e"], token: {} })).toThrow(
    "run.start: body.differences[1] is not NFC",
  );
});

it("passes a kind that it does not know", () => {
  checkBody("subscription", { anything: [{ goes: null }] });
  expect(messageFromBody("subscription", {})).toBeUndefined();
});
