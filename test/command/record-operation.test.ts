/** Operations that an operator records: only he, only of the two types, and only what can be true. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, it } from "vitest";
import { OperationOutcome, OperationSchema, OperationType } from "../../gen/ts/animus/datapilot/record/v1/access_pb.ts";
import { RecordOperationRequestSchema } from "../../gen/ts/animus/datapilot/v1/ledger_pb.ts";
import type { Caller } from "../../src/command/context.ts";
import { recordOperation } from "../../src/command/record-operation.ts";
import { accesses, createWorld, newProject, refused, type World } from "./world.ts";

type Operation = MessageInitShape<typeof OperationSchema>;
type Given = Exclude<Operation, { readonly $typeName: string }>;

let world: World;
beforeAll(async () => {
  world = await createWorld();
  await newProject(world, "fraud");
});
afterAll(() => world[Symbol.asyncDispose]());

const RENEWED: Given = {
  counts: [
    { name: "prolonged", value: 12 },
    { name: "held", value: 3 },
  ],
  outcome: OperationOutcome.DONE,
  range: { from: 0, to: 4 },
  type: OperationType.RETENTION,
  until: "2036-11-23T00:00:00.000Z",
};
const SCRUBBED: Given = {
  findings: [{ code: "object.shadowed", detail: "other bytes", object: "commits/0000000000000000/0003" }],
  outcome: OperationOutcome.FOUND,
  range: { from: 0, to: 4 },
  type: OperationType.SCRUB,
};

const ask = (operation: Given | undefined, more: { requestId?: string; validateOnly?: boolean } = {}, who?: Caller) =>
  recordOperation(
    world.deps,
    who ?? world.admin,
    create(RecordOperationRequestSchema, {
      ...more,
      ...(operation === undefined ? {} : { operation: create(OperationSchema, operation) }),
    }),
  );

it("is recorded in _system, with whose word it is, its counts in order", async () => {
  const { receipt, resource } = await ask(RENEWED, { requestId: "renewed-1" });
  expect(resource).toMatchObject({ actor: world.admin.principal, kind: "operation", project: "_system" });
  using reader = world.deps.log.index.reader();
  expect(reader.record(resource?.record as never)?.record.body).toEqual({
    counts: [
      { name: "held", value: 3 },
      { name: "prolonged", value: 12 },
    ],
    outcome: "OPERATION_OUTCOME_DONE",
    range: { to: 4 },
    type: "OPERATION_TYPE_RETENTION",
    until: "2036-11-23T00:00:00.000Z",
  });
  expect(receipt?.existing).toBe(false);
  const again = await ask(RENEWED, { requestId: "renewed-1" });
  expect(again.receipt).toMatchObject({ existing: true, record: receipt?.record });
  await refused(() => ask(SCRUBBED, { requestId: "renewed-1" }), "REQUEST_ID_REUSED");
  expect((await ask(SCRUBBED)).resource?.body.case).toBe("operation");
});

it("writes nothing when it is only asked whether it may", async () => {
  const { size } = world.deps.log.index.watermark;
  expect((await ask(RENEWED, { validateOnly: true })).receipt).toBeUndefined();
  expect(world.deps.log.index.watermark.size).toBe(size);
});

it("is for operators of the ledger, and who else asks is on record", async () => {
  const member = await world.member("fraud", "project-admin", "contributor");
  await refused(() => ask(RENEWED, {}, member), "PERMISSION_DENIED");
  expect(accesses(world).at(-1)).toMatchObject({ permission: "ledger.operate", reason: "PERMISSION_DENIED" });
  const operator = await world.member("_ledger", "operator");
  expect((await ask(RENEWED, {}, operator)).resource?.actor).toBe(operator.principal);
});

it.each<[string, Given | undefined, RegExp]>([
  ["nothing", undefined, /operation is missing/],
  ["no type", { ...RENEWED, type: OperationType.UNSPECIFIED }, /type/],
  ["an erasure", { type: OperationType.ERASURE, digests: [`sha256:${"0".repeat(64)}`] }, /recorded by the server/],
  ["a restore", { ...RENEWED, type: OperationType.RESTORE }, /recorded by the server/],
  ["digests", { ...RENEWED, digests: [`sha256:${"0".repeat(64)}`] }, /an erasure records/],
  ["a head", { ...RENEWED, acceptedHead: { root: "00", size: 1 } }, /takeover/],
  ["no outcome", { ...RENEWED, outcome: OperationOutcome.UNSPECIFIED }, /outcome is missing/],
  ["a range beyond the log", { ...RENEWED, range: { from: 0, to: 1_000_000 } }, /has \d+ entries/],
  ["a range backwards", { ...RENEWED, range: { from: 3, to: 2 } }, /within the log/],
  ["half a thing", { ...RENEWED, counts: [{ name: "prolonged", value: 0.5 }] }, /whole number/],
  [
    "a count twice",
    {
      ...RENEWED,
      counts: [
        { name: "a", value: 1 },
        { name: "a", value: 2 },
      ],
    },
    /more than once/,
  ],
  ["a strange count", { ...RENEWED, counts: [{ name: "Prolonged!", value: 1 }] }, /counts\.name/],
  ["no end", { type: OperationType.RETENTION, outcome: OperationOutcome.DONE, range: { from: 0, to: 1 } }, /until/],
  ["no time", { ...RENEWED, until: "tomorrow" }, /not a time/],
  ["a scrub until", { ...SCRUBBED, until: "2036-11-23T00:00:00.000Z" }, /belongs to RETENTION/],
  ["no finding", { ...SCRUBBED, findings: [] }, /names what was found/],
  ["a hostile key", { ...SCRUBBED, findings: [{ code: "object.planted", object: "a\u001b[2J" }] }, /printable|control/],
])("refuses %s, and says what to do", async (_, operation, words) => {
  const { size } = world.deps.log.index.watermark;
  const fault = await refused(() => ask(operation), "REQUEST_INVALID");
  expect(fault.message).toMatch(words);
  expect(world.deps.log.index.watermark.size).toBe(size);
});

it("takes so many counts and findings", async () => {
  const counts = Array.from({ length: 65 }, (_, i) => ({ name: `n${i}`, value: i }));
  await refused(() => ask({ ...RENEWED, counts }), "LIMIT_EXCEEDED");
  const findings = Array.from({ length: 101 }, (_, i) => ({ code: "object.planted", object: `x/${i}` }));
  await refused(() => ask({ ...SCRUBBED, findings }), "LIMIT_EXCEEDED");
});
