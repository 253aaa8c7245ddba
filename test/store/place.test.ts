/** Objects that the log determines, on a store where somebody laid something over them. */
import { expect, it } from "vitest";
import { utf8 } from "../../src/std/bytes.ts";
import { tileKey } from "../../src/store/keys.ts";
import { placeLocked } from "../../src/store/place.ts";
import type { Over } from "../../src/store/right-version.ts";
import { createMemoryStore } from "../fakes/memory-store.ts";
import { JumpingClock } from "../log/world.ts";

const KEY = tileKey("tile/0/000");
const TILE = utf8("what the log says");
const UNTIL = 1_000;

function placing() {
  const store = createMemoryStore();
  const found: (readonly [string, Over])[] = [];
  const onOver = (key: string, over: Over): void => void found.push([key, over]);
  return { found, onOver, placing: { clock: new JumpingClock(), onOver, signal: new AbortController().signal, store } };
}

it("creates once, and then finds it", async () => {
  const { found, placing: p } = placing();
  expect(await placeLocked(p, KEY, TILE, UNTIL)).toBe("created");
  expect(await placeLocked(p, KEY, TILE, UNTIL)).toBe("exists");
  expect(found).toEqual([]);
});

it("finds the right version below other bytes, tells of them, and prolongs the lock of the right one", async () => {
  const { found, placing: p } = placing();
  const { store } = p;
  await placeLocked(p, KEY, TILE, UNTIL);
  const own = (await store.head("ledger", KEY))?.versionId;
  const shadow = store.shadow(KEY, utf8("something else"), { retainUntil: 5 });
  expect(await placeLocked(p, KEY, TILE, 9_000)).toBe("exists");
  expect(found).toEqual([[KEY, "object.shadowed"]]);
  expect((await store.head("ledger", KEY, { versionId: own }))?.retainUntil).toBe(9_000);
  expect((await store.head("ledger", KEY, { versionId: shadow }))?.retainUntil).toBe(5);
});

it("refuses a key under which nothing is right", async () => {
  const { placing: p } = placing();
  p.store.shadow(KEY, utf8("something else"));
  await expect(placeLocked(p, KEY, TILE, UNTIL)).rejects.toMatchObject({ code: "object.shadowed" });
});
