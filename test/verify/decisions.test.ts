/** Stage 10 over the records of a real ledger, as they are and with one thing changed. */
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type ApprovalRequest, Meaning } from "../../gen/ts/animus/datapilot/record/v1/governance_pb.ts";
import * as governance from "../../gen/ts/animus/datapilot/v1/governance_pb.ts";
import { TransitionRequestSchema } from "../../gen/ts/animus/datapilot/v1/status_pb.ts";
import { approve } from "../../src/command/approve.ts";
import { transition } from "../../src/command/transition.ts";
import { leafHash } from "../../src/merkle/hash.ts";
import { inputDigest } from "../../src/policy/decision.ts";
import { parseEntry } from "../../src/record/entry.ts";
import type { JsonObject } from "../../src/record/json.ts";
import { type LedgerRecord, parseRecord } from "../../src/record/record.ts";
import { assertDefined } from "../../src/std/assert.ts";
import type { RecordId } from "../../src/std/brand.ts";
import { checkDecisions } from "../../src/verify/decisions.ts";
import type { Manifest } from "../../src/verify/manifest.ts";
import type { PackRecord } from "../../src/verify/records.ts";
import { type Check, Stage } from "../../src/verify/report.ts";
import { Lab } from "../command/lab.ts";
import { createWorld, newProject, type World } from "../command/world.ts";

let world: World;
let records: readonly PackRecord[];
let manifest: Manifest;

const POLICY: JsonObject = {
  name: "signed",
  rules: [
    {
      id: "rows",
      message: "No rows.",
      otherwise: "OTHERWISE_DENY",
      require: "input.data[0].rows > 0.0",
    },
    {
      approval: { groups: ["data-stewards"], meaning: "MEANING_APPROVED", quorum: 2 },
      id: "signed",
      message: "Two sign.",
      otherwise: "OTHERWISE_REQUIRE_APPROVAL",
      require: "false",
      when: 'input.request.to == "approved"',
    },
  ],
  target: "dataset.version.transition",
};

beforeAll(async () => {
  world = await createWorld({
    approvers: ["ada", "ben"].map((name) => ({ displayName: name, name })),
    policies: [POLICY],
  });
  const { deps } = world;
  await newProject(world, "fraud");
  const lab = new Lab(world, await world.member("fraud", "contributor"), "fraud");
  const steward = await world.member("fraud", "steward");
  const version = await lab.dataset("rows", "12");
  const asked = await transition(
    deps,
    steward,
    create(TransitionRequestSchema, { name: version.record, project: "fraud", reason: "a test", to: "approved" }),
  );
  const request = assertDefined(asked.approvalRequest, "a request");
  for (const name of ["ada", "ben"])
    await approve(
      deps,
      world.caller(world.secrets.get(name) ?? ""),
      create(governance.ApproveRequestSchema, {
        actionDigest: (request.body.value as ApprovalRequest).actionDigest,
        meaning: Meaning.APPROVED,
        project: "fraud",
        request: request.record,
        statement: "Seen.",
      }),
    );
  const run = await lab.running(lab.plan([version.record]));
  const file = await lab.output(run, "weights");
  await lab.finish(run, 1);
  await lab.model("scorer");
  await lab.version("scorer", [file], [run.id]);
  using reader = deps.log.index.reader();
  records = Array.from({ length: reader.size }, (_, index): PackRecord => {
    const { entryBytes } = assertDefined(reader.entry(index), "an entry");
    const bytes = assertDefined(reader.bytes(index), "a record");
    return { entry: parseEntry(entryBytes), index, leaf: leafHash(entryBytes), record: parseRecord(bytes) };
  });
  const complete = new Set<string>(records.map((r) => r.entry.project));
  const outside = { artifact: new Map(), personal: new Map(), record: new Map() };
  manifest = { complete, outside, roots: new Set() };
});
afterAll(() => world[Symbol.asyncDispose]());

function check(given: readonly PackRecord[], by: Manifest = manifest): Check {
  const stage = new Stage("decisions");
  checkDecisions(given, by, stage);
  return stage.check();
}

type Change = (record: LedgerRecord) => Partial<LedgerRecord> | undefined;
const changed = (kind: string, change: Change): PackRecord[] => {
  let done = false;
  return records.map((r) => {
    const more = !done && r.record?.kind === kind ? change(r.record) : undefined;
    if (r.record === undefined || more === undefined) return r;
    done = true;
    return { ...r, record: { ...r.record, ...more } };
  });
};
const codes = (given: readonly PackRecord[]): string[] => [...new Set(check(given).failures.map((f) => f.code))];
const body =
  (more: JsonObject, when: (r: LedgerRecord) => boolean = () => true): Change =>
  (r) =>
    when(r) ? { body: { ...r.body, ...more } } : undefined;
const onVersion = (r: LedgerRecord): boolean => r.body["target"] === "dataset.version.transition";
const approvedOne = (r: LedgerRecord): boolean => onVersion(r) && r.body["outcome"] === "OUTCOME_ALLOW";

it("passes a ledger as it was written", () => {
  expect(check(records)).toEqual({ failures: [], id: "decisions", skipped: [], status: "pass" });
});

describe("finds", () => {
  it("another outcome", () => {
    expect(
      codes(
        changed(
          "decision",
          body({ outcome: "OUTCOME_ALLOW" }, (r) => r.body["outcome"] === "OUTCOME_REQUIRE_APPROVAL"),
        ),
      ),
    ).toContain("decision.replay");
  });
  it("an input that facts do not give", () => {
    const invented = changed("decision", (r) => {
      if (!approvedOne(r)) return undefined;
      const before = r.body["input"] as JsonObject;
      const input = { ...before, data: (before["data"] as readonly JsonObject[]).map((d) => ({ ...d, rows: 7 })) };
      return { body: { ...r.body, input, input_digest: inputDigest(input) } };
    });
    expect(codes(invented)).toEqual(["decision.input"]);
  });
  it("a digest that is not the input's", () => {
    expect(codes(changed("decision", body({ input_digest: "0".repeat(64) })))).toEqual(["decision.input"]);
  });
  it("a policy that was left out", () => {
    const without: Change = (r) =>
      approvedOne(r)
        ? {
            body: Object.fromEntries(Object.entries(r.body).filter(([name]) => name !== "policies")),
            links: r.links.filter((l) => l.rel !== "policy"),
          }
        : undefined;
    expect(codes(changed("decision", without))).toEqual(["decision.policy"]);
  });
  it("a decision on a state after itself", () => {
    expect(codes(changed("decision", body({ tree_size: 1e6 })))).toContain("decision.order");
  });
  it("a change without a decision that allows it", () => {
    const loose: Change = (r) =>
      r.actor.method === "init" ? undefined : { links: r.links.filter((l) => l.rel !== "decision") };
    expect(codes(changed("transition", loose))).toEqual(["decision.order"]);
    const other: Change = (r) => (r.actor.method === "init" ? undefined : { body: { ...r.body, to: "deprecated" } });
    expect(codes(changed("transition", other))).toContain("decision.order");
    const init: Change = (r) =>
      r.actor.method === "init"
        ? undefined
        : { actor: { method: "init" }, links: r.links.filter((l) => l.rel !== "decision") };
    expect(codes(changed("transition", init))).toEqual(["decision.order"]);
  });
  it("a start without a decision", () => {
    expect(codes(changed("run.start", (r) => ({ links: r.links.filter((l) => l.rel !== "decision") })))).toEqual([
      "run.unbound",
    ]);
  });
  it("a report by another than the run", () => {
    expect(codes(changed("run.batch", (r) => ({ actor: { ...r.actor, method: "token" } })))).toEqual(["run.identity"]);
  });
  it("an author's own vote, and one person's two", () => {
    const request = assertDefined(records.find((r) => r.record?.kind === "approval.request")?.record, "a request");
    expect(
      codes(changed("approval", (r) => ({ actor: { ...r.actor, principal: request.actor.principal as RecordId } }))),
    ).toContain("approval.self");
    const votes = records.filter((r) => r.record?.kind === "approval");
    const second = votes[1]?.record?.actor.principal as RecordId;
    expect(codes(changed("approval", (r) => ({ actor: { ...r.actor, principal: second } })))).toContain(
      "approval.count",
    );
  });
});

it("skips, and does not pass, what it cannot try", () => {
  const ledger = assertDefined(records[0], "the genesis").entry.project;
  const partial = check(records, { ...manifest, complete: new Set([ledger]) });
  expect(partial).toMatchObject({ failures: [], status: "skipped" });
  expect(partial.skipped[0]).toContain("not complete");
  const withheld = records.map((r) =>
    r.record?.kind === "dataset.version" ? { ...r, bytes: undefined, record: undefined } : r,
  );
  const answer = check(withheld);
  expect(answer.status).toBe("skipped");
  expect(answer.skipped.some((s) => s.includes("derived again"))).toBe(true);
});
