/** One log, two roles: who follows sees what the leader commits, and who takes over goes on where it ended. */
import { expect, it } from "vitest";
import { nativeVerifier } from "../../src/log/native-verifier.ts";
import { openCheckpoint } from "../../src/note/checkpoint.ts";
import { parseVkey } from "../../src/note/keys.ts";
import { assertDefined } from "../../src/std/assert.ts";
import type { LogIndex } from "../../src/std/brand.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { Fault } from "../../src/std/faults.ts";
import { commitKey, HEAD_CHECKPOINT } from "../../src/store/keys.ts";
import { createFaultStore } from "../fakes/fault-store.ts";
import { createMemoryStore } from "../fakes/memory-store.ts";
import { createMemoryIndex } from "./memory-index.ts";
import { createProject, createWorld, MemoryLastSigned, NEVER_MS, openIn, seededRandom, testKeys } from "./world.ts";

const logKey = assertDefined(parseVkey(testKeys.log.vkey), "a key");

async function pair() {
  const store = createMemoryStore();
  const world = await createWorld(store);
  const leader = await openIn(world, store);
  const lastSigned = new MemoryLastSigned();
  lastSigned.notes = [...world.lastSigned.notes];
  const follower = await openIn({ ...world, lastSigned, random: seededRandom(2) }, store, createMemoryIndex(), {
    follow: true,
  });
  return { follower, leader, store, world };
}

it("follows what the leader commits and publishes, and takes no changes", async () => {
  const { follower, leader, world } = await pair();
  const seen: number[] = [];
  follower.onCommit(({ n }) => seen.push(n));
  const { committed } = await leader.submit(createProject("fraud", world.init.system));
  const index = assertDefined(committed?.records[0], "a record").index;
  expect(await follower.reached(index + 1, 2_000)).toBe(true);
  expect(follower.index.watermark.state).toBe(leader.index.watermark.state);
  expect(seen).toContain(leader.index.watermark.n - 1);
  expect(follower.role).toBe("follower");
  expect(follower.health()).toMatchObject({ role: "follower", writing: false });
  expect(() => follower.receipt((leader.index.watermark.size + 5) as LogIndex)).toThrow(
    expect.objectContaining({ reason: "REPLICA_BEHIND" }),
  );
  await world.clock.sleep(4_000);
  const { checkpoint } = openCheckpoint(utf8(follower.receipt(index).checkpoint), [logKey], nativeVerifier);
  expect(checkpoint.size).toBe(leader.health().published);
  expect(follower.published()).toEqual(leader.published());
  expect(follower.health().published).toBe(leader.health().published);
  expect(follower.health().lagMs).toBeLessThanOrEqual(2_000);
  for (const refused of [follower.submit(createProject("x", world.init.system)), follower.seal(), follower.confirm()])
    await expect(refused).rejects.toMatchObject({ reason: "NOT_WRITER" });
  await leader[Symbol.asyncDispose]();
  await follower[Symbol.asyncDispose]();
});

it("takes over, and the one before follows on", async () => {
  const { follower, leader, store, world } = await pair();
  await leader.submit(createProject("fraud", world.init.system));
  const roles: string[] = [];
  follower.onRole((role) => roles.push(role));
  leader.onRole((role) => roles.push(`was ${role}`));
  const { epoch } = await follower.lead();
  expect(epoch).toBe(2);
  await expect(leader.confirm()).rejects.toMatchObject({ reason: "NOT_WRITER" });
  expect(leader.health()).toMatchObject({ stopped: "writer.lost", writing: false });
  await leader.follow();
  expect((await follower.submit(createProject("risk", world.init.system))).value).toBe("new");
  await expect(follower.confirm()).resolves.toBeUndefined();
  expect(await leader.reached(follower.index.watermark.size, 2_000)).toBe(true);
  // And back again.
  await leader.lead();
  await expect(follower.submit(createProject("churn", world.init.system))).rejects.toMatchObject({
    reason: "NOT_WRITER",
  });
  await follower.follow();
  const { committed } = await leader.submit(createProject("churn", world.init.system));
  expect(await follower.reached(leader.index.watermark.size, 2_000)).toBe(true);
  expect(committed?.records).toHaveLength(1);
  expect(roles).toEqual(["leader", "was follower", "was leader", "follower"]);
  await leader[Symbol.asyncDispose]();
  await follower[Symbol.asyncDispose]();
  store.assertSound();
  expect(leader.health().alarm).toBeUndefined();
});

it("answers a waiting confirm only after a look that began later", async () => {
  const { follower, leader, world } = await pair();
  await Promise.all([
    leader.submit(createProject("fraud", world.init.system)),
    leader.confirm(),
    leader.submit(createProject("risk", world.init.system)),
    leader.confirm(),
  ]);
  expect(leader.role).toBe("leader");
  await leader[Symbol.asyncDispose]();
  await follower[Symbol.asyncDispose]();
});

it("believes no note in head that is not of this log", async () => {
  const { follower, leader, store, world } = await pair();
  await leader.submit(createProject("fraud", world.init.system));
  await world.clock.sleep(4_000);
  const published = follower.published();
  store.tamper("head", HEAD_CHECKPOINT, utf8("nonsense"));
  await world.clock.sleep(2_000);
  store.tamper("head", HEAD_CHECKPOINT, world.lastSigned.notes[0] ?? utf8(""));
  await world.clock.sleep(2_000);
  expect(follower.published()).toEqual(published);
  expect(follower.health().alarm).toBeUndefined();
  await leader[Symbol.asyncDispose]();
  await follower[Symbol.asyncDispose]();
});

it("takes over what a store forgot, from its own tail", async () => {
  const { follower, leader, store, world } = await pair();
  await leader.submit(createProject("fraud", world.init.system));
  const { n, size } = leader.index.watermark;
  await follower.reached(size, 2_000);
  store.forget("ledger", commitKey(n - 1));
  await follower.lead();
  expect(store.keys("ledger")).toContain(commitKey(n - 1));
  expect((await follower.submit(createProject("risk", world.init.system))).value).toBe("new");
  await follower[Symbol.asyncDispose]();
  await leader[Symbol.asyncDispose]();
});

it("stops writing when the store is seen to break its promises, and not because it does not answer", async () => {
  const store = createMemoryStore();
  const world = await createWorld(store);
  const extents: string[] = [];
  let metadata: Record<string, string> | undefined;
  const log = await openIn(world, store, undefined, {
    probe: (extent) => {
      extents.push(extent);
      return metadata === undefined
        ? Promise.resolve()
        : Promise.reject(
            new Fault("STORE_UNAVAILABLE", "two creates of one key answered created and created", { metadata }),
          );
    },
    probeIntervalMs: 60_000,
  });
  await world.clock.sleep(130_000);
  expect(extents).toEqual(["start", "again", "again"]);
  metadata = {};
  await world.clock.sleep(60_000);
  expect(log.health()).toMatchObject({ writing: true });
  metadata = { code: "store.unsafe" };
  await world.clock.sleep(60_000);
  expect(log.health()).toMatchObject({ alarm: "store.unsafe", stopped: "store.unsafe", writing: false });
  await expect(log.submit(createProject("x", world.init.system))).rejects.toMatchObject({ reason: "NOT_WRITER" });
  await expect(log.lead()).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
  metadata = undefined;
  await log.lead();
  expect(log.health()).toMatchObject({ writing: true });
  expect(log.health().alarm).toBeUndefined();
  await log[Symbol.asyncDispose]();
});

it("does not take over a bucket that lost what cannot be put back", async () => {
  const { follower, leader, store, world } = await pair();
  await leader.submit(createProject("fraud", world.init.system));
  await follower.reached(leader.index.watermark.size, 2_000);
  follower.index.commitBytes = () => undefined;
  store.forget("ledger", commitKey(leader.index.watermark.n - 1));
  await expect(follower.lead()).rejects.toMatchObject({ code: "ledger.rollback" });
  expect(follower.health()).toMatchObject({ stopped: "ledger.rollback", writing: false });
  await follower[Symbol.asyncDispose]();
  await leader[Symbol.asyncDispose]();
});

it("sees a commit that somebody hid while it follows", async () => {
  const store = createMemoryStore();
  const world = await createWorld(store);
  const leader = await openIn(world, store);
  // Hidden before the follower ever saw it.
  const faulty = createFaultStore(store);
  const follower = await openIn(world, faulty, createMemoryIndex(), { follow: true });
  const n = leader.index.watermark.n;
  for (let i = 0; i < 1_000; i++) faulty.faults.next("get", "error-before", (_, key) => key === commitKey(n));
  await leader.submit(createProject("fraud", world.init.system));
  store.hide(commitKey(n));
  await faulty.faults.quiet();
  expect(await follower.reached(leader.index.watermark.size, 600_000)).toBe(true);
  expect(follower.health()).toMatchObject({ alarm: "commit.hidden", hiddenCommits: 1 });
  await follower[Symbol.asyncDispose]();
  await leader[Symbol.asyncDispose]();
});

it("tells of no failure when a takeover is called off", async () => {
  const { follower, leader } = await pair();
  const off = new AbortController();
  const leading = follower.lead({ signal: off.signal });
  off.abort(new Error("the server ends"));
  await expect(leading).rejects.toThrow("the server ends");
  expect(follower.health().stopped).toBe("closed");
  await leader[Symbol.asyncDispose]();
  await follower[Symbol.asyncDispose]();
});

it("says what it signed once when the bucket holds something else, also while it follows", async () => {
  const store = createMemoryStore();
  const world = await createWorld(store);
  const first = await openIn(world, store, createMemoryIndex(), { publishIntervalMs: NEVER_MS });
  const other = new MemoryLastSigned();
  other.notes = [...world.lastSigned.notes];
  await first.submit(createProject("fraud", world.init.system));
  const lost = commitKey(first.index.watermark.n - 1);
  await first[Symbol.asyncDispose]();
  // The store forgets the end of the log, and a machine that had not read it takes over.
  for (const key of store.keys("ledger").filter((k) => k.startsWith("commits/") && k >= lost))
    store.forget("ledger", key);
  await store.remove("head", HEAD_CHECKPOINT);
  for (const key of store.keys("ledger").filter((k) => k.startsWith("checkpoints/"))) store.forget("ledger", key);
  const second = await openIn({ ...world, lastSigned: other }, store);
  for (const name of ["risk", "churn", "north"]) await second.submit(createProject(name, world.init.system));
  const again = await openIn(world, store, createMemoryIndex(), { follow: true });
  expect(again.health()).toMatchObject({ alarm: "ledger.rollback", role: "follower" });
  await expect(again.lead()).rejects.toMatchObject({ code: "ledger.rollback" });
  for (const log of [again, second]) await log[Symbol.asyncDispose]();
});
