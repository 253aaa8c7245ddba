import { expect, it } from "vitest";
import type { Digest } from "../../src/std/brand.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { commitKey, recordKey } from "../../src/store/keys.ts";
import { describeObjectStore } from "../contract/object-store.ts";
import { createFaultStore } from "../fakes/fault-store.ts";
import { createMemoryStore } from "../fakes/memory-store.ts";

describeObjectStore("the memory store", async () => ({
  store: createMemoryStore(),
  full: createMemoryStore({ capacityBytes: 0 }),
}));
describeObjectStore("a fault store that is quiet", async () => ({
  store: createFaultStore(createMemoryStore()),
  full: createFaultStore(createMemoryStore(), { rates: { "disk-full": 1 } }),
}));

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
