import { expect, it } from "vitest";
import type { Digest } from "../../src/std/brand.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { commitKey, recordKey } from "../../src/store/keys.ts";
import { describeObjectStore } from "../contract/object-store.ts";
import { createFaultStore } from "../fakes/fault-store.ts";
import { createMemoryStore, type MemoryStore } from "../fakes/memory-store.ts";

const attackerOf = (store: MemoryStore) => ({
  async shadow(key: string, body: Uint8Array) {
    store.shadow(key, body);
  },
  async hide(key: string) {
    store.hide(key);
  },
});

describeObjectStore(
  "the memory store",
  async () => {
    const store = createMemoryStore({ lock: "compliance" });
    return { store, full: createMemoryStore({ capacityBytes: 0 }), attacker: attackerOf(store) };
  },
  { full: true, versions: true },
);
describeObjectStore(
  "a fault store that is quiet",
  async () => {
    const inner = createMemoryStore();
    return {
      store: createFaultStore(inner),
      full: createFaultStore(createMemoryStore(), { rates: { "disk-full": 1 } }),
      attacker: attackerOf(inner),
    };
  },
  { full: true, versions: true },
);

it("creates over a delete marker, as S3 does, and forgets a removed version", async () => {
  const store = createMemoryStore();
  await store.create("ledger", commitKey(0), utf8("a"), {});
  const marker = store.hide(commitKey(0));
  expect((await store.create("ledger", commitKey(0), utf8("b"), {})).outcome).toBe("created");
  store.removeVersion(commitKey(0), marker);
  const sizes: boolean[] = [];
  for await (const { isMarker } of store.versions("ledger", "")) sizes.push(isMarker);
  expect(sizes).toEqual([false, false]);
});

it("fails the test that gives an immutable key two contents", async () => {
  const store = createMemoryStore();
  const key = recordKey("0".repeat(64) as Digest);
  await store.create("ledger", key, utf8("a"), {});
  expect(await store.create("ledger", key, utf8("a"), {})).toEqual({ outcome: "exists" });
  await expect(store.create("ledger", key, utf8("b"), {})).rejects.toThrow("assertion failed");
  expect(() => store.assertSound()).toThrow(key);
});

it("fails the test that changes bytes while they are written", async () => {
  const store = createMemoryStore();
  const body = utf8("abc");
  const put = store.create("ledger", commitKey(0), body, {});
  body[0] = 0;
  await expect(put).rejects.toThrow("assertion failed");
});
