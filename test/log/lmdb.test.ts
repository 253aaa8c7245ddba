/** The log over the real index: faults with an index that survives, and an index that is thrown away. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { openLmdbIndex } from "../../src/index/lmdb/lmdb-index.ts";
import { assertDefined } from "../../src/std/assert.ts";
import { createMemoryStore } from "../fakes/memory-store.ts";
import { createDataset, createProject, createWorld, openIn } from "./world.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "datapilot-log-"));
});
afterAll(() => rm(folder, { force: true, recursive: true }));

it("reaches the same state when the index is deleted, with threads and without", async () => {
  const store = createMemoryStore();
  const world = await createWorld(store);
  const states: string[] = [];
  const open = async (name: string, threadsFrom: number): Promise<void> => {
    await using index = await openLmdbIndex({ path: join(folder, name) });
    const log = await openIn(world, store, index, { threadsFrom });
    if (states.length === 0) {
      const project = assertDefined(
        (await log.submit(createProject("fraud", world.init.system))).committed?.records[0],
        "a project",
      ).id;
      for (let i = 0; i < 5; i++) {
        const names = Array.from({ length: 60 }, (_, k) => `d${60 * i + k}`);
        const outcomes = await Promise.all(names.map((n) => log.submit(createDataset(project, n))));
        for (const { committed } of outcomes) expect(committed?.records).toHaveLength(1);
        await world.clock.sleep(2_000);
      }
      await log.seal();
    }
    await log[Symbol.asyncDispose]();
    expect(log.health().alarm).toBeUndefined();
    states.push(`${index.watermark.size} ${index.watermark.state} ${index.watermark.root}`);
  };
  await open("one", 256);
  await open("one", 256);
  await open("two", 256);
  await open("three", 1);
  expect(new Set(states).size).toBe(1);
});
