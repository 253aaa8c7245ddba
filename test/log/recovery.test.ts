import { expect, it } from "vitest";
import { initLedger } from "../../src/log/init.ts";
import type { LastSigned } from "../../src/log/ports.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { commitKey, HEAD_CHECKPOINT } from "../../src/store/keys.ts";
import { createMemoryStore, type MemoryStore } from "../fakes/memory-store.ts";
import { createMemoryIndex } from "./memory-index.ts";
import { createProject, createWorld, ORIGIN, openIn, seededRandom, testKeys, type World } from "./world.ts";

async function grown(): Promise<{
  store: MemoryStore;
  world: World;
  index: ReturnType<typeof createMemoryIndex>;
  n: number;
}> {
  const store = createMemoryStore();
  const world = await createWorld(store);
  const index = createMemoryIndex();
  const log = await openIn(world, store, index);
  for (const name of ["fraud", "risk", "churn"]) await log.submit(createProject(name, world.init.system));
  await log[Symbol.asyncDispose]();
  return { index, n: index.watermark.n, store, world };
}

it("drops an index that does not fit, and makes the same one again", async () => {
  const { index, store, world } = await grown();
  const other = createMemoryIndex();
  const before = index.watermark;
  const log = await openIn(world, store, other);
  await log[Symbol.asyncDispose]();
  expect(other.watermark.state).toBe(before.state);
  const foreignStore = createMemoryStore();
  const foreign = await createWorld(foreignStore, 9);
  const again = await openIn(foreign, foreignStore, index);
  expect(index.watermark.size).toBe(2);
  await again[Symbol.asyncDispose]();
});

it("refuses a bucket that ends before what was signed", async () => {
  const { n, store, world } = await grown();
  for (let k = 3; k < n; k++) store.forget("ledger", commitKey(k));
  await expect(openIn(world, store)).rejects.toMatchObject({ code: "ledger.rollback" });
});

it("gives forgotten commits back from the index's tail", async () => {
  const store = createMemoryStore();
  const world = await createWorld(store);
  const index = createMemoryIndex();
  const log = await openIn(world, store, index, { publishIntervalMs: 1e13 });
  await log.submit(createProject("fraud", world.init.system));
  await log.submit(createProject("risk", world.init.system));
  const { n, size } = index.watermark;
  store.forget("ledger", commitKey(n - 1));
  store.forget("ledger", commitKey(n - 2));
  const again = await openIn(world, store, index, { publishIntervalMs: 1e13 });
  expect(again.health().size).toBe(size);
  expect(store.keys("ledger")).toContain(commitKey(n - 2));
});

it("keeps the bytes of commits for ten minutes after they were published", async () => {
  const store = createMemoryStore();
  const world = await createWorld(store);
  const index = createMemoryIndex();
  const log = await openIn(world, store, index);
  const old = index.watermark.n - 1;
  await world.clock.sleep(700_000);
  await log.submit(createProject("fraud", world.init.system));
  await world.clock.sleep(3_000);
  expect(log.health().published).toBe(log.health().size);
  expect(index.commitBytes(old)).toBeUndefined();
  const { n, size } = index.watermark;
  const key = commitKey(n - 1);
  const before = (await store.get("ledger", key))?.body;
  expect(index.commitBytes(n - 1)).toEqual(before);
  store.forget("ledger", key);
  const again = await openIn(world, store, index);
  expect(again.health().size).toBe(size);
  expect((await store.get("ledger", key))?.body).toEqual(before);
  await again[Symbol.asyncDispose]();
  await log[Symbol.asyncDispose]();
});

it("refuses a hole", async () => {
  const { n, store, world } = await grown();
  store.forget("ledger", commitKey(n - 2));
  await expect(openIn(world, store)).rejects.toMatchObject({ code: "commit.gap" });
});

it("refuses another tree than the one that was signed", async () => {
  const { store, world } = await grown();
  const forked = createMemoryStore();
  // The same genesis, and another history of the same length.
  for (const n of [0]) {
    const found = await store.get("ledger", commitKey(n));
    if (found !== null) await forked.create("ledger", commitKey(n), found.body, {});
  }
  const other = {
    ...world,
    lastSigned: {
      notes: [world.init.checkpoint],
      read: () => Promise.resolve([world.init.checkpoint]),
      write: () => Promise.resolve(),
    },
    random: seededRandom(99),
  };
  const log = await openIn(other, forked);
  for (const name of ["x", "y", "z", "u", "v"]) await log.submit(createProject(name, world.init.system));
  await log[Symbol.asyncDispose]();
  await expect(openIn(world, forked)).rejects.toMatchObject({ code: "ledger.rollback" });
});

it("demands the head when nothing remembers it", async () => {
  const { index, store, world } = await grown();
  world.lastSigned.notes = [];
  const { size } = index.watermark;
  await expect(openIn(world, store)).rejects.toMatchObject({ code: "ledger.head-unknown" });
  const wrong = { root: new Uint8Array(32), size };
  await expect(openIn(world, store, undefined, { acceptHead: wrong })).rejects.toMatchObject({
    code: "ledger.rollback",
  });
  const root = Uint8Array.from(Buffer.from(index.watermark.root, "hex"));
  const accepted = createMemoryIndex();
  const log = await openIn(world, store, accepted, { acceptHead: { root, size } });
  // It is on record with the fence, below the first note that is signed.
  using reader = accepted.reader();
  const entry = reader.entry(size);
  const record = entry === undefined ? undefined : reader.record(entry.record)?.record;
  expect(record).toMatchObject({
    actor: { method: "system" },
    body: { accepted_head: { root: index.watermark.root, size }, type: "OPERATION_TYPE_RESTORE" },
    kind: "operation",
    project: world.init.system,
  });
  expect(log.health().signed).toBe(size + 1);
  await log[Symbol.asyncDispose]();
});

it("records no accepted head that nothing rests on", async () => {
  const { index, store, world } = await grown();
  const { root, size } = index.watermark;
  const acceptHead = { root: Uint8Array.from(Buffer.from(root, "hex")), size };
  const log = await openIn(world, store, index, { acceptHead });
  expect(log.health().size).toBe(size);
  await log[Symbol.asyncDispose]();
});

it("asks for the head again when it was recorded and nothing was signed", async () => {
  const { index, store, world } = await grown();
  const { root, size } = index.watermark;
  world.lastSigned.notes = [];
  const failing: LastSigned = { read: () => Promise.resolve([]), write: () => Promise.reject(new Error("disk")) };
  const acceptHead = { root: Uint8Array.from(Buffer.from(root, "hex")), size };
  await expect(openIn(world, store, undefined, { acceptHead, lastSigned: failing })).rejects.toThrow("disk");
  await expect(openIn(world, store)).rejects.toMatchObject({ code: "ledger.head-unknown" });
  const again = createMemoryIndex();
  const log = await openIn(world, store, again, { acceptHead });
  using reader = again.reader();
  const kinds = [size, size + 1].map((i) => {
    const entry = reader.entry(i);
    return entry === undefined ? undefined : reader.record(entry.record)?.record.kind;
  });
  expect(kinds).toEqual(["operation", "operation"]);
  await log[Symbol.asyncDispose]();
});

it("puts no trust in what lies at the head", async () => {
  const { store, world } = await grown();
  store.tamper("head", HEAD_CHECKPOINT, utf8("nonsense"));
  const log = await openIn(world, store);
  await world.clock.sleep(3_000);
  expect(log.health().alarm).toBeUndefined();
  expect(log.health().published).toBe(log.health().size);
  // A note of an acknowledgement, put there as if it had been published.
  await log[Symbol.asyncDispose]();
  store.tamper("head", HEAD_CHECKPOINT, world.lastSigned.notes[0] ?? utf8(""));
  const index = createMemoryIndex();
  const again = await openIn(world, store, index, { publishIntervalMs: 1e13 });
  expect(again.published()).toBeNull();
  await again[Symbol.asyncDispose]();
});

it("does not make a second ledger in a bucket", async () => {
  const { store, world } = await grown();
  const again = {
    clock: world.clock,
    keys: testKeys,
    lastSigned: world.lastSigned,
    origin: ORIGIN,
    random: world.random,
    retentionDays: 1,
    store,
  };
  await expect(initLedger(again)).rejects.toMatchObject({ code: "ledger.exists" });
});
