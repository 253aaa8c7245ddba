import { expect, it } from "vitest";
import { nativeVerifier } from "../../src/log/native-verifier.ts";
import { leafHash } from "../../src/merkle/hash.ts";
import { verifyInclusion } from "../../src/merkle/proofs.ts";
import { openCheckpoint } from "../../src/note/checkpoint.ts";
import { parseVkey } from "../../src/note/keys.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { digestOf } from "../../src/std/brand.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { commitKey, recordKey } from "../../src/store/keys.ts";
import type { ObjectStore } from "../../src/store/object-store.ts";
import { createMemoryStore } from "../fakes/memory-store.ts";
import { createDataset, createProject, createWorld, openIn, testKeys } from "./world.ts";

const logKey = assertDefined(parseVkey(testKeys.log.vkey), "a key");

it("answers with a place and a proof", async () => {
  const store = createMemoryStore();
  const world = await createWorld(store);
  await using log = await openIn(world, store);
  const { committed, value } = await log.submit(createProject("fraud", world.init.system));
  expect(value).toBe("new");
  const [made] = assertDefined(committed, "a record").records;
  const receipt = log.receipt(assertDefined(made, "a record").index);
  const { checkpoint } = openCheckpoint(utf8(receipt.checkpoint), [logKey], nativeVerifier);
  expect(
    verifyInclusion(receipt.index, receipt.size, leafHash(utf8(receipt.entry)), receipt.proof, checkpoint.root),
  ).toBe(true);
  expect(receipt.entry).toContain(made?.id);
});

it("answers the second of two equal names with what the first one made", async () => {
  const store = createMemoryStore();
  const world = await createWorld(store);
  await using log = await openIn(world, store);
  const [a, b] = await Promise.all([
    log.submit(createProject("fraud", world.init.system)),
    log.submit(createProject("fraud", world.init.system)),
  ]);
  expect(a.value).toBe("new");
  expect(b.value).toBe(a.committed?.records[0]?.id);
  expect(b.committed).toBeNull();
});

it("materialises, publishes and collects", async () => {
  const store = createMemoryStore();
  const world = await createWorld(store);
  const log = await openIn(world, store);
  const project = assertDefined(
    (await log.submit(createProject("fraud", world.init.system))).committed?.records[0],
    "a project",
  ).id;
  for (let i = 0; i < 300; i += 50) {
    await Promise.all(Array.from({ length: 50 }, (_, k) => log.submit(createDataset(project, `d${i + k}`))));
    await world.clock.sleep(3_000);
    expect(log.health().published).toBe(log.health().size);
  }
  await log[Symbol.asyncDispose]();
  expect(log.health().alarm).toBeUndefined();
  const { size } = log.index.watermark;
  expect(size).toBe(304);
  const heads = store.keys("head");
  expect(heads.filter((k) => k.startsWith("tile/0/000.p/") || k.startsWith("tile/entries/000.p/"))).toEqual([]);
  expect(heads.filter((k) => k.startsWith("tile/0/001.p/")).length).toBeGreaterThan(1);
  expect(store.keys("ledger")).toContain("tile/0/000");
  const reader = log.index.reader();
  for (let i = 0; i < size; i++)
    expect(
      await store.get("ledger", recordKey(digestOf(assertDefined(reader.entry(i), "entry").record))),
    ).not.toBeNull();
  expect(store.keys("ledger").filter((k) => k.startsWith("checkpoints/"))).toHaveLength(1);
  store.assertSound();
});

it("publishes what is materialised, while later records are not", async () => {
  const memory = createMemoryStore();
  const world = await createWorld(memory);
  let created = 0;
  const opened = Promise.withResolvers<void>();
  // A store that takes 2,300 records, and no more until it is told.
  const store = new Proxy<ObjectStore>(memory, {
    get(inner, name) {
      if (name !== "create") return Reflect.get(inner, name) as unknown;
      return async (...args: Parameters<ObjectStore["create"]>) => {
        if (args[1].startsWith("records/") && ++created > 2_300) await opened.promise;
        return memory.create(...args);
      };
    },
  });
  const log = await openIn(world, store);
  const project = assertDefined(
    (await log.submit(createProject("fraud", world.init.system))).committed?.records[0],
    "a project",
  ).id;
  for (let i = 0; i < 3_000; i += 100)
    await Promise.all(Array.from({ length: 100 }, (_, k) => log.submit(createDataset(project, `d${i + k}`))));
  await world.clock.sleep(3_000);
  expect(log.health().published).toBeGreaterThan(500);
  expect(log.health().published).toBeLessThanOrEqual(2_300);
  opened.resolve();
  await world.clock.sleep(5_000);
  expect(log.health().published).toBe(log.health().size);
  await log[Symbol.asyncDispose]();
  memory.assertSound();
});

it("steps down when another process writes", async () => {
  const store = createMemoryStore();
  const world = await createWorld(store);
  const first = await openIn(world, store);
  await first.submit(createProject("fraud", world.init.system));
  const second = await openIn(world, store);
  await expect(first.submit(createProject("risk", world.init.system))).rejects.toMatchObject({ reason: "NOT_WRITER" });
  await expect(first.submit(createProject("risk", world.init.system))).rejects.toMatchObject({ reason: "NOT_WRITER" });
  expect(first.health()).toMatchObject({ stopped: "writer.lost", writing: false });
  expect((await second.submit(createProject("risk", world.init.system))).value).toBe("new");
  await first[Symbol.asyncDispose]();
  await second[Symbol.asyncDispose]();
});

it("stops at junk in its slot, and writes nothing over it", async () => {
  const store = createMemoryStore();
  const world = await createWorld(store);
  const log = await openIn(world, store);
  const n = log.index.watermark.n;
  store.tamper("ledger", commitKey(n), utf8("junk"));
  await expect(log.submit(createProject("fraud", world.init.system))).rejects.toMatchObject({ reason: "WRITER_LOST" });
  expect(log.health().stopped).toBe("commit.squatted");
  await log[Symbol.asyncDispose]();
  await expect(openIn(world, store)).rejects.toMatchObject({ code: "commit.squatted" });
});
