/** Projects, principals, tokens and roles: who may give what to whom. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type PrincipalSchema, PrincipalType } from "../../gen/ts/animus/datapilot/record/v1/access_pb.ts";
import {
  CreatePrincipalRequestSchema,
  CreateProjectRequestSchema,
  CreateRoleBindingRequestSchema,
  CreateTokenRequestSchema,
  TestAccessRequestSchema,
  UpdatePrincipalRequestSchema,
} from "../../gen/ts/animus/datapilot/v1/access_pb.ts";
import { bootstrap } from "../../src/command/bootstrap.ts";
import { createPrincipal, updatePrincipal } from "../../src/command/create-principal.ts";
import { createProject } from "../../src/command/create-project.ts";
import { createRoleBinding } from "../../src/command/create-role-binding.ts";
import { createToken } from "../../src/command/create-token.ts";
import type { Caller } from "../../src/identity/caller.ts";
import { testAccess } from "../../src/query/test-access.ts";
import { whoAmI } from "../../src/query/who-am-i.ts";
import type { RecordId } from "../../src/std/brand.ts";
import { accesses, createWorld, moveStatus, newProject, refused, type World } from "./world.ts";

let world: World;
beforeAll(async () => {
  world = await createWorld();
  await newProject(world, "fraud");
});
afterAll(() => world[Symbol.asyncDispose]());

const size = (): number => world.deps.log.index.watermark.size;
const personalCount = async (): Promise<number> => {
  let n = 0;
  for await (const _ of world.store.list("personal", "")) n++;
  return n;
};

describe("bootstrap", () => {
  it("made one administrator of the ledger", () => {
    expect(whoAmI(world.deps, world.admin)).toMatchObject({
      name: "root",
      method: "token",
      roles: expect.arrayContaining([
        "_ledger/auditor",
        "_ledger/operator",
        "_ledger/policy-author",
        "_ledger/project-admin",
      ]) as string[],
    });
  });

  it("does nothing when it is done again", async () => {
    const before = size();
    const { secrets } = await bootstrap(world.deps, { admin: { name: "root", displayName: "Root" }, policies: [] });
    expect(secrets.size).toBe(0);
    expect(size()).toBe(before);
  });

  it("puts policies into force and names their groups", async () => {
    const rule = {
      id: "two",
      require: "false",
      otherwise: "OTHERWISE_REQUIRE_APPROVAL",
      message: "needs governance",
      approval: { quorum: 1, groups: ["governance"], meaning: "MEANING_APPROVED" },
    };
    const policy = { name: "grants", target: "role.binding.grant", rules: [rule] };
    await using governed = await createWorld({
      policies: [policy],
      approvers: [
        { name: "ann", displayName: "Ann" },
        { name: "bob", displayName: "Bob" },
      ],
    });
    expect([...governed.secrets.keys()]).toEqual(["root", "ann", "bob"]);
    using reader = governed.deps.log.index.reader();
    const ledger = governed.deps.log.genesis;
    expect(reader.get("policies", `${ledger}/role.binding.grant`)?.value.policies).toMatchObject([{ mode: "active" }]);
    const groups = reader
      .get("bindings", ledger)
      ?.value.bindings.flatMap((b) => (b.group === undefined ? [] : [b.group]));
    expect(groups).toMatchObject([{ name: "governance" }]);
    expect(groups?.[0]?.members).toHaveLength(2);
  });
});

describe("projects", () => {
  it("are administered by their creator, in the same group", async () => {
    const { resource, receipt } = await newProject(world, "mine");
    expect(resource).toMatchObject({ name: "projects/mine", status: "active", project: "mine" });
    expect(receipt?.also).toHaveLength(1);
    expect(whoAmI(world.deps, world.admin).roles).toContain("mine/project-admin");
  });

  it("are administered by whom the request names", async () => {
    const member = await world.member("fraud", "viewer");
    await newProject(world, "theirs", { admin: member.principal });
    expect(whoAmI(world.deps, member).roles).toContain("theirs/project-admin");
    expect(whoAmI(world.deps, world.admin).roles).not.toContain("theirs/project-admin");
  });

  it("need an administrator that is there and enabled", async () => {
    await refused(() => newProject(world, "nobodys", { admin: "nobody" }), "NO_ADMIN");
    const member = await world.member("fraud", "viewer");
    await moveStatus(world, member.principal, "active", "disabled");
    await refused(() => newProject(world, "nobodys", { admin: member.principal }), "NO_ADMIN");
  });

  it("are made by who may", async () => {
    const member = await world.member("fraud", "project-admin");
    const request = create(CreateProjectRequestSchema, { project: { name: "denied" } });
    await refused(() => createProject(world.deps, member, request), "PERMISSION_DENIED");
  });

  it.each(["a", "A-b", "1abc", "_ledger", "_new", "a_b", "a".repeat(64)])("do not have the name %j", async (name) => {
    await refused(() => newProject(world, name), "NAME_INVALID");
  });

  it("have one name each", async () => {
    await newProject(world, "taken");
    const again = await newProject(world, "taken");
    expect(again.receipt?.existing).toBe(true);
    const request = create(CreateProjectRequestSchema, { project: { name: "taken", description: "other" } });
    await refused(() => createProject(world.deps, world.admin, request), "ALREADY_EXISTS");
  });
});

describe("principals", () => {
  const person = (name: string, displayName: string) =>
    create(CreatePrincipalRequestSchema, {
      principal: {
        type: PrincipalType.HUMAN,
        name,
        displayName,
        identities: [{ issuer: "https://id.corp", claim: "sub", value: `u-${name}` }],
      },
    });

  it("keep their names apart from the record", async () => {
    const { resource } = await createPrincipal(world.deps, world.admin, person("ann", "Ann Lee"));
    expect(resource).toMatchObject({ name: "principals/ann", status: "active", project: "_ledger" });
    if (resource?.body.case !== "principal") return expect.fail("a principal was expected");
    const { displayName, identities } = resource.body.value;
    expect(displayName).toMatch(/^personal:sha256:[0-9a-f]{64}$/);
    expect(await world.deps.personal.get(displayName)).toBe("Ann Lee");
    expect(await world.deps.personal.get(identities[0]?.value ?? "")).toBe("u-ann");
  });

  it("are there once, by the values and not by their references", async () => {
    const first = await createPrincipal(world.deps, world.admin, person("bob", "Bob"));
    const before = await personalCount();
    const again = await createPrincipal(world.deps, world.admin, person("bob", "Bob"));
    expect(again.resource?.record).toBe(first.resource?.record);
    await refused(() => createPrincipal(world.deps, world.admin, person("bob", "Robert")), "ALREADY_EXISTS");
    expect(await personalCount()).toBe(before);
  });

  it("are revised: what they are called and who they are elsewhere, not their name or type", async () => {
    const made = (await createPrincipal(world.deps, world.admin, person("eve", "Eve"))).resource;
    const etag = made?.etag ?? "";
    const next = { displayName: "Eve Young", identities: [], name: "eve", type: PrincipalType.HUMAN };
    const update = (more: Partial<MessageInitShape<typeof PrincipalSchema>>, known = etag) =>
      updatePrincipal(
        world.deps,
        world.admin,
        create(UpdatePrincipalRequestSchema, { etag: known, principal: { ...next, ...more } }),
      );
    const moved = [{ claim: "sub", issuer: "https://new.corp", value: "u-eve" }];
    const { resource } = await update({ identities: moved });
    expect(resource).toMatchObject({ name: "principals/eve", record: made?.record });
    expect(resource?.etag).not.toBe(etag);
    if (resource?.body.case !== "principal") return expect.fail("a principal was expected");
    expect(await world.deps.personal.get(resource.body.value.displayName)).toBe("Eve Young");
    const before = await personalCount();
    await refused(() => update({}), "ETAG_MISMATCH");
    await refused(() => update({ type: PrincipalType.SERVICE }, resource.etag), "REQUEST_INVALID");
    await refused(() => update({ name: "nobody" }, resource.etag), "NOT_FOUND");
    const taken = [{ claim: "sub", issuer: "https://id.corp", value: "u-ann" }];
    await refused(() => update({ identities: taken }, resource.etag), "IDENTITY_TAKEN");
    expect(await personalCount()).toBe(before);
  });

  it("share no identity, whoever comes first", async () => {
    const twin = (name: string) => {
      const identities = [{ claim: "sub", issuer: "https://id.corp", value: "u-twin" }];
      const principal = { displayName: name, identities, name, type: PrincipalType.HUMAN };
      return create(CreatePrincipalRequestSchema, { principal });
    };
    const both = await Promise.allSettled(
      ["castor", "pollux"].map((name) => createPrincipal(world.deps, world.admin, twin(name))),
    );
    expect(both.map((b) => b.status)).toEqual(["fulfilled", "rejected"]);
    const before = await personalCount();
    const fault = await refused(() => createPrincipal(world.deps, world.admin, twin("pollux")), "IDENTITY_TAKEN");
    expect(fault.metadata).toMatchObject({ principal: "castor" });
    expect(await personalCount()).toBe(before);
    expect((await createPrincipal(world.deps, world.admin, twin("castor"))).receipt?.existing).toBe(true);
    // Who may make no principals learns of none.
    const stranger = await world.member("fraud", "contributor");
    await refused(() => createPrincipal(world.deps, stranger, twin("pollux")), "PERMISSION_DENIED");
  });

  it("are repeated by the values too", async () => {
    const request = create(CreatePrincipalRequestSchema, { ...person("cleo", "Cleo"), requestId: "cleo-1" });
    const first = await createPrincipal(world.deps, world.admin, request);
    const before = await personalCount();
    const again = await createPrincipal(world.deps, world.admin, request);
    expect(again.receipt?.logIndex).toBe(first.receipt?.logIndex);
    const other = create(CreatePrincipalRequestSchema, { ...person("cleo", "Cleopatra"), requestId: "cleo-1" });
    await refused(() => createPrincipal(world.deps, world.admin, other), "REQUEST_ID_REUSED");
    // The denial's own address and agent.
    expect(await personalCount()).toBe(before + 2);
  });

  it("store nothing of who may not make them", async () => {
    const member = await world.member("fraud", "project-admin");
    const before = await personalCount();
    await refused(() => createPrincipal(world.deps, member, person("eve", "Eve")), "PERMISSION_DENIED");
    expect(await personalCount()).toBe(before + 2);
  });

  it.each([
    { name: "Eve", displayName: "Eve", type: PrincipalType.HUMAN, reason: "NAME_INVALID" },
    { name: "eve", displayName: "", type: PrincipalType.HUMAN, reason: "REQUEST_INVALID" },
    { name: "eve", displayName: "Eve", type: PrincipalType.UNSPECIFIED, reason: "REQUEST_INVALID" },
  ])("refuse $reason: $name, $displayName, $type", async ({ reason, ...principal }) => {
    const before = await personalCount();
    const request = create(CreatePrincipalRequestSchema, { principal });
    await refused(() => createPrincipal(world.deps, world.admin, request), reason);
    expect(await personalCount()).toBe(before);
  });
});

describe("tokens", () => {
  it("are shown once, and authenticate", async () => {
    const request = create(CreateTokenRequestSchema, { requestId: "t-1", days: 30 });
    const first = await createToken(world.deps, world.admin, request);
    expect(first.secret).toMatch(/^dp_[A-Za-z0-9_-]{43}$/);
    expect(world.caller(first.secret)).toMatchObject({
      principal: world.admin.principal,
      token: first.resource?.record,
    });
    const again = await createToken(world.deps, world.admin, request);
    expect(again.resource?.record).toBe(first.resource?.record);
    expect(again.secret).toBe("");
  });

  it("are nowhere in the ledger", async () => {
    const { secret, resource } = await createToken(world.deps, world.admin, create(CreateTokenRequestSchema, {}));
    using reader = world.deps.log.index.reader();
    const bytes = reader.bytes(resource?.logIndex ?? 0) ?? new Uint8Array();
    expect(new TextDecoder().decode(bytes)).not.toContain(secret.slice(3));
  });

  it("live at most 400 days", async () => {
    await createToken(world.deps, world.admin, create(CreateTokenRequestSchema, { days: 400 }));
    const request = create(CreateTokenRequestSchema, { days: 401 });
    await refused(() => createToken(world.deps, world.admin, request), "REQUEST_INVALID");
  });

  it("are made by who writes the ledger's principals", async () => {
    const member = await world.member("fraud", "project-admin");
    await refused(
      () => createToken(world.deps, member, create(CreateTokenRequestSchema, { principal: world.admin.principal })),
      "PERMISSION_DENIED",
    );
  });

  it("of limited tokens are as limited", async () => {
    const limited: Caller = { ...world.admin, permissions: ["principal.write", "read"] };
    const ask = (permissions: string[]) =>
      createToken(world.deps, limited, create(CreateTokenRequestSchema, { permissions }));
    await refused(() => ask([]), "SCOPE_EXCEEDS_ISSUER");
    await refused(() => ask(["read", "policy.write"]), "SCOPE_EXCEEDS_ISSUER");
    expect(accesses(world).at(-1)).toMatchObject({ reason: "SCOPE_EXCEEDS_ISSUER" });
    expect((await ask(["read"])).secret).not.toBe("");
  });

  it("give no rights over the ledger that the issuer has not", async () => {
    const clerk = await world.member("_ledger", "project-admin");
    const ask = (more: object, who = clerk) => createToken(world.deps, who, create(CreateTokenRequestSchema, more));
    const fault = await refused(() => ask({ principal: world.admin.principal }), "SCOPE_EXCEEDS_ISSUER");
    expect(fault.metadata["permissions"]).toContain("ledger.operate");
    expect(accesses(world).at(-1)).toMatchObject({ reason: "SCOPE_EXCEEDS_ISSUER" });
    const few = { permissions: ["principal.write", "read"], principal: world.admin.principal };
    expect((await ask(few)).secret).not.toBe("");
    // The work in projects is not the ledger's: whoever administers principals gives tokens to all who do it.
    const worker = await world.member("fraud", "contributor", "steward");
    expect((await ask({ principal: worker.principal })).secret).not.toBe("");
    expect((await ask({ principal: clerk.principal }, world.admin)).secret).not.toBe("");
  });

  it("name permissions that there are, of principals that there are", async () => {
    const ask = (more: object) => createToken(world.deps, world.admin, create(CreateTokenRequestSchema, more));
    await refused(() => ask({ permissions: ["everything"] }), "REQUEST_INVALID");
    await refused(() => ask({ principal: "nobody" }), "REQUEST_INVALID");
  });
});

describe("role bindings", () => {
  const bind = (more: object, caller = world.admin) =>
    createRoleBinding(
      world.deps,
      caller,
      create(CreateRoleBindingRequestSchema, { project: "fraud", role: "viewer", ...more }),
    );

  it("give what the role permits, until they are revoked", async () => {
    const member = await world.member("fraud");
    const { resource } = await bind({ principal: member.principal });
    const ask = create(TestAccessRequestSchema, {
      project: "fraud",
      principal: member.principal,
      permission: "read",
    });
    expect(testAccess(world.deps, world.admin, ask)).toMatchObject({
      allowed: true,
      binding: resource?.record,
      role: "viewer",
    });
    const past = world.deps.log.index.watermark.size;
    await moveStatus(world, resource?.record as RecordId, "active", "revoked");
    expect(testAccess(world.deps, world.admin, ask).allowed).toBe(false);
    expect(testAccess(world.deps, world.admin, { ...ask, asOf: past })).toMatchObject({
      allowed: true,
      treeSize: past,
    });
    // Bound again, it is a new binding: the revoked one stays revoked.
    const again = await bind({ principal: member.principal });
    expect(again.resource?.record).not.toBe(resource?.record);
    expect(testAccess(world.deps, world.admin, ask).allowed).toBe(true);
  });

  it("are decided, and the decision is recorded with them", async () => {
    const member = await world.member("fraud");
    const { decision, resource } = await bind({ principal: member.principal });
    expect(resource?.kind).toBe("role.binding");
    expect(decision?.body).toMatchObject({ case: "decision", value: { target: "role.binding.grant" } });
    expect(resource?.links).toMatchObject([{ rel: "decision", to: decision?.record }]);
  });

  it("are there once", async () => {
    const member = await world.member("fraud");
    const first = await bind({ principal: member.principal });
    const again = await bind({ principal: member.name });
    expect(again.resource?.record).toBe(first.resource?.record);
    expect(again.receipt?.existing).toBe(true);
  });

  it("end when they say", async () => {
    const member = await world.member("fraud");
    const ask = create(TestAccessRequestSchema, { project: "fraud", principal: member.principal, permission: "read" });
    await bind({ principal: member.principal, expiresAt: new Date(world.clock.ms + 60_000).toISOString() });
    expect(testAccess(world.deps, world.admin, ask).allowed).toBe(true);
    world.clock.ms += 60_000;
    expect(testAccess(world.deps, world.admin, ask).allowed).toBe(false);
    await refused(
      () => bind({ principal: member.principal, expiresAt: "2020-01-01T00:00:00.000Z" }),
      "REQUEST_INVALID",
    );
    await refused(() => bind({ principal: member.principal, expiresAt: "tomorrow" }), "REQUEST_INVALID");
  });

  it("are not given to oneself, nor to one's group", async () => {
    await refused(() => bind({ principal: world.admin.principal }), "SELF_GRANT");
    const member = await world.member("fraud");
    await refused(
      () => bind({ role: "approver", group: "risk", members: [member.principal, world.admin.principal] }),
      "SELF_GRANT",
    );
    expect(accesses(world).at(-1)).toMatchObject({ reason: "SELF_GRANT" });
  });

  it("name a group and give its members the role", async () => {
    const one = await world.member("fraud");
    const { resource } = await bind({ role: "approver", group: "model-risk", members: [one.principal] });
    expect(resource?.body).toMatchObject({
      case: "roleBinding",
      value: { role: "approver", group: { name: "model-risk", members: [one.principal] } },
    });
    expect(whoAmI(world.deps, one).roles).toEqual(["fraud/approver"]);
  });

  it.each([
    {},
    { principal: "nobody" },
    { role: "king", principal: "member-1" },
    { role: "auditor", principal: "member-1" },
    { role: "operator", principal: "member-1" },
    { principal: "member-1", group: "g", members: ["member-1"] },
    { group: "g" },
    { principal: "member-1", members: ["member-1"] },
  ])("refuse %j", async (more) => {
    await refused(() => bind(more), "REQUEST_INVALID");
  });

  it("are made by who may bind there", async () => {
    const steward = await world.member("fraud", "steward");
    await refused(() => bind({ principal: "member-1" }, steward), "PERMISSION_DENIED");
  });
});

describe("test access", () => {
  it("is asked about oneself by everybody who may read, about others by who binds or audits", async () => {
    const viewer = await world.member("fraud", "viewer");
    const ask = (principal: string, caller = viewer) =>
      testAccess(
        world.deps,
        caller,
        create(TestAccessRequestSchema, { project: "fraud", principal, permission: "read" }),
      );
    expect(ask("").allowed).toBe(true);
    expect(ask(viewer.name).allowed).toBe(true);
    await refused(() => ask("root"), "PERMISSION_DENIED");
    expect(ask("root", world.admin).allowed).toBe(true);
    const unknown = create(TestAccessRequestSchema, { project: "fraud", permission: "fly" });
    await refused(() => testAccess(world.deps, viewer, unknown), "REQUEST_INVALID");
    const ahead = create(TestAccessRequestSchema, { project: "fraud", permission: "read", asOf: 1_000_000 });
    await refused(() => testAccess(world.deps, viewer, ahead), "AS_OF_AHEAD");
  });
});
