import { expect, it } from "vitest";
import { utf8 } from "../../src/std/bytes.ts";
import { Fault } from "../../src/std/faults.ts";
import { commitKey, LEADER } from "../../src/store/keys.ts";
import { collect } from "../contract/object-store.ts";
import { Crash, createFaultStore } from "../fakes/fault-store.ts";
import { createMemoryStore } from "../fakes/memory-store.ts";

async function* none(): AsyncGenerator<Uint8Array> {}
const key = (n: number): string => commitKey(n);
const setUp = (options = {}) => {
  const inner = createMemoryStore();
  const store = createFaultStore(inner, options);
  const create = async (n: number): Promise<string> => (await store.create("ledger", key(n), utf8(`${n}`), {})).outcome;
  return { inner, store, create, faults: store.faults, has: (n: number) => inner.keys("ledger").includes(key(n)) };
};

it("fails before, after, and as a zombie that lands within its calls", async () => {
  const { store, create, faults, has } = setUp({ zombieCalls: 5 });
  faults.next("create", "error-before");
  expect([await create(0), has(0)]).toEqual(["unknown", false]);
  faults.next("create", "error-after");
  expect([await create(1), has(1)]).toEqual(["unknown", true]);
  faults.next("create", "zombie");
  expect([await create(2), has(2)]).toEqual(["unknown", false]);
  for (let i = 0; i < 6; i++) await store.get("ledger", key(9));
  expect(has(2)).toBe(true);
  expect(faults.struck).toMatchObject({ "error-before": 1, "error-after": 1, zombie: 1 });
});

it("lands a zombie with the bytes that were sent, at the latest when it turns quiet, and never over another", async () => {
  const { inner, store, create, faults } = setUp({ zombieCalls: 1000 });
  faults.next("create", "zombie");
  faults.next("create", "zombie");
  const body = utf8("sent");
  await store.create("ledger", key(0), body, {});
  body.fill(0);
  await store.create("ledger", key(1), utf8("late"), {});
  expect(await create(1)).toBe("created");
  await faults.quiet();
  expect((await inner.get("ledger", key(0)))?.body).toEqual(utf8("sent"));
  expect((await inner.get("ledger", key(1)))?.body).toEqual(utf8("1"));
});

it("delivers twice: the caller hears the second answer", async () => {
  const { create, faults, has } = setUp();
  faults.next("create", "duplicate");
  expect([await create(0), has(0)]).toEqual(["exists", true]);
});

it("refuses on a full disk, tears reads, and throws where there is no outcome", async () => {
  const { store, create, faults, has } = setUp();
  faults.next("create", "disk-full");
  await expect(create(0)).rejects.toThrow(Fault);
  expect(has(0)).toBe(false);
  await create(0);
  faults.next("get", "torn");
  await expect(store.get("ledger", key(0))).rejects.toThrow("broke off");
  faults.next("open", "torn");
  const opened = await store.open("ledger", key(0));
  await expect(collect(opened?.stream ?? none())).rejects.toThrow("broke off");
  faults.next("replace", "error-after");
  await expect(store.replace("head", LEADER, utf8("x"))).rejects.toMatchObject({ reason: "STORE_UNAVAILABLE" });
  expect((await store.get("head", LEADER))?.body).toEqual(utf8("x"));
});

it("crashes before or after the n-th call, and stays dead until it is revived", async () => {
  for (const [kind, landed] of [
    ["crash-before", false],
    ["crash-after", true],
  ] as const) {
    const { store, create, faults, has } = setUp();
    faults.at(1, kind);
    await create(0);
    await expect(create(1)).rejects.toThrow(Crash);
    await expect(store.get("ledger", key(0))).rejects.toThrow(Crash);
    expect(has(1)).toBe(landed);
    faults.revive();
    expect(await create(2)).toBe("created");
  }
});

it("forgets the last objects", async () => {
  const { inner, create, faults } = setUp();
  for (let n = 0; n < 5; n++) await create(n);
  faults.amnesia(2);
  expect(inner.keys("ledger")).toEqual([key(0), key(1), key(2)]);
});

it("draws the same faults from the same seed, about as often as asked", async () => {
  const run = async (seed: number): Promise<string[]> => {
    const { create, faults } = setUp({
      seed,
      rates: { "error-before": 0.1, "error-after": 0.1, zombie: 0.1, delay: 0.1, duplicate: 0.1 },
    });
    const outcomes: string[] = [];
    for (let n = 0; n < 500; n++) outcomes.push(await create(n));
    for (const kind of ["error-before", "error-after", "zombie", "delay", "duplicate"] as const) {
      expect(faults.struck[kind]).toBeGreaterThan(15);
      expect(faults.struck[kind]).toBeLessThan(90);
    }
    return outcomes;
  };
  expect(await run(7)).toEqual(await run(7));
  expect(await run(7)).not.toEqual(await run(8));
});
