/** A store that betrays: the ledger survives it, or refuses to go on with a code that says what it found. */
import { describe, expect, it } from "vitest";
import type { Betrayal } from "./betrayed-store.ts";
import { datasets } from "./datasets.ts";
import { Tally } from "./tally.ts";

const SEEDS = 40;

/** What a refusal may say. */
const REFUSALS: Readonly<Record<Betrayal, readonly string[]>> = {
  amnesia: ["commit.gap", "ledger.rollback"],
  "delete-marker": ["commit.gap", "commit.hidden", "commit.prev", "ledger.rollback"],
  shadow: ["commit.header", "commit.squatted"],
  "two-pools": ["commit.prev"],
};

describe.each(Object.keys(REFUSALS) as Betrayal[])("%s", (betrayal) => {
  it("is survived or refused", async () => {
    const tally = new Tally();
    const ends = new Map<string, number>();
    for (let seed = 1; seed <= SEEDS; seed++) {
      const { isBetrayed, refusal = "went on" } = await tally.run(
        {
          betrayal,
          rates: { "crash-after": 0.01, "crash-before": 0.01, "error-after": 0.04, "error-before": 0.04, zombie: 0.04 },
          scenario: datasets({ clients: 3, requests: 4 }),
          seed,
          troubles: { crash: 0.004 },
        },
        `vitest run test/sim/betrayal.test.ts (${betrayal}, seed ${seed})`,
      );
      if (isBetrayed) ends.set(refusal, (ends.get(refusal) ?? 0) + 1);
    }
    console.info(`${betrayal}: ${[...ends].map(([end, n]) => `${end} ${n}`).join(", ")}`);
    for (const end of ends.keys()) expect(["went on", ...REFUSALS[betrayal]]).toContain(end);
  });
});

it("is not written to again once it has two pools and is probed", async () => {
  let betrayed = 0;
  for (let seed = 1; seed <= 8; seed++) {
    const { isBetrayed, refusal } = await new Tally().run(
      {
        betrayal: "two-pools",
        probes: true,
        scenario: datasets({ clients: 3, requests: 4 }),
        seed,
        troubles: { crash: 0.002 },
      },
      `vitest run test/sim/betrayal.test.ts (probes, seed ${seed})`,
    );
    expect(refusal).toBe(isBetrayed ? "STORE_UNAVAILABLE" : undefined);
    if (isBetrayed) betrayed++;
  }
  expect(betrayed).toBeGreaterThan(0);
});
