/** Votes: who may, what they carry out, and what makes them void. */
import { create, fromJson, type JsonValue } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, it } from "vitest";
import {
  type Approval,
  type ApprovalRequest,
  Meaning,
  Outcome,
  PolicySchema,
} from "../../gen/ts/animus/datapilot/record/v1/governance_pb.ts";
import * as governance from "../../gen/ts/animus/datapilot/v1/governance_pb.ts";
import { GetRequestSchema, type Resource, type WriteResponse } from "../../gen/ts/animus/datapilot/v1/resource_pb.ts";
import { SetAliasRequestSchema, TransitionRequestSchema } from "../../gen/ts/animus/datapilot/v1/status_pb.ts";
import { approve, reject } from "../../src/command/approve.ts";
import { createPolicy } from "../../src/command/create-policy.ts";
import { setAlias } from "../../src/command/set-alias.ts";
import { transition } from "../../src/command/transition.ts";
import type { Caller } from "../../src/identity/caller.ts";
import { getApprovalRequest } from "../../src/query/approval.ts";
import type { JsonObject } from "../../src/record/json.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { Lab } from "./lab.ts";
import { createWorld, newProject, refused, type World } from "./world.ts";

let world: World;
let lab: Lab;
let steward: Caller;
let person: (name: string) => Caller;

const asks = (target: string, quorum: number, meaning = "MEANING_APPROVED"): JsonObject => ({
  name: target.replaceAll(".", "-"),
  rules: [
    {
      approval: { groups: ["data-stewards"], meaning, quorum },
      id: "signed",
      message: "Somebody signs.",
      otherwise: "OTHERWISE_REQUIRE_APPROVAL",
      require: "false",
    },
  ],
  target,
});

beforeAll(async () => {
  world = await createWorld({
    approvers: ["ada", "ben", "cleo"].map((name) => ({ displayName: `${name} the approver`, name })),
    policies: [asks("dataset.version.transition", 2), asks("alias.set", 1, "MEANING_RESPONSIBLE")],
  });
  await newProject(world, "fraud");
  lab = new Lab(world, await world.member("fraud", "contributor"), "fraud");
  steward = await world.member("fraud", "steward");
  person = (name) => world.caller(assertDefined(world.secrets.get(name), name));
});
afterAll(() => world[Symbol.asyncDispose]());

const ask = (name: string, to = "approved", caller = steward) =>
  transition(world.deps, caller, create(TransitionRequestSchema, { name, project: "fraud", reason: "a test", to }));

const waiting = async (dataset: string): Promise<{ request: Resource; digest: string; version: Resource }> => {
  const version = await lab.dataset(dataset, dataset);
  const asked = await ask(version.record);
  expect(asked.resource).toBeUndefined();
  const request = assertDefined(asked.approvalRequest, "a request for approval");
  return { digest: (request.body.value as ApprovalRequest).actionDigest, request, version };
};

interface Vote {
  readonly meaning?: Meaning;
  readonly requestId?: string;
}
const vote = (
  who: Caller,
  { request, digest }: { request: Resource; digest: string },
  { meaning = Meaning.APPROVED, requestId = "" }: Vote = {},
): Promise<WriteResponse> =>
  approve(
    world.deps,
    who,
    create(governance.ApproveRequestSchema, {
      actionDigest: digest,
      meaning,
      project: "fraud",
      request: request.record,
      requestId,
      statement: "I have looked at it.",
    }),
  );

const look = (request: Resource) =>
  getApprovalRequest(world.deps, person("ada"), create(GetRequestSchema, { name: request.record, project: "fraud" }));

it("waits, collects votes, and is carried out by the last", async () => {
  const w = await waiting("carried");
  expect((await ask(w.version.record)).approvalRequest?.record).toBe(w.request.record);
  expect((w.request.body.value as ApprovalRequest).expiresAt).toBe("2026-11-30T08:00:00.000Z");
  const first = await vote(person("ada"), w);
  expect(first.resource?.kind).toBe("approval");
  expect(first.decision).toBeUndefined();
  expect(await look(w.request)).toMatchObject({ state: "open", votes: [{ record: first.resource?.record }] });
  await refused(() => vote(person("ada"), w), "ALREADY_VOTED");
  const last = await vote(person("ben"), w, { requestId: "ben-signs" });
  expect(last.decision?.body.value).toMatchObject({ outcome: Outcome.ALLOW });
  const [effect] = last.also;
  expect(effect).toMatchObject({ actor: steward.principal, kind: "transition" });
  const to = (rel: string) => effect?.links.filter((l) => l.rel === rel).map((l) => l.to);
  expect(to("via")).toEqual([last.resource?.record]);
  expect(new Set(to("approval"))).toEqual(new Set([first.resource?.record, last.resource?.record]));
  expect(to("decision")).toEqual([last.decision?.record]);
  using reader = world.deps.log.index.reader();
  expect(reader.get("entity", w.version.record as never)?.value.status).toBe("approved");
  expect(await look(w.request)).toMatchObject({ state: "approved" });
  await refused(() => vote(person("cleo"), w), "APPROVAL_CLOSED");
  const signer = assertDefined((assertDefined(last.resource, "a vote").body.value as Approval).signer, "a signer");
  expect(await world.deps.personal.get(signer.printedName)).toBe("ben the approver");
});

it("answers a repeat of the deciding vote as before", async () => {
  const w = await waiting("repeated");
  await vote(person("ada"), w);
  const last = await vote(person("ben"), w, { requestId: "again" });
  world.clock.ms += 5_000;
  const repeat = await vote(person("ben"), w, { requestId: "again" });
  expect(repeat.resource?.record).toBe(last.resource?.record);
  expect(repeat.decision?.record).toBe(last.decision?.record);
});

it("takes votes of persons only, in a group that is asked, without a part in it, on what they saw", async () => {
  const w = await waiting("refusals");
  await refused(() => vote(steward, w), "APPROVER_NOT_HUMAN");
  await refused(() => vote(lab.caller, w), "PERMISSION_DENIED");
  await refused(() => vote(person("ada"), w, { meaning: Meaning.REVIEWED }), "APPROVER_NOT_ELIGIBLE");
  await refused(() => vote(person("ada"), { ...w, digest: "0".repeat(64) }), "APPROVAL_MISMATCH");
  await refused(
    () => vote({ ...person("ada"), authenticatedAtMs: world.clock.ms - 301_000 }, w),
    "REAUTHENTICATION_REQUIRED",
  );
  await refused(() => vote(person("ada"), w, { meaning: Meaning.UNSPECIFIED }), "REQUEST_INVALID");
  await world.bind("fraud", "steward", person("cleo"));
  const own = await lab.dataset("own", "own");
  const asked = await ask(own.record, "approved", person("cleo"));
  const request = assertDefined(asked.approvalRequest, "a request");
  await refused(
    () => vote(person("cleo"), { digest: (request.body.value as ApprovalRequest).actionDigest, request }),
    "APPROVER_IS_AUTHOR",
  );
});

it("ends with one vote against, with its withdrawal, and with time", async () => {
  const rejected = await waiting("rejected");
  const no = create(governance.RejectRequestSchema, {
    actionDigest: rejected.digest,
    project: "fraud",
    request: rejected.request.record,
    statement: "No.",
  });
  expect((await reject(world.deps, person("ada"), no)).resource?.kind).toBe("approval");
  expect((await look(rejected.request)).state).toBe("rejected");
  await refused(() => vote(person("ben"), rejected), "APPROVAL_CLOSED");

  const withdrawn = await waiting("withdrawn");
  await refused(() => ask(withdrawn.request.record, "withdrawn", lab.caller), "PERMISSION_DENIED");
  await ask(withdrawn.request.record, "withdrawn");
  expect((await look(withdrawn.request)).state).toBe("withdrawn");
  await refused(() => vote(person("ben"), withdrawn), "APPROVAL_CLOSED");

  const expired = await waiting("expired");
  world.clock.ms += 7 * 86_400_000;
  expect((await look(expired.request)).state).toBe("expired");
  const late = await refused(() => vote(person("ben"), expired), "APPROVAL_CLOSED");
  expect(late.metadata["status"]).toBe("expired");
  expect((await ask(expired.version.record)).approvalRequest?.record).not.toBe(expired.request.record);
});

it("is stale when a policy or the evidence moves", async () => {
  const w = await waiting("stale");
  await vote(person("ada"), w);
  const body = { ...asks("dataset.version.transition", 1), name: "one-more" };
  const made = await createPolicy(
    world.deps,
    world.admin,
    create(governance.CreatePolicyRequestSchema, {
      policy: fromJson(PolicySchema, body as JsonValue),
      project: "_ledger",
    }),
  );
  await transition(
    world.deps,
    world.admin,
    create(TransitionRequestSchema, {
      name: made.resource?.record ?? "",
      project: "_ledger",
      reason: "a test",
      to: "active",
    }),
  );
  expect((await look(w.request)).state).toBe("stale");
  const fault = await refused(() => vote(person("ben"), w), "APPROVAL_CLOSED");
  expect(fault.metadata["status"]).toBe("stale");
});

it("carries an alias out for who asked", async () => {
  await lab.model("scorer");
  const run = await lab.running();
  const file = await lab.output(run, "weights");
  const version = assertDefined((await lab.version("scorer", [file], [run.id])).resource, "a version");
  const asked = await setAlias(
    world.deps,
    lab.caller,
    create(SetAliasRequestSchema, { alias: "production", project: "fraud", target: "scorer@v1" }),
  );
  const request = assertDefined(asked.approvalRequest, "a request");
  const digest = (request.body.value as ApprovalRequest).actionDigest;
  const done = await vote(person("ada"), { digest, request }, { meaning: Meaning.RESPONSIBLE });
  expect(done.also[0]).toMatchObject({ actor: lab.caller.principal, kind: "alias" });
  expect(done.also[0]?.links.find((l) => l.rel === "target")?.to).toBe(version.record);
});

it("takes the token that comes with a vote as the authentication, each time", async () => {
  const w = await waiting("fresh");
  for (const name of ["ada", "ben"]) {
    // Longer than an authentication is good for: the token is presented again.
    world.clock.ms += 3_600_000;
    const { resource } = await vote(person(name), w);
    const { signer } = assertDefined(resource, "a vote").body.value as Approval;
    expect(signer).toMatchObject({ acr: "token", authenticatedAt: new Date(world.clock.ms).toISOString() });
  }
});

it("shows each vote with the printed name, the time and the meaning, until the name is erased", async () => {
  const w = await waiting("shown");
  const cast = await vote(person("ada"), w);
  const { signatures } = await look(w.request);
  expect(signatures).toMatchObject([
    {
      meaning: "approved",
      printedName: "ada the approver",
      signedAt: new Date(world.clock.ms).toISOString(),
      verdict: "approve",
      vote: cast.resource?.record,
    },
  ]);
  const { signer } = assertDefined(cast.resource, "a vote").body.value as Approval;
  await world.deps.personal.remove(signer?.printedName ?? "");
  expect((await look(w.request)).signatures).toMatchObject([{ printedName: "", verdict: "approve" }]);
});
