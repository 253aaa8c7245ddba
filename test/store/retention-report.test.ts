import { expect, it } from "vitest";
import { utf8 } from "../../src/std/bytes.ts";
import { commitKey } from "../../src/store/keys.ts";
import { reportRetention } from "../../src/store/retention-report.ts";
import { createMemoryStore } from "../fakes/memory-store.ts";
import { copyTo, Lab, NOW_MS, withReceive } from "../replicate/lab.ts";

const DAY_MS = 86_400_000;

it("counts locks by class and by the month in which they end", async () => {
  const lab = await Lab.create();
  await lab.datasets(20);
  await lab.artifact("rows");
  await lab.log.seal();
  const store = withReceive(createMemoryStore({ lock: "compliance" }));
  await copyTo(lab.store, store);
  await store.extend("ledger", commitKey(3), Date.UTC(2040, 0, 15));
  store.tamper("ledger", "strange", utf8("x"));
  const size = store.keys("ledger").length;
  const report = await reportRetention(store.list("ledger", ""), NOW_MS, 365);
  const of = (name: string) => report.classes.find((c) => c.class === name);
  expect(report.classes.map((c) => c.class)).toEqual(["artifacts", "checkpoints", "commits", "records", "others"]);
  expect(report.classes.reduce((n, c) => n + c.objects, 0)).toBe(size);
  expect(of("commits")?.months).toEqual([
    { month: "2027-11", objects: (of("commits")?.objects ?? 0) - 1 },
    { month: "2040-01", objects: 1 },
  ]);
  expect(of("others")).toMatchObject({ months: [], objects: 1, unlocked: 1 });
  expect(report).toMatchObject({ due: 0, term_days: 365, unlocked: 1 });
  // 92 days are a quarter of the term and a little; 91 are less.
  const ends = Date.UTC(2027, 10, 24);
  expect((await reportRetention(store.list("ledger", ""), ends - 92 * DAY_MS, 365)).due).toBe(0);
  expect((await reportRetention(store.list("ledger", ""), ends - 91 * DAY_MS, 365)).due).toBe(size - 2);
  expect((await reportRetention(store.list("ledger", ""), ends, 365)).unlocked).toBe(size - 1);
});
