import { expect, it } from "vitest";
import { FairQueue, type Queued } from "../../src/log/queue.ts";
import { Fault } from "../../src/std/faults.ts";

const job = (project: string, bytes = 1_000, lane: Queued["lane"] = "normal", records = 1): Queued => ({
  lane,
  load: { bytes, records },
  project,
});
const limits = { bytes: 1 << 20, records: 100 };

function order(queue: FairQueue<Queued>): string[] {
  return queue.drain().map((j) => j.project);
}

it("gives projects turns by bytes", () => {
  const queue = new FairQueue<Queued>({ bytes: 1 << 24, records: 1_000 });
  for (let i = 0; i < 4; i++) queue.push(job("a", 64 << 10), 0);
  queue.push(job("b", 32 << 10), 0);
  queue.push(job("b", 32 << 10), 0);
  // b's two small ones weigh as much as one of a's.
  expect(order(queue)).toEqual(["a", "b", "b", "a", "a", "a"]);
});

it("lets control go first", () => {
  const queue = new FairQueue<Queued>(limits);
  queue.push(job("a"), 0);
  queue.push(job("b", 1_000, "control"), 0);
  expect(order(queue)).toEqual(["b", "a"]);
});

it("holds a project to its share, all to the whole, and keeps room for control", () => {
  const queue = new FairQueue<Queued>(limits);
  for (let i = 0; i < 25; i++) queue.push(job("a"), 0);
  expect(() => queue.push(job("a"), 70)).toThrow(
    expect.objectContaining({ reason: "RATE_LIMITED", retryAfterMs: 70 }) as Fault,
  );
  for (let p = 0; p < 65; p++) queue.push(job(`p${p}`), 0);
  expect(() => queue.push(job("late"), 0)).toThrow(Fault);
  for (let i = 0; i < 10; i++) queue.push(job("late", 1_000, "control"), 0);
  expect(() => queue.push(job("late", 1_000, "control"), 0)).toThrow(Fault);
  expect(queue.records).toBe(100);
  expect(queue.drain()).toHaveLength(100);
  expect([queue.records, queue.bytes, queue.empty]).toEqual([0, 0, true]);
});

it("takes a group larger than a share when the project is idle", () => {
  const queue = new FairQueue<Queued>(limits);
  queue.push(job("a", 1_000, "normal", 60), 0);
  expect(() => queue.push(job("a"), 0)).toThrow(Fault);
});

it("discards what nobody waits for", () => {
  const queue = new FairQueue<Queued>(limits);
  for (const p of ["a", "b", "a", "c"]) queue.push(job(p), 0);
  expect(queue.discard((j) => j.project === "a")).toHaveLength(2);
  expect(queue.records).toBe(2);
  expect(order(queue)).toEqual(["b", "c"]);
});
