/** Every fault at every store call of a scenario, then chance. */
import { describe, expect, it } from "vitest";
import type { FaultKind } from "../fakes/fault-store.ts";
import { assertWhole, live } from "./log-scenario.ts";

const KINDS: readonly FaultKind[] = ["error-before", "error-after", "crash-before", "crash-after"];

it("lives in peace", async () => {
  const life = await live({ faults: [] });
  expect(life.processes).toBe(0);
  expect(life.acknowledged.length).toBe(8);
  await assertWhole(life);
});

describe.each(KINDS)("%s at each store call", (kind) => {
  it.each([true, false])("index kept: %s", async (keepIndex) => {
    const { calls } = await live({ faults: [] });
    for (let n = 0; n < calls; n++) {
      const life = await live({ faults: [(store) => store.faults.at(n, kind)], keepIndex });
      await assertWhole(life).catch((error: unknown) => {
        throw new Error(`${kind} at call ${n}`, { cause: error });
      });
    }
  });
});

it("survives chance", async () => {
  let deaths = 0;
  for (let seed = 1; seed <= 250; seed++) {
    const life = await live({
      faults: [],
      keepIndex: seed % 2 === 0,
      rates: {
        "crash-after": 0.004,
        "crash-before": 0.004,
        delay: 0.05,
        "disk-full": 0.02,
        duplicate: 0.02,
        "error-after": 0.04,
        "error-before": 0.04,
        torn: 0.02,
        zombie: 0.04,
      },
      seed,
    });
    deaths += life.processes;
    await assertWhole(life).catch((error: unknown) => {
      throw new Error(`seed ${seed}`, { cause: error });
    });
  }
  expect(deaths).toBeGreaterThan(50);
});
