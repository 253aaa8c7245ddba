/** What the leader does beside taking changes, and what of it stands in the log. */
import { expect, it } from "vitest";
import { Findings } from "../../src/log/findings.ts";
import type { Log, LogOptions } from "../../src/log/log.ts";
import { operationsOf } from "../../src/log/operations.ts";
import { createTally, type Tally, Upkeep, type UpkeepPace } from "../../src/log/upkeep.ts";
import { utf8 } from "../../src/std/bytes.ts";
import { commitKey } from "../../src/store/keys.ts";
import { createMemoryStore, type MemoryStore } from "../fakes/memory-store.ts";
import { createMemoryIndex } from "./memory-index.ts";
import { createProject, createWorld, openIn, quietLogger, type World } from "./world.ts";

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;

interface Kept extends AsyncDisposable {
  readonly world: World;
  readonly store: MemoryStore;
  readonly log: Log;
  readonly findings: Findings;
  readonly tally: Tally;
  readonly upkeep: (pace?: UpkeepPace) => Upkeep;
  readonly operations: (type: "RETENTION" | "SCRUB") => Readonly<Record<string, unknown>>[];
}

async function kept(store = createMemoryStore(), world?: World, more: Partial<LogOptions> = {}): Promise<Kept> {
  const here = world ?? (await createWorld(store));
  const findings = new Findings(quietLogger);
  const index = createMemoryIndex();
  const log = await openIn(here, store, index, { findings, ...more });
  if (world === undefined) await log.submit(createProject("fraud", here.init.system));
  const tally = createTally();
  const { clock, random } = here;
  return {
    findings,
    log,
    operations(type) {
      using reader = index.reader();
      return [...operationsOf(reader, type)].map((o) => o.body);
    },
    store,
    tally,
    upkeep: (pace = { scrubPauseMs: HOUR_MS }) =>
      new Upkeep({ clock, findings, log, logger: quietLogger, random, store, tally, ...pace }),
    world: here,
    [Symbol.asyncDispose]: () => log[Symbol.asyncDispose](),
  };
}

it("records what is found within seconds, once, and a later leader not again", async () => {
  const { world, store, ...own } = await kept();
  store.tamper("ledger", "strange", utf8("x"));
  {
    await using _ = own.upkeep();
    await world.clock.sleep(2 * HOUR_MS);
  }
  expect(own.operations("SCRUB")).toEqual([
    {
      counts: [{ name: "object.planted", value: 1 }],
      findings: [{ code: "object.planted", detail: expect.stringContaining("key"), object: "strange" }],
      outcome: "OPERATION_OUTCOME_FOUND",
      type: "OPERATION_TYPE_SCRUB",
    },
  ]);
  expect(own.log.health()).toMatchObject({ alarm: "object.planted", writing: true });
  expect(own.tally.scrubbedAtMs).toBeGreaterThan(0);
  await own.log[Symbol.asyncDispose]();
  await using next = await kept(store, world);
  {
    await using _ = next.upkeep();
    await world.clock.sleep(2 * HOUR_MS);
  }
  expect(next.log.health().alarm).toBe("object.planted");
  expect(next.operations("SCRUB")).toHaveLength(1);
  // Gone, and there again, it is another one.
  {
    await using _ = next.upkeep();
    store.tamper("ledger", "strange", null);
    await world.clock.sleep(2.5 * HOUR_MS);
    expect(next.log.health().alarm).toBeUndefined();
    store.tamper("ledger", "strange", utf8("x"));
    await world.clock.sleep(2 * HOUR_MS);
  }
  expect(next.operations("SCRUB")).toHaveLength(2);
});

it("records what the log itself meets: a commit under a marker, two contents of a slot", async () => {
  await using made = await kept();
  const { log, operations, store, upkeep, world } = made;
  await using _ = upkeep({ scrubRate: 0 });
  store.hide(commitKey(log.index.watermark.n - 1));
  await world.clock.sleep(10_000);
  expect(log.health().published).toBe(log.health().size);
  expect(operations("SCRUB")[0]).toMatchObject({
    findings: [{ code: "commit.hidden", detail: expect.stringContaining("delete marker") }],
  });
  const n = log.index.watermark.n;
  await log.submit(createProject("risk", world.init.system));
  store.shadow(commitKey(n), utf8("another commit"));
  await world.clock.sleep(5_000);
  // Publishing stops; changes are still taken, and so is the record of it.
  expect(log.health()).toMatchObject({ alarm: "commit.hidden", writing: true });
  expect(operations("SCRUB")[0]).toMatchObject({
    findings: [{ code: "commit.hidden", detail: expect.stringContaining("2 contents"), object: commitKey(n) }],
  });
  expect((await log.submit(createProject("churn", world.init.system))).value).toBe("new");
});

it("writes six records an hour at most, whatever an attacker plants", async () => {
  await using made = await kept();
  const { findings, operations, upkeep, world } = made;
  await using _ = upkeep({ scrubRate: 0 });
  for (let i = 0; i < 100; i++) {
    findings.report({ code: "object.planted", detail: "x", object: `strange/${i}` });
    await world.clock.sleep(60_000);
  }
  const found = operations("SCRUB") as { counts: { value: number }[]; findings: unknown[] }[];
  expect(found.length).toBeLessThanOrEqual(12);
  await world.clock.sleep(2 * HOUR_MS);
  const all = operations("SCRUB") as typeof found;
  expect(all.reduce((n, o) => n + (o.counts[0]?.value ?? 0), 0)).toBe(100);
  expect(Math.max(...all.map((o) => o.findings.length))).toBeLessThanOrEqual(50);
});

it("sums up a look at everything once a day, also when nothing is wrong", async () => {
  await using made = await kept();
  const { operations, upkeep, world } = made;
  {
    await using _ = upkeep();
    await world.clock.sleep(12 * HOUR_MS);
    expect(operations("SCRUB")).toEqual([]);
    await world.clock.sleep(60 * HOUR_MS);
  }
  const all = operations("SCRUB");
  expect(all).toHaveLength(2);
  expect(all[0]).toMatchObject({
    counts: expect.arrayContaining([{ name: "commits", value: expect.any(Number) }]),
    outcome: "OPERATION_OUTCOME_DONE",
    range: { to: expect.any(Number) },
  });
});

it("prolongs what is due once a day, and records it", async () => {
  await using made = await kept();
  const { log, operations, store, tally, upkeep, world } = made;
  await world.clock.sleep(3_000);
  const first = log.index.watermark.n;
  world.clock.shift(300 * DAY_MS);
  {
    await using _ = upkeep({ scrubRate: 0 });
    await world.clock.sleep(60_000);
  }
  const [renewed, ...others] = operations("RETENTION");
  expect(others).toEqual([]);
  expect(renewed).toMatchObject({
    outcome: "OPERATION_OUTCOME_DONE",
    type: "OPERATION_TYPE_RETENTION",
    until: expect.stringMatching(/T00:00:00\.000Z$/),
  });
  expect(tally.prolongedLocks).toBeGreaterThan(first);
  for (let n = 0; n < first; n++)
    expect((await store.head("ledger", commitKey(n)))?.retainUntil).toBeGreaterThan(world.clock.now() + 360 * DAY_MS);
});

it("does not stop changes when the store refuses, and tries again", async () => {
  const inner = createMemoryStore();
  let refuses = false;
  const store: MemoryStore = {
    ...inner,
    get calls() {
      return inner.calls;
    },
    async *versions(bucket, prefix, options) {
      if (refuses) throw new Error("a listing failed");
      yield* inner.versions(bucket, prefix, options);
    },
  };
  await using made = await kept(store);
  const { log, operations, upkeep, world } = made;
  await world.clock.sleep(3_000);
  inner.tamper("ledger", "strange", utf8("x"));
  refuses = true;
  await using _ = upkeep();
  await world.clock.sleep(600_000);
  expect(log.health().writing).toBe(true);
  expect(operations("SCRUB")).toEqual([]);
  refuses = false;
  await world.clock.sleep(600_000);
  expect(operations("SCRUB")).toHaveLength(1);
});
