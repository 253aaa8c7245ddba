/** Real servers, killed at random: two embedded ledgers side by side, and three servers on a MinIO that is killed too. */
import { randomInt } from "node:crypto";
import { expect, it } from "vitest";
import { type Outcome, summary, torture, tortureMinio } from "./torture.ts";

const KILLS = 26;
const MINIO_KILLS = 40;

it("loses nothing that was acknowledged when it is killed at random under load", async () => {
  const settled = await Promise.allSettled([torture(1, KILLS), torture(2, KILLS)]);
  const outcomes = settled.map((s) => {
    if (s.status === "rejected") throw s.reason as Error;
    return s.value;
  });
  console.info(`embedded: ${summary(outcomes)}`);
  expectHeld(outcomes, 50);
});

it("loses nothing on MinIO when leader, replicas and the store are killed at random under load", async () => {
  const seed = randomInt(2 ** 31);
  const outcome = await tortureMinio(seed, MINIO_KILLS);
  const { refusals, takeoverMs } = outcome;
  console.info(
    `MinIO, seed ${seed}: ${summary([outcome])}; ${refusals} starts refused for want of the store; ` +
      `${(takeoverMs / 1_000).toFixed(1)} s from the kill of a leader to the next acknowledgement`,
  );
  expectHeld([outcome], MINIO_KILLS);
}, 900_000);

function expectHeld(outcomes: readonly Outcome[], kills: number): void {
  const sum = (of: (o: Outcome) => number): number => outcomes.reduce((n, o) => n + of(o), 0);
  expect(outcomes.flatMap((o) => o.lost)).toEqual([]);
  expect(sum((o) => o.kills)).toBeGreaterThanOrEqual(kills);
  // Otherwise nothing was put to the test.
  expect(sum((o) => o.acks)).toBeGreaterThan(sum((o) => o.kills));
}
