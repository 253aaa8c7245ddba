/** Artifacts that a project holds for longer than the ledger's floor. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, it } from "vitest";
import { RetentionMode, RetentionSchema } from "../../gen/ts/animus/datapilot/record/v1/access_pb.ts";
import { CreateRetentionRequestSchema } from "../../gen/ts/animus/datapilot/v1/retention_pb.ts";
import type { Caller } from "../../src/command/context.ts";
import { createRetention } from "../../src/command/create-retention.ts";
import { Findings } from "../../src/log/findings.ts";
import { scrub } from "../../src/log/scrub.ts";
import { collect } from "../contract/object-store.ts";
import { quietLogger, seededRandom } from "../log/world.ts";
import { createWorld, newProject, refused, type World } from "./world.ts";

const DAY_MS = 86_400_000;

let world: World;
let member: Caller;
let operator: Caller;
beforeAll(async () => {
  world = await createWorld();
  await newProject(world, "fraud");
  await newProject(world, "risk");
  member = await world.member("fraud", "contributor", "project-admin");
  operator = await world.member("_ledger", "operator");
});
afterAll(() => world[Symbol.asyncDispose]());

const hold = (
  project: string,
  retention: Omit<MessageInitShape<typeof RetentionSchema>, "$typeName" | "$unknown">,
  who: Caller = member,
) =>
  createRetention(
    world.deps,
    who,
    create(CreateRetentionRequestSchema, {
      project,
      retention: create(RetentionSchema, {
        basis: "Law",
        days: 7_300,
        mode: RetentionMode.PERIOD,
        name: "models",
        ...retention,
      }),
    }),
  );

/** Days for which each artifact of a project is locked from now. */
async function locked(digest: string): Promise<number> {
  const [found] = (await collect(world.store.list("ledger", "artifacts/"))).filter((o) =>
    o.key.endsWith(digest.slice(7)),
  );
  return Math.floor(((found?.retainUntil ?? 0) - world.clock.now()) / DAY_MS);
}

const look = () =>
  scrub({
    clock: { monotonic: () => 0, now: () => world.clock.now(), sleep: () => Promise.resolve() },
    findings: new Findings(quietLogger),
    index: world.deps.log.index,
    objectsPerSecond: 1_000,
    random: seededRandom(1),
    signal: new AbortController().signal,
    store: world.store,
  });

it("locks what is uploaded for so long, and what was there before when it is looked at", async () => {
  const before = await world.artifact(member, "fraud", "before");
  expect(await locked(before.digest)).toBe(365);
  expect((await hold("fraud", {})).resource).toMatchObject({ kind: "retention", project: "fraud" });
  const after = await world.artifact(member, "fraud", "after");
  expect(await locked(after.digest)).toBe(7_300);
  expect(await locked(before.digest)).toBe(365);
  expect((await look()).counts.prolonged).toBe(1);
  expect(await locked(before.digest)).toBe(7_300);
  expect((await look()).counts.prolonged).toBe(0);
  // The longest counts, and another project's are as before.
  await hold("fraud", { days: 400, name: "shorter" });
  expect(await locked((await world.artifact(member, "fraud", "again")).digest)).toBe(7_300);
  await world.bind("risk", "contributor", member);
  expect(await locked((await world.artifact(member, "risk", "other")).digest)).toBe(365);
  await hold("_ledger", { days: 500 }, operator);
  expect(await locked((await world.artifact(member, "risk", "third")).digest)).toBe(500);
  expect(await locked((await world.artifact(member, "fraud", "fourth")).digest)).toBe(7_300);
});

it("only extends, within reason, and only for who may", async () => {
  expect((await refused(() => hold("fraud", { days: 365 }), "RETENTION_SHORTENED")).message).toContain("365 days");
  await refused(() => hold("fraud", { days: 0 }), "RETENTION_SHORTENED");
  await refused(async () => hold("fraud", { days: 36_526 }), "REQUEST_INVALID");
  await refused(async () => hold("fraud", { mode: RetentionMode.UNSPECIFIED }), "REQUEST_INVALID");
  await refused(async () => hold("fraud", { basis: "" }), "REQUEST_INVALID");
  await refused(async () => hold("fraud", { name: "Not A Name" }), "NAME_INVALID");
  await refused(() => hold("_ledger", {}, member), "PERMISSION_DENIED");
  const clerk = await world.member("fraud", "contributor");
  await refused(() => hold("fraud", {}, clerk), "PERMISSION_DENIED");
});
