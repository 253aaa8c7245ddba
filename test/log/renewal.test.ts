/** Locks are prolonged before they end: of what is due and nothing else, by the right version, from where it was broken off. */
import { expect, it } from "vitest";
import type { Finding } from "../../src/log/findings.ts";
import { type RenewalOptions, type Renewed, renew } from "../../src/log/renewal.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { Fault } from "../../src/std/faults.ts";
import { commitKey } from "../../src/store/keys.ts";
import type { ObjectStore } from "../../src/store/object-store.ts";
import { createFaultStore } from "../fakes/fault-store.ts";
import { createMemoryStore, type MemoryStore } from "../fakes/memory-store.ts";
import { Lab } from "../replicate/lab.ts";

const DAY_MS = 86_400_000;
const TERM_DAYS = 365;

interface Old {
  readonly lab: Lab;
  readonly store: MemoryStore;
  /** Names of the ledger's objects when its clock was set on. */
  readonly keys: readonly string[];
}

/** A ledger whose objects have a month left, and some that are new. */
async function old({ isSealed = true } = {}): Promise<Old> {
  const store = createMemoryStore({ lock: "compliance" });
  const lab = await Lab.create(store);
  await lab.datasets(270);
  await lab.artifact("rows");
  if (isSealed) await lab.log.seal();
  else await lab.world.clock.sleep(3_000);
  const keys = store.keys("ledger");
  lab.world.clock.shift(335 * DAY_MS);
  // Nobody writes for 300 days of a year, and then ten times.
  await lab.datasets(10);
  await lab.world.clock.sleep(3_000);
  return { keys, lab, store };
}

const never = new AbortController().signal;

async function renewAll(
  { lab, store }: Old,
  more: Partial<RenewalOptions> = {},
  begins: readonly number[] = [],
): Promise<{ readonly ranges: readonly Renewed[]; readonly findings: readonly Finding[] }> {
  const findings: Finding[] = [];
  const ranges: Renewed[] = [];
  const options: RenewalOptions = {
    clock: lab.world.clock,
    index: lab.log.index,
    report: (f) => void findings.push(f),
    signal: never,
    store,
    ...more,
  };
  for await (const range of renew(options, begins)) ranges.push(range);
  return { findings, ranges };
}

const lockOf = async (store: ObjectStore, key: string, versionId?: string): Promise<number> =>
  (await store.head("ledger", key, versionId === undefined ? {} : { versionId }))?.retainUntil ?? 0;

it("prolongs all that is due, and looks at nothing else", async () => {
  const { keys, lab, store } = await old();
  const asked = new Set<string>();
  const watched: ObjectStore = { ...store, get: (b, k, o) => (asked.add(k), store.get(b, k, o)) };
  const { findings, ranges } = await renewAll({ keys, lab, store }, { store: watched });
  expect(findings).toEqual([]);
  const [range] = ranges;
  expect(ranges).toHaveLength(1);
  expect(range?.reason).toBeUndefined();
  // The artifact of the lab is locked for ever.
  expect(range?.counts).toEqual({ held: 1, objects: keys.length, prolonged: keys.length - 1, wrong: 0 });
  const now = lab.world.clock.now();
  for (const key of store.keys("ledger")) expect(await lockOf(store, key), key).toBeGreaterThan(now + 360 * DAY_MS);
  const types = new Set(keys.map((k) => k.split("/", 1)[0]));
  expect([...types].toSorted((a = "", b = "") => (a < b ? -1 : 1))).toEqual([
    "artifacts",
    "checkpoints",
    "commits",
    "records",
    "tile",
  ]);
  expect([...asked].filter((k) => !keys.includes(k))).toEqual([]);
  expect(await renewAll({ keys, lab, store })).toEqual({ findings: [], ranges: [] });
  store.assertSound();
});

it("goes on in ranges, and after the end of an earlier one", async () => {
  const made = await old();
  const { ranges } = await renewAll(made, { rangeObjects: 100 });
  expect(ranges.length).toBeGreaterThan(4);
  for (const [i, range] of ranges.entries()) if (i > 0) expect(range.range.from).toBe(ranges[i - 1]?.range.to);
  // Two ranges of another: the third begins where they ended, although what is before it is not due.
  const again = await old();
  const first: Renewed[] = [];
  for await (const range of renew(
    {
      clock: again.lab.world.clock,
      index: again.lab.log.index,
      rangeObjects: 100,
      report: () => undefined,
      signal: never,
      store: again.store,
    },
    [],
  )) {
    first.push(range);
    if (first.length === 2) break;
  }
  expect((await renewAll(again)).ranges).toEqual([]);
  const rest = await renewAll(again, {}, [first[1]?.next ?? 0]);
  expect(rest.ranges[0]?.range.from).toBe(first[1]?.range.to);
  for (const key of again.keys)
    expect(await lockOf(again.store, key), key).toBeGreaterThan(again.lab.world.clock.now() + 360 * DAY_MS);
});

it("does a range again that was broken off, and says why it was", async () => {
  const made = await old();
  const { keys, store } = made;
  let isDown = false;
  const down = (): Promise<never> => Promise.reject(new Fault("STORE_UNAVAILABLE", "no answer"));
  let prolongings = 0;
  const dying: ObjectStore = {
    ...store,
    extend: (b, k, until, o) => {
      isDown ||= ++prolongings > 100;
      return isDown ? down() : store.extend(b, k, until, o);
    },
    get: (b, k, o) => (isDown ? down() : store.get(b, k, o)),
    head: (b, k, o) => (isDown ? down() : store.head(b, k, o)),
  };
  const { findings, ranges } = await renewAll(made, { concurrency: 1, patienceMs: 1_000, store: dying });
  expect(ranges).toHaveLength(1);
  expect(ranges[0]?.reason).toContain("STORE_UNAVAILABLE");
  expect(ranges[0]?.counts).toMatchObject({ prolonged: 100, wrong: 0 });
  expect(findings).toEqual([]);
  const { ranges: again } = await renewAll(made);
  expect(again[0]?.range.from).toBe(0);
  expect(again[0]?.counts).toEqual({ held: 101, objects: keys.length, prolonged: keys.length - 101, wrong: 0 });
});

it("goes on when the store refuses one object, and says which", async () => {
  const made = await old();
  const { keys, store } = made;
  const [lost = "", stuck = ""] = keys.filter((k) => k.startsWith("records/"));
  const faulty = createFaultStore(store);
  for (let i = 0; i < 200; i++) {
    faulty.faults.next("get", "error-before", (_, key) => key === lost);
    for (const call of ["get", "head"] as const)
      faulty.faults.next(call, "error-before", (_, key) => key === commitKey(9));
    faulty.faults.next("extend", "error-before", (_, key) => key === stuck);
  }
  const { findings, ranges } = await renewAll(made, { patienceMs: 1_000, store: faulty });
  expect(ranges[0]?.reason).toBeUndefined();
  expect(ranges[0]?.counts).toEqual({ held: 1, objects: keys.length, prolonged: keys.length - 4, wrong: 3 });
  expect(findings.map((f) => `${f.code} ${f.object}`).toSorted()).toEqual(
    [`object.retention ${stuck}`, `object.unreadable ${commitKey(9)}`, `object.unreadable ${lost}`].toSorted(),
  );
});

it.each([1, 20, 280, 300, 540])("is stopped at object %i, and leaves nothing undone the next time", async (at) => {
  const made = await old();
  const { keys, lab, store } = made;
  const stop = new AbortController();
  let done = 0;
  const { ranges } = await renewAll(made, {
    progress: () => {
      if (++done === at) stop.abort(new Error("the term ends"));
    },
    rangeObjects: 200,
    signal: stop.signal,
  });
  expect(ranges.at(-1)?.reason).toBe("stopped");
  // Nothing was recorded: the next leader begins at the beginning, with what is still due.
  const { ranges: rest } = await renewAll(
    made,
    { rangeObjects: 200 },
    ranges.slice(0, -1).map((r) => r.next),
  );
  expect(rest.at(-1)?.reason).toBeUndefined();
  for (const key of keys) expect(await lockOf(store, key), key).toBeGreaterThan(lab.world.clock.now() + 360 * DAY_MS);
});

it("prolongs the version with the right bytes, whatever lies over it", async () => {
  const made = await old({ isSealed: false });
  const { keys, store } = made;
  const record = keys.find((k) => k.startsWith("records/")) ?? "";
  const artifact = keys.find((k) => k.startsWith("artifacts/")) ?? "";
  const right = new Map<string, string>();
  for (const key of [record, artifact, commitKey(3), commitKey(5), commitKey(0)])
    right.set(key, (await store.head("ledger", key))?.versionId ?? "");
  const shadows = [record, commitKey(3), artifact].map((key) => ({
    key,
    versionId: store.shadow(key, utf8("other"), { retainUntil: made.lab.world.clock.now() + 900 * DAY_MS }),
  }));
  store.hide(commitKey(5));
  store.shadow(commitKey(0), utf8("over the first"), { retainUntil: made.lab.world.clock.now() + 900 * DAY_MS });
  const { findings, ranges } = await renewAll(made);
  expect(ranges[0]?.counts.wrong).toBe(0);
  const until = made.lab.world.clock.now() + 360 * DAY_MS;
  for (const [key, versionId] of right) expect(await lockOf(store, key, versionId), key).toBeGreaterThan(until);
  for (const { key, versionId } of shadows)
    expect(await lockOf(store, key, versionId)).toBeLessThan(made.lab.world.clock.now() + 901 * DAY_MS);
  expect(findings.map((f) => `${f.code} ${f.object}`).sort()).toEqual(
    [
      `object.hidden ${commitKey(5)}`,
      ...[record, artifact, commitKey(0), commitKey(3)].map((k) => `object.shadowed ${k}`),
    ].sort(),
  );
});

it("tells what is missing, changed, or cannot be prolonged, and goes on with the rest", async () => {
  const made = await old();
  const { keys, lab, store } = made;
  const [missing = "", changed = "", stuck = ""] = keys.filter((k) => k.startsWith("records/"));
  store.tamper("ledger", missing, null);
  store.tamper("ledger", changed, utf8("changed"));
  const weak: ObjectStore = {
    ...store,
    extend: (b, k, until, o) => (k === stuck ? Promise.resolve() : store.extend(b, k, until, o)),
  };
  const { findings, ranges } = await renewAll(made, { store: weak });
  expect(ranges[0]?.counts).toEqual({ held: 1, objects: keys.length, prolonged: keys.length - 4, wrong: 3 });
  expect(findings.map((f) => `${f.code} ${f.object}`).sort()).toEqual(
    [`object.changed ${changed}`, `object.missing ${missing}`, `object.retention ${stuck}`].sort(),
  );
  expect(await lockOf(store, keys.find((k) => k.startsWith("tile/")) ?? "")).toBeGreaterThan(
    lab.world.clock.now() + (TERM_DAYS - 1) * DAY_MS,
  );
});
