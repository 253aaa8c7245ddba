/** Real servers, killed more than fifty times: two ledgers are tortured side by side. */
import { expect, it } from "vitest";
import { type Outcome, torture } from "./torture.ts";

const KILLS = 26;

it("loses nothing that was acknowledged when it is killed at random under load", async () => {
  const settled = await Promise.allSettled([torture(1, KILLS), torture(2, KILLS)]);
  const outcomes = settled.map((s) => {
    if (s.status === "rejected") throw s.reason as Error;
    return s.value;
  });
  const sum = (of: (o: Outcome) => number): number => outcomes.reduce((n, o) => n + of(o), 0);
  console.info(
    `${sum((o) => o.kills)} kills, ${sum((o) => o.acks)} acknowledgements of ${sum((o) => o.records)} records, ${sum((o) => o.lost.length)} lost, ${sum((o) => o.unacknowledged)} committed and not acknowledged`,
  );
  expect(outcomes.flatMap((o) => o.lost)).toEqual([]);
  expect(sum((o) => o.kills)).toBeGreaterThanOrEqual(50);
  // Otherwise nothing was put to the test.
  expect(sum((o) => o.acks)).toBeGreaterThan(sum((o) => o.kills));
});
