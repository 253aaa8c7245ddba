/** A probe that cannot fail proves nothing: each is run against a store that breaks what it looks for. */
import { expect, it } from "vitest";
import { utf8 } from "../../src/std/bytes.ts";
import { commitKey } from "../../src/store/keys.ts";
import type { ObjectStore } from "../../src/store/object-store.ts";
import { type ProbeResult, probeStore } from "../../src/store/probes.ts";
import { createFaultStore } from "../fakes/fault-store.ts";
import { createMemoryStore } from "../fakes/memory-store.ts";
import { machineRandom } from "./machine.ts";

/** What failed; all of it because the store broke a promise, and not because it did not answer. */
async function failed(store: ObjectStore): Promise<ProbeResult[]> {
  const found = (await probeStore(store, { random: machineRandom })).filter((r) => !r.ok);
  expect(found.map((r) => r.isBroken)).toEqual(found.map(() => true));
  return found;
}

it("finds a store that creates what exists, as MinIO in two pools does", async () => {
  const inner = createMemoryStore();
  let calls = 0;
  const twoPools: ObjectStore = {
    ...inner,
    async create(bucket, key, body, options) {
      const put = await inner.create(bucket, key, body, options);
      return put.outcome === "exists" && ++calls % 2 === 0 ? { outcome: "created", etag: "m" } : put;
    },
  };
  await inner.create("ledger", commitKey(0), utf8("genesis"), {});
  const found = await failed(twoPools);
  expect(found.map((r) => r.name)).toEqual(expect.arrayContaining(["double-create", "create-race"]));
  for (const result of found) expect(result.remedy).toContain("one server pool");
  expect(found[0]?.detail).toMatch(/^\d+ of 64 failed; the first: the second create of one key answered created$/);
});

it("finds a store that ignores the etag of a swap", async () => {
  const inner = createMemoryStore();
  const blind: ObjectStore = {
    ...inner,
    async swap(bucket, key, body) {
      await inner.replace(bucket, key, body);
      return { outcome: "swapped", etag: "m" };
    },
  };
  expect((await failed(blind)).map((r) => r.name)).toEqual(["swap-race"]);
});

it("finds a store that overwrites on create and answers rightly", async () => {
  const inner = createMemoryStore();
  const overwriting: ObjectStore = {
    ...inner,
    async create(bucket, key, body, options) {
      const put = await inner.create(bucket, key, body, options);
      if (put.outcome === "exists" && bucket === "head") await inner.replace(bucket, key, body);
      return put;
    },
  };
  expect((await failed(overwriting)).map((r) => r.name)).toEqual(["double-create", "create-race"]);
});

it("finds a genesis that can be created again", async () => {
  const inner = createMemoryStore();
  await inner.create("ledger", commitKey(0), utf8("genesis"), {});
  const forgetful: ObjectStore = {
    ...inner,
    create: async (bucket, key, body, options) =>
      bucket === "ledger" ? { outcome: "created", etag: "m" } : inner.create(bucket, key, body, options),
  };
  expect((await failed(forgetful)).map((r) => r.name)).toEqual(["genesis"]);
});

it("fails what it could not carry out, and says why", async () => {
  const store = createFaultStore(createMemoryStore(), { rates: { "disk-full": 1 } });
  const results = await probeStore(store, { random: machineRandom, doubleCreates: 2, createRaces: 2, swapRaces: 2 });
  expect(results.map((r) => r.ok)).toEqual([false, false, false, true]);
  expect(results[0]?.detail).toContain("the disk is full");
  expect(results.map((r) => r.isBroken ?? false)).toEqual([false, false, false, false]);
});

it("takes silence for no broken promise", async () => {
  for (const kind of ["error-before", "error-after"] as const) {
    const store = createFaultStore(createMemoryStore(), { rates: { [kind]: 1 } });
    const results = await probeStore(store, { random: machineRandom, doubleCreates: 2, createRaces: 2, swapRaces: 2 });
    expect(results.filter((r) => !r.ok).length).toBeGreaterThan(2);
    expect(results.filter((r) => r.isBroken === true)).toEqual([]);
  }
});
