/** A ledger that one person began, under the whole baseline: he can bind a second one, and from then on is asked for approvals. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, it } from "vitest";
import { PrincipalSchema, PrincipalType } from "../../gen/ts/animus/datapilot/record/v1/access_pb.ts";
import { type ApprovalRequest, Meaning } from "../../gen/ts/animus/datapilot/record/v1/governance_pb.ts";
import * as access from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import { ApproveRequestSchema } from "../../gen/ts/animus/datapilot/v1/governance_pb.ts";
import { TransitionRequestSchema } from "../../gen/ts/animus/datapilot/v1/status_pb.ts";
import { approve } from "../../src/command/approve.ts";
import { createPrincipal } from "../../src/command/create-principal.ts";
import { createRoleBinding } from "../../src/command/create-role-binding.ts";
import { createToken } from "../../src/command/create-token.ts";
import { transition } from "../../src/command/transition.ts";
import type { Caller } from "../../src/identity/caller.ts";
import { baseline } from "../../src/policy/baseline.ts";
import { factReader } from "../../src/policy/fact-reader.ts";
import { deriveAgain } from "../../src/policy/replay.ts";
import { assertDefined } from "../../src/std/assert.ts";
import type { RecordId } from "../../src/std/brand.ts";
import { createWorld, newProject, refused, type World } from "./world.ts";

let world: World;
beforeAll(async () => {
  world = await createWorld({ policies: baseline({ solo: false }) });
  await newProject(world, "fraud");
});
afterAll(() => world[Symbol.asyncDispose]());

async function person(name: string): Promise<Caller> {
  const principal = create(PrincipalSchema, { displayName: name, name, type: PrincipalType.HUMAN });
  await createPrincipal(world.deps, world.admin, create(access.CreatePrincipalRequestSchema, { principal }));
  const token = create(access.CreateTokenRequestSchema, { principal: name });
  return world.caller((await createToken(world.deps, world.admin, token)).secret);
}

const bind = (who: Caller, request: MessageInitShape<typeof access.CreateRoleBindingRequestSchema>) =>
  createRoleBinding(world.deps, who, create(access.CreateRoleBindingRequestSchema, request));

/** What an auditor finds who derives the input of a decision again from its facts. */
function findings(decision: string | undefined): readonly unknown[] {
  using reader = world.deps.log.index.reader();
  const { record } = assertDefined(reader.record(decision as RecordId), "a decision");
  const facts = record.links.map(({ to }) => ({ id: to, ...assertDefined(reader.record(to), "a linked record") }));
  return deriveAgain(record.body, record.links, factReader(facts)).findings;
}

it("lets the only person bind a second one, and then asks for approvals", async () => {
  const vera = await person("vera");
  await person("carl");
  const governance = { group: "governance", project: "_ledger", role: "approver" };
  const first = await bind(world.admin, { ...governance, members: ["vera"] });
  expect(first.resource).toBeDefined();
  expect(findings(first.decision?.record)).toEqual([]);
  const asked = await bind(world.admin, { principal: "carl", project: "fraud", role: "steward" });
  expect(asked.resource).toBeUndefined();
  expect(findings(asked.decision?.record)).toEqual([]);
  const request = assertDefined(asked.approvalRequest, "a request for approval");
  const vote = {
    actionDigest: (request.body.value as ApprovalRequest).actionDigest,
    meaning: Meaning.APPROVED,
    project: "fraud",
    request: request.record,
    statement: "Carl was trained.",
  };
  await refused(() => approve(world.deps, world.admin, create(ApproveRequestSchema, vote)), "APPROVER_IS_AUTHOR");
  const voted = await approve(world.deps, vera, create(ApproveRequestSchema, vote));
  expect(voted.also.map((r) => r.kind)).toContain("role.binding");
  expect(findings(voted.decision?.record)).toEqual([]);
  // Nobody falls back to being alone.
  const revoke = create(TransitionRequestSchema, {
    name: first.resource?.record ?? "",
    project: "_ledger",
    reason: "No longer.",
    to: "revoked",
  });
  await refused(() => transition(world.deps, world.admin, revoke), "NO_ADMIN");
});
