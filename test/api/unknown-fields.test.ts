/** Binary requests with fields of another version. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { expect, it } from "vitest";
import { Outcome } from "../../gen/ts/animus/datapilot/record/v1/governance_pb.ts";
import { CreateDatasetRequestSchema } from "../../gen/ts/animus/datapilot/v1/dataset_pb.ts";
import { CreatePolicyRequestSchema } from "../../gen/ts/animus/datapilot/v1/governance_pb.ts";
import { ResourceSchema } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { refuseUnknown } from "../../src/api/unknown-fields.ts";

const EXTRA = new BinaryWriter().tag(900, WireType.Varint).uint32(1).finish();
const REFUSED: unknown = expect.objectContaining({ reason: "REQUEST_INVALID" });
const outcome = (value: unknown): unknown => {
  try {
    refuseUnknown(value);
    return "known";
  } catch (error) {
    return error;
  }
};

it("lets through what the schema holds", () => {
  const policy = {
    name: "p",
    rules: [{ id: "r", require: "true" }],
    tests: [{ input: { a: { $unknown: [{ no: 1 }] } }, outcome: Outcome.ALLOW }],
  };
  const message = create(CreatePolicyRequestSchema, { policy, project: "fraud" });
  expect(outcome(fromBinary(CreatePolicyRequestSchema, toBinary(CreatePolicyRequestSchema, message)))).toBe("known");
  for (const value of [undefined, null, "x", 1, [], {}, new Uint8Array(3)]) expect(outcome(value)).toBe("known");
});

it("refuses others at the top, within, in lists and in a oneof", () => {
  const request = create(CreateDatasetRequestSchema, { dataset: { labels: [{ key: "a", value: "b" }], name: "tx" } });
  const top = fromBinary(
    CreateDatasetRequestSchema,
    new Uint8Array([...toBinary(CreateDatasetRequestSchema, request), ...EXTRA]),
  );
  expect(outcome(top)).toEqual(REFUSED);
  expect(outcome(top)).toMatchObject({ fields: [{ field: "900" }] });
  const unknown = [{ data: EXTRA, no: 900, wireType: WireType.Varint }];
  const within = create(CreateDatasetRequestSchema, { dataset: { name: "tx" } });
  if (within.dataset !== undefined) within.dataset.$unknown = unknown;
  expect(outcome(within)).toEqual(REFUSED);
  const [label] = request.dataset?.labels ?? [];
  if (label !== undefined) label.$unknown = unknown;
  expect(outcome(request)).toEqual(REFUSED);
  const { dataset } = within;
  if (dataset === undefined) throw new Error("assertion failed: a dataset");
  expect(outcome(create(ResourceSchema, { body: { case: "dataset", value: dataset } }))).toEqual(REFUSED);
});
