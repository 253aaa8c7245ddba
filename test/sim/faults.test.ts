/**
 * Every fault at every store call of a scenario; pairs of them; then chance, with seeds that no run had before.
 *
 * DATAPILOT_SEED=… runs that seed of chance alone: `make sim SEED=…`.
 */
import { randomInt } from "node:crypto";
import { afterAll, describe, expect, it } from "vitest";
import type { FaultKind } from "../fakes/fault-store.ts";
import { seededNumbers } from "../fakes/fault-store.ts";
import { byChance } from "./chance.ts";
import { datasets } from "./datasets.ts";
import { type SimulationOptions, simulate } from "./simulation.ts";
import { Tally } from "./tally.ts";

const KINDS: readonly FaultKind[] = ["error-before", "error-after", "crash-before", "crash-after"];
const PAIRS = 150;
/** Of all layers, at least. */
const FAULTS = 10_000;
const PATIENCE = { timeout: 900_000 };
/** Seeds that found something once. */
const PAST = [38, 78, 113];

const asked = process.env["DATAPILOT_SEED"] || undefined;
const tally = new Tally();
afterAll(() => console.info(`simulation: ${tally.toString()}`));

const small: SimulationOptions = { scenario: datasets({ clients: 3, requests: 3 }), seed: 1 };
const rerun = "vitest run test/sim/faults.test.ts";

describe.skipIf(asked !== undefined)("every call", () => {
  it("is a function of its seed", async () => {
    for (const seed of [1, 2, 3]) {
      const [once, again] = [await simulate(byChance(seed)), await simulate(byChance(seed))];
      expect(again).toEqual(once);
    }
  });

  it.each(KINDS)("%s", async (kind) => {
    const { calls } = await simulate(small);
    for (let call = 0; call < calls; call++)
      await tally.run({ ...small, planned: [{ call, kind }] }, `${rerun} (${kind} at call ${call})`);
    expect(tally.runs).toBeGreaterThanOrEqual(calls);
  });

  it("in pairs", async () => {
    const { calls } = await simulate(small);
    const random = seededNumbers(2);
    const draw = () => ({
      call: Math.floor(random() * calls * 1.5),
      kind: KINDS[Math.floor(random() * KINDS.length)] ?? "error-after",
    });
    for (let n = 0; n < PAIRS; n++) {
      const planned = [draw(), draw()];
      await tally.run({ ...small, planned }, `${rerun} (pair ${n}: ${JSON.stringify(planned)})`);
    }
  });
});

describe("by chance", () => {
  const replay = (seed: number): string => `make sim SEED=${seed}`;

  it.skipIf(asked !== undefined)("as it once failed", async () => {
    for (const seed of PAST) await tally.run(byChance(seed), replay(seed));
  });

  it("anew", PATIENCE, async () => {
    if (asked !== undefined) {
      console.info(JSON.stringify(await tally.run(byChance(Number(asked)), replay(Number(asked)))));
      return;
    }
    for (let seed = randomInt(2 ** 31); tally.faults < FAULTS; seed++) await tally.run(byChance(seed), replay(seed));
    expect(tally.acknowledged).toBeGreaterThan(0);
  });
});
