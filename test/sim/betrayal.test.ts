/** A store that betrays: the ledger survives it, or refuses to go on with a code that says what it found. */
import { describe, expect, it } from "vitest";
import type { Betrayal } from "./betrayed-store.ts";
import { datasets } from "./datasets.ts";
import { Tally } from "./tally.ts";

const SEEDS = 40;

/** What a refusal may say. */
const REFUSALS: Readonly<Record<Betrayal, readonly string[]>> = {
  amnesia: ["commit.gap", "ledger.missing", "ledger.rollback"],
  "delete-marker": ["commit.gap", "commit.hidden", "ledger.missing", "ledger.rollback"],
  shadow: ["commit.header", "commit.squatted"],
  "two-pools": ["commit.prev"],
};

describe.each(Object.keys(REFUSALS) as Betrayal[])("%s", (betrayal) => {
  it("is survived or refused", async () => {
    const tally = new Tally();
    const ends = new Map<string, number>();
    for (let seed = 1; seed <= SEEDS; seed++) {
      const { refusal = "went on" } = await tally.run(
        {
          betrayal,
          rates: { "crash-after": 0.01, "crash-before": 0.01, "error-after": 0.04, "error-before": 0.04, zombie: 0.04 },
          scenario: datasets({ clients: 3, requests: 4 }),
          seed,
          troubles: { crash: 0.004 },
        },
        `vitest run test/sim/betrayal.test.ts (${betrayal}, seed ${seed})`,
      );
      ends.set(refusal, (ends.get(refusal) ?? 0) + 1);
    }
    console.info(`${betrayal}: ${[...ends].map(([end, n]) => `${end} ${n}`).join(", ")}`);
    for (const end of ends.keys()) expect(["went on", ...REFUSALS[betrayal]]).toContain(end);
  });
});
